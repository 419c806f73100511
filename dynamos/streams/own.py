"""Streams in a user's file: FILE.py:NAME, a function that returns images and labels."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from dynamos.errors import DynamosError, UserError
from dynamos.streams.arrays import labels_of, pixels_of
from dynamos.streams.splits import TEST
from dynamos.user_code import in_words, load

PARTS = {False: "train", True: "test"}
# pixels (N, C, H, W) uint8; labels (N,) int64; the task of each image (N,) or None; None, or of a
# mapped array (M, C, H, W) the places of the N images among its M
Parted = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]


def has_own_test(dataset: str) -> bool:
    """True if the function takes the part that is wanted, "train" or "test"."""
    function = load(dataset, "stream")
    try:
        wanted = len(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        wanted = -1
    if wanted not in (0, 1):
        raise UserError(
            f"{dataset} must be a function of nothing, or of the part of the images, 'train' or "
            "'test'."
        )
    return wanted == 1


def own_images(dataset: str, test: bool) -> Parted:
    """Return the training or test images of FILE.py:NAME, their labels, and their tasks if any.

    A function of the part is called for this part only; of the images of a function without an
    argument, a fixed stratified fifth is the test set. Raises UserError for what is not images and
    labels, and for an error of the function.
    """
    if has_own_test(dataset):
        return _checked(dataset, _called(dataset, PARTS[test]), whole=not test)
    pixels, labels, tasks, rows = _checked(dataset, _called(dataset), whole=True)
    index = TEST.of(labels, tasks)[test]
    of_task = None if tasks is None else tasks[index]
    if rows is not None:
        return pixels, labels[index], of_task, index
    return pixels[index], labels[index], of_task, None


def _called(dataset: str, *arguments: str) -> Any:
    function: Callable[..., Any] = load(dataset, "stream")
    try:
        return function(*arguments)
    except DynamosError:
        raise
    # the user's function may raise anything
    except (Exception, SystemExit) as error:
        raise UserError(f"{dataset} raises {in_words(error)}.") from error


def _checked(dataset: str, given: Any, whole: bool) -> Parted:
    """The images of a function's result; `whole`: every class and task must occur."""
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        size = f" of {len(given)}" if isinstance(given, tuple | list) else ""
        raise UserError(
            f"{dataset} returns a {type(given).__name__}{size}; it must return (images, labels) or "
            "(images, labels, tasks)."
        )
    try:
        arrays = [one if isinstance(one, np.memmap) else np.asarray(one) for one in given]
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; a tensor on a GPU
        raise UserError(f"{dataset} returns no arrays: {in_words(error)}.") from None
    pixels = pixels_of(dataset, "images", arrays[0])
    labels = labels_of(dataset, "labels", arrays[1], whole)
    tasks = labels_of(dataset, "tasks", arrays[2], whole, "task") if len(arrays) > 2 else None
    for name, array in (("labels", labels), ("tasks", tasks)):
        if array is not None and len(array) != len(pixels):
            raise UserError(
                f"{dataset}: there are {len(pixels)} images and {len(array)} {name} for them."
            )
    return pixels, labels, tasks, np.arange(len(pixels)) if isinstance(pixels, np.memmap) else None
