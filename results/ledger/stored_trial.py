"""How a trial stands in its Optuna storage.

What a trial said stands in its user attributes, written before its state:

    source              where its parameters come from: "preset", "base" (the preset, altered), "points:N" (of
                        --points), "warm-start:SWEEP/N" (a configuration of an earlier sweep), "imported:SWEEP/N" (its
                        results too), "grid:N", "rerun:N" (of a trial of this sweep) or "sampler"
    started_at          when it was first trained, ISO 8601, UTC; the start of its worker came before
    attempt             {"number", "cpus", "gpus"}: how often it was asked for and what it holds; "started_at" once it
                        trains, "ended_at" where it waits for its batch's end
    earlier             {"attempts", "seconds", "cpu_seconds", "gpu_seconds"} of those that were interrupted
    losses              how many of them lost their worker or node
    result/SEED/TASK    a TaskResult as a mapping, plus its metrics and recorded_at (seconds since the epoch)
    ended_at, reason    written just before the state that ends it, without which they mean nothing

After that state nothing is written to a trial; what comes later stands in the study's attributes.
"""

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from results.definition.sweep_config import SweepConfig
from results.trial import IMPORTED, TrialRecord

_UNREPEATABLE = ("recorded_at", "train_seconds", "eval_seconds")  # of a result: what a second run measures anew


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
        gpu_seconds=earlier["gpu_seconds"] + attempt["gpus"] * running, losses=attributes.get("losses", 0),
        starting=trial.state == TrialState.RUNNING and began is None)
    kept = complete and all(c.violation(record.final(c.metric)) <= 0 for c in config.constraints)
    return dataclasses.replace(record, feasible=kept)


def foreign(trial: FrozenTrial, config: SweepConfig) -> bool:
    """Whether another program put a trial into the study, or ended it: nothing can be read from it."""
    source = trial.user_attrs.get("source")
    if source is None:
        return True
    if trial.state.is_finished() and not source.startswith(IMPORTED) and "ended_at" not in trial.user_attrs:
        return True
    if trial.state == TrialState.COMPLETE and not any(key.startswith("result/") for key in trial.user_attrs):
        return True
    return not config.space.holds(trial.params or trial.system_attrs.get("fixed_params", {}))


def last_heard(attributes: dict[str, Any], began: dt.datetime) -> dt.datetime:
    """When an attempt that began then last reported: all that is known of one whose driver was killed."""
    reported = [entry["recorded_at"] for key, entry in attributes.items() if key.startswith("result/")]
    return max([began, *(dt.datetime.fromtimestamp(seconds, dt.UTC) for seconds in reported)])


def repeatable(result: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a stored result that the same training gives again."""
    return {name: repeatable(value) if name == "metrics" else value for name, value in result.items()
            if name not in _UNREPEATABLE}


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
