"""Ray's Trainable around dynamos.trainer: one step() per task, one process for many trials.

torch is imported in the functions that train, because the driver, which only names this class, does
not need it.
"""

import errno
import io
import itertools
import json
import logging
import os
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import ray.tune
import yaml

from dynamos.config import TEST_LOCK, TrainConfig
from dynamos.errors import DynamosError, NonFiniteError
from dynamos.files import AnyPath, any_path, write_whole
from dynamos.metrics import TaskResult
from results.names import CHANNEL_USE, NON_FINITE, STOP_FILE, STOPPED
from tune.engine.logs import log_file
from tune.engine.report import OUT_OF_MEMORY, PUT_BACK, Report
from tune.machines.images import RawImages, received
from tune.machines.probe import other_images

if TYPE_CHECKING:
    from dynamos.cohort import Cohort
    from dynamos.streams import Stream
    from dynamos.trainer import Trainer

STOP_POLL_SECONDS = 1.0
STOP_POLL_SHARE = 0.02  # largest share of a trial's time for polls; an object store answers slowly
# Most seeds that train as one program. More are hardly faster (benchmarks/cohorts/speed.py), and
# take more memory.
LARGEST_COHORT = 8
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StopRequested(Exception):
    """A request to stop this trial."""


class SweepTrial(ray.tune.Trainable):
    """A trial. It trains its seeds task by task, as one program (dynamos.cohort).

    It writes to the subfolder seed-S of the first of its folders, and continues from the newest
    checkpoints in all of them. The searcher gives its configuration: {"number", "attempt",
    "folders": JSON of its attempts' folders, the newest first, "changes": JSON of the fields that
    differ from the base, "seed": the first of its seeds, "slot": JSON of the Slot that it holds}.
    The configuration is small, because Ray keeps copies of it until the sweep ends. Errors of the
    method are part of a step's report, so that Ray counts only failures of workers and nodes.
    """

    _base: TrainConfig
    _n_seeds: int
    _shuffled: bool
    _images: dict[str, RawImages] | None
    _hashes: Mapping[str, str]
    _config: dict[str, Any]
    _streams: "dict[tuple[str, str, int | None], Stream]"
    _ready: bool
    _trainers: "dict[int, Trainer]"
    _cohorts: "list[tuple[range, Cohort]]"
    _folders: list[AnyPath]
    _attempt: AnyPath
    _log: logging.Handler
    _look_at: float

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> ray.tune.PlacementGroupFactory:
        """The resources that Ray reserves for a trial, and their node if it is fixed."""
        slot = json.loads(config["slot"])
        holds = [{"CPU": slot["cpus"], "GPU": slot["gpus"]}]
        if slot["node"] is None:
            return ray.tune.PlacementGroupFactory(holds)
        on = [{"ray.io/node-id": slot["node"]}]
        return ray.tune.PlacementGroupFactory(holds, bundle_label_selector=on)

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        base: TrainConfig,
        seeds: int,
        images: dict[str, RawImages] | None,
        hashes: Mapping[str, str],
        shuffled: bool = False,
    ) -> None:
        """Prepare the worker process for its first trial.

        `base` and the number of `seeds` are the sweep's; `images` are those that the driver has
        sent, None if they are on this disk; `hashes` are those that the images must have. If
        `shuffled`, each training seed also shuffles the order of the classes.
        """
        if base.evaluate_on == "validation":
            os.environ[TEST_LOCK] = "locked"  # from here on this process cannot read test images
        self._base, self._n_seeds, self._images, self._hashes = base, seeds, images, hashes
        self._shuffled = shuffled
        self._streams = {}
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over the next trial; the images stay loaded, everything else is made again."""
        self._log.close()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one task and return a Report.

        The first step of an attempt only imports torch and loads the images, so that this does not
        count as training time.
        """
        if not self._ready:
            self._ready = True
            return self._report({}, *self._prepare(), began=True)
        state, reason = None, None
        logging.getLogger("dynamos").addHandler(self._log)
        try:
            self._train_task()
            state = "COMPLETE" if all(trainer.done for trainer in self._trainers.values()) else None
        except NonFiniteError as error:
            state, reason = "PRUNED", f"{NON_FINITE}{error.place}"
        except StopRequested:
            state, reason = "PRUNED", STOPPED
        except Exception as error:
            # a bug or a full disk: the sweep continues, the ledger has the reason of this trial
            if isinstance(error, OSError) and not isinstance(self._attempt, Path):
                raise  # an error of the store: another worker may reach it
            state, reason = self._failure(error)
        finally:
            logging.getLogger("dynamos").removeHandler(self._log)
        results = {seed: trainer.results for seed, trainer in self._trainers.items()}
        if state is not None:
            self._trainers, self._cohorts = {}, []
            _free_memory()
        return self._report(results, state, reason)

    def cleanup(self) -> None:
        """Close the log."""
        self._log.close()

    def _report(
        self,
        results: Mapping[int, Sequence[TaskResult]],
        state: str | None = None,
        reason: str | None = None,
        began: bool = False,
    ) -> dict[str, Any]:
        attempt, node = self._config["attempt"], ray.get_runtime_context().get_node_id()
        cohort = max(map(len, self._parts()))
        return Report(attempt, results, state, reason, node, began, cohort).encode()

    def _begin(self, config: dict[str, Any]) -> None:
        self._config, self._ready = config, False
        self._trainers, self._cohorts = {}, []
        self._look_at = time.monotonic() + STOP_POLL_SECONDS
        self._folders = [any_path(folder) for folder in json.loads(config["folders"])]
        self._attempt = self._folders[0]
        self._log = log_file(self._attempt / "log.txt")

    def _prepare(self) -> tuple[str | None, str | None]:
        """Load torch and the images.

        Returns (state, reason) if the trial cannot train here, else (None, None).
        """
        from dynamos.trainer import Trainer

        try:
            new, stream = not self._streams, self._stream(self._base)
            lack = other_images(self._base, stream, self._hashes)
            if new and lack is None:
                # a process's first optimiser takes seconds: torch imports 800 modules
                Trainer(self._base, stream)
        except (DynamosError, OSError) as error:
            lack = str(error)
        except Exception as error:
            return self._failure(error)
        return (None, None) if lack is None else (PUT_BACK, lack)

    def _train_task(self) -> None:
        """Train every seed to the end of the first task that not all seeds have done."""
        from dynamos.cohort import Cohort
        from dynamos.recorders import CURVE, write_curve

        if not self._trainers:
            write_whole(
                self._attempt / "config.yaml",
                yaml.safe_dump(self._train().to_dict(), sort_keys=False),
            )
            self._trainers = {seed: self._resumed(seed) for seed in self._seeds}
            # Seeds that are done have a slot, too: the size of a cohort changes its results.
            self._cohorts = [
                (part, Cohort([self._trainers[seed] for seed in part])) for part in self._parts()
            ]
        task = min(len(trainer.results) for trainer in self._trainers.values())
        for seeds, cohort in self._cohorts:
            try:
                for slot, outcome in cohort.until(lambda t: t.done or len(t.results) > task):
                    if isinstance(outcome, NonFiniteError):
                        raise outcome
                    self._save(seeds[slot])
            finally:  # above all if training diverged
                for seed in seeds:
                    write_curve(self._trainers[seed], self._attempt / f"seed-{seed}" / CURVE)

    def _save(self, seed: int) -> None:
        """Write the files of a seed that has learned a task."""
        from dynamos import checkpoints

        trainer, folder = self._trainers[seed], self._attempt / f"seed-{seed}"
        if trainer.done and trainer.method.gated:
            _save_channel_use(trainer, folder)
        checkpoints.save(trainer.state_dict(), folder)

    def _parts(self) -> list[range]:
        """The seeds by cohort: cohorts of about equal size, at most LARGEST_COHORT."""
        seeds = self._seeds
        most = 1 if self._base.step_mode == "compile" else LARGEST_COHORT
        cohorts = -(-len(seeds) // most)
        ends = [len(seeds) * place // cohorts for place in range(cohorts + 1)]
        return [seeds[begin:end] for begin, end in itertools.pairwise(ends)]

    @property
    def _seeds(self) -> range:
        first: int = self._config["seed"]
        return range(first, first + self._n_seeds)

    def _train(self) -> TrainConfig:
        """The trial's training configuration, with the first of its seeds."""
        changes = json.loads(self._config["changes"])
        return self._base.replace(**changes, seed=self._config["seed"])

    def _resumed(self, seed: int) -> "Trainer":
        """The trainer of a seed, from the newest checkpoint of any attempt if one exists."""
        from dynamos import checkpoints
        from dynamos.trainer import Trainer

        train = self._train().replace(seed=seed)
        if self._shuffled:
            train = train.replace(class_order_seed=seed)
        trainer = Trainer(train, self._stream(train), on_step=self._stop_if_asked)
        for folder in self._folders:
            state = checkpoints.latest(folder / f"seed-{seed}")
            if state is not None:
                trainer.load_state_dict(state)
                break
        return trainer

    def _stream(self, train: TrainConfig) -> "Stream":
        """The trial's stream, loaded once per process.

        A space may not vary the fields that it depends on.
        """
        from dynamos.device import pick_device
        from dynamos.streams import load_stream

        key = train.dataset, train.evaluate_on, train.class_order_seed
        if key not in self._streams:
            self._streams[key] = load_stream(
                train, pick_device(train.device), images=received(self._images)
            )
        return self._streams[key]

    def _stop_if_asked(self, _: "Trainer") -> None:
        """Raise StopRequested if the trial's folder has the stop file.

        It looks about once a second.
        """
        if (began := time.monotonic()) >= self._look_at:
            if (self._attempt.parent / STOP_FILE).exists():
                raise StopRequested
            now = time.monotonic()
            self._look_at = now + max(STOP_POLL_SECONDS, (now - began) / STOP_POLL_SHARE)

    def _failure(self, error: Exception) -> tuple[str, str]:
        """(state, reason) of a trial that an error ended.

        Writes its traceback to a file if the disk has room.
        """
        from dynamos.device import lacks_memory

        try:
            if not _no_room(error):
                (self._attempt / "traceback.txt").write_text(traceback.format_exc())
        except OSError as other:
            if not _no_room(other):
                raise
            error = other
        if _no_room(error):
            return PUT_BACK, f"no disk space left in {self._attempt}: {error}"
        kind = "" if isinstance(error, DynamosError) else f"{type(error).__name__}: "
        said = f"{kind}{error} ({self._attempt / 'traceback.txt'})"
        return (OUT_OF_MEMORY, f"out of memory: {said}") if lacks_memory(error) else ("FAIL", said)


def _free_memory() -> None:
    """Release a GPU's memory for the trials that share it.

    Torch would keep it for this process.
    """
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _save_channel_use(trainer: "Trainer", folder: AnyPath) -> None:
    """Write the channels that each class uses, for the report.

    It is called before the checkpoint is written, so that no crash loses them.
    """
    content = io.BytesIO()
    assert trainer.channel_use is not None  # it has just evaluated
    np.save(content, trainer.channel_use)
    write_whole(folder / CHANNEL_USE, content.getvalue())


def _no_room(error: Exception) -> bool:
    """True if a disk is full."""
    return isinstance(error, OSError) and error.errno in _NO_SPACE
