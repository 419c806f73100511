"""Request bodies, and their SweepConfig.

A body is only data: nothing in it is imported, run or used as a path.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from dynamos.config import FIELDS
from dynamos.depths import NETWORKS
from dynamos.errors import UserError, unknown
from dynamos.fields import Range, Setting, settings
from dynamos.methods import METHODS
from dynamos.methods.hyperparameters import PREFIX, of_method
from dynamos.streams.names import DATASETS
from dynamos.user_code import code_of
from results.choice import DEFAULT, RULES
from results.definition import labels
from results.definition.defaults import CONFIRMATION_SEEDS, DEFAULTS, base_config, default_objective
from results.definition.objectives import Constraint, Objective
from results.definition.sweep_config import SweepConfig
from results.names import PATTERN, RULE, check_name, is_name
from search_spaces.parameter import NOT_VARIED
from search_spaces.rules import Rule
from search_spaces.space import SearchSpace, named_spaces, read_space
from tune.service.wire.answers import Scalar
from tune.service.wire.problems import TAGS, Problem

# fields that a request may not set
OF_THE_SERVICE = ("data_path", "ledger_url", "tracking_uri", "confirms")
MAPPING, CHOICES, TEXT = TAGS

Made = TypeVar("Made")
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _sweep_name(name: str) -> str:
    if not is_name(name):
        raise PydanticCustomError("name", "{rule}", {"rule": RULE})
    return name


# Name of an existing or a new sweep. It is checked in code, because the error of a pattern would
# show the pattern.
SweepName = Annotated[
    str, AfterValidator(_sweep_name), WithJsonSchema({"type": "string", "pattern": PATTERN})
]


class _Strict(BaseModel):
    """A body without unknown names, and without text for a number."""

    model_config = _STRICT

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        return _named("field", list(cls.model_fields), values)


def _label(value: Any) -> Any:
    """The tags or the note; raises PydanticCustomError if they are not allowed."""
    try:
        labels.check(*(({}, value) if isinstance(value, str) else (value, None)))
    except UserError as error:
        raise PydanticCustomError("label", "{why}", {"why": str(error).removesuffix(".")}) from None
    return value


Tags = Annotated[dict[str, str], AfterValidator(_label), Field(max_length=50)]
Note = Annotated[str, AfterValidator(_label), Field(max_length=labels.NOTE_LENGTH)]


class Labels(_Strict):
    """Tags and note of a sweep."""

    tags: Tags = {}
    note: Note | None = None


class Confirmation(_Strict):
    """Configurations to retrain on fresh seeds and test."""

    seeds: Annotated[int, Field(ge=1, le=1000)] = CONFIRMATION_SEEDS
    top: Annotated[int, Field(ge=1, le=1000)] = 3
    choose: Literal[*RULES] = DEFAULT  # type: ignore[valid-type]
    max_compute: Annotated[float, Field(gt=0)] | None = None
    baseline: Literal["preset"] | None = None  # None: the sweep's trial 0
    final: bool = False  # test with the whole error; the confirmation cannot be extended
    # instead of a new one: fresh seeds to add to the latest confirmation, for one look more
    extend: Annotated[int, Field(ge=1, le=1000)] | None = None
    # instead of a new one: class orders on which to train the latest confirmation's configurations
    class_orders: Annotated[int, Field(ge=1, le=1000)] | None = None

    @property
    def of_a_new_one(self) -> list[str]:
        """Fields that were set and that an extension does not have."""
        fields = type(self).model_fields
        return [
            name
            for name in fields
            if name not in ("extend", "class_orders")
            and getattr(self, name) != fields[name].default
        ]


def _named(what: str, allowed: list[str], value: Any) -> Any:
    """Return the value, a name or a mapping of names, if all names are allowed.

    Otherwise raise an error with the allowed names, from which the nearest name is found.
    """
    if isinstance(value, Mapping):
        for name in OF_THE_SERVICE:
            if value.get(name) is not None:
                raise PydanticCustomError("own", "{name} is set by the service", {"name": name})
        value = {name: given for name, given in value.items() if name not in OF_THE_SERVICE}
    names = value if isinstance(value, Mapping) else [value] if isinstance(value, str) else []
    for name in names:
        # a method's hyperparameters are checked with the method
        if name not in allowed and not (what == "field" and of_method(str(name))):
            raise PydanticCustomError(
                "unknown", "unknown {what}", {"what": what, "allowed": allowed, "name": str(name)}
            )
    return value


def among(what: str, allowed: list[str]) -> BeforeValidator:
    """Make pydantic refuse other names with an error that can name the nearest one."""
    return BeforeValidator(lambda value: _named(what, allowed, value))


def _shape(value: Any) -> str:
    """The kind of a value, so that an error concerns only that kind."""
    if isinstance(value, ChoicesSpec) or (isinstance(value, Mapping) and "choices" in value):
        return CHOICES
    return TEXT if isinstance(value, str) else MAPPING


_OF_CODE = {"model": METHODS, "dataset": DATASETS, "network": NETWORKS}


def _type(about: Setting) -> Any:
    """The type of a described field, with its range."""
    allowed, limits = about.allowed, dict[str, Any](description=about.help)
    if about.name in _OF_CODE:
        # FILE.py:NAME as well, which the operator must have allowed
        known = [*_OF_CODE[about.name]]
        names = BeforeValidator(
            lambda value: (
                value
                if isinstance(value, str) and code_of(value)
                else _named(about.name, known, value)
            )
        )
        return Annotated[str, names, Field(**limits, examples=known)]
    if isinstance(allowed, tuple):
        return Annotated[Literal[allowed], among(about.name, list(allowed)), Field(**limits)]
    if isinstance(allowed, Range):
        ends = {"gt" if allowed.open_low else "ge": allowed.low, "le": allowed.high}
        limits |= {end: value for end, value in ends.items() if abs(value) != float("inf")}
    whole = (
        (
            BeforeValidator(
                lambda value: (
                    int(value) if isinstance(value, float) and value.is_integer() else value
                )
            ),
            # 8.0, as pandas writes 8 into JSON
        )
        if about.kind is int
        else ()
    )
    if about.name == "warm_start":
        return SweepName | None
    return Annotated[(about.kind | None if about.optional else about.kind, Field(**limits), *whole)]


def _gathered(value: Any) -> Any:
    """Fields with method.NAME as NAME of `method`."""
    if not isinstance(value, Mapping) or not isinstance(value.get("method", {}), Mapping):
        return value
    own = {name: given for name, given in value.items() if of_method(str(name))}
    if not own:
        return value
    rest = {name: given for name, given in value.items() if name not in own}
    own = {name.removeprefix(PREFIX): given for name, given in own.items()}
    return rest | {"method": {**rest.get("method", {}), **own}}


_BASE = [*(name for name in FIELDS if name != "data_path"), "method"]
_VARIED = [name for name in FIELDS if name not in NOT_VARIED]
_NAMES: list[Any] = [{"enum": _VARIED}, {"pattern": f"^{re.escape(PREFIX)}"}]
if TYPE_CHECKING:
    Base = BaseModel
else:
    Base = create_model(
        "Base",
        __config__=_STRICT,
        __doc__="Fields of every trial; the rest is the stream's preset.",
        **{name: (_type(FIELDS[name]), None) for name in _BASE if name in FIELDS},
        method=(Annotated[dict[str, Scalar], Field(max_length=100)], {}),
    )


Conditions = dict[str, Annotated[list[Scalar], Field(max_length=1000)] | Scalar]


class RangeSpec(_Strict):
    """A range of numbers."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None
    mean: int | float | None = None
    sd: int | float | None = None
    when: Conditions | None = None


