"""MLflow runs, made to agree with the ledger: one parent run per sweep, one child run per trial.

The tags of a run record the results already sent. So one comparison is enough for a live sweep, a
resumed one and repair: it finds the sweep's runs, and sends everything in the ledger that they
lack.
"""

import hashlib
import json
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url

from dynamos.errors import RunError, UserError
from results.analysis.confirmation import confirm_csv, outcome
from results.analysis.headline import headline
from results.choice import choice_of
from results.definition.protocols import NOT_PUBLISHABLE
from results.ledger.attributes import latest_outcome
from results.ledger.ledger import Ledger
from results.names import ENDED
from results.posterior import estimate
from results.sweep import Sweep
from results.trial import TrialRecord
from results.wording import count
from tune.tracking.store import EXPERIMENT as EXPERIMENT
from tune.tracking.store import error_line, mlflow_client, mlflow_uri, prepare

if TYPE_CHECKING:  # importing it takes seconds and memory; the process of a LiveMirror does so
    from mlflow.entities import Metric, Run

TAG = "dynamos.id"  # SWEEP for the parent run, SWEEP/NUMBER for a trial's
SWEEP_TAG = "dynamos.sweep_id"  # distinguishes sweeps that had one name at different times
ATTEMPT_TAG = "dynamos.attempt"
COHORTS_TAG = "cohorts"  # numbers of runs that trained as one program, by attempts
# a trial's: how many were sent, "SEED:COUNT SEED:COUNT"; the parent's: its summary
RESULTS_TAG = "dynamos.results"
FILES_TAG = "dynamos.files"  # digest of the parent's artifacts
LABELS_TAG = "dynamos.tags"  # names of the parent's tags that people gave the sweep
NOTE_TAG = "mlflow.note.content"  # MLflow shows it as a run's description
FILES = (
    "sweep.yaml",
    "trials.csv",
    "best_config.yaml",
    "best_args.py",
    "pareto.csv",
    "confirm.csv",
    "class_orders.csv",
)
CONFIRMATION_TAG, VERDICT_TAG, HEADLINE_TAG = "confirmation", "verdict", "headline"  # the parent's
CONFIRMS_TAG = "confirms"  # the name of the sweep, on the parent of a confirmation
REASON_LENGTH = 2000  # the ledger has it whole
RUNS_PER_PAGE = 200  # few enough for an answer in time
METRICS_PER_BATCH = 800  # MLflow takes 1000 entries at a time, params and tags among them
_STATUS = {
    "INTERRUPTED": "SCHEDULED",
    "RUNNING": "RUNNING",
    "COMPLETE": "FINISHED",
    "PRUNED": "KILLED",
    "FAIL": "FAILED",
}


@dataclass(frozen=True, slots=True)
class _Run:
    """A run as the server has it."""

    run_id: str
    status: str
    ended: int | None  # milliseconds since the epoch
    tags: Mapping[str, str]
    params: Mapping[str, str]


