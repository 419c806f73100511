"""SweepConfig, the whole definition of a sweep as in sweep.yaml; objectives and constraints on TaskResult's metrics."""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from dynamos.config import ROTATING, TrainConfig, checked, most_tasks, plain, preset, preset_names, unused
from dynamos.errors import UserError, unknown
from results.definition.protocols import CONFIRMATION, PROTOCOLS, images_of
from results.definition.urls import refuse_unusable
from results.strategy.pruners import PRUNERS, WILCOXON_SEEDS
from results.strategy.samplers import RANGE_SAMPLERS, SAMPLERS, SINGLE_OBJECTIVE_SAMPLERS, UNCONSTRAINED_SAMPLERS, grid
from search_spaces.space import SearchSpace

# Metrics for objectives and constraints, and the better direction. The total loss is not here: REINFORCE makes it
# meaningless.
_DIRECTIONS = {"class_il": "max", "task_il": "max", "learning_accuracy": "max", "forgetting": "min",
               "keep_fraction": "min", "compute": "min"}
_ACCURACIES = ("class_il", "task_il", "learning_accuracy")
_PREFIXES = {"validation": "val_", "test": "test_"}  # of accuracies, by the images they are measured on
_OF_ALL_TASKS = ("class_il", "task_il", "forgetting")
_NEEDS_TASKS = ("task_il", "learning_accuracy", "forgetting")  # a rotating stream has no tasks, hence none of these


def metrics_on(images: str) -> dict[str, str]:
    """Return the better direction, "max" or "min", of each metric on "validation" or "test" images, by metric."""
    return {_PREFIXES[images] * (name in _ACCURACIES) + name: direction for name, direction in _DIRECTIONS.items()}


OBJECTIVES = metrics_on("validation")
# Fields of SweepConfig that may change from one session of a sweep to the next, by flag.
SESSION = {"time_budget": "time_budget_seconds", "cpu_budget": "cpu_budget_seconds", "gpu_budget": "gpu_budget_seconds",
           "target": "target", "cpus_per_trial": "cpus_per_trial", "gpus_per_trial": "gpus_per_trial",
           "pack_gpus": "pack_gpus", "max_concurrent": "max_concurrent", "retries": "retries"}
_KNOWN = OBJECTIVES | metrics_on("test")


