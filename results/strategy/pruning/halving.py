"""Asynchronous successive halving by one metric."""

from bisect import bisect_left

from optuna.pruners import SuccessiveHalvingPruner

from results.strategy.pruning.measure import Measure, number, running
from results.strategy.rungs import REDUCTION, rungs
from results.trial import TrialRecord


class Halving:
    """Asynchronous successive halving: the better half continues at each rung.

    The rungs are at grace, 2 grace, 4 grace, ... tasks. A trial is compared with all trials whose
    values were recorded earlier, in any state. So the first trial passes, and no trial waits for
    others.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._rungs: dict[int, Rung] = {}  # by task count

    def learn(self, trial: TrialRecord) -> None:
        """Enter a trial of any state into the rungs that it has reached."""
        for tasks in reached(self._measure, trial):
            value = self._measure.mean(trial, tasks)
            if value is not None:
                if tasks not in self._rungs:
                    self._rungs[tasks] = Rung(self._measure)
                self._rungs[tasks].enter((trial.reported_at(tasks), trial.number, value))

    def objection(self, trial: TrialRecord, tasks: int) -> str | None:
        """Return the reason to prune the trial, or None."""
        self.learn(trial)
        value, rung = self._measure.mean(trial, tasks), self._rungs.get(tasks)
        if value is None or rung is None:  # this task count has no rung
            return None
        trials, stopped = rung.outcome((trial.reported_at(tasks), trial.number, value))
        if not stopped:
            return None
        passing = max(trials // REDUCTION, 1)
        return (
            f"halving: {self._measure.metric} {number(value)} after task {tasks} is not among the "
            f"best {passing} of the {trials} so far"
        )


def reached(measure: Measure, trial: TrialRecord) -> list[int]:
    """Return the rungs that a trial has reached: grace, 2 grace, 4 grace, ... tasks."""
    return [at for at in rungs(measure.grace_tasks, trial.n_tasks) if at <= trial.tasks_done]


class Rung:
    """The values of one task count, judged in the order in which they were recorded.

    An entry is (recorded_at, trial number, value). A trial is compared only with those recorded
    before it. So a judge that is rebuilt from records, with all entries at once, makes the same
    decisions as the judge that got them one by one.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._entries: list[tuple[float, int, float]] = []  # sorted
        self._stopped: list[bool] = []  # of the entries judged so far, from the first
        self._study = measure.shadow()  # holds the entries judged so far
        # A trial has one step only, so the pruner uses its lowest rung and never reaches another.
        self._pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)

    def enter(self, entry: tuple[float, int, float]) -> None:
        """Add an entry, unless the rung has it."""
        place = bisect_left(self._entries, entry)
        if entry in self._entries[place : place + 1]:
            return
        self._entries.insert(place, entry)
        if place < len(self._stopped):  # later ones were judged without it
            self._stopped, self._study = [], self._measure.shadow()

    def outcome(self, entry: tuple[float, int, float]) -> tuple[int, bool]:
        """(number of trials compared, this one included; whether it should be stopped)."""
        place = bisect_left(self._entries, entry)
        for _, _, value in self._entries[len(self._stopped) : place + 1]:
            self._study.add_trial(running({1: value}))
            # The pruner notes in the study that this trial has reached the rung.
            self._stopped.append(
                self._pruner.prune(self._study, self._study.get_trials(deepcopy=False)[-1])
            )
        return place + 1, self._stopped[place]
