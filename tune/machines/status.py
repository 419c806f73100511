"""What a driver tells the process that started it of its state: lines for programs, in JSON, among what it says."""

import json
import os
from contextlib import suppress
from typing import Any

ASKED_FOR = "DYNAMOS_STATUS"  # variable of the environment that a driver has whose starter reads such lines
_MARK = "dynamos-sweep-status: "
BEGAN = {"began": True}


def tell(state: dict[str, Any]) -> None:
    """Prints a state where somebody has asked for it."""
    if os.environ.get(ASKED_FOR):
        with suppress(OSError):  # a full disk ends no sweep
            print(_MARK + json.dumps(state), flush=True)


def tell_error(text: str) -> None:
    """Tells why a command ended on purpose; one that ends so would do it again."""
    tell({"error": text})


def began(output: str) -> bool:
    """Whether a driver's first trials have started."""
    return BEGAN in _told(output)


def error(output: str) -> str | None:
    """Why a driver ended on purpose; None where it did not, or not yet."""
    return next((state["error"] for state in reversed(_told(output)) if "error" in state), None)


def for_people(output: str) -> str:
    """What a driver said, without such lines."""
    return "".join(line for line in output.splitlines(keepends=True) if not line.startswith(_MARK))


def _told(output: str) -> list[dict[str, Any]]:
    lines = output.split("\n")[:-1]  # after the last end of a line comes one that is still being written
    return [json.loads(line.removeprefix(_MARK)) for line in lines if line.startswith(_MARK)]
