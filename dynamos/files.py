"""Paths and atomic writes, on a disk or in an object store."""

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from dynamos.errors import UserError, unknown

# on this machine's disks, or in an object store; the code uses only methods that both have
if TYPE_CHECKING:
    from upath import UPath

    AnyPath = Path | UPath
else:  # UPath takes longer to import than a small command takes
    AnyPath = Path
STORES = {"s3": "'.[s3]'", "gs": "gcsfs", "az": "adlfs"}  # pip requirement of each scheme
TEMPORARY = ".tmp"  # suffix of a file that is being written


def local_path(text: str | Path) -> Path:
    """Return the absolute path on this machine that a text names; raise UserError if it is none."""
    try:
        path = Path(text).expanduser().resolve()
        str(path).encode()
        return path
    except UnicodeEncodeError:  # JSON and YAML cannot hold it
        raise UserError(f"{str(text)!r} is not UTF-8.") from None
    except (RuntimeError, ValueError) as error:
        # ~ with an unknown user; links in a circle; a null character
        raise UserError(f"{str(text)!r} is not a path: {error}.") from None


def any_path(text: str) -> AnyPath:
    """Return the absolute path that a text names, or the object store's path of a URL.

    Raises UserError if it cannot be used.
    """
    scheme, separator, _ = text.partition("://")
    if not separator:
        return local_path(text)
    if scheme not in STORES:
        raise unknown("kind of object store", scheme, STORES).within(text)
    from upath import UPath

    try:
        # Other processes write there, too: a cached listing would hide their files.
        path = UPath(text, use_listings_cache=False)
        # A bucket that cannot be listed looks missing, so a file is tried first: its error says
        # more.
        there = (path / "sweep.yaml").exists() or path.fs.exists(path.drive)
    except ImportError:
        raise UserError(
            f"{text} needs a package that is not installed: pip install {STORES[scheme]}"
        ) from None
    except Exception as error:
        # the store's package raises many types: credentials, rights, the network
        raise UserError(f"{text} cannot be used: {error}") from error
    if not (path.drive and there):
        raise UserError(f"{text}: no bucket is named {path.drive!r}.")
    return path


def write_whole(path: AnyPath, content: bytes | str, new: bool = False) -> AnyPath:
    """Write `content` to `path` atomically and return the path.

    A kill at any point leaves the old file or the new.

    With `new`, which works on a disk only, it raises FileExistsError if the file exists, so that
    only the first of several writers succeeds.
    """
    data = content.encode() if isinstance(content, str) else content
    if not isinstance(path, Path):
        assert not new
        path.fs.pipe_file(path.path, data)  # a store writes an object whole or not at all
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two writers of one file never share a temporary name, even on different machines.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if new:
            path.hardlink_to(temporary)
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return path


def _sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that a renaming in it survives a crash of the machine.

    Does nothing on a system that cannot open folders.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
