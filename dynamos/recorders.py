"""Recorders of a run: checkpoints, result file, model files, CSV row, curve file, TensorBoard."""

import csv
import fcntl
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryFile
from time import time
from typing import Any

import numpy as np
import torch

from dynamos import checkpoints, metrics
from dynamos.errors import UserError
from dynamos.files import AnyPath, write_whole
from dynamos.metrics import Matrix, TaskResult
from dynamos.network import original_state_dict
from dynamos.provenance import environment, git_revision, now_utc
from dynamos.runs import Run
from dynamos.trainer import Trainer

CURVE = "curve.csv"
OFFERS = "dynamos.recorders"


class Recorder:
    """Base of the recorders.

    `record` calls these methods during a run, and each recorder overrides those it needs.
    """

    def start(self, trainer: Trainer) -> None:
        """Called when training begins or resumes.

        Raises an error now if the output could not be written at the end.
        """

    def step(self, trainer: Trainer) -> None:
        """Called after every training step."""

    def epoch(self, trainer: Trainer, means: dict[str, float]) -> None:
        """Called after every epoch; `means` are its loss, accuracy and keep_fraction."""

    def point(self, trainer: Trainer, point: dict[str, float]) -> None:
        """Called with every new point of Trainer.curve."""

    def task(self, trainer: Trainer, result: TaskResult) -> None:
        """Called after every task is learned and evaluated."""

    def end(self, trainer: Trainer) -> None:
        """Called after the last task."""

    def broken_off(self, trainer: Trainer, error: BaseException) -> None:
        """Called when an error or an interruption ends the run early."""


def offered(name: str) -> Callable[..., Recorder]:
    """Return the recorder class of that name from an installed package (entry points of OFFERS).

    Raises UserError if no package offers it.
    """
    found = list(entry_points(group=OFFERS, name=name))
    if not found:
        raise UserError(
            f"this installation has no recorder {name!r}; install this version of dynamos (pip "
            "install .)."
        )
    make: Callable[..., Recorder] = found[0].load()
    return make


def record(trainer: Trainer, recorders: Sequence[Recorder]) -> None:
    """Train the rest of a run and call the recorders in their order."""

    def step(trainer: Trainer) -> None:
        for recorder in recorders:
            recorder.step(trainer)

    def epoch(trainer: Trainer, means: dict[str, float]) -> None:
        for recorder in recorders:
            recorder.epoch(trainer, means)

    def point(trainer: Trainer, point: dict[str, float]) -> None:
        for recorder in recorders:
            recorder.point(trainer, point)

    trainer.on_step, trainer.on_epoch, trainer.on_point = step, epoch, point
    for recorder in recorders:
        recorder.start(trainer)
    try:
        for result in trainer:
            for recorder in recorders:
                recorder.task(trainer, result)
        for recorder in recorders:
            recorder.end(trainer)
    except BaseException as error:
        for recorder in recorders:
            recorder.broken_off(trainer, error)
        raise


_ACCURACY = {"task-il": "task_il"}  # by setting; all others are class_il


def accuracy_matrices(trainer: Trainer) -> dict[str, Matrix]:
    """(T, T) accuracies by setting: class-il and task-il, domain-il, or general-continual.

    The settings have the names of the original program's folders.
    """
    results, n_tasks = trainer.results, trainer.n_tasks
    class_il = metrics.accuracy_matrix([r.class_il_row for r in results], n_tasks)
    if trainer.stream.rotating:
        return {"general-continual": class_il}
    if not trainer.stream.has_task_il:
        return {"domain-il": class_il}
    return {
        "class-il": class_il,
        "task-il": metrics.accuracy_matrix([r.task_il_row for r in results], n_tasks),
    }


class Checkpoints(Recorder):
    """Saves the run's state after every task and, with `every`, every `every` steps."""

    def __init__(self, folder: Path, every: int | None = None) -> None:
        self.folder, self.every = folder, every

    def step(self, trainer: Trainer) -> None:
        """Save if the step's number is a multiple of `every`."""
        if self.every is not None and trainer.steps % self.every == 0:
            checkpoints.save(trainer.state_dict(), self.folder)

    def task(self, trainer: Trainer, result: TaskResult) -> None:
        """Save the run's state."""
        checkpoints.save(trainer.state_dict(), self.folder)


