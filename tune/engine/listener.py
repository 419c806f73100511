"""What hears of a sweep while it runs: the command line's live table, or nobody."""

from collections.abc import Callable
from typing import Protocol

from results.trial import TrialRecord


class Listener(Protocol):
    """Told by run_sweep, which prints nothing itself; entered before Ray is started, left when the sweep has ended."""

    def __enter__(self) -> object:
        """A session begins."""

    def __exit__(self, *_: object) -> None:
        """It is over."""

    def begin(self, slots: Callable[[], int]) -> None:
        """Trials start from here on, as many at a time as `slots` gives at the moment."""

    def note(self, text: str) -> None:
        """Something goes on beside the trials, until the next note."""

    def say(self, line: str) -> None:
        """Something is known that is worth a line."""

    def __call__(self, trial: TrialRecord) -> None:
        """A trial has changed."""


class Silent:
    """A listener that does nothing."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, slots: Callable[[], int]) -> None:
        """Does nothing."""

    def note(self, text: str) -> None:
        """Does nothing."""

    def say(self, line: str) -> None:
        """Does nothing."""

    def __call__(self, trial: TrialRecord) -> None:
        """Does nothing."""
