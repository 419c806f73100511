"""SweepConfig: the whole definition of a sweep, as in sweep.yaml."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from dynamos.config import ALIKE, TrainConfig, preset, preset_names, setting_of, unused
from dynamos.errors import UserError, unknown
from dynamos.fields import POSITIVE, Range, plain, setting, settings
from dynamos.methods import method_of
from dynamos.methods.hyperparameters import is_trainer, of_method
from dynamos.metrics import PREFIXES
from dynamos.streams.classes import most_tasks
from dynamos.streams.names import ROTATING, lack_of, metrics_missing
from dynamos.user_code import code_of
from results.definition.objectives import BY_EPOCH, Constraint, Objective, metrics_on
from results.definition.protocols import CONFIRMATION, PROTOCOLS, images_of
from results.definition.urls import refuse_unusable
from results.strategy.pruners import BY_RUNG, PRUNERS
from results.strategy.pruning.leader import LEADER_SEEDS, WILCOXON_SEEDS
from results.strategy.samplers import (
    RANGE_SAMPLERS,
    SAMPLERS,
    SINGLE_OBJECTIVE_SAMPLERS,
    UNCONSTRAINED_SAMPLERS,
    allowed_share,
    grid,
)
from results.strategy.seeds import POLICIES, POOL, RACE_SHARE, race_size, resolved
from search_spaces.parameter import value_text
from search_spaces.space import SearchSpace, named_spaces, read_space

_OF_ALL_TASKS = ("class_il", "class_il_median", "task_il", "forgetting")
KEEP = ("all", "best", "none")  # rules of keep_checkpoints (results/checkpoints.py)
# Values of fields that a sweep.yaml of an earlier version lacks, where they are not the defaults.
EARLIER = {"seed_policy": "shared"}


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """Whole definition of a sweep: space, base, objectives, protocol, strategy, budget."""

    name: str
    space: SearchSpace
    base: TrainConfig  # shared by all trials; the configuration of trial 0
    # the first one decides the best trial and pruning
    objectives: tuple[Objective, ...] = (Objective("val_class_il", "max"),)
    constraints: tuple[Constraint, ...] = ()
    protocol: str = setting(
        "val-all-seen",
        "main",
        "images on which configurations are chosen. "
        + "; ".join(
            f"{name}: {text.removeprefix('chosen on ')}" for name, text in PROTOCOLS.items()
        )
        + " (not publishable)",
        tuple(PROTOCOLS),
        label="Protocol",
        flag="protocol",
        metavar="P",
    )
    # fields that differ from the base on the reported stream
    report_on: dict[str, Any] = field(default_factory=dict)
    confirms: str | None = None  # the sweep whose choice a confirmation tests
    # "auto" is replaced by the sampler that it stands for
    sampler: str = setting(
        "auto",
        "main",
        f"method that suggests configurations: {', '.join(SAMPLERS)}; auto: noisy for one "
        "objective, tpe for several",
        ("auto", *SAMPLERS),
        label="Sampler",
        flag="sampler",
        metavar="NAME",
    )
    seed: int = setting(
        0,
        "search",
        "seed of the sampler; `base` seed=S is the first training seed of the trials",
        Range(0, 2**31 - 1),
        label="Sampler’s seed",
        flag="seed",
        metavar="S",
    )
    grid_levels: int = setting(
        3,
        "search",
        "number of values per range, for `sampler` grid",
        Range(2, 10_000),
        label="Levels of the sampler grid",
        flag="grid-levels",
        metavar="L",
    )
    pruner: str = setting(
        "none",
        "main",
        f"rule that stops bad trials early: {', '.join(PRUNERS)}",
        tuple(PRUNERS),
        label="Pruner",
        flag="pruner",
        metavar="NAME",
    )
    grace_tasks: int = setting(
        2,
        "search",
        "tasks that a trial learns before it may be pruned",
        Range(1, 1000),
        label="Tasks before pruning",
        flag="grace-tasks",
        metavar="G",
    )
    grace_epochs: int = setting(
        0,
        "search",
        "epochs that a trial trains before `pruner` halving may stop it; its rungs are then at "
        "this number of epochs, twice it, four times it and so on, also within tasks, where "
        "trials read validation images; 0: rungs at tasks",
        Range(0, 100_000),
        label="Epochs before pruning",
        flag="grace-epochs",
        metavar="E",
    )
    seeds: int = setting(
        1,
        "main",
        "training seeds per trial, trained together; a trial is judged by their mean",
        Range(1, 1000),
        label="Seeds per trial",
        flag="seeds",
        metavar="K",
    )
    # "auto" is replaced by the policy that it stands for
    seed_policy: str = setting(
        "auto",
        "search",
        "training seeds of the trials. fresh: each trial takes the next seeds, so that no trial is "
        "chosen for a lucky seed; shared: all trials have the same; auto: fresh, except with "
        "`pruner` wilcoxon, which compares trials seed by seed",
        POLICIES,
        label="Training seeds",
        flag="seed-policy",
        metavar="P",
    )
    replicates: float = setting(
        0.0,
        "search",
        "share of the trials that run a configuration again on its next seeds: the leader or its "
        "likeliest challenger",
        Range(0, 0.9),
        label="Share of replicates",
        flag="replicates",
        metavar="SHARE",
    )
    race: int = setting(
        0,
        "search",
        "number of configurations that the last quarter of the trials compares on common fresh "
        "seeds, until they fall behind; 0 for no race",
        Range(0, 100),
        label="Configurations in the final race",
        flag="race",
        metavar="K",
    )
    # configurations to try right after trial 0: searched fields, real values
    points: tuple[dict[str, Any], ...] = ()
    warm_start: str | None = setting(
        None,
        "search",
        "start with the results of an earlier sweep, or with its best configurations if images or "
        "settings differ",
        label="Start with the results of sweep",
        flag="warm-start",
        metavar="SWEEP",
    )
    stop_when_done: bool = setting(
        False,
        "search",
        "try no new configuration when a model of the trials expects less from the rest of the "
        "space than the noise of a confirmation; a race still follows",
        label="Stop when little is left to gain",
        flag="stop-when-done",
    )
    deterministic_order: bool = setting(
        False,
        "search",
        "the same seed gives the same configurations, whatever the timing: trials are suggested in "
        "batches, and each batch waits for its slowest trial",
        label="Deterministic order",
        flag="deterministic-order",
    )
    trials: int = setting(
        20,
        "main",
        "number of trials, trial 0 included",
        Range(1, 100_000),
        label="Trials",
        flag="trials",
        metavar="T",
    )
    time_budget_seconds: float | None = setting(
        None,
        "budgets",
        "end the session after this long, for instance 90s, 30m or 2h",
        POSITIVE,
        unit="s",
        label="Time, seconds",
        flag="time-budget",
        metavar="30m",
        session=True,
    )
    cpu_budget_seconds: float | None = setting(
        None,
        "budgets",
        "stop after this much CPU time of all trials, over all sessions, for instance 8h",
        POSITIVE,
        unit="s",
        label="CPU seconds",
        flag="cpu-budget",
        metavar="8h",
        session=True,
    )
    gpu_budget_seconds: float | None = setting(
        None,
        "budgets",
        "stop after this much GPU time of all trials, over all sessions",
        POSITIVE,
        unit="s",
        label="GPU seconds",
        flag="gpu-budget",
        metavar="8h",
        session=True,
    )
    target: float | None = setting(
        None,
        "budgets",
        "stop when the first objective reaches this value",
        label="Target value",
        flag="target",
        metavar="VALUE",
        session=True,
    )
    cpus_per_trial: float = setting(
        1.0,
        "resources",
        "CPU cores per trial, or per worker with `cohort`; a new sweep also uses it as the number "
        "of threads",
        Range(0.01, 1024),
        label="CPUs per trial",
        flag="cpus-per-trial",
        metavar="C",
        session=True,
    )
    gpus_per_trial: float = setting(
        0.0,
        "resources",
        "GPUs per trial: 0 trains on CPUs, 0.125 runs eight trials on a GPU, auto measures the "
        "fastest packing for each kind of GPU",
        Range(0, 64),
        label="GPUs per trial",
        flag="gpus-per-trial",
        metavar="G|auto",
        session=True,
    )
    pack_gpus: bool = setting(
        False,
        "resources",
        "measure once for each kind of GPU how many trials per GPU are fastest (auto)",
        label="Pack trials on GPUs",
        session=True,
    )
    cohort: int = setting(
        1,
        "resources",
        "trials that a worker trains as one program, which takes less time for small images; the "
        "worker holds the CPUs and GPUs of one trial; auto measures the fastest number once for "
        "each kind of machine",
        Range(1, 1024),
        label="Trials per worker",
        flag="cohort",
        metavar="K|auto",
        session=True,
    )
    pack_cohorts: bool = setting(
        False,
        "resources",
        "measure once for each kind of machine how many trials per worker are fastest (auto)",
        label="Pack trials into workers",
        session=True,
    )
    max_concurrent: int | None = setting(
        None,
        "resources",
        "trials at a time (default: as many as fit)",
        Range(1, 100_000),
        label="Trials at a time",
        flag="max-concurrent",
        metavar="M",
        session=True,
    )
    retries: int = setting(
        3,
        "resources",
        "restarts of a trial that lost its worker or node; a trial that fails by its own error "
        "is not restarted",
        Range(0, 1000),
        label="Retries of a lost trial",
        flag="retries",
        metavar="R",
        session=True,
    )
    keep_checkpoints: str = setting(
        "all",
        "resources",
        "checkpoints of ended trials that stay on the disk: all; best, those of the ten best "
        "configurations and of the Pareto set; or none. Those that continue a trial always stay",
        KEEP,
        label="Checkpoints kept",
        flag="keep-checkpoints",
        metavar="WHICH",
        session=True,
    )
    ledger_url: str | None = setting(
        None,
        "where",
        "database that keeps the ledger, for instance postgresql+psycopg://host/name (default: a "
        "file in the sweep's folder)",
        flag="ledger-url",
        metavar="URL",
    )
    tracking_uri: str | None = setting(
        None,
        "where",
        "MLflow server (default: MLFLOW_TRACKING_URI, or a store in `storage`)",
        flag="tracking-uri",
        metavar="URI",
    )

    def __post_init__(self) -> None:
        """Check all values; raise UserError for one that is not allowed."""
        for name in ("report_on", "points"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        object.__setattr__(self, "base", self.base.replace(**self.space.fixed))
        object.__setattr__(self, "space", self.space.within(self.base.to_dict()))
        described: type = type(self)
        for about in settings(described).values():
            shown = f"`{about.name}`"
            value = about.typed(getattr(self, about.name), shown)
            # Allowed texts are checked below, because a confirmation has a protocol that is not
            # among them.
            object.__setattr__(
                self, about.name, value if about.kind is str else about.within(value, shown)
            )
        if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise UserError(
                f"`gpus_per_trial` {self.gpus_per_trial:g}: above 1 it must be a whole number."
            )
        if self.pack_gpus and self.gpus_per_trial != 1:
            raise UserError(
                f"`gpus_per_trial` auto chooses a part of one GPU, not {self.gpus_per_trial:g}."
            )
        if self.gpu_budget_seconds is not None and not self.gpus_per_trial:
            raise UserError(
                "`gpu_budget_seconds`: these trials use no GPU; add `gpus_per_trial`, or use "
                "`cpu_budget_seconds`."
            )
        if self.pack_cohorts and self.cohort > 1:
            raise UserError(f"`cohort` auto chooses the number, which is not {self.cohort}.")
        if self.cohort > 1 and (why := self.uneven) is not None:
            raise UserError(f"`cohort` {self.cohort}: {why}; use `cohort` 1.")
        if self.keep_checkpoints not in KEEP:
            raise unknown("keep_checkpoints", self.keep_checkpoints, KEEP)
        self._check_protocol()
        self._check_metrics()
        self._check_reported()
        self._check_sampler()
        self._check_pruner()
        self._check_seeds()
        for name in ("ledger_url", "tracking_uri"):
            refuse_unusable(f"`{name}`", getattr(self, name))
        try:
            self.space.check(self.base.to_dict())
        except UserError as error:  # the base is trial 0
            why = (
                str(error)
                if self.space.forbids(self.base.to_dict()) is None
                else f"trial 0: {error}"
            )
            raise UserError(f"{why} Widen the space, or change `base`.") from None
        varied = [p.name for p in self.space.parameters]
        for number, point in enumerate(self.points, start=1):
            try:
                for name in point:
                    if name not in varied:
                        raise unknown(f"field of the space {self.space.name}", name, varied)
                values = self.base.replace(**point).to_dict()
                self.space.check(values)
                active = [p.name for p in self.space.active(values)]
                for p in self.space.parameters:
                    if p.name in point and p.name not in active:
                        raise UserError(
                            f"{p.name} is searched only if {p.condition}; leave it out."
                        )
            except UserError as error:
                raise error.within(f"`points`, configuration {number}") from None
        object.__setattr__(
            self,
            "points",
            tuple(
                {name: self.base.replace(**point).to_dict()[name] for name in point}
                for point in self.points
            ),
        )
        if len(self.points) >= self.trials:
            raise UserError(
                f"`points` has {len(self.points)} configurations; with trial 0 that needs `trials` "
                f"{len(self.points) + 1} or more, not {self.trials}."
            )

    def _check_protocol(self) -> None:
        if self.protocol not in (*PROTOCOLS, CONFIRMATION):
            raise unknown("protocol", self.protocol, PROTOCOLS)
        if self.base.evaluate_on != images_of(self.protocol):
            raise UserError(
                f"evaluate_on {self.base.evaluate_on!r}: under the protocol {self.protocol} "
                f"configurations are measured on {images_of(self.protocol)} images."
            )
        if (self.protocol == CONFIRMATION) != (self.confirms is not None):
            raise UserError("`confirms` is set by dynamos-sweep confirm only.")
        varied = [p.name for p in self.space.parameters]
        for name in self.report_on:
            if name in varied:
                raise UserError(f"`report_on` {name}: the space {self.space.name} varies it.")
            if name in ("evaluate_on", "device", "seed", "readings"):
                raise UserError(
                    f"`report_on` {name}: this field does not change the stream or the training."
                )
        reported = self.reported_base
        if self.protocol == "first-k":
            if self.base.dataset in ROTATING:
                raise UserError(f"`protocol` first-k: {self.base.dataset} has no tasks.")
            if reported.n_tasks is None and self.own_streams:
                # reading a configuration runs no code of a user
                raise UserError(
                    f"`protocol` first-k: name the number of tasks of {reported.dataset} with "
                    "`report_on` n_tasks."
                )
            whole, part = reported.n_tasks or most_tasks(reported), self.base.n_tasks
            if list(self.report_on) != ["n_tasks"] or part is None or part >= whole:
                raise UserError(
                    f"`protocol` first-k searches on the first K of {whole} tasks; set `first_k` "
                    f"from 1 to {whole - 1}."
                )
        elif self.protocol == "two-stream":
            if all(
                getattr(reported, name) == getattr(self.base, name)
                for name in ("dataset", "class_order_seed")
            ):
                raise UserError(
                    "`protocol` two-stream needs another stream or class order to report on; name "
                    "it with `report_on` dataset=D or `report_on` "
                    "class_order_seed=S."
                )
        elif self.report_on:
            raise UserError(f"`report_on` is for `protocol` two-stream, not {self.protocol}.")

    def _check_metrics(self) -> None:
        if not self.objectives:
            raise UserError("a sweep needs an objective.")
        metrics = [o.metric for o in self.objectives]
        if len(set(metrics)) < len(metrics):
            raise UserError(f"`objectives`: {' '.join(metrics)} names a metric twice.")
        self.refuse_metrics(metrics_missing(self.base.dataset), lack_of(self.base.dataset))
        lacks = metrics_missing(self.base.dataset)
        there = [m for m in self.metrics if m.removeprefix(self.accuracy_prefix) not in lacks]
        for metric in [*metrics, *(c.metric for c in self.constraints)]:
            if metric.endswith("class_il_median") and not self.base.readings:
                raise UserError(
                    f"{metric} is a median of readings, and the trials take none; set readings, "
                    "for example to 4."
                )
            if metric not in self.metrics:
                raise UserError(
                    f"{metric} is not measured under the protocol {self.protocol}; use "
                    f"{', '.join(there)}."
                )
            if (
                self.protocol == "val-current"
                and metric.removeprefix(self.accuracy_prefix) in _OF_ALL_TASKS
            ):
                allowed = [
                    m for m in there if m.removeprefix(self.accuracy_prefix) not in _OF_ALL_TASKS
                ]
                raise UserError(
                    f"{metric} uses images of earlier tasks, which the protocol val-current does "
                    f"not allow; use {', '.join(allowed)}."
                )
        if self.target is not None and not math.isfinite(self.target):
            raise UserError(f"`target` {self.target} is not a number.")

    def refuse_metrics(self, lacks: Sequence[str], why: str) -> None:
        """Raise UserError for an objective or a constraint among metrics that the stream lacks.

        `why` is the reason, as a predicate.
        """
        there = [m for m in self.metrics if m.removeprefix(self.accuracy_prefix) not in lacks]
        for metric in [o.metric for o in self.objectives] + [c.metric for c in self.constraints]:
            if metric in self.metrics and metric not in there:
                raise UserError(
                    f"{metric} does not exist on {self.base.dataset}, which {why}; use "
                    f"{', '.join(there)}."
                )

    def _check_reported(self) -> None:
        """Check that every choice can be trained and tested on the reported stream."""
        reported = self.reported_base
        for parameter in self.space.parameters:
            for value in parameter.choices or (parameter.low, parameter.high):
                change = parameter.conditions_met | {parameter.name: value}
                # A value that the searched stream refuses, too, fails as a trial and is never
                # chosen.
                if (why := _refusal(reported, change)) is not None and _refusal(
                    self.base, change
                ) is None:
                    named = " ".join(f"{name}={of}" for name, of in self.report_on.items())
                    raise UserError(
                        f"`report_on` {named}: a value of the space {self.space.name} does not "
                        f"fit. {why}"
                    )
        lacks = metrics_missing(reported.dataset)
        if not _tested(self.objectives[0], lacks):
            *allowed, last = [m for m in self.metrics if _tested(Objective.parse(m), lacks)]
            raise UserError(
                f"`objectives` {self.objectives[0].metric}: {reported.dataset}, which `report_on` "
                f"names, {lack_of(reported.dataset)}, so a confirmation cannot test it; use "
                f"{', '.join(allowed)} or {last}."
            )

    def _check_sampler(self) -> None:
        if self.sampler == "auto":
            object.__setattr__(self, "sampler", "noisy" if len(self.objectives) == 1 else "tpe")
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, ("auto", *SAMPLERS))
        if len(self.objectives) > 1 and self.sampler in SINGLE_OBJECTIVE_SAMPLERS:
            others = [s for s in SAMPLERS if s not in SINGLE_OBJECTIVE_SAMPLERS]
            raise UserError(
                f"`sampler` {self.sampler} takes one objective; for several use "
                f"{', '.join(others)}."
            )
        if self.stop_when_done and len(self.objectives) > 1:
            raise UserError(
                "`stop_when_done` judges what is left to gain in one objective; use one, or leave "
                "it out."
            )
        if self.sampler != "grid" and self.grid_levels != 3:
            raise UserError(f"`grid_levels` is for `sampler` grid, not {self.sampler}.")
        if self.sampler == "grid":
            grid(self.space, self.grid_levels)  # refuses one that is too large

    def _check_pruner(self) -> None:
        if self.pruner not in PRUNERS:
            raise unknown("pruner", self.pruner, PRUNERS)
        self._check_grace_epochs()
        if self.pruner == "none":
            return
        if self.base.dataset in ROTATING:
            raise UserError(
                f"`pruner` {self.pruner}: {self.base.dataset} has no tasks after which trials "
                "can be compared; use `pruner` none."
            )
        if self.pruner == "wilcoxon" and self.seeds < WILCOXON_SEEDS:
            raise UserError(
                f"`pruner` wilcoxon compares seeds and needs `seeds` {WILCOXON_SEEDS} or more, not "
                f"{self.seeds}."
            )
        if self.pruner == "leader" and self.seeds < LEADER_SEEDS:
            raise UserError(
                "`pruner` leader compares a trial with the worst seed of the best one and needs "
                f"`seeds` {LEADER_SEEDS} or more, not {self.seeds}."
            )
        if self.pruner == "pareto" and len(self.objectives) < 2:
            raise UserError(
                "`pruner` pareto ranks trials by several objectives; for one use `pruner` halving."
            )
        if self.pruner in BY_RUNG and self.deterministic_order:
            others = [name for name in PRUNERS if name not in (*BY_RUNG, "none")]
            raise UserError(
                f"`pruner` {self.pruner} does not work with `deterministic_order`, because it "
                f"compares trials while they run; use {', '.join(others)} or none."
            )

    def _check_grace_epochs(self) -> None:
        if not self.grace_epochs:
            return
        metric, models = self.objectives[0].metric, (self.base.model, *code_in(self.space, "model"))
        own, why = next(filter(is_trainer, models), None), None
        if self.pruner != "halving":
            why = f"it is for `pruner` halving, not {self.pruner}"
        elif own is not None:
            why = f"the trainer {own} yields results by task and has no epochs; use `grace_tasks`"
        elif self.base.n_epochs == 1:
            why = "a task has one epoch (n_epochs 1); use `grace_tasks`"
        elif any(p.name == "n_epochs" for p in self.space.parameters):
            why = f"the space {self.space.name} varies n_epochs; use `grace_tasks`"
        elif images_of(self.protocol) != "validation":
            why = f"trials read validation images only, not those of `protocol` {self.protocol}"
        elif metric not in BY_EPOCH:
            why = f"within a task trials read {' and '.join(BY_EPOCH)}, not {metric}"
        if why is not None:
            raise UserError(f"`grace_epochs` {self.grace_epochs}: {why}.")

    def _check_seeds(self) -> None:
        if self.seed_policy not in POLICIES:
            raise unknown("seed_policy", self.seed_policy, POLICIES)
        paired = self.pruner == "wilcoxon" or self.confirms is not None
        object.__setattr__(self, "seed_policy", resolved(self.seed_policy, paired))
        if paired and self.seed_policy == "fresh":
            raise UserError(
                "`seed_policy` fresh: `pruner` wilcoxon compares trials seed by seed; use "
                "`seed_policy` shared."
            )
        self.refuse_beyond_pool(self.trials)
        if self.race == 1:
            raise UserError("`race` 1 compares nothing; use 2 or more, or 0 for no race.")
        if self.race and len(self.objectives) > 1:
            raise UserError(
                "`race` compares configurations in one objective; use one, or `race` 0."
            )
        if self.race > race_size(self.trials):
            raise UserError(
                f"`race` {self.race} needs {self.race} trials for its first round, and the last "
                f"quarter of `trials` {self.trials} has {race_size(self.trials)}; use `trials` "
                f"{RACE_SHARE * self.race} or more."
            )

    def refuse_fields(self, names: Collection[str], why: str) -> None:
        """Raise UserError if the space varies a field that has no effect, for a reason."""
        for parameter in self.space.parameters:
            if parameter.name in names:
                raise UserError(
                    f"the space {self.space.name} varies {parameter.name}, which has no effect "
                    f"{why}."
                )

    def refuse_beyond_pool(self, trials: int) -> None:
        """Raise UserError if so many trials need more fresh seeds than the tuning pool has."""
        if self._takes_fresh_seeds and trials * self.seeds > POOL:
            raise UserError(
                f"`trials` {trials} with `seeds` {self.seeds} need {trials * self.seeds} fresh "
                f"seeds, and a sweep has {POOL}."
            )

    @property
    def uneven(self) -> str | None:
        """The reason why trials cannot train as one program; None if they can."""
        varied = [p.name for p in self.space.parameters if p.name in ALIKE]
        if varied:
            return (
                f"the space {self.space.name} varies {varied[0]}, in which the trials of a worker "
                "must agree"
            )
        if self.base.step_mode == "compile":
            return "step_mode compile is for single trials"
        if not method_of(self.base.model).stacked:
            return f"runs of {self.base.model} train one after the other"
        if code_of(self.base.network) is not None:
            return f"runs with {self.base.network} train one after the other"
        return None

    @property
    def own_methods(self) -> set[str]:
        """Methods in users' files, FILE.py:NAME, that trials may have."""
        return self._own("model")

    @property
    def own_networks(self) -> set[str]:
        """Networks in users' files, FILE.py:NAME, that trials may have."""
        return self._own("network")

    @property
    def own_streams(self) -> set[str]:
        """Streams in users' files, FILE.py:NAME, that are searched or reported on."""
        return self._own("dataset")

    @property
    def own_code(self) -> set[str]:
        """Methods, streams and networks in users' files."""
        return self.own_methods | self.own_streams | self.own_networks

    def _own(self, field: str) -> set[str]:
        values = [getattr(self.base, field), getattr(self.reported_base, field)]
        values += [str(point[field]) for point in self.points if field in point]
        return {one for one in values if code_of(one) is not None} | code_in(self.space, field)

    @property
    def repeats(self) -> bool:
        """True if trials run known configurations again, on other seeds."""
        return self.replicates > 0 or self.race > 0

    @property
    def _takes_fresh_seeds(self) -> bool:
        return self.seed_policy == "fresh" or self.repeats

    @property
    def metrics(self) -> dict[str, str]:
        """The better direction of each metric of the sweep's results, by metric."""
        found = metrics_on(images_of(self.protocol))
        if not self.base.readings:
            del found[self.accuracy_prefix + "class_il_median"]
        return found

    @property
    def publishable(self) -> bool:
        """True if no configuration is chosen on test images."""
        return self.protocol != "test"

    @property
    def reported_base(self) -> TrainConfig:
        """The base on the reported stream, to which a chosen configuration is applied.

        Without readings: they belong to the search.
        """
        return self.base.replace(**self.report_on, readings=0)

    @property
    def accuracy_prefix(self) -> str:
        """Prefix of the names of accuracies: "val_" or "test_"."""
        return PREFIXES[self.base.evaluate_on]

    @property
    def base_is_preset(self) -> bool:
        """True if the base has the stream's preset values."""
        base = self.base
        if (base.dataset, base.buffer_size) not in preset_names() or base.model != "dynamos":
            return False
        return base.replace(**preset(base.dataset, base.buffer_size)) == base

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """Training seeds of every trial under the policy shared, and of trial 0 under fresh."""
        return self.seeds_from(self.base.seed)

    def seeds_from(self, first: int) -> tuple[int, ...]:
        """Return the training seeds of a trial with this first seed."""
        return tuple(range(first, first + self.seeds))

    @property
    def last_seed(self) -> int:
        """The last seed that the search may train with."""
        return self.base.seed + (POOL if self._takes_fresh_seeds else self.seeds) - 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for sweep.yaml."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return values | {
            "space": {"name": self.space.name} | self.space.to_dict(),
            "base": self.base.to_dict(),
            "objectives": [str(o) for o in self.objectives],
            "constraints": [str(c) for c in self.constraints],
            "points": [dict(p) for p in self.points],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the SweepConfig of the values that `to_dict` returned.

        Raises UserError for an unknown key.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise unknown("key", key, names).within("sweep.yaml")
        space = dict(values["space"])
        return cls(
            **EARLIER
            | dict(values)
            | {
                "space": SearchSpace.from_dict(space.pop("name"), space),
                "base": TrainConfig.from_dict(values["base"]),
                "objectives": tuple(Objective.parse(text) for text in values["objectives"]),
                "constraints": tuple(Constraint.parse(text) for text in values["constraints"]),
                "points": tuple(values["points"]),
            }
        )


