"""Axes of charts: the place of a searched field's values, and the ticks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from results.wording import number
from search_spaces.parameter import Parameter

TICKS = 5  # approximate number on a linear axis
_FACTORS = (1, 2, 5)
_DECADES = 3  # a longer logarithmic range has ticks at powers of ten only


@dataclass(frozen=True)
class Axis:
    """Axis of a searched field: its range, widened by values outside, or its choices.

    A logarithmic range has a logarithmic axis, also if its numbers are negative. A choice lies at
    its index.
    """

    parameter: Parameter
    values: tuple[Any, ...]  # of trials; another sweep's may lie outside the range

    @property
    def title(self) -> str:
        """The field, and whether its axis is logarithmic."""
        return self.parameter.name + (" (log)" if self.parameter.log else "")

    @cached_property
    def choices(self) -> list[Any] | None:
        """The choices in their order, then other values; None for a range."""
        given = self.parameter.choices
        return None if given is None else list(dict.fromkeys([*given, *self.values]))

    @cached_property
    def ends(self) -> tuple[float, float]:
        """The places at which the axis begins and ends."""
        if self.choices is not None:
            return 0.0, float(max(len(self.choices) - 1, 1))
        assert self.parameter.low is not None and self.parameter.high is not None
        values = [self.parameter.low, self.parameter.high, *self.values]
        return self.place(min(values)), self.place(max(values))

    def place(self, value: Any) -> float:
        """Return the place of a value on the axis."""
        if self.choices is not None:
            return float(self.choices.index(value))
        if not self.parameter.log:
            return float(value)
        return math.log10(value) if value > 0 else -math.log10(-value)

    def ticks(self) -> list[tuple[float, str]]:
        """Return the ticks of the axis, (place, text) each."""
        if self.choices is not None:
            return [(float(place), number(value)) for place, value in enumerate(self.choices)]
        low, high = self.ends
        if not self.parameter.log:
            whole = self.parameter.kind is int
            return [(value, f"{value:g}") for value in round_values(low, high, whole)]
        return [
            (place, f"{value:g}")
            for value in sorted(_round_logarithms(low, high, self.parameter.negated))
            if low - 1e-9 <= (place := self.place(value)) <= high + 1e-9
        ]


def round_values(low: float, high: float, whole: bool = False) -> list[float]:
    """Return about TICKS values from low to high, 1, 2 or 5 times a power of ten apart.

    With `whole`, they are whole numbers.
    """
    if low == high:
        return [low]
    raw = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (*_FACTORS, 10) if power * factor >= raw * (1 - 1e-9))
    if whole:
        step = max(step, 1.0)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _round_logarithms(low: float, high: float, negated: bool) -> Iterable[float]:
    """The values 1, 2 and 5 times powers of ten around an axis with these logarithms as ends."""
    low, high, sign = (-high, -low, -1) if negated else (low, high, 1)
    factors = _FACTORS if high - low <= _DECADES else (1,)
    return [
        sign * factor * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for factor in factors
    ]
