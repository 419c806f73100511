"""Task streams: training and evaluation images of every task, and the order of a task's images."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dynamos.config import CLASSES, ROTATING, TrainConfig, most_tasks
from dynamos.data import SOURCES, WHITE, Images, refuse_locked_test_images
from dynamos.errors import UserError

VALIDATION_FRACTION = 0.1
VALIDATION_SEED = 20230219  # fixed: every run of a stream validates on the same images


@dataclass(frozen=True, slots=True)
class Batch:
    """Indices of a batch's images within a task and, in a rotating stream, the angle of each."""

    index: Tensor  # (N,)
    degrees: Tensor | None  # (N,) float64, counter-clockwise


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of tasks, its images whole on one device."""

    name: str
    num_classes: int
    tasks: tuple[tuple[int, ...], ...]  # classes of each task
    train: tuple[Images, ...]
    evaluation: tuple[Images, ...]
    order: Callable[[Images, int, np.random.Generator], list[Batch]]
    data_hash: str  # hash of all training images and labels, before any split
    # hash of the validation images' indices among these; None if none are held out
    split_hash: str | None

    @property
    def rotating(self) -> bool:
        """True if the stream has no task boundaries."""
        return self.name in ROTATING

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W) as stored, C = 1 or 3."""
        return tuple(self.train[0].pixels.shape[1:])

    def batches(self, task: int, epoch: int, config: TrainConfig) -> list[Batch]:
        """Return the batches of one epoch; they depend on seed, task and epoch only."""
        draws = np.random.default_rng([config.seed, task, epoch])
        return self.order(self.train[task], config.batch_size, draws)

    def images(self, task: int, batch: Batch) -> Images:
        """Return the training images of a batch, rotated in a rotating stream."""
        taken = self.train[task].take(batch.index)
        if batch.degrees is None:
            return taken
        return Images(rotate(taken.pixels, batch.degrees), taken.labels, taken.white)


def read_images(config: TrainConfig, download: bool = False) -> dict[str, Images]:
    """Read the images of a configuration: "training" and, with evaluate_on `test`, "test".

    Raises UserError if its data is missing, and TestImagesLocked for `test` in a sweep.
    """
    folder = None if config.data_path is None else Path(config.data_path)
    source = SOURCES[_source(config.dataset)]
    names = ("training", "test") if config.evaluate_on == "test" else ("training",)
    return {name: source(folder, name == "test", download) for name in names}


def white(dataset: str) -> int:
    """Pixel value that means 1.0 in a stream's stored images."""
    return WHITE[_source(dataset)]


def _source(dataset: str) -> str:
    kind, _, data = dataset.partition("-")
    return kind if dataset in ROTATING else data


def load_stream(
    config: TrainConfig,
    device: torch.device,
    download: bool = False,
    images: dict[str, Images] | None = None,
) -> Stream:
    """Load the stream of a configuration; UserError if its data is missing or its tasks do not fit.

    With evaluate_on `validation` the test file is not opened; with `test`, TestImagesLocked is
    raised in a sweep. `images` is the result of `read_images`, if the caller has it already.
    """
    if config.evaluate_on == "test":
        refuse_locked_test_images()
    num_classes, tasks = _tasks(config)
    found = read_images(config, download) if images is None else images
    training = found["training"]
    data_hash, split_hash = training.digest(), None
    if config.evaluate_on == "test":
        train, evaluation = training, found["test"]
    else:
        kept, held_out = validation_split(training.labels)
        split_hash = hashlib.sha256(held_out.numpy().tobytes()).hexdigest()[:16]
        train, evaluation = training.take(kept), training.take(held_out)
    for name, part in (("training", train), (config.evaluate_on, evaluation)):
        missing = set(chain(*tasks)) - set(part.labels.unique().tolist())
        if missing:
            raise UserError(
                f"the {name} images of {config.dataset} have no image of class {min(missing)}."
            )
    cut = _first_of_each_class if config.dataset in ROTATING else _first_images
    make_evaluation = _turned if config.dataset in ROTATING else _of_classes
    order = rotating_order if config.dataset in ROTATING else shuffled_order
    return Stream(
        config.dataset,
        num_classes,
        tasks,
        tuple(
            cut(_of_classes(train, classes), config.max_train_images_per_task).to(device)
            for classes in tasks
        ),
        tuple(make_evaluation(evaluation, classes).to(device) for classes in tasks),
        order,
        data_hash,
        split_hash,
    )


