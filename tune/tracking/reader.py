"""A sweep read back from an MLflow server, because its ledger cannot be reached."""

import dataclasses
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dynamos.config import parsed
from dynamos.errors import RunError, UserError, command_line, unknown
from dynamos.metrics import TaskResult
from results.choice import broken
from results.definition.sweep_config import SweepConfig
from results.ledger.sweep_file import read_sweep_file
from results.sweep import Sweep
from results.trial import TrialRecord
from tune.tracking.mirror import (
    ATTEMPT_TAG,
    COHORTS_TAG,
    EXPERIMENT,
    RESULTS_TAG,
    RUNS_PER_PAGE,
    SWEEP_TAG,
    TAG,
    counts,
)
from tune.tracking.store import error_line, prepare

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def served_sweep(uri: str, name: str) -> Sweep:
    """The newest sweep of a name on an MLflow server, with the last results of its trials.

    Raises UserError if none exists, RunError if the server does not answer.
    """
    prepare()
    from mlflow import MlflowClient

    try:
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            raise UserError(f"no sweep at {uri}: it has no experiment {EXPERIMENT!r}.")
        # Only sweeps have a protocol.
        parents = [
            r
            for r in _runs(client, experiment.experiment_id, "tags.protocol LIKE '%'")
            if TAG in r.data.tags
        ]
        parent = next((r for r in parents if r.data.tags[TAG] == name), None)
        if parent is None:
            raise unknown(
                "sweep", name, sorted({r.data.tags[TAG] for r in parents}), f" (at {uri})"
            )
        if not any(file.path == "sweep.yaml" for file in client.list_artifacts(parent.info.run_id)):
            raise UserError(
                f"{name!r} at {uri} has no sweep.yaml yet; synchronise it on the machine of its "
                f"ledger: {command_line('dynamos-sweep', 'sync', name)}"
            )
        with TemporaryDirectory() as folder:
            file = client.download_artifacts(parent.info.run_id, "sweep.yaml", folder)
            config, record = read_sweep_file(Path(file))
        runs = _runs(
            client,
            experiment.experiment_id,
            f"tags.`{SWEEP_TAG}` = '{parent.data.tags[SWEEP_TAG]}'",
        )
        # A new run may have no tags yet. If a trial has two runs, the older counts, as for the
        # mirror.
        told = {run.data.tags[TAG]: run for run in runs if RESULTS_TAG in run.data.tags}
        trials = [_trial(run, config) for tag, run in told.items() if "/" in tag]
    except UserError:
        raise
    except Exception as error:  # whatever the store or the network raised
        raise RunError(f"MLflow at {uri} cannot be read: {error_line(error)}") from error
    return Sweep(config, record, sorted(trials, key=lambda t: t.number))


def _runs(client: "MlflowClient", experiment: str, wanted: str) -> Iterator["Run"]:
    """Yield the runs of an experiment that match a filter, the newest first."""
    token = None
    while True:
        page = client.search_runs([experiment], wanted, max_results=RUNS_PER_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _trial(run: "Run", config: SweepConfig) -> TrialRecord:
    tags, metrics = run.data.tags, run.data.metrics
    done = counts(tags[RESULTS_TAG])
    several = len(done) > 1
    results: dict[int, list[TaskResult]] = {seed: [] for seed in done}
    for seed, tasks in done.items():
        prefix = f"seed_{seed}/" if several else ""
        values = {
            name.removeprefix(prefix): value
            for name, value in metrics.items()
            if name.startswith(prefix)
        }
        if tasks:
            results[seed].append(TaskResult.of_metrics(values))
    complete = tags["state"] == "COMPLETE"
    record = TrialRecord(
        number=int(tags[TAG].rpartition("/")[2]),
        state=tags["state"],
        source=tags["source"],
        config={
            p.name: parsed(p.name, run.data.params[p.name])
            for p in config.space.parameters
            if p.name in run.data.params  # else it is inactive
        },
        results=results,
        attempt=int(tags[ATTEMPT_TAG]),
        held=False,
        reason=tags.get("reason") or None,
        started_at=_time(run.info.start_time),
        ended_at=_time(run.info.end_time),
        value=None,
        feasible=False,
        seconds=metrics.get("seconds"),
        cpu_seconds=metrics.get("cpu_seconds", 0.0),
        gpu_seconds=metrics.get("gpu_seconds", 0.0),
        seed=int(run.data.params["seed"]),
        # a run that an earlier version mirrored has no such tag
        cohorts=tuple(int(size) for size in tags.get(COHORTS_TAG, "1").split()),
    )
    if not complete:
        return record
    return dataclasses.replace(
        record,
        value=record.final(config.objectives[0].metric),
        feasible=not broken(config, record) and not record.outside,
    )


def _time(milliseconds: int | None) -> dt.datetime | None:
    return None if milliseconds is None else dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)
