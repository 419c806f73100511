"""Ray's Trainable around dynamos.trainer: one step() per task, one process for many trials."""

import json
import logging
import os
import traceback
from pathlib import Path
from typing import Any

import ray.tune
import yaml

from dynamos import checkpoints
from dynamos.config import TrainConfig
from dynamos.data import TEST_LOCK
from dynamos.errors import DynamosError, NonFiniteError
from dynamos.streams import Stream, load_stream
from dynamos.trainer import Trainer, pick_device

REPORT = "report"  # the key of a step's JSON: {"results": [{"result", "metrics"}, ...], "state", "reason"}


class SweepTrial(ray.tune.Trainable):
    """One trial: trains task by task in `folder`/attempt-N, and goes on from the newest checkpoint found there.

    Its configuration, as the searcher gives it: {"number", "attempt", "folder", "train": TrainConfig fields}. The
    method's own errors travel in a step's report, so that Ray counts only failures of workers and nodes.
    """

    _config: dict[str, Any]
    _streams: dict[str, Stream]
    _trainer: Trainer | None
    _attempt: Path
    _log: logging.FileHandler

    def setup(self, config: dict[str, Any]) -> None:
        """Readies the worker process for its first trial."""
        os.environ[TEST_LOCK] = "locked"  # from here on this process cannot read test images
        self._streams = {}
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes over the next trial; the images stay loaded, everything else is made anew."""
        self._log.close()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains one task. The report holds every result so far, so that the ledger misses none after a crash."""
        state, reason = None, None
        logging.getLogger("dynamos").addHandler(self._log)
        try:
            trainer = self._trainer or self._resumed()
            if not trainer.done:
                trainer.run_task()
                checkpoints.save(trainer.state_dict(), self._attempt)
            state = "COMPLETE" if trainer.done else None
        except NonFiniteError as error:
            state, reason = "PRUNED", f"non-finite: {error.place}"
        except Exception as error:  # a bug or a full disk: the sweep goes on, the ledger says why this trial did not
            (self._attempt / "traceback.txt").write_text(traceback.format_exc())
            kind = "" if isinstance(error, DynamosError) else f"{type(error).__name__}: "
            state, reason = "FAIL", f"{kind}{error} ({self._attempt / 'traceback.txt'})"
        finally:
            logging.getLogger("dynamos").removeHandler(self._log)
        results = [{"result": r.to_dict(), "metrics": r.metrics()} for r in (self._trainer.results if self._trainer
                                                                             else [])]
        if state is not None:
            self._trainer = None  # frees the device's memory before the next trial
        return {REPORT: json.dumps({"results": results, "state": state, "reason": reason}), "done": state is not None}

    def cleanup(self) -> None:
        """Closes the log."""
        self._log.close()

    def _begin(self, config: dict[str, Any]) -> None:
        self._config = config
        self._trainer = None
        self._attempt = Path(config["folder"]) / f"attempt-{config['attempt']}"
        self._attempt.mkdir(parents=True, exist_ok=True)
        self._log = logging.FileHandler(self._attempt / "log.txt", delay=True)
        self._log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def _resumed(self) -> Trainer:
        train = TrainConfig.from_dict(self._config["train"])
        (self._attempt / "config.yaml").write_text(yaml.safe_dump(train.to_dict(), sort_keys=False))
        trainer = self._trainer = Trainer(train, self._stream(train))
        for attempt in range(self._config["attempt"], 0, -1):
            state = checkpoints.latest(self._attempt.with_name(f"attempt-{attempt}"))
            if state is not None:
                trainer.load_state_dict(state)
                break
        return trainer

    def _stream(self, train: TrainConfig) -> Stream:
        """The trial's stream, loaded once per process; a space may not vary what it depends on."""
        if train.dataset not in self._streams:
            self._streams[train.dataset] = load_stream(train, pick_device(train.device))
        return self._streams[train.dataset]