class Mirror:
    """A sweep's runs on an MLflow server or store."""

    def __init__(self, ledger: Ledger, uri: str, answered_at: Any = None) -> None:
        """Connect to the server or store.

        Args:
            ledger: the sweep's ledger, to read.
            uri: the server or store.
            answered_at: its `value` is kept at time.monotonic() of the last answer.
        """
        self._ledger, self._uri = ledger, uri
        self._name, self._sweep = ledger.config.name, str(ledger.record["id"])
        self._client, self._experiment = mlflow_client(uri, ledger.folder.parent)
        self._runs: dict[str, _Run] | None = None  # by TAG; None before the first request
        self._changed: set[str] = set()  # ids of the runs that this sync had to change
        self._sent: dict[int, tuple[Any, ...]] = {}  # by trial number, its _mark when it was sent
        self._answered_at = answered_at
        self._answered()

    def sync(self) -> int:
        """Make the runs agree with the ledger.

        Returns the number of changed runs: 0 when called again.

        With the runs of a confirmation, the run of the sweep that it confirms gets the outcome.
        """
        self._changed = set()
        self._look()  # again: a failed request may have succeeded
        sweep = Sweep.of(self._ledger)
        for trial in sweep.records:
            self.sync_trial(trial)
        self._sync_parent(sweep)
        confirms, storage = self._ledger.config.confirms, self._ledger.folder.parent
        if confirms is not None and (storage / confirms / "sweep.yaml").is_file():
            with closing(Ledger.open(storage, confirms)) as confirmed:
                return (
                    len(self._changed)
                    + Mirror(confirmed, self._uri, self._answered_at).sync_parent()
                )
        return len(self._changed)

    def sync_parent(self) -> int:
        """Make only the sweep's run agree, if it exists; return the number of changed runs."""
        self._changed = set()
        if self._name in self._look():
            self._sync_parent(Sweep.of(self._ledger))
        return len(self._changed)

    def sync_changes(self) -> None:
        """Send the trials that have changed in the ledger since they were sent."""
        for trial in self._ledger.trials():
            if self._sent.get(trial.number) != _mark(trial):
                self.sync_trial(trial)

    def sync_trial(self, trial: TrialRecord) -> None:
        """Make a trial's run agree with the ledger. Repeatable: nothing is sent twice.

        An imported trial, or one that has not started, has no run.
        """
        started = trial.started_at or trial.ended_at
        if trial.imported or started is None:
            return
        parent = self._run(self._name, self._name, {}, started)
        if trial.state == "RUNNING":
            self._set_status(self._name, "RUNNING", None)
        tag = f"{self._name}/{trial.number}"
        run = self._run(
            tag, f"{self._name}/{trial.number:04d}", {"mlflow.parentRunId": parent.run_id}, started
        )
        tags = {
            "mlflow.parentRunId": parent.run_id,
            "state": trial.state,
            "source": trial.source,
            "reason": (trial.reason or "")[:REASON_LENGTH],
            ATTEMPT_TAG: str(trial.attempt),
            COHORTS_TAG: " ".join(map(str, trial.cohorts)),
            RESULTS_TAG: " ".join(
                f"{seed}:{len(results)}" for seed, results in trial.results.items()
            ),
        }
        metrics = list(
            _metrics(trial, self._ledger.config.metrics, counts(run.tags.get(RESULTS_TAG, "")))
        )
        ended = _milliseconds(trial.ended_at)
        if ended is not None and trial.seconds is not None and run.tags.get("state") != trial.state:
            for name in ("seconds", "cpu_seconds", "gpu_seconds"):
                metrics.append(metric(name, getattr(trial, name), ended, 0))
        config = self._ledger.config
        inactive = {p.name for p in config.space.parameters if p.name not in trial.config}
        base = {name: of for name, of in config.base.to_dict().items() if name not in inactive}
        self._send(tag, metrics, base | trial.changes, tags)
        self._set_status(tag, _STATUS[trial.state], ended)
        self._sent[trial.number] = _mark(trial)

    def _sync_parent(self, sweep: Sweep) -> None:
        """Make the parent run agree with the sweep's state; its files become artifacts."""
        config, trials, ran = sweep.config, sweep.records, sweep.own
        states = [t.state for t in ran]
        begun = [started for t in ran if (started := t.started_at or t.ended_at)]
        ended = max((_milliseconds(t.ended_at) or 0 for t in trials), default=0)
        summary = {f"trials_{state.lower()}": float(states.count(state)) for state in ENDED}
        tags = {
            "space": config.space.name,
            "dataset": config.base.dataset,
            "protocol": config.protocol,
        }
        if not config.publishable:
            tags["warning"] = NOT_PUBLISHABLE
        chosen = choice_of(sweep)
        if chosen is not None and chosen.value is not None:
            summary |= _chosen(sweep, chosen)
            tags |= {
                "best_trial": str(chosen.number),
                "best_source": chosen.source,
                "luckiest_trial": str(sweep.ranked[0].number),
            }
        files = {
            name: path.read_text()
            for name in FILES
            if (path := self._ledger.folder / name).exists()
        }
        found, found_at = latest_outcome(sweep.looks), 0
        if config.confirms is not None:
            tags[CONFIRMS_TAG] = config.confirms
            over = len(trials) >= self._ledger.budget and all(t.ended_at for t in trials)
            found = outcome(sweep) if over else None
            if found is not None:
                found_at, files["confirm.csv"] = ended, confirm_csv(sweep)
                tags |= {VERDICT_TAG: found["verdict"], HEADLINE_TAG: found["finding"]}
        elif found is not None:
            found_at = int(datetime.fromisoformat(found["at"]).timestamp() * 1000)
            tags |= {
                CONFIRMATION_TAG: found["confirmation"],
                VERDICT_TAG: found["verdict"],
                HEADLINE_TAG: headline(sweep),
            }
        labels, note = self._ledger.tags, self._ledger.note
        run = self._run(self._name, self._name, {}, min(begun, default=None))
        if labels or LABELS_TAG in run.tags:
            tags |= labels | {LABELS_TAG: json.dumps(list(labels))}
        if note or NOTE_TAG in run.tags:
            tags[NOTE_TAG] = note
        tags[RESULTS_TAG] = json.dumps(summary | ({} if found is None else found["metrics"]))
        tags[FILES_TAG] = hashlib.sha256("".join(files.values()).encode()).hexdigest()[:16]
        for removed in set(json.loads(run.tags.get(LABELS_TAG, "[]"))) - set(labels):
            if removed in run.tags:
                self._client.delete_tag(run.run_id, removed)
                run = replace(
                    run, tags={name: value for name, value in run.tags.items() if name != removed}
                )
                self._know(self._name, run)
        if run.tags.get(FILES_TAG) != tags[FILES_TAG]:
            for file, text in files.items():
                self._client.log_text(run.run_id, text, file)
                self._answered()
        metrics = []
        if run.tags.get(RESULTS_TAG) != tags[RESULTS_TAG]:
            metrics = [metric(name, value, ended, 0) for name, value in summary.items()]
            metrics += (
                []
                if found is None
                else [metric(name, value, found_at, 0) for name, value in found["metrics"].items()]
            )
        self._send(self._name, metrics, {}, tags)
        if "RUNNING" in states:
            status = "RUNNING"
        elif not begun:
            status = "SCHEDULED"
        else:
            # In a sweep that ended early all trials may be over before the budget.
            status = (
                "FINISHED"
                if sum(t.ended_at is not None for t in ran) >= self._ledger.budget
                else "KILLED"
            )
        self._set_status(self._name, status, ended or None)

    def _look(self) -> dict[str, _Run]:
        """The sweep's runs by tag. Of two with one tag the younger is deleted."""
        found: dict[str, list[Run]] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                f"tags.`{SWEEP_TAG}` = '{self._sweep}'",
                max_results=RUNS_PER_PAGE,
                page_token=token,
            )
            self._answered()
            for run in page:
                if TAG in run.data.tags:
                    found.setdefault(run.data.tags[TAG], []).append(run)
            token = page.token
            if not token:
                break
        self._runs = {}
        for tag, runs in found.items():
            # If one request made both, they are equally old. Then the one that was written to
            # counts as the older.
            kept, *others = sorted(
                runs,
                key=lambda r: (r.info.start_time, RESULTS_TAG not in r.data.tags, r.info.run_id),
            )
            for other in others:
                self._client.delete_run(other.info.run_id)
                self._changed.add(other.info.run_id)
            self._runs[tag] = _Run(
                kept.info.run_id,
                kept.info.status,
                kept.info.end_time,
                kept.data.tags,
                kept.data.params,
            )
        return self._runs

    def _run(self, tag: str, name: str, tags: Mapping[str, str], started: datetime | None) -> _Run:
        """The run of that tag, made if it is missing."""
        runs = self._look() if self._runs is None else self._runs
        if tag not in runs:
            tags = {TAG: tag, SWEEP_TAG: self._sweep, **tags}
            made = self._client.create_run(self._experiment, _milliseconds(started), tags, name)
            self._know(tag, _Run(made.info.run_id, "RUNNING", None, tags, {}))
        return runs[tag]

    def _send(
        self, tag: str, metrics: list["Metric"], params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """Log the metrics, the params that the run lacks, and the tags that differ."""
        from mlflow.entities import Param, RunTag

        assert self._runs is not None
        run = self._runs[tag]
        # A param cannot be changed. If MLflow has another value for one, the rest is still sent.
        params = {k: str(v) for k, v in params.items() if k not in run.params}
        tags = {k: v for k, v in tags.items() if run.tags.get(k) != v}
        if not (metrics or params or tags):
            return
        # The tags go last: they say that everything else has arrived. MLflow's stores keep that
        # order within a batch.
        while len(metrics) > METRICS_PER_BATCH:
            self._client.log_batch(run.run_id, metrics[:METRICS_PER_BATCH], synchronous=True)
            metrics = metrics[METRICS_PER_BATCH:]
        self._client.log_batch(
            run.run_id,
            metrics,
            [Param(k, v) for k, v in params.items()],
            [RunTag(k, v) for k, v in tags.items()],
            synchronous=True,
        )
        self._know(tag, replace(run, tags={**run.tags, **tags}, params={**run.params, **params}))

    def _set_status(self, tag: str, status: str, ended: int | None) -> None:
        assert self._runs is not None
        run = self._runs[tag]
        if status in ("SCHEDULED", "RUNNING"):
            if run.status != status:
                self._client.update_run(run.run_id, status)
                self._know(tag, replace(run, status=status))
        elif run.status != status or ended not in (None, run.ended):
            self._client.set_terminated(run.run_id, status, ended)
            self._know(tag, replace(run, status=status, ended=ended))

    def _answered(self) -> None:
        if self._answered_at is not None:
            self._answered_at.value = time.monotonic()

    def _know(self, tag: str, run: _Run) -> None:
        """Record the new state of a run on the server."""
        assert self._runs is not None
        self._runs[tag] = run
        self._changed.add(run.run_id)
        self._answered()


def sync(ledger: Ledger, uri: str | None = None) -> str:
    """Make MLflow agree with the ledger; return a sentence on the changes.

    With a `uri` it is the MLflow at that address, which the sweep uses from then on.
    """
    try:
        mirror = Mirror(ledger, uri or mlflow_uri(ledger))  # fails before anything is changed
        if uri is not None:
            ledger.use_tracking(uri)
        changed = mirror.sync()
    except UserError:
        raise
    except Exception as error:  # whatever the store or the network raised
        raise RunError(
            f"MLflow cannot be synchronised with {ledger.config.name}: {error_line(error)}"
        ) from error
    return (
        f"MLflow agrees with {ledger.config.name}: {count(changed, 'run')} updated"
        if changed
        else (f"MLflow already agreed with {ledger.config.name}")
    )


def delete_runs(uri: str, sweep: str, really: bool = True) -> int:
    """Delete a sweep's runs on an MLflow server or store and return their number.

    Raises RunError if it does not answer.

    Unless `really`, it only counts them. MLflow keeps deleted runs until `mlflow gc`.
    """
    if uri.startswith("sqlite") and not Path(str(make_url(uri).database)).exists():
        return 0
    prepare()
    from mlflow import MlflowClient

    try:
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        found, token = list[str](), None
        while experiment is not None:
            page = client.search_runs(
                [experiment.experiment_id],
                f"tags.`{SWEEP_TAG}` = '{sweep}'",
                max_results=RUNS_PER_PAGE,
                page_token=token,
            )
            found += [run.info.run_id for run in page]
            token = page.token
            if not token:
                break
        for run in found if really else ():
            client.delete_run(run)
    except Exception as error:  # whatever the store or the network raised
        raise RunError(f"MLflow at {uri} cannot be used: {error_line(error)}") from error
    return len(found)


def _chosen(sweep: Sweep, trial: TrialRecord) -> dict[str, float]:
    """Metrics of the parent about the chosen trial: its value, what a useful model expects of it.

    The latter: NAME_expected, NAME_expected_sd, and the probability of being the best.
    """
    name, found = f"best_{sweep.config.objectives[0].metric}", estimate(sweep, trial)
    return {name: trial.final(sweep.config.objectives[0].metric)} | (
        {}
        if found is None
        else {
            f"{name}_expected": found.expected,
            f"{name}_expected_sd": found.sd,
            "best_probability": found.p_best,
        }
    )


def _metrics(
    trial: TrialRecord, spread_of: Container[str], sent: Mapping[int, int]
) -> Iterator["Metric"]:
    """Yield the trial's metrics beyond the first `sent` results of each seed, from step 1.

    With several seeds, the value of each seed has the prefix seed_SEED/. Once all seeds have
    reported a task, their mean has the plain name, and metrics in `spread_of` have their standard
    deviation as NAME_std. EpochReadings have the name NAME_by_epoch; their step is the number of
    epochs. The time is that of the ledger, because a store drops a second row with the same key,
    step, value and time.
    """
    several = len(trial.results) > 1
    for seed, readings in trial.epoch_readings.items():  # all again: they are few
        for reading, recorded_at in readings.values():
            for name, value in reading.metrics().items():
                name = f"seed_{seed}/{name}" if several else name
                yield metric(f"{name}_by_epoch", value, int(1000 * recorded_at), reading.epochs)
    for seed, results in trial.results.items():
        for index in range(sent.get(seed, 0), len(results)):
            at, step = int(1000 * trial.recorded_at[seed][index]), results[index].task + 1
            for name, value in results[index].metrics().items():
                yield metric(f"seed_{seed}/{name}" if several else name, value, at, step)
    if not several:
        return
    for tasks in range(min(sent.get(seed, 0) for seed in trial.results) + 1, trial.tasks_done + 1):
        one, at = (
            next(iter(trial.results.values()))[tasks - 1],
            int(1000 * trial.reported_at(tasks)),
        )
        for name in one.metrics():
            if (average := trial.after(name, tasks)) is not None:
                yield metric(name, average, at, one.task + 1)
                spread = trial.spread(name, tasks) if name in spread_of else None
                if spread is not None:
                    yield metric(f"{name}_std", spread, at, one.task + 1)


def _mark(trial: TrialRecord) -> tuple[Any, ...]:
    """A value that changes whenever a trial has something new to send."""
    tasks = (len(results) for results in trial.results.values())
    readings = (len(readings) for readings in trial.epoch_readings.values())
    return trial.state, trial.attempt, trial.cohorts, *tasks, *readings


def metric(name: str, value: float, at: int, step: int) -> "Metric":
    """A metric's value at a step, and its time in milliseconds since the epoch."""
    from mlflow.entities import Metric

    return Metric(name, float(value), at, step)


def _milliseconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp() * 1000)


def counts(text: str) -> dict[int, int]:
    """Number of results sent, by seed, in a RESULTS_TAG."""
    return {int(seed): int(count) for seed, count in (entry.split(":") for entry in text.split())}