LEAST_ALLOWED = 0.001  # share of a space that rules may leave


def refuse_in_vain(config: SweepConfig) -> None:
    """Raise UserError if a setting of a new sweep would have no effect.

    An existing sweep with such a setting is read anyway.
    """
    space, models = config.space, [config.base.model]
    if config.constraints and config.sampler in UNCONSTRAINED_SAMPLERS:
        raise UserError(
            f"`sampler` {config.sampler} ignores constraints; with `constraints` use "
            f"{', '.join(s for s in SAMPLERS if s not in UNCONSTRAINED_SAMPLERS)}."
        )
    if config.sampler == "cmaes" and all(p.choices is not None for p in space.parameters):
        raise UserError(
            f"`sampler` cmaes searches ranges, and the space {space.name} has only choices; use "
            f"{', '.join(s for s in SAMPLERS if s not in RANGE_SAMPLERS)}."
        )
    if space.forbid and config.confirms is None:
        refuse_nearly_empty(space)
    searched = [p.name for p in space.parameters]
    for parameter in space.parameters:
        for name, values in parameter.when:
            if name not in searched and (there := config.base.to_dict().get(name)) not in values:
                raise UserError(
                    f"the space {space.name} searches {parameter.name} only if "
                    f"{parameter.condition}, and every trial has {name} {value_text(there)}."
                )
        if parameter.name == "model":
            models = list(parameter.choices or ())
    idle = [p.name for p in space.parameters if all(p.name in unused(model) for model in models)]
    # a confirmation varies every field in which a baseline differs
    if idle and config.confirms is None:
        used = [p.name for p in space.parameters if p.name not in idle]
        fit = [name for name in named_spaces() if _all_used(read_space(name), models)]
        named = f"the `space` {' or '.join(fit)}" if fit else ""
        file = f"a `space` file with only {', '.join(used)}" if used else ""
        ways = ", or ".join(filter(None, (named, file)))
        instead = f"; use {ways}." if ways else "."
        raise UserError(
            f"the space {space.name} varies {', '.join(idle)}, which {' and '.join(models)} "
            f"{'does' if len(models) == 1 else 'do'} not use{instead}"
        )