class ChoicesSpec(_Strict):
    """Values to choose from."""

    choices: Annotated[list[Scalar], Field(min_length=1, max_length=1000)]
    weights: Annotated[list[int | float], Field(max_length=1000)] | None = None
    when: Conditions | None = None


Spec = Annotated[
    Annotated[RangeSpec, Tag(MAPPING)] | Annotated[ChoicesSpec, Tag(CHOICES)],
    Discriminator(lambda value: _shape(value).replace(TEXT, MAPPING)),
]
Parameters = Annotated[
    dict[str, Spec],
    among("field", _VARIED),
    Field(min_length=1, json_schema_extra={"propertyNames": {"anyOf": _NAMES}}),
]


class Space(_Strict):
    """A search space: the fields that vary, and those to which it gives one value."""

    name: Annotated[str, Field(min_length=1, max_length=200)] = "own"
    description: Annotated[str, Field(max_length=2000)] = ""
    parameters: Parameters
    fixed: Annotated[dict[str, Scalar], among("field", _VARIED)] = {}
    forbid: Annotated[list[str], Field(max_length=100)] = []


_SpaceOrName = Annotated[
    Annotated[str, Field(max_length=200), Tag(TEXT)] | Annotated[Space, Tag(MAPPING)],
    Discriminator(lambda value: _shape(value).replace(CHOICES, MAPPING)),
]


class _Request(_Strict):
    """The fields of a request that SweepConfig has in another form."""

    name: SweepName
    space: _SpaceOrName = DEFAULTS["space"]
    base: Annotated[Base, among("field", _BASE), BeforeValidator(_gathered)] = Base()
    objectives: Annotated[list[str], Field(max_length=6)] = []
    constraints: Annotated[list[str], Field(max_length=20)] = []
    report_on: Annotated[Base, among("field", _BASE), BeforeValidator(_gathered)] = Base()
    points: Annotated[list[dict[str, Scalar]], Field(max_length=1000)] = []
    tags: Tags = {}
    note: Note = ""


