"""Standard output and error that end no work where they cannot be written: a full device, a pipe whose reader left."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Output:
    """A text stream that drops what cannot be written.

    Attributes:
        error: why it could not; None as long as all was.
    """

    def __init__(self, stream: Any) -> None:
        """Writes to a stream."""
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """The number of characters taken."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._drop(error)
        return len(text)

    def flush(self) -> None:
        """Writes what is still in the buffer."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self, error: OSError) -> None:
        """Has the rest, what is in the buffer too, go nowhere: Python would fail on it again at its end."""
        self.error = self.error or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def outputs() -> Iterator[tuple[Output, Output]]:
    """While it lasts, standard output and error are such streams."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the shell: the next file opened would get its number
            setattr(sys, name, open(os.devnull, mode))
    before = sys.stdout, sys.stderr
    made = Output(sys.stdout), Output(sys.stderr)
    sys.stdout, sys.stderr = made
    try:
        yield made
    finally:
        for output in made:
            output.flush()
        sys.stdout, sys.stderr = before
