"""Starts the drivers of sweeps, each a separate process or job, which outlives the service."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from dynamos.errors import DynamosError
from dynamos.files import AnyPath
from tune.client import TOKEN
from tune.engine.logs import tail
from tune.machines import status
from tune.machines.address import is_server


class Drivers:
    """The drivers that this service has started; all others are known from the ledgers."""

    def __init__(self, storage: AnyPath, address: str | None) -> None:
        """`address` is that of a cluster or its job server; with None drivers use this machine."""
        self._storage, self._address = storage, address
        self._running: dict[str, subprocess.Popen[bytes] | threading.Thread] = {}
        # drivers that a sweep had before its newest was started
        self._sessions: dict[str, int] = {}
        self._errors: dict[str, str] = {}  # of drivers that were submitted

    @property
    def cluster(self) -> str | None:
        """The address of the cluster or its job server; None for this machine only."""
        return self._address

    def start(self, command: str, name: str, flags: Sequence[str], sessions: int) -> None:
        """Start `dynamos-sweep COMMAND NAME FLAGS` for a sweep that had N drivers before.

        Returns at once.
        """
        arguments = [command, name, "--storage", str(self._storage), *flags]
        self._sessions[name] = sessions
        if self._address is not None and is_server(self._address):
            self._errors.pop(name, None)
            self._running[name] = thread = threading.Thread(
                target=self._submit, args=(name, arguments), daemon=True
            )
            thread.start()
            return
        address = [] if self._address is None else ["--address", self._address]
        log_file = self._log(name, sessions + 1)
        assert isinstance(log_file, Path)  # drivers of sweeps in an object store are submitted
        with log_file.open("wb") as log:
            # A separate session: signals to the service do not reach it. -P: nothing in the folder
            # where the service was started is taken for a module.
            self._running[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", "tune.cli", *arguments, *address],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_environment(),
            )

    def done(self, *arguments: str) -> str | None:
        """Run `dynamos-sweep ARGUMENTS` on the storage to its end.

        Returns the reason of a failure, or None.
        """
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "tune.cli", *arguments, "--storage", str(self._storage)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env=_environment(),
        )
        return (
            None
            if ended.returncode == 0
            else status.error(ended.stdout) or f"status {ended.returncode}"
        )

    def alive(self, name: str) -> bool:
        """True if a driver that this service has started is alive, or is still being submitted."""
        running = self._running.get(name)
        return running is not None and (
            running.is_alive() if isinstance(running, threading.Thread) else running.poll() is None
        )

    def starting(self, name: str, sessions: int) -> bool:
        """True if a driver of this service has not yet taken over its sweep.

        `sessions` is the number of drivers that the sweep has had.
        """
        return self.alive(name) and self._sessions[name] == sessions

    def error(self, name: str, sessions: int) -> str | None:
        """The reason why the last of a sweep's `sessions` drivers failed.

        Returns None if this service did not start it, or if it gave no reason.
        """
        if name in self._errors:
            return self._errors[name]
        # If a driver ends before it takes the sweep over, the next one gets the same number.
        last = next(
            (
                log
                for number in (sessions + 1, sessions)
                if (log := self._log(name, number)).is_file()
            ),
            None,
        )
        return None if last is None else status.error(tail(last))

    def _log(self, name: str, number: int) -> AnyPath:
        """The log of a sweep's driver of a number, from 1."""
        return self._storage / name / f"driver-{number}.log"

    def _submit(self, name: str, arguments: list[str]) -> None:
        from tune.machines.jobs import Jobs

        try:
            Jobs(str(self._address)).started([*arguments, "--address", "auto"], name)
        except DynamosError as error:
            self._errors[name] = str(error)


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != TOKEN} | {
        status.ASKED_FOR: "1"
    }
