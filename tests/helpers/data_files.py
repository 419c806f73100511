"""Data files in the published layouts, with random pixels."""

import pickle
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def write_svhn(folder: Path, draws: np.random.Generator, per_class: int = 12) -> None:
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    labels = np.repeat(np.arange(1, 11), per_class).astype(np.uint8)  # 10 means 0
    for split in ("train", "test"):
        pixels = draws.integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
        savemat(folder / f"{split}_32x32.mat", {"X": pixels, "y": labels[:, None]})


def write_mnist(folder: Path, draws: np.random.Generator, per_class: int = 12) -> None:
    write_idx(folder, draws, 10, ("train", "t10k"), per_class)


def write_idx(
    folder: Path,
    draws: np.random.Generator,
    classes: int,
    stems: Sequence[str],
    per_class: int,
) -> None:
    """Write pairs of IDX files; their names begin with `stems`."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.tile(np.arange(classes), per_class).astype(np.uint8)
    for stem in stems:
        pixels = draws.integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(
            bytes([0, 0, 8, 3]) + struct.pack(">III", *pixels.shape) + pixels.tobytes()
        )
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(
            bytes([0, 0, 8, 1]) + struct.pack(">I", len(labels)) + labels.tobytes()
        )


def write_cifar(
    folder: Path, draws: np.random.Generator, classes: int, per_class: int = 10
) -> None:
    """Write CIFAR-10 (five training files) or CIFAR-100 as Python 2 pickled them: keys of bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {10: [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], 100: ["train", "test"]}
    for name in names[classes]:
        labels = np.tile(np.arange(classes), per_class)
        content = {
            b"data": draws.integers(0, 256, (len(labels), 3072), dtype=np.uint8),
            b"labels" if classes == 10 else b"fine_labels": labels.tolist(),
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def write_pictures(
    folder: Path,
    draws: np.random.Generator,
    classes: Sequence[str],
    per_class: int = 10,
    size: tuple[int, int] = (12, 10),
    colour: bool = True,
    inner: str = "",
    suffix: str = ".png",
) -> None:
    """Write FOLDER/CLASS/INNER/NAME; `size` is (height, width)."""
    for name in classes:
        (folder / name / inner).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            pixels = draws.integers(0, 256, (*size, 3) if colour else size, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / inner / f"{name}_{i}{suffix}")


def write_tinyimg(folder: Path, draws: np.random.Generator, classes: int) -> None:
    """Write Tiny ImageNet's layout with so many classes."""
    names = [f"n{i:08}" for i in range(classes)]
    for place, classes_of, number, inner in (
        ("train", names, 10, "images"),
        ("val", ["images"], 2 * classes, ""),
    ):
        write_pictures(
            folder / place, draws, classes_of, number, (64, 64), inner=inner, suffix=".JPEG"
        )
    lines = [f"images_{i}.JPEG\t{names[i % classes]}\t0\t0\t9\t9\n" for i in range(2 * classes)]
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))


def write_every_data_set(folder: Path, tiny_classes: int, per_class: int) -> dict[str, Path]:
    """Write all data sets that are read from files; return data_path by name of the data set."""
    draws = np.random.default_rng(1)
    write_mnist(folder / "MNIST" / "raw", draws, per_class)
    write_svhn(folder / "SVHN", draws, per_class)
    for name in ("FashionMNIST", "KMNIST"):
        write_idx(folder / name / "raw", draws, 10, ("train", "t10k"), per_class)
    stems = "emnist-balanced-train", "emnist-balanced-test"
    write_idx(folder / "EMNIST" / "raw", draws, 47, stems, per_class)
    write_cifar(folder / "cifar-10-batches-py", draws, 10, per_class)
    write_cifar(folder / "cifar-100-python", draws, 100, per_class)
    write_tinyimg(folder / "tiny-imagenet-200", draws, tiny_classes)
    classes = ["ant", "bee", "cat", "dog", "eel", "fox"]
    for part in ("train", "test"):
        write_pictures(folder / "pictures" / part, draws, classes, per_class)
    labels = np.tile(np.arange(4), per_class)
    images = draws.integers(0, 256, (len(labels), 9, 8, 3), dtype=np.uint8)
    np.savez(
        folder / "images.npz",
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
    )
    return {"arrays": folder / "images.npz", "folder": folder / "pictures"}
