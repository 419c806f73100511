"""An attempt at a trial: its runs and its files, whatever program trains them.

torch is imported in the functions that train, because the driver, which only imports this module,
does not need it.
"""

import errno
import io
import json
import logging
import os
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from dynamos.config import TEST_LOCK, TrainConfig
from dynamos.errors import DynamosError, NonFiniteError
from dynamos.files import AnyPath, any_path, write_whole
from dynamos.metrics import EpochReading, TaskResult
from results.names import CHANNEL_USE, NON_FINITE, STOP_FILE, STOPPED
from results.strategy.rungs import rungs
from tune.engine.logs import log_file
from tune.engine.report import OUT_OF_MEMORY, PUT_BACK
from tune.machines.images import RawImages, received
from tune.machines.probe import other_code, other_images

if TYPE_CHECKING:
    from dynamos.runs import Run
    from dynamos.streams import Stream
    from dynamos.trainer import Trainer

STOP_POLL_SECONDS = 1.0
STOP_POLL_SHARE = 0.02  # largest share of a trial's time for polls; an object store answers slowly
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StopRequested(Exception):
    """A request to stop this trial."""


class Workplace:
    """Values of a sweep that a process needs for its trials, and the streams that it has loaded.

    Attributes:
        base: the sweep's base.
        seeds: number of training seeds of a trial.
        images: images that the driver has sent; None if they are on this disk.
    """

    def __init__(
        self,
        base: TrainConfig,
        seeds: int,
        images: dict[str, RawImages] | None,
        hashes: Mapping[str, str],
        shuffled: bool = False,
        grace_epochs: int = 0,
    ) -> None:
        """Prepare this process for the trials of a sweep.

        `hashes` are those that the images must have. If `shuffled`, each training seed also
        shuffles the order of the classes. `grace_epochs` is that of the sweep.
        """
        if base.evaluate_on == "validation":
            os.environ[TEST_LOCK] = "locked"  # from here on this process cannot read test images
        self.base, self.seeds, self.images = base, seeds, images
        self._hashes, self._shuffled = hashes, shuffled
        self._grace_epochs = grace_epochs
        self._streams: dict[tuple[str, str, int | None], Stream] = {}

    def prepare(self) -> str | None:
        """Load torch and the images; return a sentence if trials cannot train here, else None."""
        from dynamos.runs import build_run

        try:
            new, stream = not self._streams, self.stream(self.base)
            lack = other_images(self.base, stream, self._hashes)
            lack = lack or other_code(self.base, self._hashes)
            if new and lack is None:
                # a process's first optimiser takes seconds: torch imports 800 modules
                build_run(self.base, stream)
        except (DynamosError, OSError) as error:
            lack = str(error)
        return lack

    @property
    def pixels_on_cpu(self) -> int:
        """Number of pixels of an image if a CPU trains; 0 on a GPU or if no images are loaded."""
        for stream in self._streams.values():
            if stream.train[0].labels.device.type == "cpu":
                _, height, width = stream.image_shape
                return height * width
        return 0

    def of_seed(self, train: TrainConfig, seed: int) -> TrainConfig:
        """Return a trial's configuration for one of its seeds."""
        train = train.replace(seed=seed)
        return train.replace(class_order_seed=seed) if self._shuffled else train

    def rungs(self, train: TrainConfig) -> list[int]:
        """Return the epochs of a trial after which it may be pruned."""
        return rungs(self._grace_epochs, train.n_epochs * len(self.stream(train).tasks))

    def stream(self, train: TrainConfig) -> "Stream":
        """Return a trial's stream, loaded once per process.

        A space may not vary the fields that it depends on.
        """
        from dynamos.device import pick_device
        from dynamos.streams import load_stream

        key = train.dataset, train.evaluate_on, train.class_order_seed
        if key not in self._streams:
            self._streams[key] = load_stream(
                train, pick_device(train.device), images=received(self.images)
            )
        return self._streams[key]


