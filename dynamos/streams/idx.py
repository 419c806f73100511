"""Data sets in MNIST's file format: MNIST, Fashion-MNIST, KMNIST and EMNIST."""

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynamos.errors import UserError
from dynamos.streams.files import data_folder, fetched, opened, refuse_unpaired

Raw = tuple[np.ndarray, np.ndarray]  # pixels (N, C, H, W) uint8, labels (N,) int64


def mnist(folder: Path | None, test: bool, download: bool) -> Raw:
    """Return MNIST's training or test images, from torchvision's layout or the original project's.

    Shapes: pixels (N, 1, 28, 28), labels (N,).
    """
    places = "MNIST/raw", "raw", "MNIST/MNIST/raw", "MNIST/MyMNIST/raw", "MNIST", ""
    return _read("MNIST", folder, test, download, places)


def fashion_mnist(folder: Path | None, test: bool, download: bool) -> Raw:
    """Return Fashion-MNIST's training or test images, (N, 1, 28, 28), from torchvision's layout."""
    return _read("FashionMNIST", folder, test, download, ("FashionMNIST/raw", "FashionMNIST"))


def kmnist(folder: Path | None, test: bool, download: bool) -> Raw:
    """Return KMNIST's training or test images, (N, 1, 28, 28), from torchvision's layout."""
    return _read("KMNIST", folder, test, download, ("KMNIST/raw", "KMNIST"))


def emnist(folder: Path | None, test: bool, download: bool) -> Raw:
    """Return the images of EMNIST's balanced split, 47 classes, upright, (N, 1, 28, 28).

    Its files hold them transposed.
    """
    pixels, labels = _read(
        "EMNIST",
        folder,
        test,
        download,
        ("EMNIST/raw", "EMNIST"),
        stem="emnist-balanced-",
        test_name="test",
        split="balanced",
    )
    return np.ascontiguousarray(pixels.swapaxes(2, 3)), labels


def _read(
    data: str,
    folder: Path | None,
    test: bool,
    download: bool,
    places: Sequence[str],
    stem: str = "",
    test_name: str = "t10k",
    **options: Any,
) -> Raw:
    folder = data_folder(data, folder)
    part = test_name if test else "train"
    images, labels = fetched(
        data,
        folder,
        [folder / place for place in places],
        [f"{stem}{part}-images-idx3-ubyte", f"{stem}{part}-labels-idx1-ubyte"],
        (lambda datasets: getattr(datasets, data)(folder, train=not test, download=True, **options))
        if download
        else None,
    )
    pixels, of = _idx(images, rank=3)[:, None], _idx(labels, rank=1).astype(np.int64)
    refuse_unpaired(images, len(pixels), len(of))
    return pixels, of


def _idx(path: Path, rank: int) -> np.ndarray:
    """The array in an IDX file of bytes: 2 zero bytes, type 8, rank, big-endian sizes, values."""
    try:
        with opened(path) as file:
            content = file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is not a complete gzip file: {error}.") from None
    shape = tuple(int.from_bytes(content[4 + 4 * i : 8 + 4 * i]) for i in range(rank))
    if content[:4] != bytes([0, 0, 8, rank]) or len(content) != 4 + 4 * rank + math.prod(shape):
        raise UserError(
            f"{path} is not a complete IDX file of {'images' if rank == 3 else 'labels'}: unsigned "
            f"bytes of rank {rank}."
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()