@dataclass(frozen=True, slots=True)
class Objective:
    """A TaskResult metric after the last task trained, mean over seeds, and its better direction."""

    metric: str
    direction: str  # "max" or "min"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse FIELD, FIELD:max or FIELD:min; UserError for any other text."""
        metric, colon, direction = text.partition(":")
        if metric not in _KNOWN:
            raise unknown("metric", metric, OBJECTIVES).within(f"--objective {text!r}")
        if colon and direction not in ("max", "min"):
            raise unknown("direction", direction, ("max", "min")).within(f"--objective {text!r}")
        return cls(metric, direction or _KNOWN[metric])

    @property
    def confirmed(self) -> Self:
        """The objective that a confirmation tests in its place, on test images."""
        metric = self.metric.replace(_PREFIXES["validation"], _PREFIXES["test"])
        if metric == "test_learning_accuracy":  # the protocol val-current must choose by it, but class-il counts
            metric = "test_class_il"
        return type(self)(metric, self.direction)

    @property
    def sign(self) -> int:
        """1 if more is better, -1 if less is."""
        return 1 if self.direction == "max" else -1

    def __str__(self) -> str:
        return f"{self.metric}:{self.direction}"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A bound on a TaskResult metric after the last task, mean over seeds."""

    metric: str
    relation: str  # "<=" or ">="
    bound: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse FIELD<=NUMBER or FIELD>=NUMBER; UserError for any other text."""
        match = re.fullmatch(r"\s*([^<>=\s]+)\s*(<=|>=)\s*(\S+)\s*", text)
        if not match:
            raise UserError(f"--constraint {text!r}: write FIELD<=NUMBER or FIELD>=NUMBER, for instance "
                            "keep_fraction<=0.6.")
        if match[1] not in _KNOWN:
            raise unknown("metric", match[1], OBJECTIVES).within(f"--constraint {text!r}")
        try:
            bound = float(match[3])
        except ValueError:
            bound = math.nan
        if not math.isfinite(bound):
            raise UserError(f"--constraint {text!r}: {match[3]!r} is no number.")
        return cls(match[1], match[2], bound)

    def violation(self, value: float) -> float:
        """Return the amount by which a value breaks the bound; zero or less if it keeps the bound."""
        return value - self.bound if self.relation == "<=" else self.bound - value

    def __str__(self) -> str:
        return f"{self.metric}{self.relation}{repr(self.bound).removesuffix('.0')}"  # exact, for sweep.yaml


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """Whole definition of a sweep: space, base, objectives, protocol, strategy, budget and resources."""

    name: str
    space: SearchSpace
    base: TrainConfig  # shared by all trials; the configuration of trial 0
    objectives: tuple[Objective, ...] = (Objective("val_class_il", "max"),)  # best and pruning use the first
    constraints: tuple[Constraint, ...] = ()
    protocol: str = "val-all-seen"  # decides the images on which configurations are chosen
    report_on: dict[str, Any] = field(default_factory=dict)  # fields in which the reported stream differs from the base
    confirms: str | None = None  # the sweep whose choice a confirmation tests
    sampler: str = "tpe"
    grid_levels: int = 3  # values of each range that the sampler grid tries
    pruner: str = "none"
    grace_tasks: int = 2  # tasks that a trial trains before it may be pruned
    seeds: int = 1  # number of training seeds of each trial, from base.seed on
    points: tuple[dict[str, Any], ...] = ()  # configurations to try right after trial 0: searched fields, real values
    warm_start: str | None = None  # earlier sweep whose results or configurations this one begins with
    trials: int = 20
    time_budget_seconds: float | None = None  # of one driver session
    cpu_budget_seconds: float | None = None  # CPUs times seconds that trials held them, over all sessions
    gpu_budget_seconds: float | None = None
    target: float | None = None  # value of the first objective at which the sweep may end
    seed: int = 0  # of the sampler
    deterministic_order: bool = False
    cpus_per_trial: float = 1
    gpus_per_trial: float = 0
    pack_gpus: bool = False  # each session measures the best number of trials per GPU; gpus_per_trial is the most
    retries: int = 3  # of a trial whose worker or node was lost
    max_concurrent: int | None = None  # trials at a time; None: as many as the resources hold
    ledger_url: str | None = None  # an Optuna storage; None: ledger.db in the sweep's folder
    tracking_uri: str | None = None  # MLflow's; None: the store beside the sweep's folder

    def __post_init__(self) -> None:
        """Check every value; UserError for one that is not allowed."""
        for spec in dataclasses.fields(self):
            value = plain(getattr(self, spec.name))
            if spec.type in (int, int | None) and isinstance(value, float):
                if not value.is_integer():
                    raise UserError(f"{_flag(spec.name)} {value} is not a whole number.")
                value = int(value)
            object.__setattr__(self, spec.name, value)
        for name, least in (("trials", 1), ("max_concurrent", 1), ("cpus_per_trial", 0.01), ("gpus_per_trial", 0),
                            ("seed", 0), ("seeds", 1), ("retries", 0), ("grace_tasks", 1), ("grid_levels", 2)):
            value = getattr(self, name)
            if value is not None and not (value >= least and math.isfinite(value)):
                raise UserError(f"{_flag(name)} {value:g} is out of range; it must be at least {least:g}.")
        for name in ("time_budget_seconds", "cpu_budget_seconds", "gpu_budget_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{_flag(name).removesuffix('-seconds')} {value:g}s is out of range; it must be more "
                                "than 0.")
        if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise UserError(f"--gpus-per-trial {self.gpus_per_trial:g}: above 1 it must be a whole number.")
        if self.pack_gpus and self.gpus_per_trial != 1:
            raise UserError(f"--gpus-per-trial auto chooses a part of one GPU, not {self.gpus_per_trial:g}.")
        if self.gpu_budget_seconds is not None and not self.gpus_per_trial:
            raise UserError("--gpu-budget: these trials use no GPU; say --gpus-per-trial, or --cpu-budget.")
        self._check_protocol()
        self._check_metrics()
        self._check_reported()
        self._check_sampler()
        self._check_pruner()
        for name in ("ledger_url", "tracking_uri"):
            refuse_unusable(_flag(name), getattr(self, name))
        try:
            self.space.stored(self.base.to_dict())
        except UserError as error:  # the base is trial 0
            raise UserError(f"{error} Widen the space, or give the base another value with --set.") from None
        varied = [p.name for p in self.space.parameters]
        for number, point in enumerate(self.points, start=1):
            try:
                for name in point:
                    if name not in varied:
                        raise unknown(f"field of the space {self.space.name}", name, varied)
                self.space.stored(self.base.replace(**point).to_dict())
            except UserError as error:
                raise error.within(f"--points, configuration {number}") from None
        object.__setattr__(self, "points", tuple({name: checked(name, value) for name, value in point.items()}
                                                 for point in self.points))
        if len(self.points) >= self.trials:
            raise UserError(f"--points has {len(self.points)} configurations; with trial 0 that needs --trials "
                            f"{len(self.points) + 1} or more, not {self.trials}.")

    def _check_protocol(self) -> None:
        if self.protocol not in (*PROTOCOLS, CONFIRMATION):
            raise unknown("protocol", self.protocol, PROTOCOLS)
        if self.base.evaluate_on != images_of(self.protocol):
            raise UserError(f"evaluate_on {self.base.evaluate_on!r}: under the protocol {self.protocol} configurations "
                            f"are measured on {images_of(self.protocol)} images.")
        if (self.protocol == CONFIRMATION) != (self.confirms is not None):
            raise UserError("only a confirmation confirms another sweep; start one with dynamos-sweep confirm.")
        varied = [p.name for p in self.space.parameters]
        for name in self.report_on:
            if name in varied:
                raise UserError(f"--report-on {name}: the space {self.space.name} varies it.")
            if name in ("evaluate_on", "device", "seed"):
                raise UserError(f"--report-on {name}: it does not say what is trained.")
        reported = self.reported_base
        if self.protocol == "first-k":
            if self.base.dataset in ROTATING:
                raise UserError(f"--protocol first-k: {self.base.dataset} has no tasks.")
            whole, part = reported.n_tasks or most_tasks(reported), self.base.n_tasks
            if list(self.report_on) != ["n_tasks"] or part is None or part >= whole:
                raise UserError(f"--protocol first-k searches on the first tasks of {whole}; say on how many with "
                                f"--first-k, from 1 to {whole - 1}.")
        elif self.protocol == "two-stream":
            if all(getattr(reported, name) == getattr(self.base, name) for name in ("dataset", "class_order_seed")):
                raise UserError("--protocol two-stream reports on another stream or class order than it searches on; "
                                "say which with --report-on dataset=D or --report-on class_order_seed=S.")
        elif self.report_on:
            raise UserError(f"--report-on is for --protocol two-stream, not {self.protocol}.")

    def _check_metrics(self) -> None:
        if not self.objectives:
            raise UserError("a sweep needs an objective.")
        metrics = [o.metric for o in self.objectives]
        if len(set(metrics)) < len(metrics):
            raise UserError(f"--objective: {' '.join(metrics)} names a metric twice.")
        rotating = self.base.dataset in ROTATING
        there = [m for m in self.metrics if not (rotating and m.removeprefix(self.accuracy_prefix) in _NEEDS_TASKS)]
        for metric in [*metrics, *(c.metric for c in self.constraints)]:
            if rotating and metric in self.metrics and metric not in there:
                raise UserError(f"{metric} does not exist on {self.base.dataset}, which has no tasks; it has "
                                f"{', '.join(there)}.")
            if metric not in self.metrics:
                raise UserError(f"{metric} is not measured under the protocol {self.protocol}; there are "
                                f"{', '.join(there)}.")
            if self.protocol == "val-current" and metric.removeprefix(self.accuracy_prefix) in _OF_ALL_TASKS:
                allowed = [m for m in there if m.removeprefix(self.accuracy_prefix) not in _OF_ALL_TASKS]
                raise UserError(f"{metric} looks back at images of earlier tasks, which the protocol val-current does "
                                f"not; it has {', '.join(allowed)}.")
        if self.target is not None and not math.isfinite(self.target):
            raise UserError(f"--target {self.target} is no number.")

    def _check_reported(self) -> None:
        """Check that every choice can be trained, and its first objective tested, on the reported stream."""
        reported = self.reported_base
        for parameter in self.space.parameters:
            for value in parameter.choices or (parameter.low, parameter.high):
                change = {parameter.name: value}
                # A value that the searched stream refuses, too, fails as a trial and is never chosen.
                if (why := _refusal(reported, change)) is not None and _refusal(self.base, change) is None:
                    named = " ".join(f"{name}={of}" for name, of in self.report_on.items())
                    raise UserError(f"--report-on {named}: a value of the space {self.space.name} does not fit. {why}")
        if reported.dataset in ROTATING and not _without_tasks(self.objectives[0]):
            *allowed, last = [m for m in self.metrics if _without_tasks(Objective.parse(m))]
            raise UserError(f"--objective {self.objectives[0].metric}: {reported.dataset}, which --report-on names, "
                            f"has no tasks, so that no confirmation could test it; use {', '.join(allowed)} or {last}.")

    def _check_sampler(self) -> None:
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)
        if len(self.objectives) > 1 and self.sampler in SINGLE_OBJECTIVE_SAMPLERS:
            others = [s for s in SAMPLERS if s not in SINGLE_OBJECTIVE_SAMPLERS]
            raise UserError(f"--sampler {self.sampler} knows one objective only; for several use "
                            f"{', '.join(others)}.")
        if self.sampler != "grid" and self.grid_levels != 3:
            raise UserError(f"--grid-levels is for --sampler grid, not {self.sampler}.")
        if self.sampler == "grid":
            grid(self.space, self.grid_levels)  # refuses one that is too large

    def _check_pruner(self) -> None:
        if self.pruner not in PRUNERS:
            raise unknown("pruner", self.pruner, PRUNERS)
        if self.pruner == "none":
            return
        if self.base.dataset in ROTATING:
            raise UserError(f"--pruner {self.pruner}: {self.base.dataset} has no task borders at which trials could be "
                            "compared; use --pruner none.")
        if self.pruner == "wilcoxon" and self.seeds < WILCOXON_SEEDS:
            raise UserError(f"--pruner wilcoxon compares seeds, and {self.seeds} cannot tell anything; use --seeds "
                            f"{WILCOXON_SEEDS} or more.")
        if self.pruner == "halving" and self.deterministic_order:
            raise UserError("--pruner halving compares trials as they report, which --deterministic-order forbids; "
                            "use median, percentile, patient, wilcoxon or none.")

    @property
    def metrics(self) -> dict[str, str]:
        """The better direction of each metric of the sweep's results, by metric."""
        return metrics_on(images_of(self.protocol))

    @property
    def publishable(self) -> bool:
        """Whether no configuration is chosen on test images."""
        return self.protocol != "test"

    @property
    def reported_base(self) -> TrainConfig:
        """The base on the reported stream, to which a chosen configuration is applied."""
        return self.base.replace(**self.report_on)

    @property
    def accuracy_prefix(self) -> str:
        """Prefix of the names of accuracies: "val_" or "test_"."""
        return _PREFIXES[self.base.evaluate_on]

    @property
    def base_is_preset(self) -> bool:
        """Whether the base has the stream's preset values."""
        base = self.base
        if (base.dataset, base.buffer_size) not in preset_names() or base.model != "dynamos":
            return False
        return base.replace(**preset(base.dataset, base.buffer_size)) == base

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """Training seeds of every trial."""
        return tuple(range(self.base.seed, self.base.seed + self.seeds))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for sweep.yaml."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return values | {"space": {"name": self.space.name} | self.space.to_dict(), "base": self.base.to_dict(),
                         "objectives": [str(o) for o in self.objectives],
                         "constraints": [str(c) for c in self.constraints], "points": [dict(p) for p in self.points]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the SweepConfig of the values that `to_dict` returned; UserError for an unknown key."""
        names = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise unknown("key", key, names).within("sweep.yaml")
        space = dict(values["space"])
        return cls(**dict(values) | {
            "space": SearchSpace.from_dict(space.pop("name"), space), "base": TrainConfig.from_dict(values["base"]),
            "objectives": tuple(Objective.parse(text) for text in values["objectives"]),
            "constraints": tuple(Constraint.parse(text) for text in values["constraints"]),
            "points": tuple(values["points"])})


def refuse_in_vain(config: SweepConfig) -> None:
    """Raise UserError if a setting of a new sweep would have no effect; an existing sweep is read all the same."""
    space, models = config.space, [config.base.model]
    if config.constraints and config.sampler in UNCONSTRAINED_SAMPLERS:
        raise UserError(f"--sampler {config.sampler} knows no constraint, and would search as if there were none; with "
                        f"--constraint use {', '.join(s for s in SAMPLERS if s not in UNCONSTRAINED_SAMPLERS)}.")
    if config.sampler == "cmaes" and all(p.choices is not None for p in space.parameters):
        raise UserError(f"--sampler cmaes searches ranges, and the space {space.name} has choices alone; use "
                        f"{', '.join(s for s in SAMPLERS if s not in RANGE_SAMPLERS)}.")
    for parameter in space.parameters:
        if parameter.name == "model":
            models = list(parameter.choices or ())
    idle = [p.name for p in space.parameters if all(p.name in unused(model) for model in models)]
    if idle and config.confirms is None:  # a confirmation varies every field in which a baseline differs
        used = [p.name for p in space.parameters if p.name not in idle]
        instead = f"; give --space a file of {', '.join(used)} alone." if used else "."
        raise UserError(f"the space {space.name} varies {', '.join(idle)}, which {' and '.join(models)} "
                        f"{'does' if len(models) == 1 else 'do'} not use{instead}")


def _refusal(config: TrainConfig, change: Mapping[str, Any]) -> str | None:
    """The message of the UserError that a change of a configuration raises, or None."""
    try:
        config.replace(**change)
    except UserError as error:
        return str(error)
    return None


def _without_tasks(objective: Objective) -> bool:
    """Whether a stream without tasks has the metric that a confirmation tests for an objective."""
    return objective.confirmed.metric.removeprefix(_PREFIXES["test"]) not in _NEEDS_TASKS


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
