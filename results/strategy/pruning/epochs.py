"""Asynchronous successive halving whose resource is epochs, so that rungs lie within tasks too."""

from results.strategy.pruning.halving import Rung
from results.strategy.pruning.measure import Measure, number
from results.strategy.rungs import REDUCTION, rungs
from results.trial import TrialRecord


class EpochHalving:
    """Asynchronous successive halving: the better half continues at each rung.

    The rungs are at G, 2 G, 4 G, ... epochs of the run (Li et al. 2020, ASHA, with G as the minimum
    resource). Within a task the values are EpochReadings, at its end its result. Both are means
    over the tasks seen, so they are compared at an equal number of epochs only. As in `Halving`, a
    trial is compared with all trials whose values were recorded earlier, in any state.
    """

    def __init__(self, measure: Measure, grace_epochs: int, n_epochs: int) -> None:
        """Rungs from `grace_epochs` on, of trials with `n_epochs` epochs a task."""
        self._measure, self._grace, self._n_epochs = measure, grace_epochs, n_epochs
        self._rungs: dict[int, Rung] = {}  # by epochs

    def reached(self, trial: TrialRecord) -> list[int]:
        """Return the rungs, in epochs, that every seed of a trial has reached."""
        last = max([trial.tasks_done * self._n_epochs, *trial.epochs_read])
        # the last task's end is no rung
        end = trial.n_tasks * self._n_epochs if trial.n_tasks else last + 1
        return [
            at
            for at in rungs(self._grace, end)
            if at in trial.epochs_read or (at % self._n_epochs == 0 and at <= last)
        ]

    def learn(self, trial: TrialRecord) -> None:
        """Enter a trial of any state into the rungs that it has reached."""
        for epochs in self.reached(trial):
            if (entry := self._entry(trial, epochs)) is not None:
                if epochs not in self._rungs:
                    self._rungs[epochs] = Rung(self._measure)
                self._rungs[epochs].enter(entry)

    def objection(self, trial: TrialRecord, epochs: int) -> str | None:
        """Return the reason to prune the trial at a rung, or None."""
        self.learn(trial)
        if (entry := self._entry(trial, epochs)) is None:
            return None
        trials, stopped = self._rungs[epochs].outcome(entry)
        if not stopped:
            return None
        return (
            f"halving: {self._measure.metric} {number(entry[2])} after epoch {epochs} of the run, "
            f"in task {-(-epochs // self._n_epochs)}, is not among the best "
            f"{max(trials // REDUCTION, 1)} of the {trials} so far"
        )

    def _entry(self, trial: TrialRecord, epochs: int) -> tuple[float, int, float] | None:
        """(recorded_at, trial number, value) at a rung; None if a seed has no finite value."""
        tasks, within = divmod(epochs, self._n_epochs)
        if within:
            value, at = trial.after_epochs(self._measure.metric, epochs), trial.read_at(epochs)
        else:
            value, at = self._measure.mean(trial, tasks), trial.reported_at(tasks)
        return None if value is None else (at, trial.number, value)
