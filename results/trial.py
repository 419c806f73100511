"""TrialRecord: everything the ledger knows of a trial."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import stdev
from typing import Any

from dynamos.metrics import mean

IMPORTED = "imported:"  # what the source of a trial begins with that another sweep ran
RERUN = "rerun:"  # what the source begins with of a trial that runs another one of the sweep again
ENDED = ("COMPLETE", "PRUNED", "FAIL")  # the states of a trial that has ended


def own(trials: Iterable["TrialRecord"]) -> list["TrialRecord"]:
    """The trials that the sweep ran itself, which its budget and its counts are about.

    Results that were imported are as good as its own where one is chosen.
    """
    return [trial for trial in trials if not trial.imported]


@dataclass(frozen=True)
class TrialRecord:
    """Everything the ledger knows of a trial.

    What is worked out of its results is kept: a sweep of thousands of trials is ranked again and again.
    """

    number: int
    state: str  # WAITING, RUNNING, INTERRUPTED (to be resumed), COMPLETE, PRUNED or FAIL
    source: str
    config: dict[str, Any]  # the searched fields, real values
    results: dict[int, list[dict[str, Any]]]  # by seed: TaskResults in the order of tasks
    attempt: int
    held: bool  # RUNNING in name: its training is over and waits for its batch's end (deterministic order)
    reason: str | None
    started_at: dt.datetime | None  # UTC; when it began to train
    ended_at: dt.datetime | None  # UTC
    value: float | None  # the first objective; only of a COMPLETE trial
    feasible: bool  # whether every constraint is kept; only of a COMPLETE trial
    seconds: float | None  # that its attempts trained, until now where one runs; None before the first
    cpu_seconds: float  # CPUs held times seconds
    gpu_seconds: float
    starting: bool = False  # RUNNING in name: its worker is not ready to train yet
    losses: int = 0  # attempts that lost their worker or node; MLflow has none of them

    @property
    def imported(self) -> bool:
        """Whether another sweep ran it; it may be chosen, and counts in no budget (see `own`)."""
        return self.source.startswith(IMPORTED)

    @property
    def reruns(self) -> int | None:
        """The number of the trial that this one runs again; None for any other."""
        return int(self.source.removeprefix(RERUN)) if self.source.startswith(RERUN) else None

    @property
    def n_tasks(self) -> int:
        """Tasks of the stream; 0 before the first result."""
        return max((results[0]["n_tasks"] for results in self.results.values() if results), default=0)

    @property
    def warnings(self) -> list[str]:
        """What its training warned of, each text once, in the order of seeds and tasks."""
        return list(dict.fromkeys(text for results in self.results.values() for result in results
                                  for text in result.get("warnings", ())))

    @cached_property
    def tasks_done(self) -> int:
        """Tasks whose results every seed has reported."""
        return min((len(results) for results in self.results.values()), default=0)

    def last(self, metric: str) -> float | None:
        """A metric's mean over seeds after the last task reported by all; None before the first."""
        if metric not in self._last:
            values = self.by_seed(metric)
            self._last[metric] = None if not values or None in values else mean(values)
        return self._last[metric]

    @cached_property
    def _last(self) -> dict[str, float | None]:
        return {}

    def final(self, metric: str) -> float:
        """A metric that the trial is known to have; for COMPLETE trials and metrics that its stream has."""
        value = self.last(metric)
        assert value is not None, f"trial {self.number} has no {metric}"
        return value

    def spread(self, metric: str) -> float | None:
        """A metric's standard deviation over seeds after the last task reported by all; None with fewer than two."""
        values = self.by_seed(metric)
        return None if len(values) < 2 or None in values else stdev(values)

    def by_task(self, metric: str) -> list[float | None]:
        """A metric's mean over seeds after each task reported by all."""
        rows = [[results[task]["metrics"].get(metric) for results in self.results.values()]
                for task in range(self.tasks_done)]
        return [None if None in row else mean(row) for row in rows]

    def by_seed(self, metric: str) -> list[Any]:
        """A metric of each seed after the last task reported by all; [] before the first."""
        done = self.tasks_done
        return [results[done - 1]["metrics"].get(metric) for results in self.results.values()] if done else []


def newest(trials: Sequence[TrialRecord]) -> dict[int, TrialRecord]:
    """By number of every trial that is no rerun, in order: the last one of it and its reruns."""
    found: dict[int, TrialRecord] = {}
    first: dict[int, int] = {}  # by number
    for trial in trials:
        first[trial.number] = trial.number if trial.reruns is None else first.get(trial.reruns, trial.reruns)
        found[first[trial.number]] = trial
    return found
