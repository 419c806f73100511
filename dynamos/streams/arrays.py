"""The user's images in a file of arrays (.npz)."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dynamos.errors import UserError, unknown
from dynamos.files import local_path
from dynamos.streams.idx import Raw
from dynamos.streams.splits import TEST, part_of

Mapped = tuple[np.ndarray, np.ndarray, np.ndarray]
SIZES = range(8, 225)  # pixels of a side
# Names of the arrays: images and labels of the training part and of the test part, if it is apart.
WHOLE = "images", "labels"
APART = (("train_images", "train_labels"), ("test_images", "test_labels"))
_KERAS = {"x_train": "train_images", "y_train": "train_labels"} | {
    "x_test": "test_images",
    "y_test": "test_labels",
}


def count_classes(path: Path | None) -> int:
    """Return the number of classes in a file; UserError if labels are not 0, 1, ..., K - 1."""
    with _arrays(path) as (file, content):
        names = APART[0] if "train_labels" in content else WHOLE
        return int(labels_of(file, names[1], content[names[1]]).max()) + 1


def has_test_arrays(path: Path | None) -> bool:
    """True if a file has test images of its own."""
    with _arrays(path) as (_, content):
        return "test_images" in content


def array_images(path: Path | None, test: bool, download: bool) -> Raw | Mapped:
    """Return the training or test images of a file, (N, C, H, W), and labels (N,).

    The file has `images` and `labels`, of which a fixed stratified fifth is the test set, or
    `train_images`, `train_labels`, `test_images` and `test_labels`. Images are (N, H, W) or
    (N, H, W, C), uint8 or floats from 0 to 1, which become uint8. Raises UserError for others.

    Of a folder of .npy files, images are not read but mapped into memory, and the third result is
    the places of the N images in the file.
    """
    with _arrays(path) as (file, content):
        apart = "train_images" in content
        images, labels = APART[test] if apart else WHOLE
        pixels = pixels_of(file, images, content[images])
        of = labels_of(file, labels, content[labels], whole=not (apart and test))
        if len(pixels) != len(of):
            raise UserError(
                f"{file}: {images} has {len(pixels)} images and {labels} {len(of)} labels."
            )
        if apart and test:
            known = int(labels_of(file, APART[0][1], content[APART[0][1]]).max())
            if of.max() > known:
                raise UserError(
                    f"{file}: {labels} has class {of.max()}, and the training labels end at "
                    f"{known}."
                )
    if not isinstance(pixels, np.memmap):
        return (pixels, of) if apart else part_of(pixels, of, test=test)
    rows = np.arange(len(of)) if apart else TEST.of(of)[test]
    return pixels, of[rows], rows


@contextmanager
def _arrays(path: Path | None) -> Iterator[tuple[Path, Mapping[str, np.ndarray]]]:
    """(the file, its arrays by name, each read when it is asked for)."""
    if path is None:
        raise UserError(
            "arrays needs data_path (--data-path FILE.npz), a file of arrays, or a folder of .npy "
            "files."
        )
    file = local_path(path)
    if file.is_dir():
        yield file, _Named(file, _Folder(file))
        return
    try:
        content = np.load(file)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise UserError(f"{file} holds one array; save images and labels with np.savez.")
        with content:
            yield file, _Named(file, content)
    except FileNotFoundError:
        raise UserError(f"no file {file}.") from None
    # an array of Python objects raises ValueError; numpy loads no pickles here
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise UserError(f"cannot read {file} as a file of np.savez: {error}.") from None


class _Folder(Mapping[str, np.ndarray]):
    """The arrays NAME.npy of a folder; those of images are mapped into memory."""

    def __init__(self, folder: Path) -> None:
        self._files = {file.stem: file for file in sorted(folder.glob("*.npy"))}
        if not self._files:
            raise UserError(f"{folder} has no files images.npy and labels.npy.")

    def __getitem__(self, name: str) -> np.ndarray:
        file = self._files[name]
        try:
            array: np.ndarray = np.load(file, mmap_mode="r")
        # an array of Python objects, or an empty one, cannot be mapped
        except (OSError, EOFError, ValueError) as error:
            raise UserError(f"cannot read {file} as a file of np.save: {error}.") from None
        return array if array.ndim > 2 else np.array(array)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


class _Named(Mapping[str, np.ndarray]):
    """The arrays of a file under our names."""

    def __init__(self, file: Path, content: Mapping[str, np.ndarray]) -> None:
        self._content = content
        self._names = {_KERAS.get(name, name): name for name in content}
        allowed = {*WHOLE, *(name for pair in APART for name in pair)}
        for name in self._names:
            if name not in allowed:
                raise UserError(f"{file}: {unknown('array', name, sorted(allowed))}")
        wanted = WHOLE if "images" in self._names else (*APART[0], *APART[1])
        for name in wanted:
            if name not in self._names:
                raise UserError(
                    f"{file} has no array {name}; it needs {' and '.join(WHOLE)}, or "
                    f"{', '.join((*APART[0], *APART[1]))}."
                )
        if len(self._names) > len(wanted):
            raise UserError(
                f"{file} has {', '.join(sorted(self._names))}; give images and labels alone, or "
                f"{', '.join((*APART[0], *APART[1]))}."
            )

    def __getitem__(self, name: str) -> np.ndarray:
        return self._content[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def pixels_of(file: Path | str, name: str, given: np.ndarray) -> np.ndarray:
    """Return (N, C, H, W) uint8 of images (N, H, W) or (N, H, W, C).

    Images that are mapped into memory stay so; they must be uint8. Raises UserError, which names
    the array and its file, for arrays that are not images.
    """
    shape = f"{file}: {name} has shape {given.shape}"
    images = given[..., None] if given.ndim == 3 else given
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        turned = images.ndim == 4 and images.shape[1] in (1, 3)
        raise UserError(
            f"{shape}; it must be (N, H, W) or (N, H, W, C) with C = 1 or 3."
            + (f" Move the channels last: {name}.transpose(0, 2, 3, 1)." if turned else "")
        )
    if len(images) == 0 or images.shape[1] not in SIZES or images.shape[2] not in SIZES:
        raise UserError(
            f"{shape}; it needs at least one image, of {SIZES.start} to {SIZES.stop - 1} pixels a "
            "side."
        )
    if isinstance(images, np.memmap):
        if images.dtype != np.uint8:
            raise UserError(
                f"{file}: {name} has type {images.dtype}; images that are mapped into memory must "
                "be uint8."
            )
        return images.transpose(0, 3, 1, 2)
    if images.dtype.kind == "f":
        low, high = float(images.min()), float(images.max())
        if not (low >= 0 and high <= 1):  # NaN compares false
            spread = "NaN" if np.isnan(low) else f"values from {low:g} to {high:g}"
            raise UserError(f"{file}: {name} has {spread}; floats must be from 0 to 1.")
        images = (images * 255).round().astype(np.uint8)
    if images.dtype != np.uint8:
        raise UserError(
            f"{file}: {name} has type {images.dtype}; it must be uint8, or float from 0 to 1."
        )
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def labels_of(
    file: Path | str, name: str, given: np.ndarray, whole: bool = True, kind: str = "class"
) -> np.ndarray:
    """Return (N,) int64 of labels (N,) or (N, 1).

    Raises UserError for others. `whole`: every class up to the largest must occur. `kind` is the
    word for what a label numbers.
    """
    labels = given[:, 0] if given.ndim == 2 and given.shape[1] == 1 else given
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) == 0:
        raise UserError(
            f"{file}: {name} is {given.dtype} of shape {given.shape}; it must be whole numbers of "
            "shape (N,) or (N, 1)."
        )
    kinds = "classes" if kind == "class" else f"{kind}s"
    if labels.min() < 0:
        raise UserError(f"{file}: {name} has the {kind} {labels.min()}; {kinds} begin at 0.")
    found = np.unique(labels)
    if whole and len(found) != found[-1] + 1:
        skipped = next(place for place, label in enumerate(found) if label != place)
        raise UserError(
            f"{file}: {name} skips {kind} {skipped}; the {kinds} must be 0, 1, ..., K - 1. "
            f"np.unique({name}, return_inverse=True)[1] numbers them so."
        )
    return labels.astype(np.int64)
