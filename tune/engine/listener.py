"""Listeners to a running sweep: the interface, and one that does nothing."""

from collections.abc import Callable
from typing import Protocol

from results.trial import TrialRecord


class Listener(Protocol):
    """Receiver of run_sweep's events; entered before Ray starts, left when the sweep has ended."""

    def __enter__(self) -> object:
        """Begin a session."""

    def __exit__(self, *_: object) -> None:
        """End the session."""

    def begin(self, slots: Callable[[], int]) -> None:
        """Receive the start of the trials; `slots` returns how many can run at a time now."""

    def note(self, text: str) -> None:
        """Receive a description of the present activity."""

    def say(self, line: str) -> None:
        """Receive a line of text for the user."""

    def __call__(self, trial: TrialRecord) -> None:
        """Receive a trial that has changed."""


class Silent:
    """A listener that does nothing."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, slots: Callable[[], int]) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def say(self, line: str) -> None:
        """Do nothing."""

    def __call__(self, trial: TrialRecord) -> None:
        """Do nothing."""
