"""TrialRecord: all data of a trial in the ledger."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import stdev
from typing import Any

from dynamos.metrics import mean

IMPORTED = "imported:"  # beginning of the source of a trial that another sweep ran
RERUN = "rerun:"  # beginning of the source of a trial that runs another trial of the sweep again
ENDED = ("COMPLETE", "PRUNED", "FAIL")  # states of a trial that has ended


@dataclass(frozen=True)
class TrialRecord:
    """All data of a trial in the ledger.

    Means are cached: a sweep of thousands of trials is ranked again and again.
    """

    number: int
    state: str  # WAITING, RUNNING, INTERRUPTED (to be resumed), COMPLETE, PRUNED or FAIL
    source: str
    config: dict[str, Any]  # the searched fields, real values
    results: dict[int, list[dict[str, Any]]]  # by seed: TaskResults in the order of tasks
    attempt: int
    # RUNNING in name: its training is over, it waits for the end of its batch (deterministic order)
    held: bool
    reason: str | None
    started_at: dt.datetime | None  # UTC; start of its training
    ended_at: dt.datetime | None  # UTC
    value: float | None  # the first objective; only of a COMPLETE trial
    feasible: bool  # True if every constraint is kept; only for COMPLETE trials
    # training time of its attempts, until now if one runs; None before the first
    seconds: float | None
    cpu_seconds: float  # CPUs held times seconds
    gpu_seconds: float
    starting: bool = False  # RUNNING in name: its worker is not ready to train yet
    losses: int = 0  # attempts that lost their worker or node; MLflow does not have them

    @property
    def imported(self) -> bool:
        """True if another sweep ran the trial.

        It may be chosen, but counts in no budget.
        """
        return self.source.startswith(IMPORTED)

    @property
    def label(self) -> str:
        """The trial's number and, of an imported trial, its source, in words."""
        return f"trial {self.number}" + (f", {self.source}" if self.imported else "")

    @property
    def trains(self) -> bool:
        """Whether it runs and has not ended its training."""
        return self.state == "RUNNING" and not self.held

    @property
    def reruns(self) -> int | None:
        """Number of the trial that this one runs again; None if it is not a rerun."""
        return int(self.source.removeprefix(RERUN)) if self.source.startswith(RERUN) else None

    @property
    def n_tasks(self) -> int:
        """Number of tasks of the stream; 0 before the first result."""
        return max(
            (results[0]["n_tasks"] for results in self.results.values() if results), default=0
        )

    @property
    def warnings(self) -> list[str]:
        """Warnings of its training, each text once, in the order of seeds and tasks."""
        return list(
            dict.fromkeys(
                text
                for results in self.results.values()
                for result in results
                for text in result.get("warnings", ())
            )
        )

    @cached_property
    def tasks_done(self) -> int:
        """Number of tasks whose results every seed has reported."""
        return min((len(results) for results in self.results.values()), default=0)

    def last(self, metric: str) -> float | None:
        """Return a metric's mean over seeds after the last task that all have reported.

        None before the first.
        """
        if metric not in self._last:
            values = self.by_seed(metric)
            self._last[metric] = None if not values or None in values else mean(values)
        return self._last[metric]

    @cached_property
    def _last(self) -> dict[str, float | None]:
        return {}

    def final(self, metric: str) -> float:
        """Return `last` where it cannot be None: for COMPLETE trials and the stream's metrics."""
        value = self.last(metric)
        assert value is not None, f"trial {self.number} has no {metric}"
        return value

    def spread(self, metric: str) -> float | None:
        """Return a metric's standard deviation over seeds after the last task of all.

        None for fewer than two seeds.
        """
        values = self.by_seed(metric)
        return None if len(values) < 2 or None in values else stdev(values)

    def by_task(self, metric: str) -> list[float | None]:
        """Return a metric's mean over seeds after each task that all have reported."""
        rows = [
            [results[task]["metrics"].get(metric) for results in self.results.values()]
            for task in range(self.tasks_done)
        ]
        return [None if None in row else mean(row) for row in rows]

    def by_seed(self, metric: str) -> list[Any]:
        """Return a metric of each seed after the last task that all have reported.

        [] before the first.
        """
        done = self.tasks_done
        return (
            [results[done - 1]["metrics"].get(metric) for results in self.results.values()]
            if done
            else []
        )


def newest(trials: Sequence[TrialRecord]) -> dict[int, TrialRecord]:
    """Return the last rerun of each trial, or the trial itself, by the first run's number."""
    found: dict[int, TrialRecord] = {}
    first: dict[int, int] = {}  # by number
    for trial in trials:
        first[trial.number] = (
            trial.number if trial.reruns is None else first.get(trial.reruns, trial.reruns)
        )
        found[first[trial.number]] = trial
    return found
