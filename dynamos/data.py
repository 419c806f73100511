"""Image data sets, read whole: MNIST, SVHN and scikit-learn's digits."""

import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from dynamos.config import TEST_LOCK
from dynamos.errors import RunError, TestImagesLocked, UserError
from dynamos.files import local_path


@dataclass(frozen=True, slots=True)
class Images:
    """N labelled images."""

    pixels: Tensor  # (N, C, H, W) uint8, C = 1 (grey) or 3
    labels: Tensor  # (N,) int64
    white: int  # pixel value that means 1.0

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> "Images":
        """Return the images at `index`."""
        return Images(
            self.pixels.index_select(0, index), self.labels.index_select(0, index), self.white
        )

    def to(self, device: torch.device) -> "Images":
        """Return the same images on another device."""
        return Images(self.pixels.to(device), self.labels.to(device), self.white)

    def digest(self) -> str:
        """16 hex digits of the SHA-256 of pixels and labels."""
        digest = hashlib.sha256(self.pixels.contiguous().numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()[:16]


def as_input(pixels: Tensor, white: int) -> Tensor:
    """Return the network's input (N, 3, H, W) in [0, 1].

    Grey images become three equal channels.
    """
    return (pixels.float() / white).expand(-1, 3, -1, -1)


def refuse_locked_test_images() -> None:
    """Raise TestImagesLocked in the processes of a sweep."""
    if os.environ.get(TEST_LOCK) == "locked":
        raise TestImagesLocked(
            "test images cannot be read during a sweep; use evaluate_on: validation."
        )


def digits(folder: Path | None, test: bool, download: bool) -> Images:
    """scikit-learn's 1,797 embedded digits: 8x8, ten classes.

    A fixed stratified fifth of them is the test set.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if test:
        refuse_locked_test_images()
    raw = load_digits()
    rest, held_out = train_test_split(
        np.arange(len(raw.target)), test_size=0.2, stratify=raw.target, random_state=20230110
    )
    index = np.sort(held_out if test else rest)
    return Images(
        torch.from_numpy(raw.images[index].astype(np.uint8))[:, None],
        torch.from_numpy(raw.target[index].astype(np.int64)),
        WHITE["digits"],
    )


def mnist(folder: Path | None, test: bool, download: bool) -> Images:
    """MNIST's training or test images, from torchvision's layout or the original project's."""
    if test:
        refuse_locked_test_images()
    folder = _folder("MNIST", folder)
    stem = "t10k" if test else "train"
    wanted = [f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte"]
    places = [
        folder / place
        for place in ("MNIST/raw", "raw", "MNIST/MNIST/raw", "MNIST/MyMNIST/raw", "MNIST", "")
    ]
    if download and _first(places, wanted) is None:
        _download(
            "MNIST", folder, lambda datasets: datasets.MNIST(folder, train=not test, download=True)
        )
    images, labels = _found("MNIST", folder, places, wanted)
    return _paired("mnist", images, _idx(images, rank=3)[:, None], _idx(labels, rank=1).long())


def svhn(folder: Path | None, test: bool, download: bool) -> Images:
    """SVHN's cropped training or test digits, from torchvision's layout."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if test:
        refuse_locked_test_images()
    folder = _folder("SVHN", folder)
    split = "test" if test else "train"
    wanted = [f"{split}_32x32.mat"]
    places = [folder / "SVHN", folder]
    if download and _first(places, wanted) is None:
        _download(
            "SVHN",
            folder,
            lambda datasets: datasets.SVHN(folder / "SVHN", split=split, download=True),
        )
    [path] = _found("SVHN", folder, places, wanted)
    try:
        with _opened(path) as file:
            content = loadmat(file)
        # label 10 means class 0
        pixels, labels = content["X"], content["y"].ravel().astype(np.int64) % 10
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        NotImplementedError,
        MatReadError,
        zlib.error,
    ) as error:  # NotImplementedError: scipy reads no files of MATLAB 7.3
        raise UserError(f"{path} is not an SVHN file with X and y: {error}.") from None
    if pixels.ndim != 4 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:  # (H, W, C, N)
        raise UserError(
            f"{path} is not an SVHN file: its X is {pixels.dtype} of shape {pixels.shape}."
        )
    return _paired(
        "svhn",
        path,
        torch.from_numpy(np.ascontiguousarray(pixels.transpose(3, 2, 0, 1))),
        torch.from_numpy(labels),
    )


WHITE = {"digits": 16, "mnist": 255, "svhn": 255}  # pixel value that means 1.0, by source
Source = Callable[[Path | None, bool, bool], Images]
SOURCES: dict[str, Source] = {"digits": digits, "mnist": mnist, "svhn": svhn}


def _paired(source: str, path: Path, pixels: Tensor, labels: Tensor) -> Images:
    if len(pixels) != len(labels):
        raise UserError(
            f"{path} holds {len(pixels)} images, but there are {len(labels)} labels for them."
        )
    return Images(pixels, labels, WHITE[source])


def _folder(data: str, folder: Path | None) -> Path:
    if folder is None:
        raise UserError(
            f"{data} needs data_path (--data-path DIR), the folder of the data. --download creates "
            "it."
        )
    return local_path(folder)


def _first(places: list[Path], wanted: list[str]) -> list[Path] | None:
    """Return the wanted files, gzipped or not, of the first place that has them all; else None."""
    found = (
        [
            next((path for path in (place / name, place / f"{name}.gz") if path.is_file()), None)
            for name in wanted
        ]
        for place in places
    )
    return next(
        ([path for path in files if path is not None] for files in found if None not in files), None
    )


def _found(data: str, folder: Path, places: list[Path], wanted: list[str]) -> list[Path]:
    files = _first(places, wanted)
    if files is None:
        where = ", ".join(str(p) for p in places)
        missing = "" if folder.is_dir() else ", which is not a folder"
        raise UserError(
            f"no {data} under data_path {folder}{missing}: expected {' and '.join(wanted)}, or the "
            f"same with .gz, in one of {where}. `dynamos --download` fetches it."
        )
    return files


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else path.open("rb"))


def _download(data: str, folder: Path, fetch: Callable[[Any], object]) -> None:
    datasets = _torchvision()
    try:
        fetch(datasets)
    # torchvision raises these for a missing network, a wrong checksum (RuntimeError) and a broken
    # archive.
    except (OSError, RuntimeError, EOFError, HTTPException, zlib.error) as error:
        raise RunError(
            f"downloading {data} to {folder} failed: {type(error).__name__}: {error}. Without "
            "a network, copy the files there yourself."
        ) from error


def _torchvision() -> Any:
    try:
        import torchvision.datasets
    # A torchvision built for another torch raises any of these.
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise UserError(
            "--download needs torchvision, which cannot be imported with torch "
            f"{torch.__version__} ({error}). Install the matching torchvision from the same "
            "source, or copy the files to --data-path."
        ) from None
    return torchvision.datasets


def _idx(path: Path, rank: int) -> Tensor:
    """The array in an IDX file of bytes: 2 zero bytes, type 8, rank, big-endian sizes, values."""
    try:
        with _opened(path) as file:
            content = file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is not a complete gzip file: {error}.") from None
    shape = tuple(int.from_bytes(content[4 + 4 * i : 8 + 4 * i]) for i in range(rank))
    if content[:4] != bytes([0, 0, 8, rank]) or len(content) != 4 + 4 * rank + math.prod(shape):
        raise UserError(
            f"{path} is not a complete IDX file of {'images' if rank == 3 else 'labels'}: unsigned "
            f"bytes of rank {rank}."
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * rank).copy()).reshape(
        shape
    )
