"""Parameter: a searched field, its range or its choices, and where good values are likely."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from dynamos.config import FIELDS, checked, field_type, number_of_text, setting_of, unknown_field
from dynamos.errors import UserError, unknown
from dynamos.methods.hyperparameters import fitting, no_hyperparameter, of_method
from search_spaces.prior import Array, Prior

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
# keys of a parameter in a file, with their meaning
RANGE_KEYS = {
    "low": "smallest value of a range",
    "high": "largest value of a range",
    "log": "true: search the range on a logarithmic scale",
    "step": "distance between the values of a range, from `low` to `high`",
    "mean": "likeliest value of a range; values are drawn from a normal distribution around it, "
    "cut off at `low` and `high`, with `log` from a log-normal one, whose median it is",
    "sd": "standard deviation around `mean`, with `log` of the natural logarithm",
}
CHOICE_KEYS = {
    "choices": "list of values, instead of a range",
    "weights": "list of the choices' relative probabilities",
}
WHEN_KEYS = {
    "when": "{field: value or list of values} with which the parameter is searched; in other "
    "trials the field has the value of trial 0",
}
# keys that a changed space has in sweep.yaml
OF_A_CHANGE = ("revised",)
MOST_STEPS = 10_000
# parts of a stored name: before the field's, and before the number of the first trial that has it
NEGATED, REVISED = "neg_", "@"


@dataclass(frozen=True)
class Parameter:
    """The range or the choices of one TrainConfig field, or of a method's hyperparameter.

    A logarithmic range of negative numbers is searched by magnitude, under the name `neg_FIELD`:
    Optuna has no logarithm of a negative number.

    Attributes:
        name: the field.
        low, high: the ends of the range.
        log: whether the range is searched on a logarithmic scale.
        choices: the values to choose from; None for a range.
        step: distance between the values of a range, from low on; None for every value.
        mean: the likeliest value of a range; None if all are equally likely.
        sd: standard deviation around `mean`; in a logarithmic range, of the natural logarithm.
        weights: relative probabilities of the choices; None if all are equally likely.
        when: (field, values) pairs; the parameter is active if each field has one of its values.
        revised: the first trial with these choices or this kind of range, if they differ from those
            at the sweep's start; else 0. A storage keeps one kind of values under one name.
        repeated: choices that were given several times.
    """

    name: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = None
    step: float | None = None
    mean: float | None = None
    sd: float | None = None
    weights: tuple[float, ...] | None = None
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    revised: int = 0
    repeated: tuple[Any, ...] = field(default=(), compare=False, repr=False)

    @property
    def negated(self) -> bool:
        """True if the sampler sees the magnitude instead of the value."""
        return self.log and self.high is not None and self.high < 0

    @property
    def stored_name(self) -> str:
        """The name in the storage."""
        name = f"{NEGATED}{self.name}" if self.negated else self.name
        return f"{name}{REVISED}{self.revised}" if self.revised else name

    def stored(self, value: Any) -> Any:
        """A field's value as it is stored."""
        return -value if self.negated else value

    def admits(self, value: Any) -> bool:
        """True if a value lies in the range, on one of its steps, or among the choices."""
        if self.choices is not None:
            return value in self.choices
        assert self.low is not None and self.high is not None
        if value is None or not self.low <= value <= self.high:
            return False
        return self.step is None or rounded(value) == rounded(self._steps[self._nearest(value)])

    @property
    def kind(self) -> type:
        """Type of the values; of a method's hyperparameter, that of the choices or of the ends."""
        if not of_method(self.name):
            return field_type(self.name)[0]
        kinds = {type(value) for value in self.choices or (self.low, self.high)}
        return kinds.pop() if len(kinds) == 1 else float

    @property
    def whole(self) -> bool:
        """True for a range of whole numbers."""
        return self.choices is None and self.kind is int

    def within(self, space: str, values: Mapping[str, Any], model_varies: bool) -> Self:
        """Return the parameter in a sweep whose base has these values of all fields.

        A method's hyperparameter gets its type. Raises UserError if the method does not have it,
        and if the space varies the method and does not say with which one it is searched.
        """
        if not of_method(self.name):
            return self
        if model_varies and "model" not in dict(self.when):
            raise UserError(
                f"space {space}: {self.name} belongs to a method, and the space varies the model; "
                f"add `when: {{model: NAME}}` to it."
            )
        about = setting_of(values, self.name)
        if about is None:
            if model_varies:
                return self
            known = [*filter(of_method, values)]
            raise no_hyperparameter(values["model"], self.name, known).within(f"space {space}")
        if about.kind not in (int, float) and self.choices is None:
            raise UserError(f"space {space}: {self.name} is not a number; it must have choices.")

        def typed(value: Any) -> Any:
            return None if value is None else fitting(about, value)

        try:
            choices = None if self.choices is None else tuple(map(typed, self.choices))
            ends = {"low": typed(self.low), "high": typed(self.high), "step": typed(self.step)}
        except UserError as error:
            raise error.within(f"space {space}") from None
        return replace(self, choices=choices, **ends)

    @property
    def values(self) -> Sequence[Any] | None:
        """Every value of a parameter that has finitely many: choices, steps or whole numbers.

        Returns None for a range of reals.
        """
        if self.step is not None:
            return self._steps
        if self.whole:
            assert self.low is not None and self.high is not None
            return range(int(self.low), int(self.high) + 1)
        return self.choices

    @cached_property
    def _steps(self) -> tuple[Any, ...]:
        assert self.low is not None and self.high is not None and self.step is not None
        size = round((self.high - self.low) / self.step) + 1
        if self.whole:
            return tuple(int(self.low + i * self.step) for i in range(size))
        inner = (float(f"{self.low + i * self.step:.12g}") for i in range(1, size - 1))
        return (self.low, *inner, self.high)

    def _nearest(self, value: float) -> int:
        """Index of the nearest step."""
        assert self.low is not None and self.step is not None
        return min(max(round((value - self.low) / self.step), 0), len(self._steps) - 1)

    def distribution(self) -> BaseDistribution:
        """Return the Optuna distribution of the stored value."""
        if self.choices is not None:
            return CategoricalDistribution(self.choices)
        return (IntDistribution if self.whole else FloatDistribution)(*self._ends, self.log)

    @property
    def _ends(self) -> tuple[Any, Any]:
        """The ends of the range as they are stored, the smaller one first."""
        low, high = sorted((self.stored(self.low), self.stored(self.high)))
        return low, high

    # A sampler sees the value itself where all values are equally likely. It sees the number of a
    # step. With a prior it sees the cumulative probability, so that all that it sees is uniform.

    @cached_property
    def prior(self) -> Prior | None:
        """The prior of the logarithm, in a logarithmic range, or of the stored value, if any."""
        if self.mean is None or self.sd is None:
            return None
        half = self.step / 2 if self.step is not None else 0.5 if self.whole else 0.0
        low, high = self._ends
        ends = [low - half, self.stored(self.mean), high + half]
        low, mean, high = np.log(ends).tolist() if self.log else ends
        return Prior(mean, self.sd, low, high)

    def sampled_distribution(self) -> BaseDistribution:
        """Return the Optuna distribution of what a sampler sees."""
        if self.prior is not None:
            return FloatDistribution(0.0, 1.0)
        if self.step is not None:
            return IntDistribution(0, len(self._steps) - 1)
        return self.distribution()

    @property
    def neutral(self) -> Any:
        """The value of an inactive field for samplers without conditions, in the middle."""
        if self.choices is not None:
            return self.choices[0]
        if self.step is not None and self.prior is None:
            return len(self._steps) // 2
        return 0.5 if self.prior is not None else self.stored(self.at(0.5))

    def sampled(self, value: Any) -> Any:
        """Return what a sampler sees of a field's value."""
        if self.prior is not None:
            at = self.stored(value)
            return float(self.prior.place(np.asarray(math.log(at) if self.log else at)))
        return self._nearest(value) if self.step is not None else self.stored(value)

    def real(self, sampled: Any) -> Any:
        """Return the field's value for what a sampler sees."""
        if self.prior is not None:
            return self.at(float(sampled))
        return self._steps[sampled] if self.step is not None else self.stored(sampled)

    # All parameters of a space together span a unit cube, of which each has one coordinate.

    def at(self, place: float) -> Any:
        """Return the field's value at a place from 0 to 1."""
        return self.all_at(np.array([place]))[0]

    def all_at(self, places: Array) -> list[Any]:
        """Return the field's values at places from 0 to 1."""
        values = self.choices if self.choices is not None else self._steps if self.step else None
        if values is not None:
            return [values[i] for i in self.indices(places).tolist()]
        assert self.low is not None and self.high is not None
        first, last = self._sides  # rounding must not move the ends
        stored = np.select([places == 0, places == 1], [first, last], self.stored_at(places))
        found = np.clip(self.stored(stored), self.low, self.high).tolist()
        return [round(value) for value in found] if self.whole else found

    def place(self, value: Any) -> float:
        """Return a place from 0 to 1 at which the field has a value."""
        if self.choices is not None:
            ends = [0.0, *self._cumulative]
            index = self.choices.index(value)
            return (ends[index] + ends[index + 1]) / 2
        if self.prior is not None:
            return float(self.sampled(value))
        if self.step is not None:
            return (self._nearest(value) + 0.5) / len(self._steps)
        return float(self.fraction(self.stored(value)))

    def fraction(self, stored: Any) -> Array:
        """Return where stored values lie between low, 0, and high, 1, on the range's scale."""
        low, high = self._scaled([self.stored(self.low), self.stored(self.high)])
        at = self._scaled(stored)
        return np.asarray((at - low) / (high - low) if high != low else np.zeros_like(at))

    @property
    def _sides(self) -> tuple[Any, Any]:
        """The stored values at the places 0 and 1."""
        return (
            self._ends
            if self.prior is not None
            else (self.stored(self.low), self.stored(self.high))
        )

    def stored_at(self, places: Array) -> Array:
        """Return the stored values of a range at places from 0 to 1; whole numbers are rounded."""
        low, high = self._scaled(self._sides)
        there = low + places * (high - low) if self.prior is None else self.prior.value(places)
        values = np.exp(there) if self.log else there
        return np.asarray(np.clip(np.rint(values), *self._ends) if self.whole else values)

    def indices(self, places: Array) -> Any:
        """Return the indices of the choices, or of the steps, at places from 0 to 1."""
        if self.prior is not None:
            return np.array([self._nearest(x) for x in self.stored_at(places).tolist()])
        if self.weights is not None:
            found = np.searchsorted(self._cumulative, places, side="right")
            return np.minimum(found, len(self.weights) - 1)
        size = len(self._steps if self.choices is None else self.choices)
        return np.minimum((places * size).astype(int), size - 1)

    @cached_property
    def _cumulative(self) -> list[float]:
        """The places at which the choices end."""
        assert self.choices is not None
        size = len(self.choices)
        if self.weights is None:
            return [(i + 1) / size for i in range(size)]
        ends = np.cumsum(self.weights) / sum(self.weights)
        return [*ends[:-1].tolist(), 1.0]

    def _scaled(self, values: Any) -> Any:
        return np.log(values) if self.log else np.asarray(values, float)

    def spec(self) -> dict[str, Any]:
        """Return the mapping that `parameter_of` reads."""
        more: dict[str, Any] = {}
        if self.when:
            more["when"] = {name: list(values) for name, values in self.when}
        if self.revised:
            more["revised"] = self.revised
        if self.choices is not None:
            weights = {} if self.weights is None else {"weights": list(self.weights)}
            return {"choices": list(self.choices), **weights, **more}
        normal = {"step": self.step, "mean": self.mean, "sd": self.sd}
        given = {key: value for key, value in normal.items() if value is not None}
        return {"low": self.low, "high": self.high, "log": self.log, **given, **more}

    def __str__(self) -> str:
        return self._shown + (f", if {self.condition}" if self.when else "")

    @property
    def condition(self) -> str:
        """The values with which the parameter is active, in words."""
        return " and ".join(
            f"{name} is {' or '.join(map(value_text, values))}" for name, values in self.when
        )

    @property
    def conditions_met(self) -> dict[str, Any]:
        """Values of other fields with which the parameter is active."""
        return {name: values[0] for name, values in self.when}

    @property
    def _shown(self) -> str:
        if self.choices is not None:
            shown = [*map(str, self.choices)]
            if self.weights is not None:
                shown = [f"{c} (weight {w:g})" for c, w in zip(shown, self.weights, strict=True)]
            return "one of " + ", ".join(shown)
        text = f"{self.low:g} to {self.high:g}" + (" (log)" if self.log else "")
        if self.step is not None:
            text += f" in steps of {self.step:g}"
        if self.mean is not None:
            kind = "log-normal" if self.log else "normal"
            text += f", {kind} around {self.mean:g} with sd {self.sd:g}"
        return text


