"""MLflow runs, made to agree with the ledger: one parent run per sweep, one child run per trial.

A run is found by its tag before it is created, so the same comparison serves a live sweep, a resumed one and repair.
"""

import logging
import os
import queue
import threading
from pathlib import Path

from results.best import best
from results.ledger import Ledger
from results.trial import TrialRecord

EXPERIMENT = "dynamos"
TAG = "dynamos.id"  # SWEEP for the parent run, SWEEP/NUMBER for a trial's
SWEEP_TAG = "dynamos.sweep_id"  # tells sweeps apart that bore one name at different times
REASON_LENGTH = 2000  # the ledger has it whole
_STATUS = {"WAITING": "SCHEDULED", "INTERRUPTED": "SCHEDULED", "RUNNING": "RUNNING", "COMPLETE": "FINISHED",
           "PRUNED": "KILLED", "FAIL": "FAILED"}


class Mirror:
    """A sweep's runs on an MLflow server or store."""

    def __init__(self, ledger: Ledger, uri: str, artifacts: Path) -> None:
        """Connects; `artifacts` is where a store that this creates keeps its files."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._ledger = ledger
        self._client = MlflowClient(tracking_uri=uri)
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        self._experiment: str = experiment.experiment_id if experiment else self._client.create_experiment(
            EXPERIMENT, artifact_location=artifacts.as_uri() if uri.startswith("sqlite:") else None)
        self._runs: dict[str, str] = {}  # id of the run of each tag
        self._logged: dict[str, int] = {}  # results logged of each run by this process

    def sync(self) -> int:
        """How many runs were sent: all."""
        trials = self._ledger.trials()
        for trial in trials:
            self.sync_trial(trial)
        self.sync_summary()
        return len(trials)

    def sync_trial(self, trial: TrialRecord) -> None:
        """Makes the trial's run say what the ledger says. Repeatable: what was sent before changes nothing."""
        from mlflow.entities import Metric, Param, RunTag

        name = self._ledger.config.name
        tag = f"{name}/{trial.number}"
        parent = self._parent()
        run = self._run(tag, f"{name}/{trial.number:04d}", {"mlflow.parentRunId": parent})
        if trial.ended_at is None:
            self._client.update_run(parent, "RUNNING")
        metrics = []
        for results in trial.results.values():
            for result in results[self._logged.get(tag, 0):]:
                # The ledger's own time: a store drops a second row with the same key, step, value and timestamp.
                at = int(result["recorded_at"] * 1000)
                metrics += [Metric(k, float(v), at, result["task"] + 1) for k, v in result["metrics"].items()]
        if trial.ended_at is not None and trial.seconds is not None:
            metrics.append(Metric("seconds", trial.seconds, int(trial.ended_at.timestamp() * 1000), 0))
        base = self._ledger.config.base.to_dict()
        params = [Param(k, str(v)) for k, v in (base | trial.config).items()] if tag not in self._logged else []
        tags = [RunTag("state", trial.state), RunTag("source", trial.source),
                RunTag("reason", (trial.reason or "")[:REASON_LENGTH])]
        self._client.log_batch(run, metrics, params, tags)
        self._logged[tag] = trial.tasks_done
        self._set_status(run, trial)

    def sync_summary(self) -> None:
        """Makes the parent run say what the sweep has come to, its files among the run's artifacts."""
        from mlflow.entities import Metric, RunTag

        trials = self._ledger.trials()
        run = self._parent()
        states = [t.state for t in trials]
        at = int(max((t.ended_at.timestamp() for t in trials if t.ended_at), default=0) * 1000)
        metrics = [Metric(f"trials_{state.lower()}", float(states.count(state)), at, 0)
                   for state in ("COMPLETE", "PRUNED", "FAIL")]
        chosen = best(trials, self._ledger.config)
        if chosen is not None and chosen.value is not None:
            metrics.append(Metric(f"best_{self._ledger.config.objectives[0].metric}", chosen.value, at, 0))
            self._client.log_batch(run, tags=[RunTag("best_trial", str(chosen.number))])
        self._client.log_batch(run, metrics)
        for file in ("sweep.yaml", "trials.csv", "best_config.yaml"):
            if (self._ledger.folder / file).exists():
                self._client.log_artifact(run, str(self._ledger.folder / file))
        over = bool(trials) and all(t.ended_at is not None for t in trials)
        self._client.set_terminated(run, "FINISHED" if over else "KILLED")

    def _parent(self) -> str:
        name = self._ledger.config.name
        return self._run(name, name, {"space": self._ledger.config.space.name,
                                      "dataset": self._ledger.config.base.dataset})

    def _run(self, tag: str, name: str, tags: dict[str, str]) -> str:
        if tag not in self._runs:
            sweep = str(self._ledger.record["id"])
            found = self._client.search_runs(
                [self._experiment], f"tags.`{TAG}` = '{tag}' and tags.`{SWEEP_TAG}` = '{sweep}'", max_results=1)
            run = found[0] if found else self._client.create_run(
                self._experiment, run_name=name, tags={TAG: tag, SWEEP_TAG: sweep, **tags})
            self._runs[tag] = run.info.run_id
        return self._runs[tag]

    def _set_status(self, run: str, trial: TrialRecord) -> None:
        status = _STATUS[trial.state]
        if trial.ended_at is not None:
            self._client.set_terminated(run, status, int(trial.ended_at.timestamp() * 1000))
        else:
            self._client.update_run(run, status)


class LiveMirror:
    """Mirrors a running sweep from a thread of its own, so that a slow or dead server never holds up a trial."""

    def __init__(self, ledger: Ledger, uri: str, artifacts: Path) -> None:
        self._ledger, self._store = ledger, (uri, artifacts)
        self._mirror: Mirror | None = None
        self._changed: queue.SimpleQueue[TrialRecord | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self.error: str | None = None  # what the server's last refusal said
        self._thread.start()

    def __call__(self, trial: TrialRecord) -> None:
        """Queues a trial's record."""
        self._changed.put(trial)

    def close(self) -> None:
        """Sends what is queued and the sweep's summary, then ends the thread."""
        self._changed.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (trial := self._changed.get()) is not None:
            self._try(trial)
        missed = self._ledger.trials() if self.error else []
        self.error = None
        for trial in missed:
            self._try(trial)
        self._try(None)

    def _try(self, trial: TrialRecord | None) -> None:
        """Sends a trial, or the summary."""
        try:
            self._mirror = self._mirror or Mirror(self._ledger, *self._store)
            if trial is not None:
                self._mirror.sync_trial(trial)
            else:
                self._mirror.sync_summary()
        except Exception as error:  # whatever the store or the network raised: the ledger keeps the facts
            self.error = str(error).strip().splitlines()[0] if str(error) else type(error).__name__


