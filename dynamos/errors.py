"""The one exception family: what was wrong, the value, what is allowed, the nearest right name."""

import difflib
import re
from collections.abc import Iterable


class DynamosError(Exception):
    """Base of every error raised on purpose; a command line prints it as one line."""


class UserError(DynamosError):
    """Bad input: a flag, a field, a file. Exit status 2."""


class RunError(DynamosError):
    """A run that could not go on, through no fault of its input's form. Exit status 1."""


class TestImagesLocked(DynamosError):
    """Code that runs inside a sweep asked for test images."""

    __test__ = False  # the name starts with "Test", which pytest would collect


class NonFiniteError(RunError):
    """Logits or parameters became NaN or infinite; `place` says in which task and step."""

    def __init__(self, place: str, config: dict[str, object]) -> None:
        super().__init__(f"{place}, with {config}")
        self.place = place


class CheckpointError(RunError):
    """No readable checkpoint where one was asked for."""


def unknown(what: str, name: object, allowed: Iterable[str]) -> str:
    """Message for a name that is not among `allowed`, with the nearest one that is."""
    names = list(allowed)
    near = nearest(name, names)
    hint = "" if near is None else f" Did you mean '{near}'?"
    return f"unknown {what} {name!r}.{hint} Allowed: {', '.join(names)}."


def hinted(message: str) -> str | None:
    """The name that a message of `unknown` hints at, if it has a hint."""
    match = re.search(r"Did you mean '([^']*)'\?", message)
    return None if match is None else match[1]


def nearest(name: object, allowed: Iterable[str]) -> str | None:
    """The allowed name that is most like one that is not; None where none is like it."""
    return next(iter(difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.4)), None)
