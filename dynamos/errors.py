"""The one exception family: what was wrong, the value, what is allowed, the nearest right name."""

import difflib
import shlex
from collections.abc import Iterable

SHOWN_NAMES = 60  # of those allowed


class DynamosError(Exception):
    """Base of every error raised on purpose; a command line prints it as one line."""


class UserError(DynamosError):
    """Bad input: a flag, a field, a file. Exit status 2.

    Attributes:
        near: the right name that is most like the one given, where a name is what is wrong.
    """

    def __init__(self, message: str, near: str | None = None) -> None:
        super().__init__(message)
        self.near = near

    def within(self, where: str) -> "UserError":
        """The same error, its message after the place it is about."""
        return UserError(f"{where}: {self}", self.near)


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


def command_line(*words: object) -> str:
    """A command to type, its words quoted for a shell."""
    return shlex.join(map(str, words))


def unknown(what: str, name: object, allowed: Iterable[str], more: str = "") -> UserError:
    """The error for a name that is not among `allowed`, with the nearest one that is; `more` ends its message."""
    names = list(allowed)
    near = nearest(name, names)
    hint = "" if near is None else f" Did you mean '{near}'?"
    shown = ", ".join(names[:SHOWN_NAMES]) + (", and more" if len(names) > SHOWN_NAMES else "")
    return UserError(f"unknown {what} {name!r}.{hint} Allowed: {shown}.{more}", near)


def nearest(name: object, allowed: Iterable[str]) -> str | None:
    """The allowed name that is most like one that is not; None where none is like it."""
    return next(iter(difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.4)), None)
