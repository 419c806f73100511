"""A run as both command lines drive it: built, trained, shown, and recorded where its files belong."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dynamos.config import TrainConfig
from dynamos.display import Display, print_summary
from dynamos.errors import RunError
from dynamos.recorders import Checkpoints, CsvRow, ModelFiles, Recorder, ResultFile, TensorBoard, record
from dynamos.streams import load_stream
from dynamos.trainer import Trainer, pick_device


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where a run's files go."""

    result: Path
    models: Path  # a folder
    events: Callable[[str], Path]  # the folder of a setting's event files
    tables: Path  # a folder; it holds results/SETTING/DATASET/MODEL/mean_accs.csv


def build(config: TrainConfig, download: bool) -> Trainer:
    """The run of a configuration; RunError where memory does not hold it, UserError where its data is missing."""
    try:
        return Trainer(config, load_stream(config, pick_device(config.device), download))
    except (MemoryError, RuntimeError) as error:
        # On a CPU torch has no class of its own for it.
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise RunError(f"not enough memory for nf {config.nf} and buffer_size {config.buffer_size}: "
                           f"{error}") from error
        raise


def train(trainer: Trainer, options: Mapping[str, Any], places: Places, row: Mapping[str, Any], started: str,
          checkpoints: Checkpoints | None = None) -> None:
    """Trains what is left of a run, shows it, and leaves what belongs to every run and what `options` ask for.

    Args:
        trainer: the run.
        options: of arguments.OPTIONS.
        places: where the files go.
        row: what the CSV row holds beside results and configuration.
        started: when the run first began.
        checkpoints: what makes it resumable, if it is.
    """
    with Display(trainer) as display:
        recorders: list[Recorder] = [display, ModelFiles(places.models, options["save_all"])]
        if options["csv_log"]:
            recorders.append(CsvRow(places.tables, row, once=checkpoints is not None))
        if options["tensorboard"]:
            recorders.append(TensorBoard(places.events))
        # Last but the checkpoints: what a kill takes away here, a resumed run writes again.
        recorders.append(ResultFile(places.result, {"notes": options["notes"]}, started))
        if checkpoints is not None:
            recorders.append(checkpoints)
        record(trainer, recorders)
    print_summary(trainer)
