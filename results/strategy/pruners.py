"""Pruners by name, and Judge, which decides whether a trial should be stopped after a task.

Optuna's pruners decide; this module gives them their data. A metric such as class-il falls as tasks
arrive, so an early value looks better than any late one, and Optuna judges a trial by its best
value over all steps. So each task count has a separate shadow study in memory, in which a trial has
a single step: values are compared at equal task counts only. The studies have one direction even if
the sweep has several objectives (Optuna's pruners refuse several). They need no storage: they
follow from the trials' records.

A trial is compared with the values known when its last seed reported the task, however late it is
judged. A trial that passed, and is judged again after a stop or a lost worker, must not be pruned
because of results that came later.
"""

import math
import warnings
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from dynamos.metrics import mean
from results.trial import TrialRecord

STARTUP_TRIALS = 5  # finished trials that median, percentile and patient wait for; Optuna's default
REDUCTION = 2  # halving keeps one of REDUCTION trials at each rung
WILCOXON_P = 0.1  # Optuna's default threshold
# with K seeds the smallest one-sided p is 1/2^K; with fewer seeds it is never below WILCOXON_P
WILCOXON_SEEDS = 4
STEP = 0  # a shadow trial's only step


class Judge:
    """Decides by one pruner's rule. A judge rebuilt from the records makes the same decisions.

    On a resume, the caller passes every ended trial to `learn`, and the interrupted ones: halving
    needs their values after earlier tasks.
    """

    def __init__(self, pruner: str, grace_tasks: int, metric: str, maximize: bool) -> None:
        self._measure = Measure(metric, maximize, grace_tasks)
        self._rule = PRUNERS[pruner](self._measure)

    def learn(self, trial: TrialRecord) -> None:
        """Add an ended trial to the comparison; a second call with it changes nothing."""
        self._rule.learn(trial)

    def verdict(self, trial: TrialRecord, tasks: int | None = None) -> str | None:
        """Return the reason to prune the trial after N tasks, by default `tasks_done`.

        Returns None if it should continue.

        A trial that lacks the metric after this task cannot be compared and continues.
        """
        tasks = trial.tasks_done if tasks is None else tasks
        if (
            tasks < self._measure.grace_tasks
            or tasks >= trial.n_tasks
            or self._measure.mean(trial, tasks) is None
        ):
            return None
        return self._rule.objection(trial, tasks)


@dataclass(frozen=True, slots=True)
class Measure:
    """Metric by which trials are compared, its direction, and the first task count compared."""

    metric: str
    maximize: bool
    grace_tasks: int

    def by_seed(self, trial: TrialRecord, tasks: int) -> dict[int, float] | None:
        """The metric after N tasks, by seed; None if a seed has no finite value."""
        values = trial.by_seed(self.metric, tasks)
        if not values or any(v is None or not math.isfinite(v) for v in values):
            return None
        return dict(zip(trial.results, values, strict=True))

    def mean(self, trial: TrialRecord, tasks: int) -> float | None:
        """The mean over seeds of `by_seed`."""
        return trial.after(self.metric, tasks) if self.by_seed(trial, tasks) else None

    def shadow(self) -> optuna.Study:
        """A new study in memory."""
        # as in the ledger: log lines would break the display
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(direction="maximize" if self.maximize else "minimize")

    def worse(self, tasks: int, value: float, than: str, bar: float) -> str:
        """The reason for pruning a value on the wrong side of a bar."""
        return (
            f"{self.metric} {_number(value)} after task {tasks} is "
            f"{'below' if self.maximize else 'above'} {than}, {_number(bar)}"
        )


class Pruner(Protocol):
    """Interface of a pruner's rule."""

    def learn(self, trial: TrialRecord) -> None:
        """Add a trial to the comparison; repeatable."""

    def objection(self, trial: TrialRecord, tasks: int) -> str | None:
        """Return the reason to prune a running trial, or None.

        `tasks` is at least grace and below the last.
        """


class Never:
    """The rule that never prunes."""

    def __init__(self, measure: Measure) -> None:
        pass

    def learn(self, trial: TrialRecord) -> None:
        """Do nothing."""

    def objection(self, trial: TrialRecord, tasks: int) -> None:
        """Return None."""


