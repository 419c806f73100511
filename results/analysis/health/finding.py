"""Finding of a health check."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from results.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Finding:
    """A trait of a sweep that weakens its answer.

    Attributes:
        text: the trait, in sentences.
        next_step: what to do about it, in a sentence; `name` marks a field, which the command
            line shows as its flag.
    """

    text: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.text} Next: {self.next_step}"


# A check yields its findings, none if all is well.
Check = Callable[[Sweep], Iterator[Finding]]
