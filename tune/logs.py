"""LogFile: a log that a full disk does not turn into tracebacks on the screen."""

import logging
from contextlib import suppress
from pathlib import Path


class LogFile(logging.FileHandler):
    """A file made with its first line; lines that cannot be written are dropped: whatever follows from it is said."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, delay=True)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing; the default prints a traceback."""

    def close(self) -> None:
        """Closes the file, whether or not what is left can be written."""
        with suppress(OSError):
            super().close()
