"""SearchSpace: the searched fields of a sweep and their ranges, checked on reading."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Self

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from dynamos.config import FIELDS, checked, field_type, number_of_text, read_yaml
from dynamos.errors import UserError, unknown
from dynamos.fields import plain
from dynamos.files import local_path

NOT_VARIED = (
    "dataset",
    "data_path",
    "seed",
    "evaluate_on",
    "classes_per_task",
    "n_tasks",
    "class_order_seed",
    "max_train_images_per_task",
    "device",
    "threads",
    "precision",
    "step_mode",
    "deterministic",
    "log_every",
    "readings",
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One TrainConfig field's range (low, high, log) or its choices.

    A logarithmic range of negative numbers is searched by magnitude, under the name `neg_FIELD`:
    Optuna has no logarithm of a negative number. `repeated` holds choices that were given several
    times.
    """

    name: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = None
    repeated: tuple[Any, ...] = field(default=(), compare=False, repr=False)

    @property
    def negated(self) -> bool:
        """True if the sampler sees the magnitude instead of the value."""
        return self.log and self.high is not None and self.high < 0

    @property
    def stored_name(self) -> str:
        """The name in the sampler and its storage."""
        return f"neg_{self.name}" if self.negated else self.name

    def stored(self, value: Any) -> Any:
        """A field's value as the sampler sees it."""
        return -value if self.negated else value

    def admits(self, value: Any) -> bool:
        """True if a value lies in the range or among the choices."""
        if self.choices is not None:
            return value in self.choices
        assert self.low is not None and self.high is not None
        return value is not None and self.low <= value <= self.high

    @property
    def values(self) -> Sequence[Any] | None:
        """Every value of a parameter that has finitely many, choices or whole numbers.

        Returns None for a range of reals.
        """
        if self.choices is None and field_type(self.name)[0] is int:
            assert self.low is not None and self.high is not None
            return range(int(self.low), int(self.high) + 1)
        return self.choices

    def distribution(self) -> BaseDistribution:
        """Return the Optuna distribution of the stored value."""
        if self.choices is not None:
            return CategoricalDistribution(self.choices)
        low, high = sorted((self.stored(self.low), self.stored(self.high)))
        return (IntDistribution if field_type(self.name)[0] is int else FloatDistribution)(
            low, high, self.log
        )

    def __str__(self) -> str:
        if self.choices is not None:
            return "one of " + ", ".join(map(str, self.choices))
        return f"{self.low:g} to {self.high:g}" + (" (log)" if self.log else "")


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """A named set of parameters."""

    name: str
    parameters: tuple[Parameter, ...]
    description: str = ""

    @classmethod
    def from_dict(cls, name: str, content: Mapping[str, Any]) -> Self:
        """Return the space of {description, parameters: {field: {low, high, log} or {choices}}}.

        Raises UserError, which names the parameter, its value and the allowed values.
        """
        content = plain(content)
        for key in content:
            if key not in ("description", "parameters"):
                raise unknown("key", key, ("description", "parameters")).within(f"space {name}")
        given = content.get("parameters")
        if not isinstance(given, Mapping) or not given:
            raise UserError(
                f"space {name} has no parameters; it needs `parameters: {{field: {{low, high}}}}`."
            )
        parameters = tuple(_parameter(name, field, spec) for field, spec in given.items())
        return cls(name, parameters, str(content.get("description", "")))

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that `from_dict` reads."""

        def spec(p: Parameter) -> dict[str, Any]:
            if p.choices is not None:
                return {"choices": list(p.choices)}
            return {"low": p.low, "high": p.high, "log": p.log}

        return {
            "description": self.description,
            "parameters": {p.name: spec(p) for p in self.parameters},
        }

    @property
    def notes(self) -> list[str]:
        """Sentences on choices that were given several times."""
        return [
            f"the space {self.name} lists the choice {value} of {p.name} more than once; it counts "
            "once."
            for p in self.parameters
            for value in p.repeated
        ]

    @property
    def size(self) -> int | None:
        """Number of different configurations.

        Returns None if a range of real numbers makes them infinitely many.
        """
        values = [p.values for p in self.parameters]
        return None if None in values else math.prod(len(v) for v in values if v is not None)

    def key(self, config: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the space's values as a key that equal configurations share.

        5 equals 5.0, but 0.1000005 does not equal 0.1. Real numbers are compared to 12 significant
        digits, because a value's last digits change when its logarithm is taken and reversed.
        """
        return tuple(_rounded(config[p.name]) for p in self.parameters)

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


def _rounded(value: Any) -> Any:
    """A value with its 12 first significant digits if it is a real number."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _parameter(space: str, field: str, spec: Any) -> Parameter:
    where = f"space {space}: "
    if field not in FIELDS:
        raise unknown("field", field, [f for f in FIELDS if f not in NOT_VARIED]).within(
            f"space {space}"
        )
    if field in NOT_VARIED:
        raise UserError(
            f"{where}{field} selects the stream, the machine or the output, and cannot be "
            f"searched; set it with `base` {field}=VALUE."
        )
    if not isinstance(spec, Mapping):
        raise UserError(f"{where}{field} is {spec!r}; it must be {{low, high}} or {{choices}}.")
    for key in spec:
        if key not in ("low", "high", "log", "choices"):
            raise unknown("key", key, ("low", "high", "log", "choices")).within(f"{where}{field}")
    try:
        return _choices(field, spec) if "choices" in spec else _range(field, spec)
    except UserError as error:
        raise error.within(f"space {space}") from None


def _choices(field: str, spec: Mapping[str, Any]) -> Parameter:
    choices = spec["choices"]
    if len(spec) > 1 or not isinstance(choices, list | tuple) or not choices:
        raise UserError(
            f"{field} must have either choices, a list that is not empty, or low and high."
        )
    given = [checked(field, number_of_text(field, choice)) for choice in choices]
    times = Counter(map(_rounded, given))
    first = {_rounded(value): value for value in reversed(given)}
    return Parameter(
        field,
        choices=tuple(first[value] for value in times),
        repeated=tuple(first[value] for value, n in times.items() if n > 1),
    )


def _range(field: str, spec: Mapping[str, Any]) -> Parameter:
    if field_type(field)[0] not in (int, float):
        raise UserError(f"{field} is not a number field; it must have choices.")
    ends = {}
    for end in ("low", "high"):
        if end not in spec:
            raise UserError(f"{field} has no {end}; it must have low and high, or choices.")
        ends[end] = checked(field, number_of_text(field, spec[end]))
        if ends[end] is None:
            raise UserError(f"{field} has no {end}; it must be a number.")
    low, high, log = ends["low"], ends["high"], spec.get("log", False)
    if _rounded(low) >= _rounded(high):
        raise UserError(f"{field} goes from {low:g} to {high:g}; low must be less than high.")
    if not isinstance(log, bool):
        raise UserError(f"{field}: log {log!r} is not true or false.")
    if log and low <= 0 <= high:
        raise UserError(f"{field} goes from {low:g} to {high:g}; a log range must not contain 0.")
    return Parameter(field, low, high, log)
