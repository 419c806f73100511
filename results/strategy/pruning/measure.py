"""Data and text that the rules of pruning share."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState, create_trial

from results.trial import TrialRecord

STEP = 0  # a shadow trial's only step


@dataclass(frozen=True, slots=True)
class Measure:
    """Metric by which trials are compared, its direction, and the first task count compared.

    `others` are further metrics, each with its direction, for rules that compare several.
    """

    metric: str
    maximize: bool
    grace_tasks: int
    others: tuple[tuple[str, bool], ...] = ()

    @property
    def all(self) -> tuple[tuple[str, bool], ...]:
        """All metrics, each with True if more is better."""
        return ((self.metric, self.maximize), *self.others)

    def scores(self, trial: TrialRecord, tasks: int) -> tuple[float, ...] | None:
        """The means of all metrics after N tasks, those negated of which less is better.

        None if a seed has no finite value of one.
        """
        found = list[float]()
        for metric, maximize in self.all:
            value = replace(self, metric=metric).mean(trial, tasks)
            if value is None:
                return None
            found.append(value if maximize else -value)
        return tuple(found)

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
            f"{self.metric} {number(value)} after task {tasks} is "
            f"{'below' if self.maximize else 'above'} {than}, {number(bar)}"
        )


class Pruner(Protocol):
    """Interface of a pruner's rule."""

    def learn(self, trial: TrialRecord) -> None:
        """Add a trial to the comparison; repeatable."""

    def objection(self, trial: TrialRecord, tasks: int) -> str | None:
        """Return the reason to prune a running trial, or None.

        `tasks` is at least grace and below the last.
        """


def ended_at(trial: TrialRecord) -> float:
    """Return the end of a trial that has ended, in seconds since the epoch."""
    assert trial.ended_at is not None, f"trial {trial.number} is {trial.state} and has no end"
    return trial.ended_at.timestamp()


def running(values: dict[int, float]) -> FrozenTrial:
    """Return a shadow trial that runs, with these values by step."""
    return create_trial(state=TrialState.RUNNING, intermediate_values=values)


def number(value: float, sign: str = "") -> str:
    """Return a value in four significant digits, for percentages and fractions alike."""
    return f"{value:{sign}#.4g}"


def quietly(make: Callable[[], BasePruner]) -> BasePruner:
    """Return the pruner of `make` without Optuna's warning of an experimental class."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return make()
