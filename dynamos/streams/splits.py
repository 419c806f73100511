"""Splits of images that are fixed: every run and every sweep has the same."""

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
        from sklearn.model_selection import train_test_split

        lack = f"{len(labels)} {self.images} are too few for {self.part} of every class"
        classes, counts = np.unique(labels, return_counts=True)
        if len(counts) and counts.min() < 2:
            raise UserError(f"{lack}: class {classes[counts.argmin()]} has one image.")
        try:
            kept, held_out = train_test_split(
                np.arange(len(labels)),
                test_size=self.fraction,
                stratify=labels,
                random_state=self.seed,
            )
        except ValueError as error:
            raise UserError(f"{lack}: {error}") from None
        return np.sort(kept), np.sort(held_out)


VALIDATION = Split(0.1, 20230219, "training images", "a validation set of a tenth")
TEST = Split(0.2, 20230110, "images", "a test set of a fifth")


def part_of(pixels: np.ndarray, labels: np.ndarray, *, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the training or the test part of images that come without a test set.

    A fixed stratified fifth is the test part.
    """
    kept, held_out = TEST.of(labels)
    index = held_out if test else kept
    return pixels[index], labels[index]