class Quantile:
    """Prunes a trial below a quantile of the finished trials, once STARTUP_TRIALS have finished."""

    def __init__(self, measure: Measure, name: str, kept: float) -> None:
        self._measure, self._name, self._kept = measure, name, kept
        # Optuna's `percentile` is the share of trials that is kept, from the best: 25.0 would prune
        # three of four.
        self._pruner = PercentilePruner(kept, n_startup_trials=STARTUP_TRIALS)
        # by task count: end of a trial, its value
        self._finished: dict[int, list[tuple[float, float]]] = {}
        self._studies: dict[int, optuna.Study] = {}  # by task count, of all that finished
        self._learned: set[int] = set()

    def learn(self, trial: TrialRecord) -> None:
        """Add a COMPLETE trial to the comparison; Optuna ignores all others."""
        if trial.state != "COMPLETE" or trial.number in self._learned:
            return
        self._learned.add(trial.number)
        for tasks in range(self._measure.grace_tasks, trial.tasks_done):
            value = self._measure.mean(trial, tasks)
            if value is None:
                continue
            self._finished.setdefault(tasks, []).append((_ended_at(trial), value))
            if tasks not in self._studies:
                self._studies[tasks] = self._measure.shadow()
            _add_finished(self._studies[tasks], value)

    def values(self, tasks: int, until: float) -> list[float]:
        """Values after N tasks of the trials that had finished by the time `until`."""
        return [value for ended, value in self._finished.get(tasks, ()) if ended <= until]

    def objection(self, trial: TrialRecord, tasks: int) -> str | None:
        """Return the reason to prune the trial, or None."""
        value, values = (
            self._measure.mean(trial, tasks),
            self.values(tasks, trial.reported_at(tasks)),
        )
        if (
            value is None
            or not values
            or not self._pruner.prune(self._study(tasks, values), _running({STEP: value}))
        ):
            return None
        percent = 100 - self._kept if self._measure.maximize else self._kept
        quantile = "median" if percent == 50 else f"{percent:g}th percentile"
        than = f"the {quantile} of {len(values)} finished trials"
        bound = float(np.percentile(values, percent))
        return f"{self._name}: {self._measure.worse(tasks, value, than, bound)}"

    def _study(self, tasks: int, values: list[float]) -> optuna.Study:
        if len(values) == len(self._finished[tasks]):
            return self._studies[tasks]
        study = self._measure.shadow()  # for a trial judged again, which is rare
        for value in values:
            _add_finished(study, value)
        return study