class Attempt:
    """An attempt at a trial, with the settings that the searcher gave it (see SweepTrial).

    It writes to the subfolder seed-S of its folder, and continues from the newest checkpoints in
    the folders of all attempts.

    Attributes:
        number: its number within the trial.
        folder: its folder.
        seeds: the training seeds of the trial.
        runs: its runs by seed, once it has begun to train.
    """

    def __init__(self, settings: Mapping[str, Any], workplace: Workplace) -> None:
        self.number: int = settings["attempt"]
        self._workplace, self._changes = workplace, json.loads(settings["changes"])
        first: int = settings["seed"]
        self.seeds = range(first, first + workplace.seeds)
        self._folders = [any_path(folder) for folder in json.loads(settings["folders"])]
        self.folder: AnyPath = self._folders[0]
        self.runs: dict[int, Run] = {}
        self._look_at = time.monotonic() + STOP_POLL_SECONDS
        self._log = log_file(self.folder / "log.txt")

    def close(self) -> None:
        """Close the log and drop the runs."""
        self._log.close()
        self.runs = {}

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Write the messages of the trainer to the attempt's log."""
        logger = logging.getLogger("dynamos")
        logger.addHandler(self._log)
        try:
            yield
        finally:
            logger.removeHandler(self._log)

    @property
    def done(self) -> bool:
        """True if it has begun, and every seed has learned every task."""
        return bool(self.runs) and all(run.done for run in self.runs.values())

    @property
    def tasks_done(self) -> int:
        """Number of tasks that every seed has learned."""
        return min((len(run.results) for run in self.runs.values()), default=0)

    @property
    def events(self) -> int:
        """Number of results and of EpochReadings that every seed has."""
        return min((events_of(run) for run in self.runs.values()), default=0)

    def results(self, events: int | None = None) -> dict[int, Sequence[TaskResult]]:
        """Return the results so far, or those among the first events, by seed."""
        return {seed: run.results[: self._tasks(run, events)] for seed, run in self.runs.items()}

    def readings(self, events: int | None = None) -> dict[int, Sequence[EpochReading]]:
        """Return the EpochReadings so far, or those among the first events, by seed."""
        found = dict[int, Sequence[EpochReading]]()
        for seed, run in self.runs.items():
            taken = None if events is None else events - self._tasks(run, events)
            found[seed] = run.epoch_readings[:taken]
        return found if any(found.values()) else {}

    def _tasks(self, run: "Run", events: int | None) -> int:
        """Number of results among the first events of a run."""
        if events is None:
            return len(run.results)
        ends = [(task + 1) * run.config.n_epochs for task in range(len(run.results))]
        at = sorted([*ends, *(reading.epochs for reading in run.epoch_readings)])[:events]
        return sum(end in at for end in ends)

    def prepare(self) -> tuple[str | None, str | None]:
        """Load torch and the images.

        Returns (state, reason) if the trial cannot train here, else (None, None).
        """
        try:
            lack = self._workplace.prepare()
        except Exception as error:
            return self.ended_by(error)
        return (None, None) if lack is None else (PUT_BACK, lack)

    def begin(self) -> None:
        """Write the configuration, and make the runs or continue them from their checkpoints."""
        train = self._train()
        write_whole(self.folder / "config.yaml", yaml.safe_dump(train.to_dict(), sort_keys=False))
        self.runs = {seed: self._resumed(train, seed) for seed in self.seeds}

    def save(self, seed: int) -> None:
        """Write the files of a seed that has learned a task, or has an EpochReading."""
        from dynamos import checkpoints

        run, folder = self.runs[seed], self.folder / f"seed-{seed}"
        if run.done and run.method.gated:
            _save_channel_use(run, folder)
        checkpoints.save(run.state_dict(), folder)

    def write_curve(self, seed: int) -> None:
        """Write the curve of a seed."""
        from dynamos.recorders import CURVE, write_curve

        write_curve(self.runs[seed], self.folder / f"seed-{seed}" / CURVE)

    def stop_if_asked(self, _: "Trainer | None" = None) -> None:
        """Raise StopRequested if the trial's folder has the stop file.

        It looks about once a second.
        """
        if (began := time.monotonic()) >= self._look_at:
            if (self.folder.parent / STOP_FILE).exists():
                raise StopRequested
            now = time.monotonic()
            self._look_at = now + max(STOP_POLL_SECONDS, (now - began) / STOP_POLL_SHARE)

    def ended_by(self, error: Exception) -> tuple[str, str]:
        """Return (state, reason) of a trial that an error ended.

        Raises the error if it is one of an object store: another worker may reach it.
        """
        if isinstance(error, NonFiniteError):
            return "PRUNED", f"{NON_FINITE}{error.place}"
        if isinstance(error, StopRequested):
            return "PRUNED", STOPPED
        # a bug or a full disk: the sweep continues, the ledger has the reason of this trial
        if isinstance(error, OSError) and not isinstance(self.folder, Path):
            raise error
        return self._failure(error)

    def _train(self) -> TrainConfig:
        """The trial's training configuration, with the first of its seeds."""
        return self._workplace.base.replace(**self._changes, seed=self.seeds[0])

    def _resumed(self, train: TrainConfig, seed: int) -> "Run":
        """The run of a seed, from the newest checkpoint of any attempt if one exists."""
        from dynamos import checkpoints
        from dynamos.runs import build_run

        train = self._workplace.of_seed(train, seed)
        trainer = build_run(
            train,
            self._workplace.stream(train),
            self.stop_if_asked,
            self._workplace.rungs(train),
        )
        for folder in self._folders:
            state = checkpoints.latest(folder / f"seed-{seed}")
            if state is not None:
                trainer.load_state_dict(state)
                break
        return trainer

    def _failure(self, error: Exception) -> tuple[str, str]:
        """(state, reason) of a trial that an error ended.

        Writes its traceback to a file if the disk has room.
        """
        from dynamos.device import lacks_memory

        try:
            if not _no_room(error):
                text = "".join(traceback.format_exception(error))
                (self.folder / "traceback.txt").write_text(text)
        except OSError as other:
            if not _no_room(other):
                raise
            error = other
        if _no_room(error):
            return PUT_BACK, f"no disk space left in {self.folder}: {error}"
        kind = "" if isinstance(error, DynamosError) else f"{type(error).__name__}: "
        said = f"{kind}{error} ({self.folder / 'traceback.txt'})"
        return (OUT_OF_MEMORY, f"out of memory: {said}") if lacks_memory(error) else ("FAIL", said)


def events_of(run: "Run") -> int:
    """Number of results and of EpochReadings of a run."""
    return len(run.results) + len(run.epoch_readings)


def free_memory() -> None:
    """Release a GPU's memory for the trials that share it.

    Torch would keep it for this process.
    """
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _save_channel_use(trainer: "Run", folder: AnyPath) -> None:
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
