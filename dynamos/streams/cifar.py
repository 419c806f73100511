"""CIFAR-10 and CIFAR-100: colour images of 32x32 pixels, in torchvision's layout."""

import gzip
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynamos.errors import UserError
from dynamos.streams.files import data_folder, fetched, opened
from dynamos.streams.idx import Raw

# What the files name besides plain values; nothing else is looked up, so that a file runs no code.
_ALLOWED = (
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
)
_BYTES_PER_IMAGE = 3 * 32 * 32


def cifar10(folder: Path | None, test: bool, download: bool) -> Raw:
    """Return the training or test images, (N, 3, 32, 32), and their labels of 10 classes."""
    names = ["test_batch"] if test else [f"data_batch_{part}" for part in range(1, 6)]
    return _read("CIFAR10", "cifar-10-batches-py", names, b"labels", folder, test, download)


def cifar100(folder: Path | None, test: bool, download: bool) -> Raw:
    """Return the training or test images, (N, 3, 32, 32), and their labels of 100 fine classes."""
    names = ["test" if test else "train"]
    return _read("CIFAR100", "cifar-100-python", names, b"fine_labels", folder, test, download)


def _read(
    data: str,
    subfolder: str,
    names: Sequence[str],
    labels: bytes,
    folder: Path | None,
    test: bool,
    download: bool,
) -> Raw:
    folder = data_folder(data, folder)
    paths = fetched(
        data,
        folder,
        [folder / subfolder, folder / data / subfolder, folder],
        names,
        (lambda datasets: getattr(datasets, data)(folder, train=not test, download=True))
        if download
        else None,
    )
    parts = [_part(path, labels) for path in paths]
    pixels = np.concatenate([pixels for pixels, _ in parts])
    return pixels.reshape(-1, 3, 32, 32), np.concatenate([of for _, of in parts])


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def _part(path: Path, labels: bytes) -> Raw:
    """(pixels (N, 3072), labels (N,)) of one file: a pickled mapping."""
    try:
        with opened(path) as file:
            content = _Reader(file, encoding="bytes").load()
        pixels, of = content[b"data"], np.asarray(content[labels], np.int64)
        fits = pixels.dtype == np.uint8 and pixels.shape == (len(of), _BYTES_PER_IMAGE)
    # a damaged pickle raises any of these
    except (
        OSError,
        EOFError,
        zlib.error,
        gzip.BadGzipFile,
        pickle.UnpicklingError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        ImportError,
        MemoryError,
        OverflowError,
    ) as error:
        raise UserError(f"{path} is not a CIFAR file: {type(error).__name__}: {error}.") from None
    if not fits:
        raise UserError(
            f"{path} is not a CIFAR file: its data is {pixels.dtype} of shape {pixels.shape}, for "
            f"{len(of)} labels."
        )
    return pixels, of
