"""Logs that print no traceback if a disk is full or a store is unreachable."""

import logging
from contextlib import suppress
from pathlib import Path

from upath import UPath

from dynamos.files import AnyPath, write_whole

TAIL_BYTES = 20_000


def log_file(path: AnyPath) -> logging.Handler:
    """Return a handler that creates its file at the first line and drops lines it cannot write."""
    handler = LogFile(path, delay=True) if isinstance(path, Path) else LogObject(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


def tail(path: AnyPath) -> str:
    """The last TAIL_BYTES of a text file; "" if it does not exist."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        return bytes(file.read()).decode(errors="replace")


class LogFile(logging.FileHandler):
    """A log on a disk."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing; the default prints a traceback."""

    def close(self) -> None:
        """Close the file, even if its last lines cannot be written."""
        with suppress(OSError):
            super().close()


class LogObject(logging.Handler):
    """A log in an object store, rewritten with each line, since objects cannot grow."""

    def __init__(self, path: UPath) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Add a line."""
        try:
            before = self._path.read_text() if self._path.exists() else ""
            write_whole(self._path, f"{before}{self.format(record)}\n")
        except Exception:  # whatever the store's package raises, as in every handler of logging
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing; the default prints a traceback."""
