"""Exceptions of Dynamos.

A message names the fault, the value, the allowed values and the nearest right name.
"""

import difflib
import shlex
from collections.abc import Iterable

SHOWN_NAMES = 60  # number of allowed names that a message lists at most


class DynamosError(Exception):
    """Base of every error raised on purpose; a command line prints it as one line."""


class UserError(DynamosError):
    """Bad input: a flag, a field, a file. Exit status 2.

    Attributes:
        near: the allowed name most like the one given, if the fault is an unknown name; else None.
    """

    def __init__(self, message: str, near: str | None = None) -> None:
        super().__init__(message)
        self.near = near

    def within(self, where: str) -> "UserError":
        """Return the same error with the place of the fault before its message."""
        return UserError(f"{where}: {self}", self.near)


class RunError(DynamosError):
    """A run failed although its input is well-formed. Exit status 1."""


class TestImagesLocked(DynamosError):
    """Code inside a sweep tried to read test images."""

    __test__ = False  # the name starts with "Test", which pytest would collect


class NonFiniteError(RunError):
    """Loss, logits or parameters became NaN or infinite; `place` names the task and the step."""

    def __init__(self, place: str, config: dict[str, object]) -> None:
        super().__init__(f"{place}, with {config}")
        self.place = place


class CheckpointError(RunError):
    """A folder has no readable checkpoint."""


def command_line(*words: object) -> str:
    """Return a command to type, its words quoted for a shell."""
    return shlex.join(map(str, words))


def unknown(what: str, name: object, allowed: Iterable[str], more: str = "") -> UserError:
    """Return the error for a name that is not in `allowed`.

    Its message names the nearest allowed name and ends with `more`.
    """
    names = list(allowed)
    near = nearest(name, names)
    hint = "" if near is None else f" Did you mean '{near}'?"
    shown = ", ".join(names[:SHOWN_NAMES]) + (", and more" if len(names) > SHOWN_NAMES else "")
    rest = f"Allowed: {shown}." if names else "There is none."
    return UserError(f"unknown {what} {name!r}.{hint} {rest}{more}", near)


def nearest(name: object, allowed: Iterable[str]) -> str | None:
    """Return the allowed name most similar to `name`; None if none is similar."""
    return next(iter(difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.4)), None)