def _all_used(space: SearchSpace, models: Sequence[str]) -> bool:
    """True if each field of a space is used by one of these methods."""
    return all(any(_used(p.name, model) for model in models) for p in space.parameters)


def _used(name: str, model: str) -> bool:
    """True if a method of the package uses a field, or has a hyperparameter method.NAME."""
    if of_method(name):
        return setting_of({"model": model}, name) is not None
    return name not in unused(model)


def code_in(space: SearchSpace, field: str) -> set[str]:
    """Return the values FILE.py:NAME of a field, in users' files, among a space's choices."""
    choices = [p.choices or () for p in space.parameters if p.name == field]
    return {str(one) for of in choices for one in of if code_of(str(one)) is not None}


def refuse_nearly_empty(space: SearchSpace) -> None:
    """Raise UserError if a space forbids nearly all of its configurations."""
    if space.size == 0:
        raise UserError(f"the space {space.name} forbids all of its configurations.")
    if (share := allowed_share(space)) < LEAST_ALLOWED:
        raise UserError(
            f"the space {space.name} forbids all but {share:.2%} of its configurations; narrow its "
            f"ranges, so that {LEAST_ALLOWED:.1%} or more are allowed."
        )


def _refusal(config: TrainConfig, change: Mapping[str, Any]) -> str | None:
    """The message of the UserError that a change of a configuration raises, or None."""
    try:
        config.replace(**change)
    except UserError as error:
        return str(error)
    return None


def _tested(objective: Objective, lacks: Collection[str]) -> bool:
    """True if a stream that lacks some metrics has the one that a confirmation tests."""
    return objective.confirmed.metric.removeprefix(PREFIXES["test"]) not in lacks