def request_model(config: type) -> type[BaseModel]:
    """The body that asks for a sweep of a configuration class.

    Missing fields have the command line's defaults.
    """
    fields: dict[str, Any] = {
        name: (_type(about), about.default)
        for name, about in settings(config).items()
        if name not in OF_THE_SERVICE
    }
    made: type[BaseModel] = create_model("SweepRequest", __base__=_Request, **fields)
    made.__doc__ = "A SweepConfig; fields that are missing have the command line's defaults."
    return made


def limits_model(config: type) -> type[BaseModel]:
    """The body that gives a session of a sweep other limits than the one before had."""
    fields: dict[str, Any] = {
        name: (_type(about) | None, None)
        for name, about in settings(config).items()
        if about.session and about.flag
    }
    made: type[BaseModel] = create_model("Limits", __base__=_Strict, **fields)
    made.__doc__ = "Limits and resources of this session; other values stay as before."
    return made


if TYPE_CHECKING:

    class SweepRequest(_Request):
        """A request's fields that this module reads by name; each has a default."""

        protocol: str = ""
        cpus_per_trial: float = 0
        gpus_per_trial: float = 0

    class Limits(_Strict):
        """Described by SweepConfig."""
else:
    SweepRequest, Limits = request_model(SweepConfig), limits_model(SweepConfig)


if TYPE_CHECKING:
    _Trials = int
else:
    _Trials = _type(settings(SweepConfig)["trials"])  # as many as a sweep may have from the start


class Extension(Limits):
    """Trials to add to a sweep, and another space for them with the same fields, if it changes."""

    trials: _Trials
    space: _SpaceOrName | None = None


def requested_config(
    request: SweepRequest,
    of_the_service: Mapping[str, str | None],
    refuse_code: Callable[[str], None] | None = None,
) -> SweepConfig:
    """The SweepConfig of a request; raises Problem, which names the field.

    data_path, ledger_url and tracking_uri come only from `of_the_service`. `refuse_code` raises
    Problem for a method in a file that the operator has not allowed; without it no file is read.
    """
    given = request.model_dump(exclude_unset=True)
    base = dict(given.pop("base", {}))
    dataset = base.setdefault("dataset", DEFAULTS["dataset"])
    report_on = given.pop("report_on", {})
    for name in ("tags", "note"):  # they may change, and are not part of the configuration
        given.pop(name, None)
    streams = dataset, report_on.get("dataset", dataset)
    _at("name", partial(check_name, request.name))
    try:
        space = requested_space(request.space)
        for field in space.fixed:
            _at(f"base.{field}", partial(space.refuse_other, field, base.get(field)))
        base |= space.fixed
        trained = _at(
            "base",
            lambda: base_config(
                dataset,
                base,
                request.protocol,
                request.cpus_per_trial,
                request.gpus_per_trial,
                None
                if all("digits" in stream for stream in streams)
                else of_the_service["data_path"],
            ),
        )
        if refuse_code is not None and code_of(trained.model) is not None:
            refuse_code(trained.model)
            trained = _at("base", trained.whole)
        rest = {name: value for name, value in given.items() if value is not None}
        return _at(
            None,
            lambda: SweepConfig(
                **rest
                | {
                    "space": space,
                    "base": trained,
                    "report_on": report_on,
                    "objectives": tuple(
                        _at("objectives", partial(Objective.parse, text))
                        for text in request.objectives
                    )
                    or (default_objective(request.protocol),),
                    "constraints": tuple(
                        _at("constraints", partial(Constraint.parse, text))
                        for text in request.constraints
                    ),
                    "points": tuple(request.points),
                    "ledger_url": of_the_service["ledger_url"],
                    "tracking_uri": of_the_service["tracking_uri"],
                }
            ),
        )
    except (OverflowError, RecursionError) as error:
        raise Problem(422, f"a value is too large: {error}.") from None


def requested_space(given: str | Space) -> SearchSpace:
    """The space of a request; raises Problem, which names its part."""
    if isinstance(given, str):
        if given not in named_spaces():
            raise Problem.of(unknown("space", given, named_spaces()), "space")
        return read_space(given)
    for name, spec in given.parameters.items():
        _at(
            f"space.parameters.{name}",
            partial(
                SearchSpace.from_dict,
                given.name,
                {"parameters": {name: spec.model_dump(exclude_unset=True)}},
            ),
        )
    for text in given.forbid:
        _at("space.forbid", partial(Rule.parse, text))
    content = given.model_dump(exclude={"name"}, exclude_unset=True)
    return _at("space", partial(SearchSpace.from_dict, given.name, content))


def _at(field: str | None, make: Callable[[], Made]) -> Made:
    """The result of `make`; its UserError becomes a Problem at a field of the body."""
    try:
        return make()
    except UserError as error:
        raise Problem.of(error, field) from None
