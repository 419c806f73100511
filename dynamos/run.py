"""A run as both command lines drive it: built, trained, shown, and recorded where its files belong."""

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamos.config import TrainConfig
from dynamos.device import lacks_memory, pick_device
from dynamos.display import Display, print_summary
from dynamos.errors import RunError, UserError
from dynamos.recorders import (
    CURVE,
    Checkpoints,
    CsvRow,
    CurveFile,
    ModelFiles,
    Recorder,
    ResultFile,
    TensorBoard,
    record,
)
from dynamos.streams import load_stream
from dynamos.trainer import Trainer


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where a run's files go."""

    result: Path
    models: Path  # a folder
    events: Callable[[str], Path]  # the folder of a setting's event files
    tables: Path  # a folder; it holds results/SETTING/DATASET/MODEL/mean_accs.csv


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """UserError where another process trains the run in this folder; it would take away what the other writes.

    The lock ends with its process, however that ends; its empty file stays.
    """
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"the run in {folder} is going on in another process.") from None
        yield


def build(config: TrainConfig, download: bool) -> Trainer:
    """The run of a configuration; RunError where memory does not hold it, UserError where its data is missing."""
    with _telling_of_memory(config):
        return Trainer(config, load_stream(config, pick_device(config.device), download))


def train(trainer: Trainer, options: Mapping[str, Any], places: Places, row: Mapping[str, Any], started: str,
          checkpoints: Checkpoints | None = None, mirror: Recorder | None = None) -> None:
    """Trains what is left of a run, shows it, and leaves what belongs to every run and what `options` ask for.

    Args:
        trainer: the run.
        options: of arguments.OPTIONS.
        places: where the files go.
        row: what the CSV row holds beside results and configuration.
        started: when the run first began.
        checkpoints: what makes it resumable, if it is.
        mirror: what shows the run elsewhere, if anything does.
    """
    with _telling_of_memory(trainer.config), Display(trainer) as display:
        recorders: list[Recorder] = [display, ModelFiles(places.models, options["save_all"])]
        if options["csv_log"]:
            recorders.append(CsvRow(places.tables, row, once=checkpoints is not None))
        if options["tensorboard"]:
            recorders.append(TensorBoard(places.events))
        if trainer.config.log_every:
            recorders.append(CurveFile(places.result.with_name(CURVE)))
        # Last but the checkpoints: what a kill takes away here, a resumed run writes again.
        recorders.append(ResultFile(places.result, {"notes": options["notes"]}, started))
        # What a mirror has been sent is in a checkpoint: a resumed run does not measure it anew.
        recorders += [recorder for recorder in (checkpoints, mirror) if recorder is not None]
        record(trainer, recorders)
    print_summary(trainer)


@contextmanager
def _telling_of_memory(config: TrainConfig) -> Iterator[None]:
    """RunError in place of what torch raises where memory does not suffice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        raise RunError(f"not enough memory for nf {config.nf}, buffer_size {config.buffer_size}, batch_size "
                       f"{config.batch_size} and minibatch_size {config.minibatch_size}: {error}") from error
