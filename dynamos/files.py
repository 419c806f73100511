"""Files that are whole or not there: written under a temporary name, synchronised, renamed."""

import os
from pathlib import Path

TEMPORARY = ".tmp"  # suffix of a file that is being written


def write_whole(path: Path, content: bytes | str) -> Path:
    """`path`, once `content` has replaced whatever it held; a kill at any point leaves the old file or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id keeps two writers of one file from sharing a temporary name.
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
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