def validation_split(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(indices to train on, indices held out); a fixed tenth of every class is held out.

    Raises UserError for too few images.
    """
    from sklearn.model_selection import train_test_split

    try:
        kept, held_out = train_test_split(
            np.arange(len(labels)),
            test_size=VALIDATION_FRACTION,
            stratify=labels.numpy(),
            random_state=VALIDATION_SEED,
        )
    except ValueError as error:
        raise UserError(
            f"{len(labels)} training images are too few for a validation set of a tenth of every "
            f"class: {error}"
        ) from None
    return torch.from_numpy(np.sort(kept)), torch.from_numpy(np.sort(held_out))


def shuffled_order(images: Images, batch_size: int, draws: np.random.Generator) -> list[Batch]:
    """All images in random order; the last batch may be smaller."""
    index = torch.from_numpy(draws.permutation(len(images))).to(images.labels.device)
    return [Batch(part, None) for part in index.split(batch_size)]


def rotating_order(images: Images, batch_size: int, draws: np.random.Generator) -> list[Batch]:
    """Return batches of two slowly rotating digits each (docs/method.md section 3).

    Digit j starts at (j - 1) * 60 degrees and turns by 360 / n_j with each of its n_j images. Its
    images are cut into six chunks; the last chunk is used first. Three rounds visit the pairs
    (0, 1), (1, 2), ..., (8, 0). Each visit uses one chunk of either digit and ends when one of the
    two chunks is used up.
    """
    labels = images.labels.cpu().numpy()
    digits = int(labels.max()) + 1
    of_digit = [np.flatnonzero(labels == j) for j in range(digits)]
    chunks = [
        [own[at : at + len(own) // 6 + 1] for at in range(0, len(own), len(own) // 6 + 1)]
        for own in of_digit
    ]
    drawn = [0] * digits
    batches: list[Batch] = []

    def take(digit: int, chunk: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        turns = drawn[digit] + np.arange(count)
        drawn[digit] += count
        return chunk[:count], (digit - 1) * 60 + turns * (360 / len(of_digit[digit]))

    for visit in range(3 * digits):
        pair = (visit % digits, (visit + 1) % digits)
        # Few images make fewer than six chunks of n // 6 + 1 (12 make four, 30 five): the last
        # visits are empty.
        first, second = (
            draws.permutation(chunks[j].pop()) if chunks[j] else np.empty(0, np.int64) for j in pair
        )
        while len(first) and len(second):
            n = min(round(len(first) / (len(first) + len(second)) * batch_size), len(first))
            m = min(batch_size - n, len(second))
            a, b = take(pair[0], first, n), take(pair[1], second, m)
            first, second = first[n:], second[m:]
            index, degrees = np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]])
            batches.append(
                Batch(
                    torch.from_numpy(index).to(images.labels.device),
                    torch.from_numpy(degrees).to(images.labels.device),
                )
            )
    return batches


def rotate(pixels: Tensor, degrees: Tensor) -> Tensor:
    """Images (N, C, H, W) turned counter-clockwise by `degrees` (N,) about their centres.

    The size stays, pixels are those of the nearest neighbour, and pixels from outside are black.
    """
    n, channels, height, width = pixels.shape
    border, right, down = _grid(height, width, pixels.device)
    angle = torch.deg2rad(degrees.double()).view(n, 1, 1)
    cos, sin = angle.cos(), angle.sin()
    # (N, H, W), the source of each pixel of the result. Coordinates start one pixel outside the
    # image: so `int` rounds down everywhere inside it, and every pixel outside is black. The signs
    # are those of the inverse turn, because rows grow downwards. Single precision would sometimes
    # take a wrong neighbour.
    x = ((cos * right).add_(width / 2 + 1) - sin * down).int()
    y = ((sin * right).add_(height / 2 + 1) + cos * down).int()
    row = width + 2 * border
    place = x.add_(y, alpha=row).add_((border - 1) * (row + 1)).long().view(n, 1, -1)
    if channels > 1:
        place = place.expand(-1, channels, -1)
    return F.pad(pixels, (border,) * 4).reshape(n, channels, -1).gather(2, place).view(pixels.shape)


@cache
def _grid(height: int, width: int, device: torch.device) -> tuple[int, Tensor, Tensor]:
    """(border, right (W,), down (H, 1)) of an image size, the same for every angle.

    `right` and `down` are distances of pixel centres from the middle. The black border is so wide
    that the source of every pixel lies within it, at every angle.
    """
    right, down = (
        torch.arange(size, device=device, dtype=torch.float64) + 0.5 - size / 2
        for size in (width, height)
    )
    return math.ceil((math.hypot(height, width) - min(height, width)) / 2) + 1, right, down[:, None]


def _tasks(config: TrainConfig) -> tuple[int, tuple[tuple[int, ...], ...]]:
    """(number of classes K, classes of each task)."""
    if config.dataset in ROTATING:
        return 9, (tuple(range(9)),)
    most = most_tasks(config)
    if most == 0:
        raise UserError(
            f"classes_per_task {config.classes_per_task} is more than the {CLASSES} classes "
            f"of {config.dataset}."
        )
    n_tasks = most if config.n_tasks is None else config.n_tasks
    if n_tasks > most:
        raise UserError(
            f"n_tasks {n_tasks} of {config.classes_per_task} classes are more than "
            f"{config.dataset} has; at most {most}."
        )
    order = list(range(CLASSES))
    if config.class_order_seed is not None:
        order = np.random.default_rng(config.class_order_seed).permutation(CLASSES).tolist()
    size = config.classes_per_task
    return CLASSES, tuple(tuple(order[t * size : (t + 1) * size]) for t in range(n_tasks))


def _of_classes(images: Images, classes: tuple[int, ...]) -> Images:
    return images.take(torch.isin(images.labels, torch.tensor(classes)).nonzero().ravel())


def _turned(images: Images, classes: tuple[int, ...]) -> Images:
    """Every image once, digit by digit, turned through 360 degrees in equal steps per digit."""
    own = [_of_classes(images, (j,)) for j in classes]
    degrees = torch.cat([torch.arange(len(part)).double() * (360 / len(part)) for part in own])
    pixels = torch.cat([part.pixels for part in own])
    return Images(rotate(pixels, degrees), torch.cat([part.labels for part in own]), images.white)


def _first_images(images: Images, most: int | None) -> Images:
    return images if most is None else images.take(torch.arange(min(most, len(images))))


def _first_of_each_class(images: Images, most: int | None) -> Images:
    if most is None:
        return images
    classes = images.labels.unique()
    each = max(most // len(classes), 1)
    index = torch.cat([(images.labels == j).nonzero().ravel()[:each] for j in classes])
    return images.take(index.sort().values)
