"""Terminal output of a run: a progress bar, a line after every task, a table at the end."""

import sys

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from dynamos import metrics
from dynamos.metrics import TaskResult
from dynamos.recorders import Recorder, accuracy_matrices
from dynamos.trainer import Trainer

# A table's head names the classes of tasks if they are so few; else it numbers the tasks.
SHOWN_CLASSES, SHOWN_TASKS = 10, 10


class Display(Recorder):
    """Progress bar on a terminal's stderr, a line on stdout after every task. A context manager."""

    def __init__(self, trainer: Trainer) -> None:
        steps = [len(trainer.stream.batches(t, 0, trainer.config)) for t in range(trainer.n_tasks)]
        console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            redirect_stdout=sys.stdout.isatty(),
        )
        self.bar = self.progress.add_task(
            _place(trainer), total=sum(steps) * trainer.config.n_epochs, completed=trainer.steps
        )

    def __enter__(self) -> "Display":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def step(self, trainer: Trainer) -> None:
        """Advance the bar."""
        self.progress.update(self.bar, completed=trainer.steps)

    def epoch(self, trainer: Trainer, means: dict[str, float]) -> None:
        """Update the bar's description."""
        self.progress.update(
            self.bar, description=f"{_place(trainer)}  accuracy {means['accuracy']:.1f}"
        )

    def task(self, trainer: Trainer, result: TaskResult) -> None:
        """Print the task's line."""
        print(task_line(result), flush=True)
        self.progress.update(self.bar, description=_place(trainer))


def task_line(result: TaskResult) -> str:
    """Return one line about a task's result."""
    parts = [f"task {result.task + 1}/{result.n_tasks}"]
    if result.task_il is None:
        parts.append(f"accuracy {result.class_il:6.2f}")
    else:
        parts += [f"class-il {result.class_il:6.2f}", f"task-il {result.task_il:6.2f}"]
    if result.keep_per_gate:
        parts.append(f"kept {result.keep_fraction:.3f}")
    return "  ".join([*parts, f"({result.evaluated_on}, {result.train_seconds:.1f} s)"])


class TaskLines(Recorder):
    """A line on stdout after every task."""

    def task(self, trainer: Trainer, result: TaskResult) -> None:
        """Print the task's line."""
        print(task_line(result), flush=True)


def print_summary(trainer: Trainer) -> None:
    """Print a finished run's accuracy matrix, transfer, forgetting, kept channels and compute."""
    result = trainer.results[-1]
    # A file or pipe has no width; the table must not wrap in it.
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    matrices = accuracy_matrices(trainer)
    table = Table(
        title=f"{trainer.config.method_name} on {trainer.config.stream_name}: "
        f"{' / '.join(matrices)} accuracy in percent on {result.evaluated_on} images"
    )
    table.add_column("after task")
    for task, classes in enumerate(trainer.stream.tasks, start=1):
        name = f"task {task}"
        if len(classes) <= SHOWN_CLASSES and trainer.n_tasks <= SHOWN_TASKS:
            name = f"classes {','.join(map(str, classes))}"
        table.add_column(name, justify="right")
    table.add_column("mean", justify="right")
    if trainer.untrained is not None:
        columns = [trainer.untrained["class_il"], trainer.untrained["task_il"]][: len(matrices)]
        shown = (_slashed(values) for values in zip(*columns, strict=True))
        table.add_row("untrained", *shown, "", style="dim")
    for i in range(trainer.n_tasks):
        table.add_row(
            str(i + 1),
            *(
                _slashed([m[i, t] for m in matrices.values()]) if t <= i else ""
                for t in range(trainer.n_tasks)
            ),
            _slashed([metrics.mean_accuracy(m, i) for m in matrices.values()]),
        )
    console.print(table)
    if result.forgetting is not None:
        ahead = result.forward_transfer
        console.print(
            f"class-il: forgetting {result.forgetting:.2f}, backward transfer "
            f"{result.backward_transfer:.2f}"
            + ("" if ahead is None else f", forward transfer {ahead:.2f}")
        )
    if result.class_il_unaveraged is not None:
        console.print(
            "these are accuracies of the averaged network; the network of the last step has "
            f"class-il {result.class_il_unaveraged:.2f}"
        )
    if result.class_il_median is not None:
        console.print(
            f"{len(result.readings)} readings in the last task: class-il from "
            f"{min(result.readings):.2f} to {max(result.readings):.2f}, median "
            f"{result.class_il_median:.2f}"
        )
    if not result.keep_per_gate:
        macs = result.macs / 1e6
        console.print(f"compute: {macs:.2f} M multiply-accumulates per image (no gates)")
        return
    dense = trainer.macs.dense
    console.print(
        f"channels kept: {result.keep_fraction:.3f} of the gated ones (by gate "
        f"{', '.join(f'{k:.3f}' for k in result.keep_per_gate)}); keep_ratio "
        f"{trainer.config.keep_ratio}"
    )
    console.print(
        f"compute: {result.macs / 1e6:.2f} M multiply-accumulates per image, agents included, if "
        f"dropped channels are skipped, {result.compute:.3f} of the dense network's "
        f"{dense / 1e6:.2f} M. This saving is in principle only: the masked network, which was "
        "trained and evaluated here, computes all channels.",
        soft_wrap=True,
    )


def _place(trainer: Trainer) -> str:
    task = min(trainer.task + 1, trainer.n_tasks)
    return f"task {task}/{trainer.n_tasks}  epoch {min(trainer.epoch + 1, trainer.config.n_epochs)}"


def _slashed(values: list[float] | tuple[float, ...]) -> str:
    return " / ".join(f"{value:.2f}" for value in values)
