"""A field of a configuration class, described once: its meaning, group, range and flag."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from dynamos.errors import UserError, unknown

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


@dataclass(frozen=True)
class Range:
    """The numbers from low to high; with `open_low`, low itself is not allowed."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        return (value > self.low if self.open_low else value >= self.low) and value <= self.high

    def __str__(self) -> str:
        low, high = f"{self.low:.10g}", f"{self.high:.10g}"
        if math.isinf(self.high):
            return f"greater than {low}" if self.open_low else f"at least {low}"
        if math.isinf(self.low):
            return f"at most {high}"
        return f"{'above' if self.open_low else 'from'} {low} to {high}"


POSITIVE = Range(0, open_low=True)
NOT_NEGATIVE = Range(0)
AT_LEAST_ONE = Range(1, 10**14)  # more than any memory holds, and torch can still count its bytes
SEEDS = Range(0, 2**63 - 1)  # torch takes no larger seed


@dataclass(frozen=True, slots=True)
class Setting:
    """The description of a field.

    Attributes:
        name: the field's name.
        kind: the type of its values.
        optional: whether it may be None.
        default: its default.
        group: the part of a form or of `--help` that shows it.
        help: its meaning, in a phrase.
        allowed: the range or the names that are allowed; None for any value of its type.
        label: its name in a form; "" for a field that forms show by `name`.
        flag: its flag, without dashes; None for a field without a flag, and in TrainConfig, where
            each flag is `name` with dashes for underscores.
        metavar: the value's name in `--help`.
        session: whether it may change from one session of a sweep to the next.
        unit: the unit of its values, "s" or "".
    """

    name: str
    kind: type
    optional: bool
    default: Any
    group: str
    help: str
    allowed: Range | tuple[str, ...] | None = None
    label: str = ""
    flag: str | None = None
    metavar: str | None = None
    session: bool = False
    unit: str = ""

    def typed(self, value: Any, shown: str | None = None) -> Any:
        """Return the value in the field's type.

        Raises UserError, with `shown` as the field's name, if it has another type. A number of
        numpy, pandas or torch becomes a number of Python. A float such as 8.0 becomes 8 in a field
        of whole numbers.
        """
        value, name = plain(value), shown or self.name
        if value is None and self.optional:
            return None
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            try:
                value = float(value)
            except OverflowError:
                raise UserError(f"{name} {value} is too large.") from None
        if self.kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, self.kind) or (self.kind is not bool and isinstance(value, bool)):
            raise UserError(f"{name} {value!r} is not {_WORDS[self.kind]}.")
        if type(value) is not self.kind:  # a member of an enum, which makes a checkpoint unreadable
            return str.__str__(value) if self.kind is str else self.kind(value)
        return value

    def within(self, value: Any, shown: str | None = None) -> Any:
        """Return a value of the field's type; raise UserError if it is not allowed."""
        name = shown or self.name
        if isinstance(self.allowed, tuple) and value not in self.allowed:
            raise unknown(name, value, self.allowed)
        if self.kind is float and value is not None and not math.isfinite(value):
            raise UserError(f"{name} {value} is not a finite number.")
        if isinstance(self.allowed, Range) and value is not None and value not in self.allowed:
            number = f"{value:g}{self.unit}" if shown else value
            raise UserError(f"{name} {number} is out of range; it must be {self.allowed}.")
        return value


def setting(
    default: Any,
    group: str,
    help: str,
    allowed: Range | tuple[str, ...] | None = None,
    *,
    label: str = "",
    flag: str | None = None,
    metavar: str | None = None,
    session: bool = False,
    unit: str = "",
) -> Any:
    """Return a dataclass field with a description (Setting).

    MISSING as the default makes it required.
    """
    about = {
        "group": group,
        "help": help,
        "allowed": allowed,
        "label": label,
        "flag": flag,
        "metavar": metavar,
        "session": session,
        "unit": unit,
    }
    return dataclasses.field(default=default, metadata=about)


@cache
def settings(config: type) -> dict[str, Setting]:
    """Return the described fields of a configuration class, by name."""
    hints = typing.get_type_hints(config)
    return {
        f.name: Setting(f.name, *_kind(hints[f.name]), f.default, **f.metadata)
        for f in dataclasses.fields(config)
        if f.metadata
    }


def words(kind: type) -> str:
    """Return a type in words."""
    return _WORDS[kind]


def plain(value: Any) -> Any:
    """The value in plain Python types, as YAML and JSON need them.

    Numbers and arrays of numpy, pandas and torch are converted, inside containers too.
    """
    if isinstance(value, Mapping):
        return {plain(name): plain(one) for name, one in value.items()}
    if hasattr(value, "tolist"):  # an array, a Series, a tensor, or one number of theirs
        return value.tolist()
    if isinstance(value, list | tuple):
        return (
            [plain(one) for one in value] if isinstance(value, list) else tuple(map(plain, value))
        )
    return value


def _kind(hint: Any) -> tuple[type, bool]:
    """(type of a field's values, whether it may also be None)."""
    if isinstance(hint, types.UnionType):
        return next(t for t in typing.get_args(hint) if t is not types.NoneType), True
    return hint, False
