"""The process that mirrors a sweep to MLflow while it runs, and the driver's handle on it."""

import atexit
import logging
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from dynamos.files import AnyPath
from results.ledger.ledger import Ledger
from tune.tracking.mirror import Mirror
from tune.tracking.store import error_line

LOOK_SECONDS = 1.0  # between two reads of the ledger
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 2.0, 30.0  # before another attempt, growing
CLOSING_PAUSE_SECONDS = 1.0  # the same while the sweep waits for the end


class LiveMirror:
    """Mirrors a running sweep from a separate process, which only reads the ledger.

    So a slow or dead server delays nothing. The driver need not load MLflow, which would take a
    third of its memory.
    """

    def __init__(self, ledger: Ledger, uri: str) -> None:
        """Make the process; nothing waits for a server."""
        context = get_context("spawn")
        self._pipe, its_end = context.Pipe()
        # without a lock, which a killed process might never release
        self._answered_at = context.RawValue("d", time.monotonic())
        self._process = context.Process(
            target=follow, name="mlflow", args=(its_end, self._answered_at, ledger.folder, uri)
        )
        self._its_end = its_end
        self._error: str | None = None

    def start(self) -> None:
        """Start the process, if it has not been started.

        It imports for seconds, which the first trials need to start.
        """
        if self._process.pid is not None:
            return
        with _signals_held_back():
            self._process.start()
        self._its_end.close()
        atexit.register(self._process.kill)  # Python waits for its children before it ends

    @property
    def error(self) -> str | None:
        """The reason why MLflow is behind the ledger, in one line; None if it is not."""
        with suppress(EOFError, OSError):
            while self._pipe.poll():
                self._error = self._pipe.recv()
        return self._error

    def close(self, patience_seconds: float = 20) -> None:
        """Let the process send the rest and compare everything, and end it.

        Gives up after `patience_seconds` without an answer of MLflow.
        """
        self.start()
        closed_at = time.monotonic()
        with suppress(OSError):  # it has died
            self._pipe.send(closed_at + patience_seconds)
        while self._process.is_alive():
            left = max(self._answered_at.value, closed_at) + patience_seconds - time.monotonic()
            if left <= 0:
                break
            self._process.join(left)
        status = self._process.exitcode
        self._process.kill()
        self._process.join()
        atexit.unregister(self._process.kill)
        if status != 0:
            self._error = self.error or (
                f"no answer for {patience_seconds:g} s"
                if status is None
                else f"the mirror's process ended with status {status}"
            )


def follow(pipe: Connection, answered_at: Any, folder: AnyPath, uri: str) -> None:
    """Mirror a sweep until the driver announces the end or is gone.

    It starts with a whole comparison, then sends each trial that changes. After a failure it tries
    again with a whole comparison, which catches up; and it ends with one.

    Args:
        pipe: delivers, once, the time at which to give up, on the clock of time.monotonic(); takes,
            at each change, the error that keeps MLflow behind the ledger, in one line, or None.
        answered_at: its `value` is kept at the time of MLflow's last answer.
        folder: the sweep's folder.
        uri: the server or store for its runs.
    """
    logging.getLogger("results").setLevel(logging.ERROR)  # the driver warns of faults in the ledger
    driver, mirror, pause, give_up_at = _Driver(pipe), None, FIRST_PAUSE_SECONDS, math.inf
    with suppress(_DriverGone):  # the next mirror repairs the rest
        while True:
            try:
                mirror = mirror or Mirror(Ledger.open(folder.parent, folder.name), uri, answered_at)
                mirror.sync()
                driver.say(None)
                pause = FIRST_PAUSE_SECONDS
                if give_up_at < math.inf:
                    return
                while (told := driver.told(LOOK_SECONDS)) is None:
                    mirror.sync_changes()
                give_up_at = told
            except _DriverGone:
                raise
            except Exception as error:
                # whatever the store or the network raised: the ledger keeps the facts
                driver.say(error_line(error))
                if give_up_at < math.inf:
                    time.sleep(CLOSING_PAUSE_SECONDS)
                else:
                    give_up_at = driver.told(pause) or math.inf
                if time.monotonic() >= give_up_at:
                    sys.exit(1)
                pause = min(2 * pause, LAST_PAUSE_SECONDS)


class _DriverGone(Exception):
    """The driver has left the other end of the pipe."""


class _Driver:
    """The driver, as a mirror's process sees it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._said: str | None = None

    def say(self, error: str | None) -> None:
        """Send the driver an error if it has changed; waiting ones would fill the pipe."""
        if error != self._said:
            self._said = error
            with _gone_at_its_end():
                self._pipe.send(error)

    def told(self, seconds: float) -> float | None:
        """Wait for the time at which to give up; None if the driver sends none."""
        with _gone_at_its_end():
            return self._pipe.recv() if self._pipe.poll(seconds) else None


@contextmanager
def _gone_at_its_end() -> Iterator[None]:
    """Turn an error of the pipe into _DriverGone, so that it differs from an error of a store."""
    try:
        yield
    except (EOFError, OSError) as error:
        raise _DriverGone from error


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM from a process started in the block: its driver ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