class Patient:
    """Prunes a trial below the median if its standing was better after an earlier task.

    A trial's standing is its value minus the mean of the finished trials after as many tasks, which
    removes the fall that all share. Standings are compared from grace on, so a trial can first be
    pruned one task after the grace tasks, one task later than with median.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._median = Quantile(measure, "patient", kept=50)
        # stays empty: the rule needs the standings of one trial only
        self._study = measure.shadow()
        # Optuna's `patience` is the number of further tasks without improvement after the first
        # one. This pruner does not wrap the median pruner, which would then get the best standing
        # in place of the value. min_delta absorbs rounding errors.
        self._pruner = _quietly(lambda: PatientPruner(None, patience=0, min_delta=1e-9))

    def learn(self, trial: TrialRecord) -> None:
        """Add a COMPLETE trial to the comparison."""
        self._median.learn(trial)

    def objection(self, trial: TrialRecord, tasks: int) -> str | None:
        """Return the reason to prune the trial, or None."""
        below, now = self._median.objection(trial, tasks), trial.reported_at(tasks)
        if below is None:
            return None
        standings: dict[int, float] = {}
        for earlier in range(self._measure.grace_tasks, tasks + 1):
            value, finished = self._measure.mean(trial, earlier), self._median.values(earlier, now)
            if value is not None and finished:
                standings[earlier] = value - mean(finished)
        if not self._pruner.prune(self._study, _running(standings)):
            return None
        last = standings.pop(tasks)
        best = (max if self._measure.maximize else min)(standings, key=standings.__getitem__)
        return (
            f"{below}, and relative to their mean it changed from {_number(standings[best], '+')} "
            f"after task {best} to {_number(last, '+')}"
        )


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
        tasks = self._measure.grace_tasks
        while tasks <= trial.tasks_done and tasks < trial.n_tasks:
            value = self._measure.mean(trial, tasks)
            if value is not None:
                if tasks not in self._rungs:
                    self._rungs[tasks] = Rung(self._measure)
                self._rungs[tasks].enter((trial.reported_at(tasks), trial.number, value))
            tasks *= REDUCTION

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
            f"halving: {self._measure.metric} {_number(value)} after task {tasks} is not among the "
            f"best {passing} of the {trials} so far"
        )


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
            self._study.add_trial(_running({1: value}))
            # The pruner notes in the study that this trial has reached the rung.
            self._stopped.append(
                self._pruner.prune(self._study, self._study.get_trials(deepcopy=False)[-1])
            )
        return place + 1, self._stopped[place]


class Wilcoxon:
    """Prunes a trial that is worse, over the seeds, than the best trial was after the same task.

    The comparison is Wilcoxon's signed-rank test on pairs with the same seed.

    The best is the COMPLETE trial with the best final mean over seeds, the earliest of equals.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        # by number; values negated if less is better
        self._finished: dict[int, tuple[float, TrialRecord]] = {}
        self._pruner = _quietly(lambda: WilcoxonPruner(p_threshold=WILCOXON_P))

    def learn(self, trial: TrialRecord) -> None:
        """Add a COMPLETE trial to the comparison."""
        final = (
            self._measure.mean(trial, trial.tasks_done)
            if trial.state == "COMPLETE" and trial.tasks_done
            else None
        )
        if final is not None:
            self._finished[trial.number] = final if self._measure.maximize else -final, trial

    def objection(self, trial: TrialRecord, tasks: int) -> str | None:
        """Return the reason to prune the trial, or None."""
        now = trial.reported_at(tasks)
        earlier = [
            (final, -other.number, other)
            for final, other in self._finished.values()
            if _ended_at(other) <= now
        ]
        if not earlier:
            return None
        best = max(earlier)[-1]
        own, others = self._measure.by_seed(trial, tasks), self._measure.by_seed(best, tasks)
        value, bar = self._measure.mean(trial, tasks), self._measure.mean(best, tasks)
        if not own or not others or value is None or bar is None:
            return None
        study = self._measure.shadow()
        study.add_trial(create_trial(value=bar, intermediate_values=others))
        if not self._pruner.prune(study, _running(own)):
            return None
        than = f"the value of trial {best.number}, the best finished trial"
        return (
            f"wilcoxon: {self._measure.worse(tasks, value, than, bar)}, over {len(own)} seeds "
            f"(p < {WILCOXON_P:g})"
        )


PRUNERS: dict[str, Callable[[Measure], Pruner]] = {
    "none": Never,
    "halving": Halving,
    "median": lambda measure: Quantile(measure, "median", kept=50),
    # prunes the lowest quarter
    "percentile": lambda measure: Quantile(measure, "percentile", kept=75),
    "patient": Patient,
    "wilcoxon": Wilcoxon,
}


def _ended_at(trial: TrialRecord) -> float:
    assert trial.ended_at is not None, f"trial {trial.number} is {trial.state} and has no end"
    return trial.ended_at.timestamp()


def _add_finished(study: optuna.Study, value: float) -> None:
    study.add_trial(create_trial(value=value, intermediate_values={STEP: value}))


def _running(values: dict[int, float]) -> FrozenTrial:
    return create_trial(state=TrialState.RUNNING, intermediate_values=values)


def _number(value: float, sign: str = "") -> str:
    """A value in four significant digits, for percentages and fractions alike."""
    return f"{value:{sign}#.4g}"


def _quietly(make: Callable[[], BasePruner]) -> BasePruner:
    """Return the pruner of `make` without Optuna's warning of an experimental class."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return make()
