"""A stream of tasks: images and classes of each task, and the order of a task's images."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from dynamos.config import TrainConfig
from dynamos.data import Images, joined
from dynamos.streams.names import DOMAINS, ROTATING
from dynamos.streams.rotation import rotate
from dynamos.user_code import code_of


@dataclass(frozen=True, slots=True)
class Batch:
    """Indices of a batch's images within a task and, in a rotating stream, the angle of each."""

    index: Tensor  # (N,)
    degrees: Tensor | None  # (N,) float64, counter-clockwise


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of tasks, its images on one device, apart from those of a mapped file."""

    name: str
    num_classes: int
    tasks: tuple[tuple[int, ...], ...]  # classes of each task
    train: tuple[Images, ...]
    evaluation: tuple[Images, ...]
    order: Callable[[Images, int, np.random.Generator], list[Batch]]
    data_hash: str  # hash of all training images and labels, before any split
    # hash of the validation images' indices among these; None if none are held out
    split_hash: str | None
    # (task, pixels (N, C, H, W)) -> the pixels in the task's domain; None: they stay as they are
    domain: Callable[[int, Tensor], Tensor] | None = None

    @property
    def rotating(self) -> bool:
        """True if the stream has no task boundaries."""
        return self.name in ROTATING

    @property
    def has_task_il(self) -> bool:
        """True if the task of an image rules out classes."""
        if code_of(self.name) is not None:
            return any(len(classes) < self.num_classes for classes in self.tasks)
        return self.name not in (*ROTATING, *DOMAINS)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W) as stored, C = 1 or 3."""
        return tuple(self.train[0].pixels.shape[1:])

    def batches(self, task: int, epoch: int, config: TrainConfig) -> list[Batch]:
        """Return the batches of one epoch; they depend on seed, task and epoch only."""
        draws = np.random.default_rng([config.seed, task, epoch])
        return self.order(self.train[task], config.batch_size, draws)

    def images(self, task: int, batch: Batch) -> Images:
        """Return the training images of a batch, as the task shows them."""
        taken = self.train[task].take(batch.index).read()
        if batch.degrees is not None:
            return Images(rotate(taken.pixels, batch.degrees), taken.labels, taken.white)
        if self.domain is not None:
            return Images(self.domain(task, taken.pixels), taken.labels, taken.white)
        return taken


def cumulative(stream: Stream) -> Stream:
    """Return the stream in which each task has the training images of all tasks so far.

    The tasks share their memory.
    """
    whole = joined(stream.train)
    ends = accumulate(len(part) for part in stream.train)
    return replace(stream, train=tuple(whole.first(end) for end in ends))


def shuffled_order(images: Images, batch_size: int, draws: np.random.Generator) -> list[Batch]:
    """All images in random order; the last batch may be smaller."""
    index = torch.from_numpy(draws.permutation(len(images))).to(images.labels.device)
    return [Batch(part, None) for part in index.split(batch_size)]
