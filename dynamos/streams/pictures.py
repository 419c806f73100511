"""Picture files, decoded into one array."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dynamos.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
_GREY = ("L", "1", "LA")
_DEEP = ("I", "I;16", "I;16B", "I;16L", "F")  # more than 8 bits per pixel


def is_picture(path: Path) -> bool:
    """True if a file's name is that of a picture; hidden files are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def decoded(paths: Sequence[Path]) -> np.ndarray:
    """Return the pixels of pictures, (N, C, H, W) uint8; C is 1 if all are grey, else 3.

    Raises UserError if a file is not a picture of 8 bits or if sizes differ.
    """
    if not paths:
        raise ValueError("no pictures")
    colour, height, width = False, 0, 0
    pixels = np.empty(0, np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without Python's lock
        for place, picture in enumerate(pool.map(_decoded, paths)):
            if place == 0:
                height, width = picture.shape[:2]
                pixels = np.empty((len(paths), 3, height, width), np.uint8)
            if picture.shape[:2] != (height, width):
                raise UserError(
                    f"{paths[place]} has {picture.shape[1]}x{picture.shape[0]} pixels and "
                    f"{paths[0]} {width}x{height}; all images must have one size."
                )
            colour |= picture.ndim == 3
            pixels[place] = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
    return pixels if colour else np.ascontiguousarray(pixels[:, :1])


def _decoded(path: Path) -> np.ndarray:
    """(H, W) if the picture is grey, else (H, W, 3)."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            if picture.mode in _DEEP:
                raise UserError(
                    f"{path} has pixels of mode {picture.mode}; save it with 8 bits per channel."
                )
            return np.asarray(picture.convert("L" if picture.mode in _GREY else "RGB"))
    except UnidentifiedImageError:
        raise UserError(f"{path} is not a picture that Pillow can read.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the picture {path}: {error}.") from None
