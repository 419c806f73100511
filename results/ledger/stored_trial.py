"""Form of a trial in its Optuna storage.

The user attributes of a trial, written before its state:

    source              origin of its parameters: "preset", "base" (the preset, altered), "points:N"
                        (of --points), "warm-start:SWEEP/N" (a configuration of an earlier sweep),
                        "imported:SWEEP/N" (its results, too), "grid:N", "rerun:N" (trial N
                        again), "replicate:N", "race:N" (the configuration of trial N on other
                        seeds) or "sampler"
    seed                the first of its training seeds, from its first attempt on, or from its
                        enqueuing on if it is a further run; sweeps of earlier versions lack it
    started_at          first start of its training, ISO 8601, UTC; its worker started before
    attempt             {"number", "cpus", "gpus"}: number of the attempt and the resources that it
                        holds; "place" in a worker that trains several trials; "started_at" once it
                        trains, "ended_at" while it waits for the end of its batch
    earlier             {"attempts", "seconds", "cpu_seconds", "gpu_seconds"} of the interrupted
                        attempts
    losses              number of attempts that lost their worker or node
    cohorts             largest number of runs, its own and others', that trained as one program, in
                        the order of its attempts, each change once; without it [1]
    result/SEED/TASK    a TaskResult as a mapping, plus recorded_at (seconds since the epoch); up to
                        version 0.2.0 also its metrics
    reading/SEED/EPOCHS an EpochReading as a mapping, plus recorded_at
    ended_at, reason    written just before the final state; without that state they mean nothing

After its final state a trial does not change; later facts are in the study's attributes.
"""

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from dynamos.metrics import EpochReading, TaskResult
from results.definition.sweep_config import SweepConfig
from results.names import IMPORTED, OUTSIDE
from results.trial import TrialRecord


def read(trial: FrozenTrial, config: SweepConfig, now: dt.datetime | None) -> TrialRecord:
    """Return the record of a sweep's Optuna trial.

    `now` is the time until which a running trial has trained; None if no driver lives.
    """
    attributes = trial.user_attrs
    attempt = attributes.get("attempt", {"number": 0, "cpus": 0.0, "gpus": 0.0})
    earlier = attributes.get("earlier", {"seconds": 0.0, "cpu_seconds": 0.0, "gpu_seconds": 0.0})
    interrupted = trial.state == TrialState.WAITING and attempt["number"] > 0
    ended = _time(attributes, "ended_at") if trial.state.is_finished() else None
    began = None if interrupted else _time(attempt, "started_at")
    held = _time(attempt, "ended_at") if trial.state == TrialState.RUNNING else None
    running = (
        0.0
        if began is None
        else ((ended or held or now or last_heard(attributes, began)) - began).total_seconds()
    )
    source, complete = attributes.get("source", "sampler"), trial.state == TrialState.COMPLETE
    seed = attributes.get("seed", config.base.seed if config.seed_policy == "shared" else None)
    entries = _entries(
        attributes,
        () if seed is None or source.startswith(IMPORTED) else config.seeds_from(seed),
    )
    if source.startswith(IMPORTED):
        seed = min(entries, default=None)
    record = TrialRecord(
        number=trial.number,
        state="INTERRUPTED" if interrupted else trial.state.name,
        source=source,
        config=config.space.real(trial.params or trial.system_attrs.get("fixed_params", {})),
        results={seed: [task_result(e) for e in of_seed] for seed, of_seed in entries.items()},
        attempt=attempt["number"],
        held=held is not None,
        reason=attributes.get("reason") if trial.state.is_finished() else None,
        started_at=_time(attributes, "started_at"),
        ended_at=ended,
        value=trial.values[0] if complete else None,
        feasible=False,
        seconds=earlier["seconds"] + running if attempt["number"] > 0 else None,
        cpu_seconds=earlier["cpu_seconds"] + attempt["cpus"] * running,
        gpu_seconds=earlier["gpu_seconds"] + attempt["gpus"] * running,
        losses=attributes.get("losses", 0),
        seed=seed,
        cohorts=tuple(cohorts(attributes)),
        recorded_at={s: [e["recorded_at"] for e in of_seed] for s, of_seed in entries.items()},
        epoch_readings=_readings(attributes),
        starting=trial.state == TrialState.RUNNING and began is None,
    )
    kept = complete and all(c.violation(record.final(c.metric)) <= 0 for c in config.constraints)
    if complete and config.space.since and not config.space.fits(record.config):
        return dataclasses.replace(record, reason=OUTSIDE)
    return dataclasses.replace(record, feasible=kept)


