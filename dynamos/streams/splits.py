"""Splits of images that are fixed: every run and every sweep has the same."""

import math
from dataclasses import dataclass

import numpy as np

from dynamos.errors import UserError


@dataclass(frozen=True, slots=True)
class Split:
    """A stratified split: a fixed fraction of every class is held out."""

    fraction: float
    seed: int
    images: str  # their name in errors
    part: str  # name of the part held out, in errors

    def of(
        self, labels: np.ndarray, tasks: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (indices kept, indices held out) of images with these labels, both ascending.

        With `tasks`, the task of each image, every task is split by itself. Raises UserError if a
        class has one image only, or if there are too few images.
        """
        if tasks is None:
            return self._of(labels)
        parts = []
        for task in np.unique(tasks):
            places = np.flatnonzero(tasks == task)
            try:
                parts.append([places[part] for part in self._of(labels[places])])
            except UserError as error:
                raise error.within(f"task {task}") from None
        kept, held_out = (np.sort(np.concatenate(part)) for part in zip(*parts, strict=True))
        return kept, held_out

    def _of(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # As scikit-learn's train_test_split, whose import takes most of a second of each worker's
        # start, and for all of its versions.
        lack = f"{len(labels)} {self.images} are too few for {self.part} of every class"
        classes, counts = np.unique(labels, return_counts=True)
        if len(counts) and counts.min() < 2:
            raise UserError(f"{lack}: class {classes[counts.argmin()]} has one image.")
        of_part = math.ceil(self.fraction * len(labels))
        of_rest = len(labels) - of_part
        if min(of_part, of_rest) < max(len(classes), 1):
            raise UserError(
                f"{lack}: a split into {of_rest} and {of_part} leaves out some of {len(classes)} "
                "classes."
            )
        draws = np.random.RandomState(self.seed)
        kept = _shares(counts, of_rest, draws)
        held_out = _shares(counts - kept, of_part, draws)
        parts: tuple[list[np.ndarray], list[np.ndarray]] = [], []
        for label, rest, part in zip(classes, kept, held_out, strict=True):
            shuffled = draws.permutation(np.flatnonzero(labels == label))
            parts[0].append(shuffled[:rest])
            parts[1].append(shuffled[rest : rest + part])
        return np.sort(np.concatenate(parts[0])), np.sort(np.concatenate(parts[1]))


def _shares(counts: np.ndarray, total: int, draws: np.random.RandomState) -> np.ndarray:
    """Return the numbers of images per class of a stratified part of `total` images.

    They are proportional to the classes' counts, rounded down. The remaining images go to the
    classes with the largest remainders. Ties are broken at random.
    """
    exact = counts / counts.sum() * total
    shares = np.floor(exact)
    missing, remainders = int(total - shares.sum()), exact - shares
    for remainder in np.unique(remainders)[::-1]:
        if missing == 0:
            break
        tied = np.flatnonzero(remainders == remainder)
        more = min(len(tied), missing)
        shares[draws.choice(tied, size=more, replace=False)] += 1
        missing -= more
    return np.asarray(shares.astype(int))


VALIDATION = Split(0.1, 20230219, "training images", "a validation set of a tenth")
TEST = Split(0.2, 20230110, "images", "a test set of a fifth")


def part_of(pixels: np.ndarray, labels: np.ndarray, *, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the training or the test part of images that come without a test set.

    A fixed stratified fifth is the test part.
    """
    kept, held_out = TEST.of(labels)
    index = held_out if test else kept
    return pixels[index], labels[index]
