"""Data sets by name, read whole."""

import os
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from dynamos.config import TEST_LOCK
from dynamos.data import Images
from dynamos.errors import TestImagesLocked
from dynamos.streams.arrays import Mapped, array_images
from dynamos.streams.cifar import cifar10, cifar100
from dynamos.streams.folder import folder_images
from dynamos.streams.idx import Raw, emnist, fashion_mnist, kmnist, mnist
from dynamos.streams.names import DATA, data_of
from dynamos.streams.own import own_images
from dynamos.streams.splits import part_of
from dynamos.streams.svhn import svhn
from dynamos.streams.tinyimg import tinyimg


def digits(folder: Path | None, test: bool, download: bool) -> Raw:
    """scikit-learn's 1,797 embedded digits: pixels (N, 1, 8, 8), ten classes.

    A fixed stratified fifth of them is the test set.
    """
    # read without scikit-learn, whose import takes most of a second
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None, "a dependency"
    file = Path(package.origin).with_name("datasets") / "data" / "digits.csv.gz"
    rows = np.loadtxt(file, delimiter=",", dtype=np.int64)
    pixels, labels = rows[:, :-1].astype(np.uint8).reshape(-1, 1, 8, 8), rows[:, -1]
    return part_of(pixels, np.ascontiguousarray(labels), test=test)


# (folder or file of the data, whether test images are meant, whether missing files are downloaded)
# -> (pixels (N, C, H, W) uint8, labels (N,) int64), or of a mapped file (pixels (M, C, H, W),
# labels, places of the N images among its M)
Reader = Callable[[Path | None, bool, bool], Raw | Mapped]
SOURCES: dict[str, Reader] = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "kmnist": kmnist,
    "emnist": emnist,
    "svhn": svhn,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "tinyimg": tinyimg,
    "arrays": array_images,
    "folder": folder_images,
}


def read_own(dataset: str, test: bool = False) -> Images:
    """Read the training or test images of FILE.py:NAME; the errors are those of `read`."""
    if test:
        refuse_locked_test_images()
    pixels, labels, tasks, rows = own_images(dataset, test)
    return _images(pixels, labels, rows, tasks, white=data_of(dataset).white)


def read(data: str, folder: Path | None, test: bool = False, download: bool = False) -> Images:
    """Read the training or test images of a data set.

    Raises UserError if they are missing or damaged, RunError if a download fails, and
    TestImagesLocked for test images in a sweep.
    """
    if test:
        refuse_locked_test_images()
    return _images(*SOURCES[data](folder, test, download), white=DATA[data].white)


def _images(
    pixels: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray | None = None,
    tasks: np.ndarray | None = None,
    *,
    white: int,
) -> Images:
    with warnings.catch_warnings():
        # torch warns that a mapped file cannot be written; nothing writes to stored images
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        stored = torch.from_numpy(pixels)
    of_task, places = (None if v is None else torch.from_numpy(v) for v in (tasks, rows))
    return Images(stored, torch.from_numpy(labels), white, of_task, places)


def refuse_locked_test_images() -> None:
    """Raise TestImagesLocked in the processes of a sweep."""
    if os.environ.get(TEST_LOCK) == "locked":
        raise TestImagesLocked(
            "test images cannot be read during a sweep; use evaluate_on: validation."
        )
