"""TrialRecord: all data of a trial in the ledger."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import stdev
from typing import Any

import numpy as np

from dynamos.metrics import EpochReading, Matrix, TaskResult, mean
from results.names import IMPORTED, OUTSIDE, RACE, REPLICATE, RERUN


@dataclass(frozen=True)
class TrialRecord:
    """All data of a trial in the ledger.

    Means are cached: a sweep of thousands of trials is ranked again and again.
    """

    number: int
    state: str  # WAITING, RUNNING, INTERRUPTED (to be resumed), COMPLETE, PRUNED or FAIL
    source: str
    config: dict[str, Any]  # the searched fields, real values
    results: dict[int, list[TaskResult]]  # by seed, in the order of tasks
    attempt: int
    # state is RUNNING, but training is over; the trial waits for its batch (deterministic order)
    held: bool
    reason: str | None
    started_at: dt.datetime | None  # UTC; start of its training
    ended_at: dt.datetime | None  # UTC
    value: float | None  # the first objective; only of a COMPLETE trial
    # True if every constraint is kept and the space admits it; only for COMPLETE trials
    feasible: bool
    # training time of its attempts, until now if one runs; None before the first
    seconds: float | None
    cpu_seconds: float  # CPUs held times seconds
    gpu_seconds: float
    starting: bool = False  # state is RUNNING, but its worker is not ready yet
    # largest number of runs, its own and others', that trained as one program, by attempts
    cohorts: tuple[int, ...] = (1,)
    # the first of its training seeds; None before it is known, when the trial is started
    seed: int | None = None
    # A record that was read from MLflow lacks the following two.
    losses: int = 0  # attempts that lost their worker or node
    # by seed: when each result was recorded, in seconds since the epoch
    recorded_at: dict[int, list[float]] = field(default_factory=dict)
    # by seed and number of epochs: an EpochReading, and when it was recorded
    epoch_readings: dict[int, dict[int, tuple[EpochReading, float]]] = field(default_factory=dict)

    @property
    def imported(self) -> bool:
        """True if another sweep ran the trial.

        It may be chosen, but counts in no budget.
        """
        return self.source.startswith(IMPORTED)

    @property
    def outside(self) -> bool:
        """True if it is COMPLETE and its sweep's space, which was changed, excludes it.

        It cannot be chosen.
        """
        return self.state == "COMPLETE" and self.reason == OUTSIDE

    @property
    def changes(self) -> dict[str, Any]:
        """The fields in which the trial, with the first of its seeds, differs from the base."""
        return self.config if self.seed is None else self.config | {"seed": self.seed}

    @property
    def label(self) -> str:
        """The trial's number and, of an imported trial, its source, in words."""
        return f"trial {self.number}" + (f", {self.source}" if self.imported else "")

    @property
    def trains(self) -> bool:
        """True if the trial is running and its training has not ended."""
        return self.state == "RUNNING" and not self.held

    @property
    def reruns(self) -> int | None:
        """Number of the trial that this one runs again; None if it is not a rerun."""
        return int(self.source.removeprefix(RERUN)) if self.source.startswith(RERUN) else None

    @property
    def replicates(self) -> int | None:
        """Number of the trial whose configuration this one runs on other seeds, else None."""
        kind, _, number = self.source.partition(":")
        return int(number) if f"{kind}:" in (REPLICATE, RACE) else None

    @property
    def races(self) -> bool:
        """True if it is a run of the final race."""
        return self.source.startswith(RACE)

    @property
    def n_tasks(self) -> int:
        """Number of tasks of the stream; 0 before the first result."""
        return max((results[0].n_tasks for results in self.results.values() if results), default=0)

    @property
    def warnings(self) -> list[str]:
        """Warnings of its training, each text once, in the order of seeds and tasks."""
        return list(
            dict.fromkeys(
                text
                for results in self.results.values()
                for result in results
                for text in result.warnings
            )
        )

    @cached_property
    def tasks_done(self) -> int:
        """Number of tasks whose results every seed has reported."""
        return min((len(results) for results in self.results.values()), default=0)

    def after(self, metric: str, tasks: int) -> float | None:
        """Return a metric's mean over seeds after so many tasks; None if one seed lacks it."""
        if (metric, tasks) not in self._means:
            values = self.by_seed(metric, tasks)
            self._means[metric, tasks] = None if not values or None in values else mean(values)
        return self._means[metric, tasks]

    @cached_property
    def _means(self) -> dict[tuple[str, int], float | None]:
        return {}

    def last(self, metric: str) -> float | None:
        """Return the mean after the last task that all seeds have reported; None before any."""
        return self.after(metric, self.tasks_done)

    def final(self, metric: str) -> float:
        """Return `last` where it cannot be None: for COMPLETE trials and the stream's metrics."""
        value = self.last(metric)
        assert value is not None, f"trial {self.number} has no {metric}"
        return value

    def by_task(self, metric: str) -> list[float | None]:
        """Return a metric's mean over seeds after each task that all have reported."""
        return [self.after(metric, tasks) for tasks in range(1, self.tasks_done + 1)]

    def mean_row(self, name: str, tasks: int) -> Matrix:
        """Return the mean over seeds of a row or table of TaskResult after so many tasks."""
        rows = [getattr(results[tasks - 1], name) for results in self.results.values()]
        return np.asarray(np.mean(rows, axis=0))

    def spread(self, metric: str, tasks: int | None = None) -> float | None:
        """Return the standard deviation of `by_seed`; None for fewer than two seeds."""
        values = self.by_seed(metric, tasks)
        return None if len(values) < 2 or None in values else stdev(values)

    def by_seed(self, metric: str, tasks: int | None = None) -> list[Any]:
        """Return a metric of each seed after so many tasks, by default `tasks_done`.

        Returns [] if no task is done, and if one seed has reported fewer tasks.
        """
        tasks = self.tasks_done if tasks is None else tasks
        if not 0 < tasks <= self.tasks_done:
            return []
        return [metrics[tasks - 1].get(metric) for metrics in self._metrics]

    @cached_property
    def _metrics(self) -> list[list[dict[str, float]]]:
        return [[result.metrics() for result in results] for results in self.results.values()]

    def reported_at(self, tasks: int) -> float:
        """Time in seconds since the epoch at which the last seed had reported so many tasks."""
        return max(times[tasks - 1] for times in self.recorded_at.values())

    @cached_property
    def epochs_read(self) -> list[int]:
        """The numbers of epochs of which every seed has an EpochReading, ascending."""
        of = [self.epoch_readings.get(seed, {}).keys() for seed in self.results]
        return sorted(set.intersection(*map(set, of))) if of else []

    def after_epochs(self, metric: str, epochs: int) -> float | None:
        """Return the mean over seeds of EpochReadings; None if one lacks the metric."""
        of = [self.epoch_readings[seed][epochs][0].metrics().get(metric) for seed in self.results]
        values = [value for value in of if value is not None]
        return mean(values) if len(values) == len(of) else None

    def read_at(self, epochs: int) -> float:
        """Time in seconds since the epoch at which the last seed's EpochReading was recorded."""
        return max(readings[epochs][1] for readings in self.epoch_readings.values())

    def reading_entries(self) -> dict[str, list[dict[str, float]]]:
        """Return the EpochReadings by seed as plain values: epochs, and accuracies by name."""
        return {
            str(seed): [
                {"epochs": epochs, **reading.metrics()}
                for epochs, (reading, _) in sorted(readings.items())
            ]
            for seed, readings in self.epoch_readings.items()
        }

    def entries(self) -> dict[str, list[dict[str, Any]]]:
        """Return the results by seed as plain values, with their metrics and recorded_at."""
        return {
            str(seed): [
                {**result.to_dict(), "metrics": result.metrics(), "recorded_at": at}
                for result, at in zip(results, self.recorded_at[seed], strict=True)
            ]
            for seed, results in self.results.items()
        }


def pooled(trials: Sequence[TrialRecord]) -> TrialRecord:
    """Return COMPLETE trials of one configuration as one trial: the first, with the runs of all.

    Of several runs with the same seed, which are equal, one counts. The fields `value` and
    `feasible` and the times remain those of the first trial.
    """
    first, *others = trials
    if not others:
        return first
    runs = {seed: t for t in reversed(trials) for seed in t.results}
    seeds = sorted(runs, key=lambda seed: (trials.index(runs[seed]), seed))
    return replace(
        first,
        results={seed: runs[seed].results[seed] for seed in seeds},
        recorded_at={seed: runs[seed].recorded_at.get(seed, []) for seed in seeds},
    )


def newest(trials: Sequence[TrialRecord]) -> dict[int, TrialRecord]:
    """Return each trial's last rerun, or the trial itself, by the number of the original trial."""
    found: dict[int, TrialRecord] = {}
    first: dict[int, int] = {}  # by number
    for trial in trials:
        first[trial.number] = (
            trial.number if trial.reruns is None else first.get(trial.reruns, trial.reruns)
        )
        found[first[trial.number]] = trial
    return found
