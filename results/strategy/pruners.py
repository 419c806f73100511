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

from collections.abc import Callable, Sequence

from results.strategy.pruning.epochs import EpochHalving
from results.strategy.pruning.halving import Halving
from results.strategy.pruning.leader import Leader, Wilcoxon
from results.strategy.pruning.measure import Measure, Pruner
from results.strategy.pruning.pareto import Pareto
from results.strategy.pruning.quantile import Patient, Quantile
from results.trial import TrialRecord


class Never:
    """The rule that never prunes."""

    def __init__(self, measure: Measure) -> None:
        pass

    def learn(self, trial: TrialRecord) -> None:
        """Do nothing."""

    def objection(self, trial: TrialRecord, tasks: int) -> None:
        """Return None."""


PRUNERS: dict[str, Callable[[Measure], Pruner]] = {
    "none": Never,
    "halving": Halving,
    "pareto": Pareto,
    "median": lambda measure: Quantile(measure, "median", kept=50),
    # prunes the lowest quarter
    "percentile": lambda measure: Quantile(measure, "percentile", kept=75),
    "patient": Patient,
    "leader": Leader,
    "wilcoxon": Wilcoxon,
}
BY_RUNG = ("halving", "pareto")  # compare trials while they run


class Judge:
    """Decides by one pruner's rule. A judge rebuilt from the records makes the same decisions.

    On a resume, the caller passes every ended trial to `learn`, and the interrupted ones: halving
    needs their values after earlier tasks.
    """

    def __init__(
        self,
        pruner: str,
        grace_tasks: int,
        metric: str,
        maximize: bool,
        others: Sequence[tuple[str, bool]] = (),
        grace_epochs: int = 0,
        n_epochs: int = 1,
    ) -> None:
        """A judge by a metric; the others, each with True if more is better, are for `pareto`.

        With `grace_epochs` its rungs are at epochs, of trials with `n_epochs` epochs a task.
        """
        self._measure = Measure(metric, maximize, grace_tasks, tuple(others))
        self._epochs = EpochHalving(self._measure, grace_epochs, n_epochs) if grace_epochs else None
        self._rule = PRUNERS[pruner](self._measure) if self._epochs is None else self._epochs

    def learn(self, trial: TrialRecord) -> None:
        """Add an ended trial to the comparison; a second call with it changes nothing."""
        self._rule.learn(trial)

    def places(self, trial: TrialRecord) -> list[int]:
        """Return the places at which `verdict` judges the trial so far: task counts, or epochs."""
        if self._epochs is not None:
            return self._epochs.reached(trial)
        return [*range(1, trial.tasks_done + 1)]

    def verdict(self, trial: TrialRecord, place: int | None = None) -> str | None:
        """Return the reason to prune the trial at a place, by default the last of `places`.

        Returns None if it should continue.

        A trial that lacks the metric after this task cannot be compared and continues.
        """
        tasks = max(self.places(trial), default=0) if place is None else place
        if self._epochs is not None:
            return self._epochs.objection(trial, tasks) if tasks else None
        if (
            tasks < self._measure.grace_tasks
            or tasks >= trial.n_tasks
            or self._measure.mean(trial, tasks) is None
        ):
            return None
        return self._rule.objection(trial, tasks)
