"""TrialRecord: everything the ledger knows of a trial, read from its Optuna storage."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import stdev
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from results.sweep_config import SweepConfig

IMPORTED = "imported:"  # what the source of a trial begins with that another sweep ran


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
    started_at: dt.datetime | None  # UTC
    ended_at: dt.datetime | None  # UTC
    value: float | None  # the first objective; only of a COMPLETE trial
    feasible: bool  # whether every constraint is kept; only of a COMPLETE trial
    seconds: float | None  # wall time of its attempts, until now where one runs; None before the first
    cpu_seconds: float  # CPUs held times wall time
    gpu_seconds: float
    losses: int = 0  # attempts that lost their worker or node; MLflow has none of them

    @property
    def imported(self) -> bool:
        """Whether another sweep ran it; it informs the sampler and is no trial of this sweep's otherwise."""
        return self.source.startswith(IMPORTED)

    @cached_property
    def tasks_done(self) -> int:
        """Tasks whose results every seed has reported."""
        return min((len(results) for results in self.results.values()), default=0)

    def last(self, metric: str) -> float | None:
        """A metric's mean over seeds after the last task reported by all; None before the first."""
        if metric not in self._last:
            values = self.by_seed(metric)
            self._last[metric] = None if not values or None in values else float(
                values[0]) if len(values) == 1 else float(np.mean(values))
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

    def by_seed(self, metric: str) -> list[Any]:
        """A metric of each seed after the last task reported by all; [] before the first."""
        done = self.tasks_done
        return [results[done - 1]["metrics"].get(metric) for results in self.results.values()] if done else []


def read(trial: FrozenTrial, config: SweepConfig, now: dt.datetime | None) -> TrialRecord:
    """The record of an Optuna trial of a sweep; `now` is until when it runs, if it does. None: its driver is gone."""
    attributes = trial.user_attrs
    attempt = attributes.get("attempt", {"number": 0, "cpus": 0.0, "gpus": 0.0})
    earlier = attributes.get("earlier", {"seconds": 0.0, "cpu_seconds": 0.0, "gpu_seconds": 0.0})
    interrupted = trial.state == TrialState.WAITING and attempt["number"] > 0
    ended = _time(attributes, "ended_at") if trial.state.is_finished() else None
    began = None if interrupted else _time(attempt, "started_at")
    held = _time(attempt, "ended_at") if trial.state == TrialState.RUNNING else None
    running = 0.0 if began is None else (
        (ended or held or now or last_heard(attributes, began)) - began).total_seconds()
    source, complete = attributes.get("source", "sampler"), trial.state == TrialState.COMPLETE
    record = TrialRecord(
        number=trial.number, state="INTERRUPTED" if interrupted else trial.state.name, source=source,
        config=config.space.real(trial.params or trial.system_attrs.get("fixed_params", {})),
        results=_results(attributes, () if source.startswith(IMPORTED) else config.training_seeds),
        attempt=attempt["number"], held=held is not None,
        reason=attributes.get("reason") if trial.state.is_finished() else None,
        started_at=_time(attributes, "started_at"), ended_at=ended, value=trial.values[0] if complete else None,
        feasible=False, seconds=earlier["seconds"] + running if attempt["number"] > 0 else None,
        cpu_seconds=earlier["cpu_seconds"] + attempt["cpus"] * running,
        gpu_seconds=earlier["gpu_seconds"] + attempt["gpus"] * running, losses=attributes.get("losses", 0))
    kept = complete and all(c.violation(record.final(c.metric)) <= 0 for c in config.constraints)
    return dataclasses.replace(record, feasible=kept)


def last_heard(attributes: dict[str, Any], began: dt.datetime) -> dt.datetime:
    """When an attempt that began then last reported: all that is known of one whose driver was killed."""
    reported = [entry["recorded_at"] for key, entry in attributes.items() if key.startswith("result/")]
    return max([began, *(dt.datetime.fromtimestamp(seconds, dt.UTC) for seconds in reported)])


def _time(attributes: dict[str, Any], name: str) -> dt.datetime | None:
    return dt.datetime.fromisoformat(attributes[name]) if name in attributes else None


def _results(attributes: dict[str, Any], seeds: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """TaskResults by seed, in the order of seeds and tasks, of the attributes result/SEED/TASK."""
    results: dict[int, list[dict[str, Any]]] = {seed: [] for seed in seeds}
    entries = sorted((int(seed), int(task), key) for key in attributes if key.startswith("result/")
                     for _, seed, task in [key.split("/")])
    for seed, _, key in entries:
        results.setdefault(seed, []).append(attributes[key])
    return results
