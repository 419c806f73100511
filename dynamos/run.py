"""Parts that both command lines share: build, train, show and record a run."""

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dynamos.config import TrainConfig
from dynamos.device import lacks_memory, pick_device
from dynamos.display import Display, TaskLines, print_summary
from dynamos.errors import RunError, UserError
from dynamos.methods.hyperparameters import is_trainer
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
from dynamos.runs import build_run
from dynamos.streams import load_stream
from dynamos.trainer import Trainer


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolders:
    """Paths of a run's files."""

    result: Path
    models: Path  # a folder
    events: Callable[[str], Path]  # the folder of a setting's event files
    tables: Path  # a folder; it holds results/SETTING/DATASET/MODEL/mean_accs.csv


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a run's folder while the context lasts.

    Raises UserError if another process trains that run. The lock ends with its process in every
    case; its empty file stays.
    """
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"the run in {folder} is running in another process.") from None
        yield


def build(config: TrainConfig, download: bool) -> Trainer:
    """Build the run of a configuration.

    Raises RunError if memory is too small, UserError if its data is missing.
    """
    with _telling_of_memory(config):
        run = build_run(config, load_stream(config, pick_device(config.device), download))
        return cast(Trainer, run)  # recorders of a user's trainer use only what every Run has


def train(
    trainer: Trainer,
    options: Mapping[str, Any],
    places: RunFolders,
    row: Mapping[str, Any],
    started: str,
    checkpoints: Checkpoints | None = None,
    mirror: Recorder | None = None,
) -> None:
    """Train the rest of a run, show it, and write its files and those that `options` ask for.

    Args:
        trainer: the run.
        options: values of arguments.OPTIONS.
        places: paths of the files.
        row: further columns of the CSV row, after results and configuration.
        started: time of the run's first start.
        checkpoints: recorder that makes the run resumable, if it is.
        mirror: recorder that shows the run elsewhere, if any.
    """
    if is_trainer(trainer.config.model):
        refuse_options(trainer.config, options)
        _train_by_own(trainer, options, places, started, checkpoints, mirror)
        return
    with _telling_of_memory(trainer.config), Display(trainer) as display:
        recorders: list[Recorder] = [display, ModelFiles(places.models, options["save_all"])]
        if options["csv_log"]:
            recorders.append(CsvRow(places.tables, row, once=checkpoints is not None))
        if options["tensorboard"]:
            recorders.append(TensorBoard(places.events))
        if trainer.config.log_every:
            recorders.append(CurveFile(places.result.with_name(CURVE)))
        # The checkpoint comes after the files: if a kill prevents a file, the resumed run writes
        # it again.
        recorders.append(ResultFile(places.result, {"notes": options["notes"]}, started))
        # The mirror comes after the checkpoint, so that a resumed run does not send it a second
        # measurement of the same task.
        recorders += [recorder for recorder in (checkpoints, mirror) if recorder is not None]
        record(trainer, recorders)
    print_summary(trainer)


def _train_by_own(
    trainer: Trainer,
    options: Mapping[str, Any],
    places: RunFolders,
    started: str,
    checkpoints: Checkpoints | None,
    mirror: Recorder | None,
) -> None:
    """Do the same with a user's trainer, which shows no steps and no network."""
    recorders: list[Recorder] = [
        TaskLines(),
        ResultFile(places.result, {"notes": options["notes"]}, started),
    ]
    recorders += [recorder for recorder in (checkpoints, mirror) if recorder is not None]
    with _telling_of_memory(trainer.config):
        record(trainer, recorders)
    print_summary(trainer)


def refuse_options(config: TrainConfig, options: Mapping[str, Any]) -> None:
    """Raise UserError for an option that would have no effect with a user's trainer."""
    if not is_trainer(config.model):
        return
    for name in ("csv_log", "tensorboard", "save_all"):
        if options[name]:
            raise UserError(
                f"--{name.replace('_', '-')} needs a network and steps of this package; the "
                f"trainer {config.model} has none."
            )
    if options.get("checkpoint_every") is not None:
        raise UserError(
            "--checkpoint-every: the state of a trainer of your own is saved after every task only."
        )


@contextmanager
def _telling_of_memory(config: TrainConfig) -> Iterator[None]:
    """Turn the errors of Python and torch for too little memory into RunError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        raise RunError(
            f"not enough memory for nf {config.nf}, buffer_size {config.buffer_size}, batch_size "
            f"{config.batch_size} and minibatch_size {config.minibatch_size}: {error}"
        ) from error
