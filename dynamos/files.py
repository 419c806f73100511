"""Files that are whole or not there, on a disk or in an object store."""

import os
import uuid
from pathlib import Path

from upath import UPath

from dynamos.errors import UserError, unknown

AnyPath = Path | UPath  # on this machine's disks, or in an object store; what the code uses of it is in both
STORES = {"s3": "'.[s3]'", "gs": "gcsfs", "az": "adlfs"}  # by scheme, what pip has to install
TEMPORARY = ".tmp"  # suffix of a file that is being written


def local_path(text: str | Path) -> Path:
    """The path on this machine's disks that a text names, absolute; UserError if unusable."""
    try:
        path = Path(text).expanduser().resolve()
        str(path).encode()
        return path
    except UnicodeEncodeError:  # of which no JSON and no YAML can be made
        raise UserError(f"{str(text)!r} is not UTF-8.") from None
    except (RuntimeError, ValueError) as error:  # ~somebody who is not there; links in a circle; a null character
        raise UserError(f"{str(text)!r} is no path: {error}.") from None


def any_path(text: str) -> AnyPath:
    """The path that a text names, absolute, or the place in an object store whose URL it is; UserError if unusable."""
    scheme, separator, _ = text.partition("://")
    if not separator:
        return local_path(text)
    if scheme not in STORES:
        raise unknown("kind of object store", scheme, STORES).within(text)
    try:
        # Others write there, too: a remembered listing would hide it.
        path = UPath(text, use_listings_cache=False)
        # A bucket that cannot be listed passes for missing, so a file is asked for first: its error says more.
        there = (path / "sweep.yaml").exists() or path.fs.exists(path.drive)
    except ImportError:
        raise UserError(f"{text} needs a package that is not installed: pip install {STORES[scheme]}") from None
    except Exception as error:  # whatever the store's own package raises: credentials, rights, the network
        raise UserError(f"{text} cannot be used: {error}") from error
    if not (path.drive and there):
        raise UserError(f"{text}: there is no bucket {path.drive!r}.")
    return path


def write_whole(path: AnyPath, content: bytes | str, new: bool = False) -> AnyPath:
    """`path`, once `content` has replaced whatever it held; a kill at any point leaves the old file or the new.

    With `new`, on a disk alone, FileExistsError where there is a file: of several writers only the first gets through.
    """
    data = content.encode() if isinstance(content, str) else content
    if not isinstance(path, Path):
        assert not new
        path.fs.pipe_file(path.path, data)  # which a store takes whole or not at all
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # No two writers of one file share a temporary name, on whatever machines they are.
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
    """The renaming itself reaches the disk only with its folder; not every system can open one."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
