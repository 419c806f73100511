"""SVHN: street view house numbers, cropped."""

import zlib
from pathlib import Path

import numpy as np

from dynamos.errors import UserError
from dynamos.streams.files import data_folder, fetched, opened, refuse_unpaired
from dynamos.streams.idx import Raw


def svhn(folder: Path | None, test: bool, download: bool) -> Raw:
    """Return the training or test digits, (N, 3, 32, 32), from torchvision's layout."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    folder = data_folder("SVHN", folder)
    split = "test" if test else "train"
    [path] = fetched(
        "SVHN",
        folder,
        [folder / "SVHN", folder],
        [f"{split}_32x32.mat"],
        (lambda datasets: datasets.SVHN(folder / "SVHN", split=split, download=True))
        if download
        else None,
    )
    try:
        with opened(path) as file:
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
    pixels = np.ascontiguousarray(pixels.transpose(3, 2, 0, 1))
    refuse_unpaired(path, len(pixels), len(labels))
    return pixels, labels
