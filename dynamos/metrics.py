"""Metrics: accuracies, transfer and forgetting from the accuracy matrix; multiply-accumulates."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
# Decimals of a mean: far finer than one image of any test set, far coarser than rounding errors.
DECIMALS = 10
# their names in `metrics` begin with one of PREFIXES
ACCURACIES = (
    "class_il",
    "class_il_median",
    "class_il_unaveraged",
    "task_il",
    "learning_accuracy",
)
LAG = 5.0  # points of class-il that an average may be below the trained network before it lags
PREFIXES = {"validation": "val_", "test": "test_"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskResult:
    """Metrics after a task, accuracies in percent.

    Its field names are the only metric names of the program.
    """

    task: int  # index of the task just learned, from 0
    n_tasks: int
    evaluated_on: str  # "validation" or "test"
    # mean over the tasks seen, argmax over all classes; a rotating stream's one accuracy
    class_il: float
    # the same, argmax over the task's classes; None if all tasks have the same classes
    task_il: float | None
    class_il_row: tuple[float, ...]  # by task: the tasks seen and the next one, if any
    task_il_row: tuple[float, ...]
    forgetting: float | None  # of class_il (method.md section 4); None in a rotating stream
    backward_transfer: float | None
    forward_transfer: float | None
    keep_fraction: float  # kept channels / gated channels, at the evaluation of the tasks seen
    keep_per_gate: tuple[float, ...]  # (G,)
    keep_per_task: tuple[tuple[float, ...], ...]  # (tasks seen, G)
    policy_entropy: float  # mean entropy of a channel's keep probability, nats
    # expected multiply-accumulates per image if dropped channels are skipped, agents included
    macs: float
    compute: float  # macs divided by the macs of the dense network
    # mean over the task's last epoch; unbounded below, not a measure of progress; None, as the
    # next, of a user's trainer
    train_loss: float | None
    train_accuracy: float | None  # on stream batches before their step, last epoch
    steps: int  # training steps of the whole run so far
    train_seconds: float  # wall time of this task's training
    eval_seconds: float
    # from the class-il rows; None in a rotating stream and in older files
    learning_accuracy: float | None = None
    # class_il of the trained network, if an average of it was evaluated, else None
    class_il_unaveraged: float | None = None
    readings: tuple[float, ...] = ()  # class_il on part of the images, late in the last task
    # median of the readings; after earlier tasks class_il; None without readings
    class_il_median: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def final(self) -> bool:
        """True if every task has been seen."""
        return self.task == self.n_tasks - 1

    @property
    def lags(self) -> bool:
        """True if at the end the averaged network is much worse than the trained one."""
        trained = self.class_il_unaveraged
        return self.final and trained is not None and trained - self.class_il > LAG

    def metrics(self) -> dict[str, float]:
        """Return every number by name.

        A prefix names the images of an accuracy: val_class_il or test_class_il.
        """
        prefix = PREFIXES[self.evaluated_on]
        values: dict[str, float] = {}
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            if isinstance(value, (int, float)):
                values[prefix * (spec.name in ACCURACIES) + spec.name] = value
        for name, row in (("class_il", self.class_il_row), ("task_il", self.task_il_row)):
            for t, value in enumerate(row):
                values[f"{prefix}{name}_task{t + 1}"] = value
        for g, value in enumerate(self.keep_per_gate):
            values[f"keep_gate{g + 1}"] = value
        return values

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON and a checkpoint can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the TaskResult of the mapping that `to_dict` returned, its lists as tuples."""

        def tuples(value: Any) -> Any:
            return tuple(tuples(v) for v in value) if isinstance(value, list | tuple) else value

        return cls(**{name: tuples(value) for name, value in values.items()})

    @classmethod
    def of_metrics(cls, values: Mapping[str, float]) -> Self:
        """Return the TaskResult that has these `metrics`; fields that they lack are None or ()."""
        images = "test" if "test_class_il" in values else "validation"
        prefix = PREFIXES[images]

        def row(name: str) -> tuple[float, ...]:
            names = (f"{name}{place}" for place in itertools.count(1))
            return tuple(values[name] for name in itertools.takewhile(values.__contains__, names))

        known: dict[str, Any] = {
            spec.name: values.get(prefix * (spec.name in ACCURACIES) + spec.name)
            for spec in dataclasses.fields(cls)
        }
        known |= {name: int(values[name]) for name in ("task", "n_tasks", "steps")}
        known |= {f"{name}_row": row(f"{prefix}{name}_task") for name in ("class_il", "task_il")}
        known |= {"evaluated_on": images, "keep_per_gate": row("keep_gate")}
        return cls(**known | {"keep_per_task": (), "readings": (), "warnings": ()})


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReading:
    """Accuracies within a task, after an epoch, in percent: means over the tasks seen."""

    epochs: int  # of the whole run so far, from 1
    evaluated_on: str  # "validation" or "test"
    class_il: float
    task_il: float | None  # None as in TaskResult

    def metrics(self) -> dict[str, float]:
        """Return its accuracies by the names that they have in `TaskResult.metrics`."""
        values = {"class_il": self.class_il, "task_il": self.task_il}
        prefix = PREFIXES[self.evaluated_on]
        return {prefix + name: value for name, value in values.items() if value is not None}


def mean(values: Iterable[float]) -> float:
    """Return the mean of the values; 0 for no values.

    The mean of several values is rounded to DECIMALS, so that means that are equal in exact
    arithmetic compare equal.
    """
    given = list(map(float, values))
    if len(given) < 2:
        return given[0] if given else 0.0
    return round(math.fsum(given) / len(given), DECIMALS)


def accuracy_matrix(rows: list[tuple[float, ...]], n_tasks: int) -> Matrix:
    """(T, T) matrix R[i][t] of accuracy on task t after training task i.

    An entry is NaN if it was not measured.
    """
    matrix = np.full((n_tasks, n_tasks), np.nan)
    for i, row in enumerate(rows):
        matrix[i, : len(row)] = row
    return matrix


def mean_accuracy(matrix: Matrix, task: int) -> float:
    """Unweighted mean accuracy on the tasks seen after `task`."""
    return mean(matrix[task, : task + 1])


def learning_accuracy(matrix: Matrix) -> float:
    """Mean over t of R[t][t] (Riemer et al. 2019): accuracy on each task when it was learned."""
    return mean(np.diag(matrix))


def backward_transfer(matrix: Matrix) -> float:
    """Mean over t < T-1 of R[T-1][t] - R[t][t] (method.md section 4); 0 for a single task."""
    last = len(matrix) - 1
    return mean(matrix[last, t] - matrix[t, t] for t in range(last))


def forward_transfer(matrix: Matrix, untrained: Matrix) -> float:
    """Mean over t > 0 of R[t-1][t] - untrained[t] (method.md section 4); 0 for a single task.

    Args:
        matrix: (T, T).
        untrained: (T,), accuracies of the network before any training.
    """
    return mean(matrix[t - 1, t] - untrained[t] for t in range(1, len(matrix)))


def forgetting(matrix: Matrix) -> float:
    """Mean over t < T-1 of max_{i >= t} R[i][t] - R[T-1][t] (method.md section 4).

    It is never negative, and 0 for one task.
    """
    last = len(matrix) - 1
    return mean(matrix[t:, t].max() - matrix[last, t] for t in range(last))
