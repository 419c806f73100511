"""Processes with a time limit."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL


def run(command: Sequence[str], log: Path, seconds: float) -> str | None:
    """Run a command and return why it failed, in one line; None if it did not.

    Args:
        command: program and arguments.
        log: file for its output.
        seconds: after these, it and the processes that it started are killed.
    """
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = child.wait(max(seconds, 0.1))
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.3g} s"
        finally:
            _end(child)
    if status == 0:
        return None
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"exit status {status}" + (f": {lines[-1][:300]}" if lines else "")


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End the processes of a command's group."""
    until = time.monotonic() + GRACE_SECONDS
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        while time.monotonic() < until:
            child.poll()  # so that an ended command is not counted as alive
            os.killpg(child.pid, 0)
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