def field_value(stored_name: str, value: Any) -> tuple[str, Any]:
    """Return the field and its value of a stored parameter, in whatever space it was stored."""
    name = stored_name.partition(REVISED)[0]
    if name.startswith(NEGATED):
        return name.removeprefix(NEGATED), -value
    return name, value


def value_text(value: Any) -> str:
    """A value as files and flags have it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def rounded(value: Any) -> Any:
    """A value with its 12 first significant digits if it is a real number."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def parameter_of(space: str, field: str, spec: Any) -> Parameter:
    """Return the parameter that a space's file describes.

    Raises UserError, which names the parameter, its value and the allowed values.
    """
    where = f"space {space}: "
    refuse_unvaried(space, field, "searched")
    if not isinstance(spec, Mapping):
        raise UserError(f"{where}{field} is {spec!r}; it must be {{low, high}} or {{choices}}.")
    for key in spec:
        if key not in RANGE_KEYS | CHOICE_KEYS | WHEN_KEYS and key not in OF_A_CHANGE:
            raise unknown("key", key, RANGE_KEYS | CHOICE_KEYS | WHEN_KEYS).within(
                f"{where}{field}"
            )
    try:
        found = _choices(field, spec) if "choices" in spec else _range(field, spec)
        revised = int(spec.get("revised") or 0)
        return replace(found, when=_when(field, spec.get("when")), revised=revised)
    except UserError as error:
        raise error.within(f"space {space}") from None


