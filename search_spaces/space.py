"""SearchSpace: the searched fields of a sweep and their ranges, checked on reading."""

import itertools
import math
from collections.abc import Iterable, Mapping
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
from search_spaces.parameter import (
    Parameter,
    field_value,
    parameter_of,
    refuse_unvaried,
    rounded,
    value_text,
)
from search_spaces.rules import Rule, first_broken

# keys of a space in a file, with their meaning
KEYS = {
    "description": "a phrase, shown in forms",
    "parameters": "{field: range or choices}, the fields that vary",
    "fixed": "{field: value}, fields that every trial has at one value; it replaces the preset's",
    "forbid": "list of combinations that no trial may have, such as `lr > 0.1 and beta > 3`",
}
OF_A_CHANGE = ("since",)  # keys that a changed space has in sweep.yaml
COUNTED = 10_000  # configurations of a finite space that are listed, to count those allowed


@dataclass(frozen=True)
class SearchSpace:
    """A named set of parameters, fields to which it gives one value, and what it forbids.

    Attributes:
        since: the first trial of this space in a sweep whose space was changed, else 0.
        around: values of all fields in a sweep's base. Rules may name fields that are not
            searched, so only a space with `around` can tell which configurations it forbids.
    """

    name: str
    parameters: tuple[Parameter, ...]
    description: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict, hash=False)
    forbid: tuple[Rule, ...] = ()
    since: int = 0
    around: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_dict(cls, name: str, content: Mapping[str, Any]) -> Self:
        """Return the space of {description, parameters: {field: {low, high, log} or {choices}}}.

        Optionally `fixed`: {field: value} and `forbid`: [rule]. Raises UserError, which names the
        parameter, its value and the allowed values.
        """
        content = plain(content)
        for key in content:
            if key not in KEYS and key not in OF_A_CHANGE:
                raise unknown("key", key, KEYS).within(f"space {name}")
        given = content.get("parameters")
        if not isinstance(given, Mapping) or not given:
            raise UserError(
                f"space {name} has no parameters; it needs `parameters: {{field: {{low, high}}}}`."
            )
        parameters = tuple(parameter_of(name, field, spec) for field, spec in given.items())
        fixed = _fixed(name, content.get("fixed"), [*given])
        forbid = _forbid(name, content.get("forbid"), [*given])
        _check_conditions(name, parameters)
        since = int(content.get("since") or 0)
        return cls(name, parameters, str(content.get("description", "")), fixed, forbid, since)

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that `from_dict` reads."""
        return {
            "description": self.description,
            "parameters": {p.name: p.spec() for p in self.parameters},
            **({"fixed": dict(self.fixed)} if self.fixed else {}),
            **({"forbid": [*map(str, self.forbid)]} if self.forbid else {}),
            **({"since": self.since} if self.since else {}),
        }

    def refuse_other(self, name: str, value: Any) -> None:
        """Raise UserError if the space fixes a field at another value; None is no value."""
        if name in self.fixed and value is not None and value != self.fixed[name]:
            raise UserError(
                f"{name} {value_text(value)}: the space {self.name} fixes {name} at "
                f"{value_text(self.fixed[name])}; leave one of them out."
            )

    def __str__(self) -> str:
        searched = ", ".join(f"{p.name} {p}" for p in self.parameters)
        fixed = ", ".join(f"{name} {value_text(value)}" for name, value in self.fixed.items())
        forbidden = "; ".join(map(str, self.forbid))
        return (
            searched
            + (f"; fixed: {fixed}" if fixed else "")
            + (f"; forbidden: {forbidden}" if forbidden else "")
        )

    def within(self, base: Mapping[str, Any]) -> Self:
        """Return the space in a sweep with this base.

        Raises UserError for a hyperparameter that the base's method does not have.
        """
        varied = any(p.name == "model" for p in self.parameters)
        typed = tuple(p.within(self.name, base, varied) for p in self.parameters)
        return replace(self, around=dict(base), parameters=typed)

    def forbids(self, config: Mapping[str, Any]) -> Rule | None:
        """Return the first rule that a configuration of the space breaks; None if none."""
        if not self.forbid:
            return None
        return first_broken(self.forbid, {**self.around, **self.trimmed(config)})

    @cached_property
    def conditional(self) -> bool:
        """True if some parameters are not always active."""
        return any(p.when for p in self.parameters)

    @cached_property
    def parents_first(self) -> tuple[Parameter, ...]:
        """The parameters, each after those on which it depends."""
        names, done = {p.name: p for p in self.parameters}, dict[str, Parameter]()

        def visit(p: Parameter) -> None:
            for name, _ in p.when:
                if name in names and name not in done:
                    visit(names[name])
            done[p.name] = p

        for p in self.parameters:
            visit(p)
        return tuple(done.values())

    def active(self, config: Mapping[str, Any]) -> tuple[Parameter, ...]:
        """Return the parameters that a configuration has: those whose conditions it meets.

        A parameter is inactive if one on which it depends is inactive or has no value yet.
        """
        if not self.conditional:
            return self.parameters
        searched, on = {p.name for p in self.parameters}, set[str]()
        for p in self.parents_first:
            if all(
                (config[name] in values if name in config else False)
                if name in on
                else name not in searched and self.around.get(name) in values
                for name, values in p.when
            ):
                on.add(p.name)
        return tuple(p for p in self.parameters if p.name in on)

    def trimmed(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the active fields."""
        return {p.name: config[p.name] for p in self.active(config) if p.name in config}

    def whole(self, config: Mapping[str, Any]) -> bool:
        """True if a configuration has a value of every active field."""
        return all(p.name in config for p in self.active(config))

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
        counted = (self.forbid or self.conditional) and size <= COUNTED
        return len(self.listed) if counted else size

    @cached_property
    def listed(self) -> list[dict[str, Any]]:
        """Every configuration of a finite space that it does not forbid."""
        names = [p.name for p in self.parameters]
        every = (
            dict(zip(names, point, strict=True))
            for point in itertools.product(*(p.values or () for p in self.parameters))
        )
        return [c for c in self.different(every) if self.forbids(c) is None]

    def different(self, configs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return configurations without inactive fields, each once."""
        if not self.conditional:
            return [dict(config) for config in configs]
        return list({self.key(c): self.trimmed(c) for c in configs}.values())

    def key(self, config: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the space's active values as a key that equal configurations share.

        5 equals 5.0, but 0.1000005 does not equal 0.1. Real numbers are compared to 12 significant
        digits, because a value's last digits change when its logarithm is taken and reversed.
        """
        return tuple(rounded(config[p.name]) for p in self.active(config))

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the Optuna distributions by stored name."""
        return {p.stored_name: p.distribution() for p in self.parameters}

    def stored(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a configuration's active fields as they are stored.

        Raises UserError for a value outside its range.
        """
        active = self.active(values)
        for p in active:
            if not p.admits(values[p.name]):
                raise UserError(
                    f"{p.name} {values[p.name]} lies outside the space {self.name}, which has {p}."
                )
        return {p.stored_name: p.stored(values[p.name]) for p in active}

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise UserError for a configuration outside a range, and for one that is forbidden."""
        self.stored(values)
        if (rule := self.forbids(values)) is not None:
            raise UserError(f"the space {self.name} forbids it: {rule}.")

    def fits(self, config: Mapping[str, Any]) -> bool:
        """True if a configuration is whole, in all ranges, and not forbidden."""
        active = self.active(config)
        return all(p.name in config and p.admits(config[p.name]) for p in active) and (
            self.forbids(config) is None
        )

    def holds(self, stored: Mapping[str, Any]) -> bool:
        """True if all of the given stored values lie in the space; some may be missing.

        Values of a space that was changed may lie anywhere.
        """
        if self.since:
            names = {p.name for p in self.parameters}
            return all(field_value(*item)[0] in names for item in stored.items())
        parameters = {p.stored_name: p for p in self.parameters}
        return all(
            name in parameters and parameters[name].admits(parameters[name].stored(value))
            for name, value in stored.items()
        )

    def real(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the field values of stored values.

        Values not drawn yet are left out.
        """
        if self.since:
            found = dict(field_value(*item) for item in stored.items())
            return {p.name: found[p.name] for p in self.parameters if p.name in found}
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


def _check_conditions(space: str, parameters: tuple[Parameter, ...]) -> None:
    """Raise UserError for a condition that can never be met, and for a circle of conditions."""
    names = {p.name: p for p in parameters}
    for p in parameters:
        for name, values in p.when:
            if (parent := names.get(name)) is None:
                continue
            if parent.values is None:
                raise UserError(
                    f"space {space}: {p.name}: when {name}: {name} is a range of real numbers, of "
                    "which no value comes twice; give it choices or a step."
                )
            for value in values:
                if not parent.admits(value):
                    raise UserError(
                        f"space {space}: {p.name}: when {name} is {value_text(value)}: {name} has "
                        f"{parent}."
                    )
    for p in parameters:
        seen, ahead = [p.name], [name for name, _ in p.when if name in names]
        while ahead:
            name = ahead.pop()
            if name == p.name:
                raise UserError(f"space {space}: {p.name}: its conditions depend on {p.name}.")
            if name not in seen:
                seen.append(name)
                ahead += [other for other, _ in names[name].when if other in names]


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
