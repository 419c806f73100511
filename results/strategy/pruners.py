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
    ) -> None:
        """A judge by a metric; the others, each with True if more is better, are for `pareto`."""
        self._measure = Measure(metric, maximize, grace_tasks, tuple(others))
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