class ResultFile(Recorder):
    """result.json: the accuracy matrices, every TaskResult and their provenance.

    The file is rewritten after every task.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], started: str) -> None:
        """Set up the file at `path`.

        `about` are further entries, `started` is the time of the run's first start.
        """
        self.path, self.about, self.started = path, dict(about), started

    def start(self, trainer: Trainer) -> None:
        """Record environment and git revision now, because the code may change during the run.

        Test if the folder is writable.
        """
        self.about |= {
            "environment": environment(trainer.device, trainer.config.threads),
            "git_revision": git_revision(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=self.path.parent) as file:
            file.write(b"\n")

    def task(self, trainer: Trainer, result: TaskResult) -> None:
        """Write the results so far."""
        self._write(trainer, finished=None)

    def end(self, trainer: Trainer) -> None:
        """Write the file with its `finished` time, which is null in an unfinished run."""
        self._write(trainer, finished=now_utc())

    def _write(self, trainer: Trainer, finished: str | None) -> None:
        matrices = {
            name: _without_nan(matrix) for name, matrix in accuracy_matrices(trainer).items()
        }
        content = {
            "config": trainer.config.to_dict(),
            "evaluated_on": trainer.config.evaluate_on,
            "tasks": trainer.stream.tasks,
            "accuracy": matrices,
            "untrained": trainer.untrained,
            "results": [result.to_dict() for result in trainer.results],
            "data_hash": trainer.stream.data_hash,
            "split_hash": trainer.stream.split_hash,
            **self.about,
            "started": self.started,
            "finished": finished,
        }
        write_whole(self.path, json.dumps(content, indent=1) + "\n")


def finished(path: Path) -> bool:
    """True if the result.json at `path` is undamaged and from a finished run."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(content, dict) and content.get("finished") is not None


class ModelFiles(Recorder):
    """State dicts in the original's names: task_final.pth, with `save_all` also task_01.pth, ..."""

    def __init__(self, folder: Path, save_all: bool) -> None:
        self.folder, self.save_all = folder, save_all

    def task(self, trainer: Trainer, result: TaskResult) -> None:
        """Write the file of a task before the last, with `save_all`."""
        if self.save_all and not result.final:
            self._write(trainer, f"task_{result.task + 1:02d}.pth")

    def end(self, trainer: Trainer) -> None:
        """Write the last file."""
        self._write(trainer, "task_final.pth")

    def _write(self, trainer: Trainer, name: str) -> None:
        content = io.BytesIO()
        torch.save(original_state_dict(trainer.evaluated), content)
        write_whole(self.folder / name, content.getvalue())


class CsvRow(Recorder):
    """One row in ROOT/results/SETTING/DATASET/MODEL/mean_accs.csv per setting, at the run's end.

    With `once`, a row that the file already has is not added again: a resumed run may have been
    killed after it wrote its row and before it ended.
    """

    def __init__(self, root: Path, options: Mapping[str, Any], once: bool = False) -> None:
        self.root, self.options, self.once = root, dict(options), once

    def start(self, trainer: Trainer) -> None:
        """Read the files that will get a row; raise UserError if one is damaged."""
        for setting in accuracy_matrices(trainer):
            _table(self._path(trainer, setting))

    def end(self, trainer: Trainer) -> None:
        """Append the rows: mean accuracies, transfer, forgetting, then every argument."""
        config = trainer.config
        for setting, matrix in accuracy_matrices(trainer).items():
            row: dict[str, Any] = {
                f"task{t + 1}": metrics.mean_accuracy(matrix, t) for t in range(len(matrix))
            }
            transfer: tuple[float | str, ...] = ("", "", "")
            if not trainer.stream.rotating:
                assert trainer.untrained is not None
                untrained = np.asarray(trainer.untrained[_ACCURACY.get(setting, "class_il")])
                transfer = (
                    metrics.forward_transfer(matrix, untrained),
                    metrics.backward_transfer(matrix),
                    metrics.forgetting(matrix),
                )
            row |= dict(
                zip(("forward_transfer", "backward_transfer", "forgetting"), transfer, strict=True)
            )
            row |= config.to_dict() | self.options
            append_row(self._path(trainer, setting), row, self.once)

    def _path(self, trainer: Trainer, setting: str) -> Path:
        return (
            self.root
            / "results"
            / setting
            / trainer.config.stream_name
            / trainer.config.method_name
            / "mean_accs.csv"
        )


