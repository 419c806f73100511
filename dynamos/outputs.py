"""Standard output and error that survive failures: a full device, a closed pipe."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class SafeOutput:
    """A text stream that drops text after its first failure to write.

    Attributes:
        error: the first failure; None if nothing failed.
    """

    def __init__(self, stream: Any) -> None:
        """Wrap a text stream."""
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write or drop a text; return its number of characters."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._drop(error)
        return len(text)

    def flush(self) -> None:
        """Write or drop the rest of the buffer."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self, error: OSError) -> None:
        """Redirect the stream, its buffer included, to os.devnull.

        Otherwise Python would fail on it again at exit.
        """
        self.error = self.error or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def outputs() -> Iterator[tuple[SafeOutput, SafeOutput]]:
    """Wrap standard output and error in SafeOutput while the context lasts.

    At its end both are flushed and restored.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        # The shell has closed the stream: the next file opened would get its number.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))
    before = sys.stdout, sys.stderr
    made = SafeOutput(sys.stdout), SafeOutput(sys.stderr)
    sys.stdout, sys.stderr = made
    try:
        yield made
    finally:
        for output in made:
            output.flush()
        sys.stdout, sys.stderr = before
