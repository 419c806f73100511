"""A single run of `dynamos` in MLflow: a recorder, offered to dynamos by setup.cfg."""

import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamos.errors import UserError, command_line
from dynamos.metrics import TaskResult
from dynamos.provenance import environment, git_revision
from dynamos.recorders import Recorder
from dynamos.trainer import Trainer
from results.definition.urls import refuse_unusable
from tune.tracking.mirror import NOTE_TAG, REASON_LENGTH, RESULTS_TAG, counts, metric
from tune.tracking.store import error_line, mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN_TAG = "dynamos.run_id"  # distinguishes runs, whatever their folders are called
log = logging.getLogger(__name__)


class RunMirror(Recorder):
    """Makes an MLflow run agree with a run of `dynamos`: at its start, per task, at its end.

    If the server or store fails, training continues. Missing results are sent with the next task,
    or by `dynamos --resume`. The metrics have the same names as in a sweep.
    """

    def __init__(self, uri: str, flag: str, folder: Path, about: Mapping[str, Any]) -> None:
        """Check the URI; raise UserError if it cannot keep runs.

        Args:
            uri: the server or store.
            flag: the flag or variable that holds the URI.
            folder: the run's folder.
            about: further entries of its config.yaml: `id`, `started` and `notes`.
        """
        refuse_unusable(flag, uri)
        if "://" not in uri or uri.startswith("file:"):
            raise UserError(
                f"{flag} {uri}: MLflow does not support a folder of files; use http://HOST:PORT "
                "or sqlite:////ABSOLUTE/PATH/mlflow.db."
            )
        self._uri, self._folder, self._about = uri, folder.resolve(), dict(about)
        self._began_at = int(datetime.fromisoformat(self._about["started"]).timestamp() * 1000)
        self._failing = False

    def start(self, trainer: Trainer) -> None:
        """Mark the run as running, with its environment."""
        self._about |= {
            "environment": environment(trainer.device, trainer.config.threads),
            "revision": git_revision(),
        }
        if not trainer.done:
            self._tell(trainer, "RUNNING")

    def task(self, trainer: Trainer, result: TaskResult) -> None:
        """Send the task's metrics."""
        self._tell(trainer, "RUNNING")

    def end(self, trainer: Trainer) -> None:
        """Send the rest and result.json."""
        self._tell(trainer, "FINISHED")

    def broken_off(self, trainer: Trainer, error: BaseException) -> None:
        """Record the reason why the run ended early."""
        self._tell(
            trainer,
            "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED",
            str(error) or type(error).__name__,
        )

    def _tell(self, trainer: Trainer, status: str, reason: str = "") -> None:
        try:
            self._send(trainer, status, reason)
            self._failing = False
        except Exception as error:
            # whatever the store or the network raised: the run's folder has the facts
            if not self._failing:
                log.warning(
                    "MLflow lacks the latest results of this run (%s); when it answers, run: %s",
                    error_line(error),
                    command_line("dynamos", "--resume", self._folder),
                )
            self._failing = True

    def _send(self, trainer: Trainer, status: str, reason: str) -> None:
        from mlflow.entities import Param, RunTag

        run = self._found()
        client, run_id, seed = self._connected()[0], run.info.run_id, trainer.config.seed
        sent = counts(run.data.tags.get(RESULTS_TAG, "")).get(seed, 0)
        metrics, at = [], self._began_at
        for result in trainer.results:
            # The time does not depend on when the result is sent, so that a store drops a second
            # row with the same key, step, value and time.
            at += int(1000 * (result.train_seconds + result.eval_seconds))
            if result.task >= sent:
                metrics += [
                    metric(name, value, at, result.task + 1)
                    for name, value in result.metrics().items()
                ]
        facts = self._about["environment"]
        tags = {
            "folder": str(self._folder),
            NOTE_TAG: self._about["notes"],
            "reason": reason[:REASON_LENGTH],
            "git_revision": self._about["revision"],
            "data_hash": trainer.stream.data_hash,
            "validation_hash": trainer.stream.split_hash,
            **facts["versions"],
            **{name: value for name, value in facts.items() if name != "versions"},
            RESULTS_TAG: f"{seed}:{len(trainer.results)}",
        }
        params = {
            name: str(value)
            for name, value in trainer.config.to_dict().items()
            if name not in run.data.params
        }
        # The tags go last: they say that everything else has arrived. MLflow's stores keep that
        # order within a batch.
        client.log_batch(
            run_id,
            metrics,
            [Param(name, value) for name, value in params.items()],
            [RunTag(name, str(value)) for name, value in tags.items() if value is not None],
            synchronous=True,
        )
        if status == "RUNNING":
            if run.info.status != status:
                client.update_run(run_id, status)
            return
        for name in ("config.yaml", "result.json"):
            if (self._folder / name).exists():
                client.log_artifact(run_id, str(self._folder / name))
        client.set_terminated(run_id, status)

    def _found(self) -> "Run":
        """The run's MLflow run, searched each time: a failed request may have made it."""
        client, place = self._connected()
        found = client.search_runs([place], f"tags.`{RUN_TAG}` = '{self._about['id']}'")
        return (
            found[0]
            if found
            else client.create_run(
                place, self._began_at, {RUN_TAG: self._about["id"]}, self._folder.name
            )
        )

    def _connected(self) -> "tuple[MlflowClient, str]":
        """(client, id of the experiment)."""
        return mlflow_client(self._uri, self._folder.parent)