def append_row(path: Path, row: Mapping[str, Any], once: bool = False) -> None:
    """Add a row to a CSV file.

    Values missing in the file or the row are empty, and the columns task1, ... come first.

    With `once`, a row that the file has is not added again. An empty hidden file beside it is a
    lock: runs that end together would lose each other's rows. It stays, because another run may
    wait for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        columns, rows = _table(path)
        texts = {name: "" if value is None else str(value) for name, value in row.items()}
        if once and any(
            {name: value for name, value in old.items() if value or name in texts} == texts
            for old in rows
        ):
            return
        columns += [name for name in row if name not in columns]
        columns.sort(key=lambda name: int(name[4:]) if re.fullmatch(r"task\d+", name) else math.inf)
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="")
        writer.writeheader()
        writer.writerows([*rows, texts])
        write_whole(path, text.getvalue())


def _table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """(columns, rows) of a CSV file, both empty if it is missing.

    Raises UserError if it is damaged or not such a table.
    """
    try:
        # a spreadsheet puts a byte-order mark at the beginning
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or ())
    except FileNotFoundError:
        return [], []
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is damaged: {error}. Repair it or move it.") from None
    if why := _not_ours(columns, rows):
        raise UserError(f"{path} is damaged: {why}. Repair it or move it.")
    return columns, rows


def _not_ours(columns: list[str], rows: list[dict[str, str]]) -> str | None:
    """The reason that a table cannot take a row; None if it can."""
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        return f"its column {twice[0]!r} appears {columns.count(twice[0])} times"
    if columns and "task1" not in columns:
        other = next((mark for mark in ";\t" if mark in columns[0]), None)
        return "it has no column task1" + (
            ""
            if other is None
            else f"; its columns are separated by {other!r} instead of commas, perhaps by a "
            "spreadsheet"
        )
    # DictReader puts the surplus values of a line under None.
    long = next((number for number, row in enumerate(rows, 1) if None in row), None)
    return None if long is None else f"its row {long} has more values than columns"


class CurveFile(Recorder):
    """curve.csv: a row for every point of the curve.

    The run's state holds the points, so each appears once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def epoch(self, trainer: Trainer, means: dict[str, float]) -> None:
        """Write the points so far."""
        write_curve(trainer, self.path)

    def task(self, trainer: Trainer, result: TaskResult) -> None:
        """Write the points so far."""
        write_curve(trainer, self.path)

    def broken_off(self, trainer: Trainer, error: BaseException) -> None:
        """Write the points so far."""
        write_curve(trainer, self.path)


def write_curve(trainer: Run, path: AnyPath) -> None:
    """Write the points of a run's curve as CSV, tasks counted from 1; no file without points."""
    if trainer.curve:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(trainer.curve[0]))
        writer.writeheader()
        writer.writerows({**point, "task": point["task"] + 1} for point in trainer.curve)
        write_whole(path, text.getvalue())


class TensorBoard(Recorder):
    """Event files by setting: means over epochs, accuracies over tasks, the curve over steps.

    Each event is written to the file immediately. The SummaryWriter of tensorboardX writes later,
    from a thread. If the run were killed meanwhile and resumed from its next step, the event would
    be lost.
    """

    def __init__(self, folder: Callable[[str], Path]) -> None:
        """Set up the files; `folder` returns the folder of a setting."""
        self.folder = folder

    def start(self, trainer: Trainer) -> None:
        """Open a new file for each setting."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self.writers = {}
        for setting in accuracy_matrices(trainer):
            folder = self.folder(setting)
            folder.mkdir(parents=True, exist_ok=True)
            # The writer's file name has the time in seconds; it would overwrite an existing file.
            self.writers[setting] = EventsWriter(
                str(folder / "events"), f".{len(list(folder.iterdir()))}"
            )
            # A resumed run repeats the points after its checkpoint. This event makes TensorBoard
            # drop the earlier ones.
            self.writers[setting].write_event(
                Event(
                    wall_time=time(),
                    step=trainer.steps + 1,
                    session_log=SessionLog(status=SessionLog.START),
                )
            )

    def epoch(self, trainer: Trainer, means: dict[str, float]) -> None:
        """Write the epoch's means over all its batches."""
        done = trainer.task * trainer.config.n_epochs + trainer.epoch + 1
        for setting in self.writers:
            self._write(setting, {f"train/{name}": value for name, value in means.items()}, done)

    def point(self, trainer: Trainer, point: dict[str, float]) -> None:
        """Write a point of the curve."""
        for setting in self.writers:
            self._write(
                setting,
                {
                    f"curve/{name}": value
                    for name, value in point.items()
                    if name not in ("steps", "task")
                },
                int(point["steps"]),
            )

    def task(self, trainer: Trainer, result: TaskResult) -> None:
        """Write mean and single accuracies and the fraction of channels kept."""
        for setting, matrix in accuracy_matrices(trainer).items():
            single = {
                f"accuracy/task{t + 1}": float(matrix[result.task, t])
                for t in range(result.task + 1)
            }
            self._write(
                setting,
                {
                    "accuracy/mean": metrics.mean_accuracy(matrix, result.task),
                    **single,
                    "gates/keep_fraction": result.keep_fraction,
                },
                result.task + 1,
            )

    def end(self, trainer: Trainer) -> None:
        """Close the files."""
        for writer in self.writers.values():
            writer.close()

    def _write(self, setting: str, values: Mapping[str, float], step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name, value in values.items():
            self.writers[setting].write_event(
                Event(wall_time=time(), step=step, summary=scalar(name, value))
            )
        self.writers[setting].flush()


def _without_nan(matrix: Matrix) -> list[list[float | None]]:
    """The matrix for JSON: None, which is null, in place of NaN."""
    return [[None if math.isnan(value) else value for value in row] for row in matrix.tolist()]