def refuse_unvaried(space: str, field: str, what: str) -> None:
    """Raise UserError for an unknown field, and for one that a space must leave alone.

    Whether the sweep's method has a method.NAME shows in `Parameter.within`.
    """
    if field not in FIELDS and not of_method(field):
        raise unknown_field(field, [f for f in FIELDS if f not in NOT_VARIED]).within(
            f"space {space}"
        )
    if field in NOT_VARIED:
        raise UserError(
            f"space {space}: {field} selects the stream, the machine or the output, and cannot be "
            f"{what}; set it with `base` {field}=VALUE."
        )


def _choices(field: str, spec: Mapping[str, Any]) -> Parameter:
    choices = spec["choices"]
    if (
        any(key in RANGE_KEYS for key in spec)
        or not isinstance(choices, list | tuple)
        or not choices
    ):
        raise UserError(
            f"{field} must have either choices, a list that is not empty, or low and high."
        )
    given = [checked(field, number_of_text(field, choice)) for choice in choices]
    times = Counter(map(rounded, given))
    first = {rounded(value): value for value in reversed(given)}
    repeated = tuple(first[value] for value, n in times.items() if n > 1)
    return Parameter(
        field,
        choices=tuple(first[value] for value in times),
        weights=_weights(field, spec.get("weights"), len(choices), repeated),
        repeated=repeated,
    )


