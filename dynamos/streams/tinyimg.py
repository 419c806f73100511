"""Tiny ImageNet: 200 classes of colour images, 64x64, in the layout of its archive."""

from pathlib import Path

import numpy as np

from dynamos.errors import UserError
from dynamos.streams.files import data_folder
from dynamos.streams.idx import Raw
from dynamos.streams.names import DATA
from dynamos.streams.pictures import decoded

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


def tinyimg(folder: Path | None, test: bool, download: bool) -> Raw:
    """Return the training images, or the validation images for `test`, (N, 3, 64, 64).

    The labels of the published test images are secret, so its validation images are tested on.
    Class k is the k-th of the names of folders.
    """
    folder = data_folder("Tiny ImageNet", folder)
    places = [folder / "tiny-imagenet-200", folder]
    root = next((place for place in places if (place / "train").is_dir()), None)
    if root is None:
        raise UserError(
            f"no Tiny ImageNet under data_path {folder}: expected the folder train in "
            f"{' or '.join(map(str, places))}. Unpack {URL} there; torchvision does not download "
            "it."
        )
    names = sorted(path.name for path in (root / "train").iterdir() if path.is_dir())
    if len(names) != DATA["tinyimg"].classes:
        raise UserError(f"{root / 'train'} has {len(names)} classes, Tiny ImageNet has 200.")
    of = {name: label for label, name in enumerate(names)}
    if test:
        lines = _annotations(root / "val" / "val_annotations.txt")
        paths = [root / "val" / "images" / picture for picture, _ in lines]
        labels = [of[name] if name in of else _strange(root, name) for _, name in lines]
    else:
        paths, labels = [], []
        for name in names:
            found = sorted((root / "train" / name / "images").glob("*.JPEG"))
            paths += found
            labels += [of[name]] * len(found)
    if not paths:
        raise UserError(f"{root} has no images in {'val' if test else 'train'}.")
    pixels = decoded(paths)
    return np.repeat(pixels, 3, 1) if pixels.shape[1] == 1 else pixels, np.asarray(labels, np.int64)


def _annotations(path: Path) -> list[tuple[str, str]]:
    """(file, class) of each line."""
    try:
        rows = [line.split("\t") for line in path.read_text().splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}.") from None
    return [(row[0], row[1]) for row in rows if len(row) > 1]


def _strange(root: Path, name: str) -> int:
    raise UserError(f"{root / 'val' / 'val_annotations.txt'} names the class {name}, not in train.")
