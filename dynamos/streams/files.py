"""Data files: where they are, how they are opened, and how torchvision downloads them."""

import gzip
import zlib
from collections.abc import Callable, Sequence
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, cast

from dynamos.errors import RunError, UserError
from dynamos.files import local_path


def data_folder(data: str, folder: Path | None) -> Path:
    """Return the folder of a data set; raise UserError if none is given."""
    if folder is None:
        raise UserError(
            f"{data} needs data_path (--data-path DIR), the folder of the data. --download creates "
            "it."
        )
    return local_path(folder)


def first(places: Sequence[Path], wanted: Sequence[str]) -> list[Path] | None:
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


def fetched(
    data: str,
    folder: Path,
    places: Sequence[Path],
    wanted: Sequence[str],
    fetch: Callable[[Any], object] | None,
) -> list[Path]:
    """Return the wanted files, which torchvision downloads first if they are missing.

    `fetch` gets torchvision.datasets; None: nothing is downloaded. Raises UserError if a file is
    missing, RunError if the download fails.
    """
    if fetch is not None and first(places, wanted) is None:
        download(data, folder, fetch)
    files = first(places, wanted)
    if files is None:
        where = ", ".join(str(p) for p in places)
        missing = "" if folder.is_dir() else ", which is not a folder"
        raise UserError(
            f"no {data} under data_path {folder}{missing}: expected {' and '.join(wanted)}, or the "
            f"same with .gz, in one of {where}. `dynamos --download` fetches it."
        )
    return files


def opened(path: Path) -> BinaryIO:
    """Return an open file of bytes, unpacked if its name ends in .gz."""
    return cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else path.open("rb"))


def download(data: str, folder: Path, fetch: Callable[[Any], object]) -> None:
    """Let torchvision download a data set; raise RunError with the reason if it fails."""
    datasets = torchvision()
    try:
        fetch(datasets)
    # torchvision raises these for a missing network, a wrong checksum (RuntimeError) and a broken
    # archive.
    except (OSError, RuntimeError, EOFError, HTTPException, zlib.error) as error:
        raise RunError(
            f"downloading {data} to {folder} failed: {type(error).__name__}: {error}. Without "
            "a network, copy the files there yourself."
        ) from error


def torchvision() -> Any:
    """Return torchvision.datasets; raise UserError if it cannot be imported."""
    try:
        import torchvision.datasets
    # A torchvision built for another torch raises any of these.
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise UserError(
            "--download needs torchvision, which cannot be imported with torch "
            f"{version('torch')} ({error}). Install the matching torchvision from the same "
            "source, or copy the files to --data-path."
        ) from None
    return torchvision.datasets


def refuse_unpaired(path: Path, images: int, labels: int) -> None:
    """Raise UserError unless every image has a label."""
    if images != labels:
        raise UserError(f"{path} holds {images} images, but there are {labels} labels for them.")
