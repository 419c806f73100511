"""The state of a driver for its parent process: lines of JSON among the output."""

import json
import os
from contextlib import suppress
from typing import Any

ASKED_FOR = (
    "DYNAMOS_STATUS"  # environment variable of a driver whose parent process reads these lines
)
_MARK = "dynamos-sweep-status: "
BEGAN = {"began": True}


def tell(state: dict[str, Any]) -> None:
    """Print a state if the parent process asks for it."""
    if os.environ.get(ASKED_FOR):
        with suppress(OSError):  # a full disk ends no sweep
            print(_MARK + json.dumps(state), flush=True)


def tell_error(text: str) -> None:
    """Print the reason why a command ended on purpose; a second try would end the same way."""
    tell({"error": text})


def began(output: str) -> bool:
    """True if a driver's first trials have started."""
    return BEGAN in _told(output)


def error(output: str) -> str | None:
    """The reason why a driver ended on purpose; None if it did not."""
    return next((state["error"] for state in reversed(_told(output)) if "error" in state), None)


def for_people(output: str) -> str:
    """A driver's output without its states."""
    return "".join(line for line in output.splitlines(keepends=True) if not line.startswith(_MARK))


def _told(output: str) -> list[dict[str, Any]]:
    lines = output.split("\n")[:-1]  # the text after the last newline is still being written
    return [json.loads(line.removeprefix(_MARK)) for line in lines if line.startswith(_MARK)]