def _weights(
    field: str, weights: Any, choices: int, repeated: Sequence[Any]
) -> tuple[float, ...] | None:
    if weights is None:
        return None
    if repeated:
        raise UserError(
            f"{field} lists the choice {repeated[0]} more than once; with weights, list it once."
        )
    if not isinstance(weights, list | tuple) or len(weights) != choices:
        raise UserError(f"{field}: weights {weights!r} must be a list of {choices} numbers.")
    found = tuple(_number(field, "weight", weight) for weight in weights)
    for weight in found:
        if weight <= 0:
            raise UserError(
                f"{field}: weight {weight:g} must be greater than 0; to exclude a choice, leave it "
                "out."
            )
    return found


def _range(field: str, spec: Mapping[str, Any]) -> Parameter:
    if "weights" in spec:
        raise UserError(f"{field}: weights are for choices; a range takes mean and sd.")
    if not of_method(field) and field_type(field)[0] not in (int, float):
        raise UserError(f"{field} is not a number field; it must have choices.")
    ends = {}
    for end in ("low", "high"):
        if end not in spec:
            raise UserError(f"{field} has no {end}; it must have low and high, or choices.")
        ends[end] = checked(field, number_of_text(field, spec[end]))
        if ends[end] is None:
            raise UserError(f"{field} has no {end}; it must be a number.")
        if of_method(field) and (isinstance(ends[end], bool | str)):
            raise UserError(f"{field}: {end} {ends[end]!r} is not a number.")
    low, high, log = ends["low"], ends["high"], spec.get("log", False)
    whole = type(low) is int and type(high) is int
    if not whole:
        low, high = float(low), float(high)
    if rounded(low) >= rounded(high):
        raise UserError(f"{field} goes from {low:g} to {high:g}; low must be less than high.")
    if not isinstance(log, bool):
        raise UserError(f"{field}: log {log!r} is not true or false.")
    if log and low <= 0 <= high:
        raise UserError(f"{field} goes from {low:g} to {high:g}; a log range must not contain 0.")
    step = None if spec.get("step") is None else _step(field, spec["step"], low, high, log)
    if of_method(field) and whole and step is not None and step % 1:
        low, high = float(low), float(high)  # a number with a fraction
    mean, sd = _normal(field, spec, low, high)
    return Parameter(field, low, high, log, step=step, mean=mean, sd=sd)


