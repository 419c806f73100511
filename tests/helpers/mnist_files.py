"""Data files in the published layouts, with random pixels."""

import struct
from pathlib import Path

import numpy as np


def write_svhn(folder: Path, draws: np.random.Generator, per_class: int = 12) -> None:
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    labels = np.repeat(np.arange(1, 11), per_class).astype(np.uint8)  # 10 means 0
    for split in ("train", "test"):
        pixels = draws.integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
        savemat(folder / f"{split}_32x32.mat", {"X": pixels, "y": labels[:, None]})


def write_mnist(folder: Path, draws: np.random.Generator, per_class: int = 12) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.tile(np.arange(10), per_class).astype(np.uint8)
    for stem in ("train", "t10k"):
        pixels = draws.integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(
            bytes([0, 0, 8, 3]) + struct.pack(">III", *pixels.shape) + pixels.tobytes()
        )
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(
            bytes([0, 0, 8, 1]) + struct.pack(">I", len(labels)) + labels.tobytes()
        )
