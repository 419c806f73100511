"""SearchSpace: the searched fields of a sweep and their ranges, checked on reading."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Self

from optuna.distributions import BaseDistribution

from dynamos.config import checked, number_of_text, read_yaml
from dynamos.errors import UserError, unknown
from dynamos.fields import plain
from dynamos.files import local_path
from search_spaces.parameter import Parameter, parameter_of, refuse_unvaried, rounded
from search_spaces.rules import Rule, first_broken

# keys of a space in a file, with their meaning
KEYS = {
    "description": "a phrase, shown in forms",
    "parameters": "{field: range or choices}, the fields that vary",
    "fixed": "{field: value}, fields that every trial has at one value; it replaces the preset's",
    "forbid": "list of combinations that no trial may have, such as `lr > 0.1 and beta > 3`",
}
COUNTED = 10_000  # configurations of a finite space that are listed, to count those allowed


@dataclass(frozen=True)
class SearchSpace:
    """A named set of parameters, fields to which it gives one value, and what it forbids.

    Attributes:
        around: values of all fields in a sweep's base. Rules may name fields that are not
            searched, so only a space with `around` can tell which configurations it forbids.
    """

    name: str
    parameters: tuple[Parameter, ...]
    description: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict, hash=False)
    forbid: tuple[Rule, ...] = ()
    around: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_dict(cls, name: str, content: Mapping[str, Any]) -> Self:
        """Return the space of {description, parameters: {field: {low, high, log} or {choices}}}.

        Optionally `fixed`: {field: value} and `forbid`: [rule]. Raises UserError, which names the
        parameter, its value and the allowed values.
        """
        content = plain(content)
        for key in content:
            if key not in KEYS:
                raise unknown("key", key, KEYS).within(f"space {name}")
        given = content.get("parameters")
        if not isinstance(given, Mapping) or not given:
            raise UserError(
                f"space {name} has no parameters; it needs `parameters: {{field: {{low, high}}}}`."
            )
        parameters = tuple(parameter_of(name, field, spec) for field, spec in given.items())
        fixed = _fixed(name, content.get("fixed"), [*given])
        forbid = _forbid(name, content.get("forbid"), [*given])
        return cls(name, parameters, str(content.get("description", "")), fixed, forbid)

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that `from_dict` reads."""
        return {
            "description": self.description,
            "parameters": {p.name: p.spec() for p in self.parameters},
            **({"fixed": dict(self.fixed)} if self.fixed else {}),
            **({"forbid": [*map(str, self.forbid)]} if self.forbid else {}),
        }

    def refuse_other(self, name: str, value: Any) -> None:
        """Raise UserError if the space fixes a field at another value; None is no value."""
        if name in self.fixed and value is not None and value != self.fixed[name]:
            raise UserError(
                f"{name} {_text(value)}: the space {self.name} fixes {name} at "
                f"{_text(self.fixed[name])}; leave one of them out."
            )

    def __str__(self) -> str:
        searched = ", ".join(f"{p.name} {p}" for p in self.parameters)
        fixed = ", ".join(f"{name} {_text(value)}" for name, value in self.fixed.items())
        forbidden = "; ".join(map(str, self.forbid))
        return (
            searched
            + (f"; fixed: {fixed}" if fixed else "")
            + (f"; forbidden: {forbidden}" if forbidden else "")
        )

    def within(self, base: Mapping[str, Any]) -> Self:
        """Return the space in a sweep with this base."""
        return replace(self, around=dict(base))

    def forbids(self, config: Mapping[str, Any]) -> Rule | None:
        """Return the first rule that a configuration of the space breaks; None if none."""
        return first_broken(self.forbid, {**self.around, **config}) if self.forbid else None

    @property
    def notes(self) -> list[str]:
        """Sentences on choices that were given several times."""
        return [
            f"the space {self.name} lists the choice {value} of {p.name} more than once; it counts "
            "once."
            for p in self.parameters
            for value in p.repeated
        ]

    @cached_property
    def size(self) -> int | None:
        """Number of different configurations; of many, those that are forbidden count, too.

        Returns None if a range of real numbers makes them infinitely many.
        """
        values = [p.values for p in self.parameters]
        if None in values:
            return None
        size = math.prod(len(v) for v in values if v is not None)
        return len(self.listed) if self.forbid and size <= COUNTED else size

    @cached_property
    def listed(self) -> list[dict[str, Any]]:
        """Every configuration of a finite space that it does not forbid."""
        names = [p.name for p in self.parameters]
        every = (
            dict(zip(names, point, strict=True))
            for point in itertools.product(*(p.values or () for p in self.parameters))
        )
        return [config for config in every if self.forbids(config) is None]

    def key(self, config: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the space's values as a key that equal configurations share.

        5 equals 5.0, but 0.1000005 does not equal 0.1. Real numbers are compared to 12 significant
        digits, because a value's last digits change when its logarithm is taken and reversed.
        """
        return tuple(rounded(config[p.name]) for p in self.parameters)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the Optuna distributions by stored name."""
        return {p.stored_name: p.distribution() for p in self.parameters}

    def stored(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the space's fields of a configuration as the sampler sees them.

        Raises UserError for a value outside its range.
        """
        for p in self.parameters:
            if not p.admits(values[p.name]):
                raise UserError(
                    f"{p.name} {values[p.name]} lies outside the space {self.name}, which has {p}."
                )
        return {p.stored_name: p.stored(values[p.name]) for p in self.parameters}

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise UserError for a configuration outside a range, and for one that is forbidden."""
        self.stored(values)
        if (rule := self.forbids(values)) is not None:
            raise UserError(f"the space {self.name} forbids it: {rule}.")

    def holds(self, stored: Mapping[str, Any]) -> bool:
        """True if all of the given stored values lie in the space; some may be missing."""
        parameters = {p.stored_name: p for p in self.parameters}
        return all(
            name in parameters and parameters[name].admits(parameters[name].stored(value))
            for name, value in stored.items()
        )

    def real(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the field values of a sampler's stored values.

        Values not drawn yet are left out.
        """
        return {
            p.name: p.stored(stored[p.stored_name])
            for p in self.parameters
            if p.stored_name in stored
        }


def named_spaces() -> list[str]:
    """Names of the spaces that come with the package."""
    files = resources.files("search_spaces").iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def read_space(name: str) -> SearchSpace:
    """Read a named space, or the space in a YAML file."""
    if name in named_spaces():
        with resources.as_file(resources.files("search_spaces") / f"{name}.yaml") as path:
            return SearchSpace.from_dict(name, read_yaml(path))
    path = local_path(name)
    given = Path(name)  # names the space, even where it is a link
    if given.suffix in (".yaml", ".yml") or path.exists():
        return SearchSpace.from_dict(given.stem, read_yaml(path))
    raise unknown("space", name, named_spaces(), " The path of a YAML file is allowed too.")


def _forbid(space: str, given: Any, searched: list[str]) -> tuple[Rule, ...]:
    """The rules of `forbid`, parsed."""
    if given is None:
        return ()
    if not isinstance(given, list | tuple):
        raise UserError(
            f"space {space}: forbid {given!r} must be a list of rules, such as "
            "['lr > 0.1 and beta > 3']."
        )
    try:
        rules = tuple(map(Rule.parse, given))
    except UserError as error:
        raise error.within(f"space {space}") from None
    for rule in rules:
        if not set(rule.fields) & set(searched):
            raise UserError(
                f"space {space}: forbid {rule.text!r} names no field that the space searches; "
                f"these are {', '.join(searched)}."
            )
    return rules


def _text(value: Any) -> str:
    """A value as files and flags have it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _fixed(space: str, given: Any, searched: list[str]) -> dict[str, Any]:
    """The values of `fixed`, checked."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UserError(f"space {space}: fixed {given!r} must be a mapping, {{field: value}}.")
    for name in given:
        refuse_unvaried(space, name, "fixed")
        if name in searched:
            raise UserError(
                f"space {space} both searches {name} and fixes it; leave one of them out."
            )
    try:
        return {name: checked(name, number_of_text(name, value)) for name, value in given.items()}
    except UserError as error:
        raise error.within(f"space {space}: fixed") from None


def read_points(path: Path) -> tuple[dict[str, Any], ...]:
    """Read configurations from a YAML file.

    Its key `points` holds a list of mappings {searched field: value}; each may leave out fields.
    SweepConfig checks fields and values.
    """
    content = read_yaml(path)
    for key in content:
        if key != "points":
            raise unknown("key", key, ("points",)).within(str(path))
    points = content.get("points")
    if (
        not isinstance(points, list)
        or not points
        or not all(isinstance(point, dict) for point in points)
    ):
        raise UserError(f"{path} needs `points:`, a list of mappings of searched fields to values.")
    return tuple(
        {field: number_of_text(field, value) for field, value in point.items()} for point in points
    )
