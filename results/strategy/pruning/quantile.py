"""Rules that compare a trial with a quantile of the finished trials."""

import numpy as np
import optuna
from optuna.pruners import PatientPruner, PercentilePruner
from optuna.trial import create_trial

from dynamos.metrics import mean
from results.strategy.pruning.measure import STEP, Measure, ended_at, number, quietly, running
from results.trial import TrialRecord

STARTUP_TRIALS = 5  # finished trials that median, percentile and patient wait for; Optuna's default


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
            self._finished.setdefault(tasks, []).append((ended_at(trial), value))
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
            or not self._pruner.prune(self._study(tasks, values), running({STEP: value}))
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
        self._pruner = quietly(lambda: PatientPruner(None, patience=0, min_delta=1e-9))

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
        if not self._pruner.prune(self._study, running(standings)):
            return None
        last = standings.pop(tasks)
        best = (max if self._measure.maximize else min)(standings, key=standings.__getitem__)
        return (
            f"{below}, and relative to their mean it changed from {number(standings[best], '+')} "
            f"after task {best} to {number(last, '+')}"
        )


def _add_finished(study: optuna.Study, value: float) -> None:
    study.add_trial(create_trial(value=value, intermediate_values={STEP: value}))
