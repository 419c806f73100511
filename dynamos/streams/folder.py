"""The user's folder of pictures: CLASS/NAME.png, or the same in train/ and test/."""

from pathlib import Path

import numpy as np

from dynamos.errors import UserError
from dynamos.files import local_path
from dynamos.streams.idx import Raw
from dynamos.streams.pictures import SUFFIXES, decoded, is_picture
from dynamos.streams.splits import part_of


def class_names(folder: Path | None) -> list[str]:
    """Return the names of the classes, sorted; class k is the k-th of them.

    Raises UserError if the folder has no subfolders.
    """
    where = _training(_root(folder))
    names = sorted(path.name for path in where.iterdir() if _is_class(path))
    if not names:
        raise UserError(
            f"{where} has no subfolders; it needs one for each class: {where}/CLASS/NAME.png."
        )
    return names


def has_test_folder(folder: Path | None) -> bool:
    """True if the folder has test images of its own."""
    return (_root(folder) / "test").is_dir()


def folder_images(folder: Path | None, test: bool, download: bool) -> Raw:
    """Return the training or test images, (N, C, H, W), and labels (N,).

    Without train/ and test/, a fixed stratified fifth of all images is the test set.
    """
    root, names = _root(folder), class_names(folder)
    if (root / "test").is_dir():
        return _read(root / "test" if test else _training(root), names)
    return part_of(*_read(root, names), test=test)


def _root(folder: Path | None) -> Path:
    if folder is None:
        raise UserError("folder needs data_path (--data-path DIR), the folder of the classes.")
    root = local_path(folder)
    if not root.is_dir():
        raise UserError(f"data_path {root} is not a folder.")
    return root


def _training(root: Path) -> Path:
    """The folder of the training images."""
    has_train, has_test = (root / "train").is_dir(), (root / "test").is_dir()
    if has_train != has_test:
        lacks = "test" if has_train else "train"
        raise UserError(
            f"{root} has the folder {'train' if has_train else 'test'} but no folder {lacks}; give "
            "both, or one folder for each class."
        )
    return root / "train" if has_train else root


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _read(where: Path, names: list[str]) -> Raw:
    strange = sorted({path.name for path in where.iterdir() if _is_class(path)} - {*names})
    if strange:
        raise UserError(f"{where / strange[0]} is of a class that the training images lack.")
    paths, labels = list[Path](), list[int]()
    for label, name in enumerate(names):
        of_class = sorted(path for path in (where / name).rglob("*") if is_picture(path))
        if not of_class:
            raise UserError(
                f"{where / name} has no pictures; names of pictures end in {', '.join(SUFFIXES)}."
            )
        paths += of_class
        labels += [label] * len(of_class)
    return decoded(paths), np.asarray(labels, np.int64)
