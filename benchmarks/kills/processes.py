"""Commands as real processes that are watched and killed."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PATIENCE_SECONDS = 600.0  # limit for a state to come
POLL_SECONDS = 0.05
PREFLIGHT = (" ", "here: ")  # beginnings of the lines of its table
# Ray's names for the process of a trial.
WORKER = re.compile(r"ray::(SweepTrial|_Inner|HostedTrial)")  # _Inner: under with_parameters
HOST = re.compile(r"ray::CohortHost")
MIRROR = re.compile(r".*spawn_main")  # of processes that Python spawns; it is the newest


def command(*arguments: str) -> list[str]:
    """The command line of `dynamos-sweep ARGUMENTS`."""
    return [
        sys.executable,
        "-c",
        "import sys; from tune.cli.main import main; sys.exit(main())",
        *arguments,
    ]


@dataclass(frozen=True)
class Ended:
    """Exit status and output of an ended command."""

    status: int | None  # None: it has not
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """Lines of stderr, without those of the display and without notes on the sweep's start."""
        own = ("sweep ", "trial ", "note: ", *PREFLIGHT)
        return [line for line in self.err.splitlines() if line and not line.startswith(own)]


class Session:
    """A command in a new session, with all processes that it starts; all are killed at the end."""

    def __init__(
        self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the command with the environment of this process and `environment`."""
        # Output goes to files: a pipe would stay open as long as any of the processes lives.
        self._out, self._err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            arguments,
            cwd=cwd,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
            env=os.environ | (environment or {}),
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._out.close()
        self._err.close()

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while the command runs."""
        return self._process.poll()

    @property
    def alive(self) -> bool:
        """True if the command itself has not ended."""
        return self.status is None

    def until(self, condition: Callable[[], bool], poll_seconds: float = POLL_SECONDS) -> None:
        """Wait until the condition holds; fail if the command ends before."""

        def seen() -> bool:
            if condition():
                return True
            assert self.alive, f"ended too early:\n{self._said()}"
            return False

        wait_for(seen, poll_seconds)

    def kill(self) -> None:
        """Kill the command and all processes that it has started."""
        # All are stopped first, because a stopped process cannot start another one.
        if self.alive:
            self.send(signal.SIGSTOP)
        told: set[int] = set()
        # A process that sleeps in the kernel stops before it does anything else. It may be waiting
        # for a child that was stopped.
        while running := [
            pid
            for pid, state in self._members().items()
            if state not in "TZ" and not (state == "D" and pid in told)
        ]:
            for pid in running:
                send(pid, signal.SIGSTOP)
                told.add(pid)
        for pid in self._members():
            send(pid, signal.SIGKILL)
        self._gone()

    def send(self, kind: signal.Signals) -> None:
        """Send a signal to the command only."""
        os.kill(self.pid, kind)

    def send_group(self, kind: signal.Signals) -> None:
        """Send a signal to the command's process group, as a terminal and `timeout` do."""
        os.killpg(self.pid, kind)

    def send_all(self, kind: signal.Signals) -> None:
        """Send a signal to every process of the session, as systemd and scancel do."""
        for pid in self._members():
            send(pid, kind)

    def end(self) -> Ended:
        """Wait until the command and all its processes end by themselves, and return its end."""
        self._process.wait(PATIENCE_SECONDS)
        self._gone()
        return self._said()

    def _said(self) -> Ended:
        texts = []
        for file in (self._out, self._err):
            file.flush()
            texts.append(os.pread(file.fileno(), 1 << 24, 0).decode())
        return Ended(self.status, *texts)

    def _members(self) -> dict[int, str]:
        """{process id: state} of the session's processes.

        With those that left it while their parents live.
        """
        lines = [
            (int(pid), int(parent), int(session), state)
            for pid, parent, session, state in _ps("pid,ppid,sid,state")
        ]
        found = {pid: state for pid, _, session, state in lines if session == self.pid}
        while more := {
            pid: state for pid, parent, _, state in lines if parent in found and pid not in found
        }:
            found |= more
        return {pid: state for pid, state in found.items() if state != "Z"}

    def _gone(self) -> None:
        wait_for(lambda: not self._members())
        self._process.wait(PATIENCE_SECONDS)


class Driver(Session):
    """A running `dynamos-sweep`."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        """Start the command."""
        super().__init__(command(*arguments), cwd)

    def workers(self) -> list[int]:
        """Process ids of the trials."""
        return self._named(WORKER)

    def hosts(self) -> list[int]:
        """Process ids of the workers that train several trials each."""
        return self._named(HOST)

    def mirrors(self) -> list[int]:
        """Process ids of the mirror to MLflow, once a trial has begun; it may have ended."""
        return self._named(MIRROR)[-1:]

    def _named(self, name: re.Pattern[str]) -> list[int]:
        lines = _ps("pid,sid,args")
        return [
            int(pid)
            for pid, session, args in lines
            if int(session) == self.pid and name.match(args)
        ]


def _ps(columns: str) -> list[list[str]]:
    """Rows of `ps` for every process."""
    out = subprocess.run(
        ["ps", "-wweo", ",".join(f"{c}=" for c in columns.split(","))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    count = columns.count(",")
    return [line.split(maxsplit=count) for line in out.splitlines()]


def send(pid: int, kind: signal.Signals) -> bool:
    """Send a signal; return True if the process exists."""
    try:
        os.kill(pid, kind)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: Callable[[], bool], poll_seconds: float = POLL_SECONDS) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(poll_seconds)


def sweep(*arguments: str, cwd: Path) -> Ended:
    """Run `dynamos-sweep` and return its end."""
    with Driver(*arguments, cwd=cwd) as driver:
        return driver.end()