def _step(field: str, given: Any, low: float, high: float, log: bool) -> float:
    step = _number(field, "step", given)
    if log:
        raise UserError(f"{field}: step {step:g} does not go with log; list the values as choices.")
    if step <= 0:
        raise UserError(f"{field}: step {step:g} must be greater than 0.")
    if not of_method(field) and field_type(field)[0] is int:
        if step % 1:
            raise UserError(f"{field}: step {step:g} is not a whole number, and {field} is one.")
        step = int(step)
    steps = (high - low) / step
    if steps > MOST_STEPS:
        raise UserError(
            f"{field}: step {step:g} gives more than {MOST_STEPS} values; leave it out."
        )
    if abs(steps - round(steps)) > 1e-6 or round(steps) < 1:
        last = low + max(math.floor(steps), 1) * step
        raise UserError(
            f"{field} goes from {low:g} to {high:g}, which is no multiple of step {step:g}; use "
            f"high {last:.6g}."
        )
    return step


def _normal(
    field: str, spec: Mapping[str, Any], low: float, high: float
) -> tuple[float | None, float | None]:
    """The mean and the standard deviation of a prior, or (None, None)."""
    given = {key: spec[key] for key in ("mean", "sd") if spec.get(key) is not None}
    if not given:
        return None, None
    if len(given) == 1:
        raise UserError(f"{field} has {next(iter(given))} alone; a prior needs mean and sd.")
    mean, sd = (_number(field, key, value) for key, value in given.items())
    if not low <= mean <= high:
        raise UserError(f"{field}: mean {mean:g} must lie in the range, from {low:g} to {high:g}.")
    if sd <= 0:
        raise UserError(f"{field}: sd {sd:g} must be greater than 0.")
    return mean, sd


def _when(field: str, given: Any) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """The conditions of a parameter, checked."""
    if given is None:
        return ()
    if not isinstance(given, Mapping) or not given:
        raise UserError(f"{field}: when {given!r} must be a mapping, {{field: value}}.")
    found = []
    for name, values in given.items():
        if name not in FIELDS and not of_method(name):
            raise unknown_field(name).within(f"{field}: when")
        if name == field:
            raise UserError(f"{field}: when names {field} itself.")
        listed = values if isinstance(values, list | tuple) else [values]
        if not listed:
            raise UserError(f"{field}: when {name} has no value.")
        try:
            checks = [checked(name, number_of_text(name, value)) for value in listed]
        except UserError as error:
            raise error.within(f"{field}: when") from None
        found.append((name, tuple(dict.fromkeys(checks))))
    return tuple(found)


def _number(field: str, key: str, value: Any) -> float:
    """A finite number, which YAML 1.1 may have taken for a text."""
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{field}: {key} {value!r} is not a number.")
    return number
