"""Valid and invalid sweeps. Every refusal names the fault, the value and the allowed values. A
valid sweep survives being written and read."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.config import TrainConfig, preset, preset_sizes
from dynamos.errors import UserError
from dynamos.streams.names import ROTATING
from results.definition.objectives import OBJECTIVES, Constraint, Objective
from results.definition.sweep_config import SweepConfig, refuse_in_vain
from results.strategy.pruners import PRUNERS
from results.strategy.pruning.leader import WILCOXON_SEEDS
from results.strategy.samplers import GRID_LIMIT, SAMPLERS, SINGLE_OBJECTIVE_SAMPLERS
from search_spaces.space import SearchSpace, read_space
from tests.helpers.ledgers import ONE, config

TWO = (Objective("val_class_il", "max"), Objective("keep_fraction", "min"))


def space(**parameters: dict[str, Any]) -> SearchSpace:
    return SearchSpace.from_dict("mine", {"parameters": parameters})


def rotating(dataset: str, **changes: Any) -> SweepConfig:
    base = TrainConfig(**preset(dataset, preset_sizes(dataset)[0])).replace(
        evaluate_on="validation", readings=4
    )
    return config(base=base, **changes)


def through_its_file(sweep: SweepConfig) -> SweepConfig:
    return SweepConfig.from_dict(yaml.safe_load(yaml.safe_dump(sweep.to_dict(), sort_keys=False)))


def test_values_of_numpy_survive_the_file() -> None:
    mine = space(lr={"low": 0.01, "high": 0.5}, nf={"low": 8, "high": 64})
    of_numpy, own = (
        config(
            space=mine,
            trials=number(9),
            max_concurrent=number(2),
            target=real(80),
            seed=whole(3),
            points=({"nf": number(8), "lr": real(0.5)},),
            cpus_per_trial=real(2),
        )
        for number, real, whole in ((np.float64, np.float32, np.int64), (int, float, int))
    )
    assert through_its_file(of_numpy) == own and repr(of_numpy) == repr(own)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"trials": 0}, "`trials` 0 is out of range; it must be from 1 to 100000."),
        ({"max_concurrent": 0}, "`max_concurrent` 0 is out of range; it must be from 1 to 100000."),
        (
            {"cpus_per_trial": 0.0},
            "`cpus_per_trial` 0 is out of range; it must be from 0.01 to 1024.",
        ),
        ({"cpus_per_trial": math.inf}, "`cpus_per_trial` inf is not a finite number."),
        ({"gpus_per_trial": -1.0}, "`gpus_per_trial` -1 is out of range; it must be from 0 to 64."),
        ({"gpus_per_trial": 1.5}, "`gpus_per_trial` 1.5: above 1 it must be a whole number."),
        (
            {"cohort": 2, "pack_cohorts": True},
            "`cohort` auto chooses the number, which is not 2.",
        ),
        ({"cohort": 0}, "`cohort` 0 is out of range; it must be from 1 to 1024."),
        (
            {"cohort": 2, "base": config().base.replace(step_mode="compile")},
            "`cohort` 2: step_mode compile is for single trials; use `cohort` 1.",
        ),
        (
            {
                "cohort": 2,
                "space": read_space("plain"),
                "base": config().base.replace(model="er"),
            },
            "`cohort` 2: runs of er train one after the other; use `cohort` 1.",
        ),
        (
            {
                "cohort": 2,
                "space": SearchSpace.from_dict(
                    "wide", {"parameters": {"nf": {"choices": [32, 64]}}}
                ),
            },
            "`cohort` 2: the space wide varies nf, in which the trials of a worker must agree; use "
            "`cohort` 1.",
        ),
        ({"trials": 8.5}, "`trials` 8.5 is not a whole number."),
        ({"max_concurrent": np.float64(1.5)}, "`max_concurrent` 1.5 is not a whole number."),
        ({"seed": -1}, "`seed` -1 is out of range; it must be from 0 to 2147483647."),
        ({"seeds": 0}, "`seeds` 0 is out of range; it must be from 1 to 1000."),
        ({"grace_tasks": 0}, "`grace_tasks` 0 is out of range; it must be from 1 to 1000."),
        (
            {"grace_epochs": 4},
            "`grace_epochs` 4: it is for `pruner` halving, not none.",
        ),
        (
            {"grace_epochs": 4, "pruner": "halving", "base": config().base.replace(n_epochs=1)},
            "`grace_epochs` 4: a task has one epoch (n_epochs 1); use `grace_tasks`.",
        ),
        (
            {
                "grace_epochs": 4,
                "pruner": "halving",
                "space": SearchSpace.from_dict(
                    "long", {"parameters": {"n_epochs": {"low": 2, "high": 9}}}
                ),
            },
            "`grace_epochs` 4: the space long varies n_epochs; use `grace_tasks`.",
        ),
        (
            {
                "grace_epochs": 4,
                "pruner": "halving",
                "objectives": (Objective.parse("val_learning_accuracy"),),
            },
            "`grace_epochs` 4: within a task trials read val_class_il and val_task_il, not "
            "val_learning_accuracy.",
        ),
        (
            {
                "grace_epochs": 4,
                "pruner": "halving",
                "protocol": "test",
                "objectives": (Objective.parse("test_class_il"),),
                "base": config().base.replace(evaluate_on="test"),
            },
            "`grace_epochs` 4: trials read validation images only, not those of `protocol` test.",
        ),
        ({"grid_levels": 1}, "`grid_levels` 1 is out of range; it must be from 2 to 10000."),
        (
            {"time_budget_seconds": 0.0},
            "`time_budget_seconds` 0s is out of range; it must be greater than 0.",
        ),
        (
            {"cpu_budget_seconds": -1.0},
            "`cpu_budget_seconds` -1s is out of range; it must be greater than 0.",
        ),
        (
            {"gpu_budget_seconds": math.nan, "gpus_per_trial": 1.0},
            "`gpu_budget_seconds` nan is not a finite number.",
        ),
        (
            {"gpu_budget_seconds": 60.0},
            "`gpu_budget_seconds`: these trials use no GPU; add `gpus_per_trial`, or use "
            "`cpu_budget_seconds`.",
        ),
        (
            {"base": config().base.replace(evaluate_on="test")},
            "evaluate_on 'test': under the protocol val-all-seen configurations are measured on "
            "validation images.",
        ),
        ({"target": math.inf}, "`target` inf is not a finite number."),
        ({"objectives": ()}, "a sweep needs an objective."),
        (
            {"objectives": (Objective("compute", "max"), Objective("compute", "min"))},
            "`objectives`: compute compute names a metric twice.",
        ),
        (
            {"sampler": "tpr"},
            f"unknown sampler 'tpr'. Did you mean 'tpe'? Allowed: auto, {', '.join(SAMPLERS)}.",
        ),
        (
            {"sampler": "random", "grid_levels": 4},
            "`grid_levels` is for `sampler` grid, not random.",
        ),
        (
            {"sampler": "grid", "grid_levels": 7},  # five ranges: 7^5
            "`sampler` grid: 7 levels of 5 parameters give 16807 configurations, more than the "
            f"limit {GRID_LIMIT}; use fewer `grid_levels` or a smaller space.",
        ),
        (
            {"sampler": "grid", "grid_levels": 10_000},
            f"`sampler` grid: 10000 levels of 5 parameters give {10_000**5} configurations, more "
            f"than the limit {GRID_LIMIT}; use fewer `grid_levels` or a smaller space.",
        ),
        (
            {"pruner": "halve"},
            f"unknown pruner 'halve'. Did you mean 'halving'? Allowed: {', '.join(PRUNERS)}.",
        ),
        (
            {"pruner": "wilcoxon", "seeds": WILCOXON_SEEDS - 1},
            f"`pruner` wilcoxon compares seeds and needs `seeds` {WILCOXON_SEEDS} or more, not "
            f"{WILCOXON_SEEDS - 1}.",
        ),
        (
            {"pruner": "halving", "deterministic_order": True},
            "`pruner` halving does not work with `deterministic_order`, because it compares trials "
            "while they run; use median, percentile, patient, leader, wilcoxon or none.",
        ),
        (
            {"pruner": "leader", "seeds": 1},
            "`pruner` leader compares a trial with the worst seed of the best one and needs "
            "`seeds` 2 or more, not 1.",
        ),
        (
            {"pruner": "pareto"},
            "`pruner` pareto ranks trials by several objectives; for one use `pruner` halving.",
        ),
        (
            {"base": config().base.replace(lr=3.0)},
            "lr 3.0 lies outside the space core, which has 0.005 to 0.2 (log). "
            "Widen the space, or change `base`.",
        ),
        (
            {"points": ({"lr": 0.1}, {"lr": 9.0})},
            "`points`, configuration 2: lr 9.0 lies outside the space core, which "
            "has 0.005 to 0.2 (log).",
        ),
        (
            {"points": ({"lt": 0.1},)},
            "`points`, configuration 1: unknown field of the space core 'lt'. Did you mean 'lr'? "
            "Allowed: lr, alpha, beta, policy_penalty, keep_ratio.",
        ),
        (
            {"points": ({"nf": 16},)},
            "`points`, configuration 1: unknown field of the space core 'nf'. Allowed: lr, alpha, "
            "beta, policy_penalty, keep_ratio.",
        ),
        ({"points": ({"lr": "0.05"},)}, "`points`, configuration 1: lr '0.05' is not a number."),
        ({"points": ({"lr": None},)}, "`points`, configuration 1: lr None is not a number."),
        (
            {"points": ({"lr": -1},)},
            "`points`, configuration 1: lr -1.0 is out of range; it must be greater than 0.",
        ),
        (
            {"points": ({"lr": 0.1},) * 4},
            "`points` has 4 configurations; with trial 0 that needs `trials` 5 or more, not 4.",
        ),
        (
            {"ledger_url": "postgresql+psycopg://me:secret@host/db"},
            "`ledger_url`: a sweep's files must not contain a password; set it in the "
            "environment (PGPASSWORD, ~/.pgpass, MLFLOW_TRACKING_PASSWORD).",
        ),
    ],
)
def test_values_that_are_not_allowed_are_refused_in_one_line(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        config(**changes)
    assert str(error.value) == message


def test_the_sampler_auto_depends_on_the_number_of_objectives() -> None:
    several = (Objective("val_class_il", "max"), Objective("compute", "min"))
    assert config(sampler="auto").sampler == "noisy"
    assert config(objectives=several, sampler="auto").sampler == "tpe"
    assert config(objectives=several, sampler="gp").sampler == "gp"


@pytest.mark.parametrize("flag", ["ledger_url", "tracking_uri"])
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@host/db",
        "https://me:secret@mlflow.example",
        "postgresql:///db?host=h&user=me&password=secret",
        "http://[secret",
    ],
)
def test_no_password_and_no_broken_url_reaches_a_sweeps_files(flag: str, url: str) -> None:
    with pytest.raises(UserError, match=f"`{flag}`") as error:
        config(**{flag: url})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///l.db", "sqlite+pysqlite:///l.db"]
)
@pytest.mark.parametrize("flag", ["ledger_url", "tracking_uri"])
def test_no_database_is_in_memory_nor_where_only_one_folder_s_commands_find_it(
    flag: str, url: str
) -> None:
    with pytest.raises(UserError, match=f"`{flag}` .* give the absolute path of the file"):
        config(**{flag: url})


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me@host/db",
        "sqlite:////tmp/l.db",
        "https://mlflow.example:5000",
        "http://[::1]:5000",
    ],
)
def test_other_urls_are_taken(url: str) -> None:
    assert through_its_file(config(ledger_url=url, tracking_uri=url)).ledger_url == url


def test_values_of_a_point_that_do_not_go_together_are_refused() -> None:
    varied = space(nf={"choices": [2, 32]}, hidden_dim_ratio={"choices": [16]})
    with pytest.raises(
        UserError, match="`points`, configuration 1: hidden_dim_ratio 16 leaves an agent without"
    ):
        config(space=varied, points=({"nf": 2},))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_several_objectives_go_with_every_sampler_that_does_not_disclaim_them(sampler: str) -> None:
    if sampler not in SINGLE_OBJECTIVE_SAMPLERS:
        assert config(sampler=sampler, objectives=TWO).objectives == TWO
        return
    with pytest.raises(UserError) as error:
        config(sampler=sampler, objectives=TWO)
    others = [s for s in SAMPLERS if s not in SINGLE_OBJECTIVE_SAMPLERS]
    assert (
        str(error.value)
        == f"`sampler` {sampler} takes one objective; for several use {', '.join(others)}."
    )


@pytest.mark.parametrize("dataset", ROTATING)
@pytest.mark.parametrize("pruner", [p for p in PRUNERS if p != "none"])
def test_a_stream_without_tasks_has_no_pruning(dataset: str, pruner: str) -> None:
    with pytest.raises(
        UserError, match=f"`pruner` {pruner}: {dataset} has no tasks after .* use `pruner` none"
    ):
        rotating(dataset, pruner=pruner, seeds=WILCOXON_SEEDS)
    assert rotating(dataset, pruner="none").pruner == "none"


@pytest.mark.parametrize("dataset", ROTATING)
@pytest.mark.parametrize("metric", OBJECTIVES)
def test_a_stream_without_tasks_has_only_the_metrics_that_need_none(
    dataset: str, metric: str
) -> None:
    for sought in (
        {"objectives": (Objective.parse(metric),)},
        {"constraints": (Constraint.parse(f"{metric}<=1"),)},
    ):
        if metric not in ("val_task_il", "val_learning_accuracy", "forgetting"):
            rotating(dataset, **sought)
            continue
        with pytest.raises(UserError) as error:
            rotating(dataset, **sought)
        assert str(error.value) == (
            f"{metric} does not exist on {dataset}, which has no tasks; use val_class_il, "
            "val_class_il_median, keep_fraction, compute."
        )


@pytest.mark.parametrize("metric", OBJECTIVES)
def test_an_objective_is_a_metric_and_a_direction(metric: str) -> None:
    assert Objective.parse(metric) == Objective(metric, OBJECTIVES[metric])
    for direction, sign in (("max", 1), ("min", -1)):
        parsed = Objective.parse(f"{metric}:{direction}")
        assert (parsed.metric, parsed.direction, parsed.sign) == (metric, direction, sign)
        assert Objective.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "val_clas_il",
            "`objectives` 'val_clas_il': unknown metric 'val_clas_il'. Did you mean "
            "'val_class_il'? Allowed: " + ", ".join(OBJECTIVES) + ".",
        ),
        ("train_loss:min", "`objectives` 'train_loss:min': unknown metric 'train_loss'."),
        (
            "compute:mix",
            "`objectives` 'compute:mix': unknown direction 'mix'. Did you mean 'min'? Allowed: "
            "max, min.",
        ),
        ("compute:", "`objectives` 'compute:': unknown direction ''."),
    ],
)
def test_a_bad_objective(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        Objective.parse(text)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "keep_fraction<0.6",
            "write FIELD<=NUMBER or FIELD>=NUMBER, for instance keep_fraction<=0.6.",
        ),
        ("keep_fraction=0.6", "write FIELD<=NUMBER or FIELD>=NUMBER"),
        ("0.6>=keep_fraction", "unknown metric '0.6'"),
        ("keep_fractions<=0.6", "unknown metric 'keep_fractions'. Did you mean 'keep_fraction'?"),
        ("keep_fraction<=half", "'half' is not a number."),
        ("keep_fraction<=nan", "'nan' is not a number."),
        ("keep_fraction>=-inf", "'-inf' is not a number."),
    ],
)
def test_a_bad_constraint(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        Constraint.parse(text)
    assert str(error.value).startswith(f"`constraints` {text!r}: ") and message in str(error.value)


@pytest.mark.parametrize(
    "text, value, violation",
    [
        ("keep_fraction<=0.5", 0.75, 0.25),
        ("keep_fraction<=0.5", 0.5, 0.0),
        (" compute >= 0.5 ", 0.75, -0.25),
        ("val_class_il>=80", 79.0, 1.0),
    ],
)
def test_a_constraint_is_broken_by_the_distance_to_its_bound(
    text: str, value: float, violation: float
) -> None:
    assert Constraint.parse(text).violation(value) == violation


def test_a_constraint_is_written_as_a_user_types_it() -> None:
    assert [
        str(Constraint.parse(text)) for text in ("keep_fraction <= 0.60", "val_class_il>=80")
    ] == ["keep_fraction<=0.6", "val_class_il>=80"]


@given(
    st.sampled_from(sorted(OBJECTIVES)),
    st.sampled_from(["<=", ">="]),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_a_constraint_survives_being_written(metric: str, relation: str, bound: float) -> None:
    constraint = Constraint(metric, relation, bound)
    assert Constraint.parse(str(constraint)) == constraint


PLAIN = config(base=config().base.replace(readings=4))
VARIED = st.fixed_dictionaries(
    {
        "objectives": st.lists(
            st.sampled_from(sorted(OBJECTIVES)), min_size=1, unique=True
        ).flatmap(
            lambda names: st.tuples(
                *(st.builds(Objective, st.just(n), st.sampled_from(["max", "min"])) for n in names)
            )
        ),
        "constraints": st.lists(
            st.builds(
                Constraint,
                st.sampled_from(sorted(OBJECTIVES)),
                st.sampled_from(["<=", ">="]),
                st.floats(-1e6, 1e6),
            )
        ).map(tuple),
        "sampler": st.sampled_from([s for s in SAMPLERS if s not in SINGLE_OBJECTIVE_SAMPLERS]),
        "pruner": st.sampled_from(sorted(set(PRUNERS) - {"pareto"})),
        "seeds": st.integers(WILCOXON_SEEDS, 9),
        "points": st.lists(
            st.fixed_dictionaries(
                {}, optional={"lr": st.floats(0.005, 0.2), "keep_ratio": st.just(0.5)}
            ),
            max_size=3,
        ).map(tuple),
        "time_budget_seconds": st.none() | st.floats(1e-3, 1e9),
        "target": st.none() | st.floats(-1e9, 1e9),
        "warm_start": st.none() | st.just("earlier"),
        "cpus_per_trial": st.floats(0.01, 64),
        "max_concurrent": st.none() | st.integers(1, 99),
    }
)


@settings(deadline=None, max_examples=50)
@given(VARIED)
def test_a_config_survives_its_file(changes: dict[str, Any]) -> None:
    sweep = dataclasses.replace(PLAIN, **changes)
    assert through_its_file(sweep) == sweep


def test_every_field_of_a_config_is_in_its_file() -> None:
    assert list(config().to_dict()) == [f.name for f in dataclasses.fields(SweepConfig)]


def test_an_unknown_key_of_the_file_is_named() -> None:
    with pytest.raises(UserError, match="sweep.yaml: unknown key 'trails'. Did you mean 'trials'?"):
        SweepConfig.from_dict(config().to_dict() | {"trails": 3})


CHOICES = space(nf={"choices": [16, 32]})
GATES_OR_NOT = space(
    model={"choices": ["dynamos", "multi_scale"]}, keep_ratio={"low": 0.5, "high": 0.9}
)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"sampler": "cmaes", "constraints": (Constraint.parse("compute<=1"),)},
            "`sampler` cmaes ignores constraints; with `constraints` use tpe, gp, noisy, nsga2, "
            "random, qmc, grid.",
        ),
        (
            {"sampler": "cmaes", "space": CHOICES},
            "`sampler` cmaes searches ranges, and the space mine has only choices; "
            "use tpe, gp, noisy, nsga2, random, qmc, grid.",
        ),
        (
            {"base": config().base.replace(model="multi_scale")},
            "the space core varies policy_penalty, keep_ratio, which multi_scale does not use; "
            "use the `space` plain or replay, or a `space` file with only lr, alpha, beta.",
        ),
        (
            {"base": config().base.replace(model="sgd")},
            "the space core varies alpha, beta, policy_penalty, keep_ratio, "
            "which sgd does not use; use the `space` plain, or a `space` file with only lr.",
        ),
    ],
)
def test_a_setting_without_effect_is_refused_in_a_new_sweep_and_read_in_an_existing_one(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        refuse_in_vain(config(**changes))
    assert str(error.value) == message
    refuse_in_vain(config(space=GATES_OR_NOT))  # one of its methods has gates


def test_the_seeds_of_a_trial_follow_the_bases() -> None:
    assert config(seeds=3, base=config().base.replace(seed=7)).training_seeds == (7, 8, 9)


def test_a_trainer_of_ones_own_has_no_epochs(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("class Mine:\n    def __iter__(self):\n        yield print\n")
    base = config().base.replace(model=f"{file}:Mine", average_decay=0.0)
    with pytest.raises(UserError) as raised:
        config(base=base, pruner="halving", grace_epochs=4, space=ONE)
    assert str(raised.value) == (
        f"`grace_epochs` 4: the trainer {file}:Mine yields results by task and has no epochs; use "
        "`grace_tasks`."
    )