def cohorts(attributes: Mapping[str, Any]) -> list[int]:
    """The attribute `cohorts` of a trial with these attributes."""
    found: list[int] = attributes.get("cohorts", [1])
    return found


def foreign(trial: FrozenTrial, config: SweepConfig) -> bool:
    """True if another program added a trial to the study or ended it.

    Such a trial cannot be read.
    """
    source = trial.user_attrs.get("source")
    if source is None:
        return True
    if (
        trial.state.is_finished()
        and not source.startswith(IMPORTED)
        and "ended_at" not in trial.user_attrs
    ):
        return True
    if trial.state == TrialState.COMPLETE and not any(
        key.startswith("result/") for key in trial.user_attrs
    ):
        return True
    return not config.space.holds(trial.params or trial.system_attrs.get("fixed_params", {}))


def last_heard(attributes: dict[str, Any], began: dt.datetime) -> dt.datetime:
    """Time of an attempt's last report, or of its start if it has reported nothing.

    This is the best estimate of its end if its driver was killed.
    """
    reported = [
        entry["recorded_at"]
        for key, entry in attributes.items()
        if key.startswith(("result/", "reading/"))
    ]
    return max([began, *(dt.datetime.fromtimestamp(seconds, dt.UTC) for seconds in reported)])


def stored_result(result: TaskResult, recorded_at: float) -> dict[str, Any]:
    """The attribute result/SEED/TASK of a result."""
    return {**result.to_dict(), "recorded_at": recorded_at}


def task_result(entry: Mapping[str, Any]) -> TaskResult:
    """The result of an attribute result/SEED/TASK."""
    return TaskResult.from_dict(
        {name: entry[name] for name in entry if name not in ("recorded_at", "metrics")}
    )


def stored_reading(reading: EpochReading, recorded_at: float) -> dict[str, Any]:
    """The attribute reading/SEED/EPOCHS of an EpochReading."""
    return {**dataclasses.asdict(reading), "recorded_at": recorded_at}


def epoch_reading(entry: Mapping[str, Any]) -> EpochReading:
    """The EpochReading of an attribute reading/SEED/EPOCHS."""
    return EpochReading(**{name: entry[name] for name in entry if name != "recorded_at"})


def repeatable(result: TaskResult) -> TaskResult:
    """The result without its times, which differ when the same training is repeated."""
    return dataclasses.replace(result, train_seconds=0.0, eval_seconds=0.0)


def _time(attributes: dict[str, Any], name: str) -> dt.datetime | None:
    return dt.datetime.fromisoformat(attributes[name]) if name in attributes else None


def _entries(attributes: dict[str, Any], seeds: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """The attributes result/SEED/TASK by seed, in the order of seeds and tasks."""
    found: dict[int, list[dict[str, Any]]] = {seed: [] for seed in seeds}
    keys = [key for key in attributes if key.startswith("result/")]
    for key in sorted(keys, key=lambda key: [int(part) for part in key.split("/")[1:]]):
        found.setdefault(int(key.split("/")[1]), []).append(attributes[key])
    return found


def _readings(attributes: Mapping[str, Any]) -> dict[int, dict[int, tuple[EpochReading, float]]]:
    """The attributes reading/SEED/EPOCHS by seed and epochs, each with its time."""
    found = dict[int, dict[int, tuple[EpochReading, float]]]()
    for key, entry in attributes.items():
        if key.startswith("reading/"):
            seed, epochs = map(int, key.split("/")[1:])
            found.setdefault(seed, {})[epochs] = epoch_reading(entry), entry["recorded_at"]
    return found
