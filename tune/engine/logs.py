"""Logs that a full disk or a store that is away does not turn into tracebacks on the screen."""

import logging
from contextlib import suppress
from pathlib import Path

from upath import UPath

from dynamos.files import AnyPath, write_whole

TAIL_BYTES = 20_000


def log_file(path: AnyPath) -> logging.Handler:
    """A file made with its first line; lines that cannot be written are dropped: whatever follows from it is said."""
    handler = LogFile(path, delay=True) if isinstance(path, Path) else LogObject(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


def tail(path: AnyPath) -> str:
    """The last TAIL_BYTES of a text file; "" where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        return bytes(file.read()).decode(errors="replace")


class LogFile(logging.FileHandler):
    """One on a disk."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing; the default prints a traceback."""

    def close(self) -> None:
        """Closes the file, whether or not what is left can be written."""
        with suppress(OSError):
            super().close()


class LogObject(logging.Handler):
    """One in an object store, put anew with each line: nothing can be added to it there, and lines are few."""

    def __init__(self, path: UPath) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Adds a line."""
        try:
            before = self._path.read_text() if self._path.exists() else ""
            write_whole(self._path, f"{before}{self.format(record)}\n")
        except Exception:  # whatever the store's package raises; what every handler of logging does with it
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing; the default prints a traceback."""
