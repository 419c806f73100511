"""Evaluation images, restrictions and reports of each protocol."""

from typing import Any

import pytest

from dynamos.config import TrainConfig, preset
from dynamos.errors import UserError
from results.definition.objectives import OBJECTIVES, Constraint, Objective, metrics_on
from results.definition.protocols import CONFIRMATION, PROTOCOLS, images_of
from results.definition.sweep_config import SweepConfig
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import config

# By protocol, the least that a sweep under it needs to say.
NEEDED: dict[str, dict[str, Any]] = {
    "val-all-seen": {},
    "val-current": {"objectives": (Objective.parse("val_learning_accuracy"),)},
    "first-k": {"report_on": {"n_tasks": None}},
    "two-stream": {"report_on": {"class_order_seed": 3}},
    "test": {"objectives": (Objective.parse("test_class_il"),)},
}
MEDIAN, READ = "val_class_il_median", {"readings": 4}


def sweep(protocol: str, base: dict[str, Any] | None = None, **changes: Any) -> SweepConfig:
    fields = preset("seq-digits", 200) | {"evaluate_on": images_of(protocol)}
    fields |= {"n_tasks": 2} if protocol == "first-k" else {}
    return config(
        **dict[str, Any](base=TrainConfig(**fields | (base or {})), protocol=protocol)
        | NEEDED[protocol]
        | changes
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_the_protocol_test_measures_on_test_images_and_cannot_be_published(
    protocol: str,
) -> None:
    made = sweep(protocol)
    assert made.publishable == (protocol != "test")
    measured = metrics_on("test" if protocol == "test" else "validation")
    assert made.metrics == {n: d for n, d in measured.items() if "median" not in n}
    assert SweepConfig.from_dict(made.to_dict()) == made
    other = {"validation": "test", "test": "validation"}[images_of(protocol)]
    with pytest.raises(
        UserError, match=f"evaluate_on '{other}': under the protocol {protocol} configurations are "
    ):
        sweep(protocol, {"evaluate_on": other})


def test_the_default_protocol_is_one_that_can_be_published() -> None:
    assert config().protocol == "val-all-seen" and config().publishable


def test_an_accuracy_is_named_by_what_it_was_measured_on() -> None:
    assert list(metrics_on("test")) == [name.replace("val_", "test_") for name in OBJECTIVES]
    for protocol, metric in (("test", "val_class_il"), ("val-all-seen", "test_class_il")):
        bound = (Constraint.parse(f"{metric}>=1"),)
        for sought in ({"objectives": (Objective.parse(metric),)}, {"constraints": bound}):
            with pytest.raises(
                UserError,
                match=f"{metric} is not measured under the protocol {protocol}; use",
            ):
                sweep(protocol, **sought)


def test_a_median_of_readings_needs_readings_and_is_chosen_by_but_not_reported() -> None:
    sought = (Objective.parse("val_class_il_median"),)
    for wrong in ({"objectives": sought}, {"constraints": (Constraint.parse(f"{MEDIAN}>=1"),)}):
        with pytest.raises(UserError) as error:
            config(**wrong)
        assert str(error.value) == (
            "val_class_il_median is a median of readings, and the trials take none; set readings, "
            "for example to 4."
        )
    made = sweep("val-all-seen", {"readings": 4}, objectives=sought)
    assert MEDIAN in made.metrics
    assert made.reported_base == made.base.replace(readings=0)


@pytest.mark.parametrize("metric", ["val_class_il", MEDIAN, "val_task_il", "forgetting"])
def test_val_current_uses_no_metric_of_earlier_tasks(metric: str) -> None:
    with pytest.raises(
        UserError,
        match=f"{metric} uses images of earlier tasks, .* use "
        "val_learning_accuracy, keep_fraction, compute",
    ):
        sweep("val-current", READ, objectives=(Objective.parse(metric),))


def test_first_k_reports_the_whole_stream() -> None:
    made = sweep("first-k")
    assert made.base.n_tasks == 2 and made.reported_base == made.base.replace(n_tasks=None)
    assert sweep("first-k", {"n_tasks": 3}, report_on={"n_tasks": 4}).reported_base.n_tasks == 4


@pytest.mark.parametrize(
    "base, report_on",
    [
        ({}, {}),
        ({"n_tasks": 5}, {"n_tasks": None}),
        ({"n_tasks": 4}, {"n_tasks": 3}),
        ({}, {"n_tasks": None, "lr": 0.1}),
        ({"n_tasks": None}, {"n_tasks": 5}),
    ],
)
def test_first_k_needs_fewer_tasks_than_the_stream_has(
    base: dict[str, Any], report_on: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match="first-k searches on the first K|`report_on` lr"):
        sweep("first-k", base, report_on=report_on)


def test_two_stream_reports_on_another_stream() -> None:
    assert sweep("two-stream").reported_base.class_order_seed == 3
    there = {"dataset": "seq-mnist", "n_epochs": 1, "data_path": "/data"}
    assert sweep("two-stream", report_on=there).reported_base == sweep("two-stream").base.replace(
        **there
    )


@pytest.mark.parametrize(
    "protocol, report_on, message",
    [
        ("two-stream", {}, "needs another stream or class order to report on"),
        (
            "two-stream",
            {"class_order_seed": None},
            "needs another stream or class order to report on",
        ),
        (
            "two-stream",
            {"dataset": "seq-digits", "n_epochs": 7},
            "needs another stream or class order to report on",
        ),
        (
            "two-stream",
            {"class_order_seed": 1, "lr": 0.1},
            "`report_on` lr: the space core varies it",
        ),
        (
            "two-stream",
            {"class_order_seed": 1, "evaluate_on": "test"},
            "`report_on` evaluate_on: this field does not change",
        ),
        (
            "two-stream",
            {"class_order_seed": 1, "readings": 4},
            "`report_on` readings: this field does not change",
        ),
        ("two-stream", {"class_order_seed": 1, "n_tasks": 0}, "n_tasks 0 is out of range"),
        (
            "val-all-seen",
            {"class_order_seed": 1},
            "`report_on` is for `protocol` two-stream, not val-all-seen",
        ),
    ],
)
def test_fields_that_report_on_may_not_change(
    protocol: str, report_on: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        sweep(protocol, report_on=report_on)


ONCE, ROTATED = {"n_epochs": 1}, {"dataset": "digits-360"}


@pytest.mark.parametrize("spec", [{"choices": [1, 3]}, {"low": 1, "high": 3}])
def test_every_value_of_the_space_can_be_trained_on_the_reported_stream(
    spec: dict[str, Any],
) -> None:
    passes = SearchSpace.from_dict("passes", {"parameters": {"n_epochs": spec}})
    assert sweep("two-stream", ONCE, space=passes).space == passes
    with pytest.raises(UserError) as error:
        sweep("two-stream", ONCE, space=passes, report_on=ROTATED)
    assert str(error.value) == (
        "`report_on` dataset=digits-360: a value of the space passes does not fit. n_epochs 3 "
        "does not apply to digits-360, which is one pass without task boundaries; keep the "
        "default 1."
    )
    once = SearchSpace.from_dict("once", {"parameters": {"n_epochs": {"choices": [1]}}})
    assert (
        sweep("two-stream", ONCE, space=once, report_on=ROTATED).reported_base.dataset
        == "digits-360"
    )


def test_a_value_that_the_searched_stream_refuses_too_fails_as_a_trial() -> None:
    # 2 has no hidden unit
    sizes = SearchSpace.from_dict("sizes", {"parameters": {"nf": {"choices": [2, 32]}}})
    for report_on in ({"class_order_seed": 3}, ROTATED):
        assert sweep("two-stream", ONCE, space=sizes, report_on=report_on).space == sizes
    agents = SearchSpace.from_dict(
        "agents", {"parameters": {"hidden_dim_ratio": {"choices": [16, 64]}}}
    )
    with pytest.raises(
        UserError, match="class_order_seed=3 nf=8: .* agents does not fit. hidden_dim_ratio 64"
    ):
        sweep("two-stream", space=agents, report_on={"class_order_seed": 3, "nf": 8})


@pytest.mark.parametrize("metric", OBJECTIVES)
def test_the_reported_stream_has_what_a_confirmation_tests(metric: str) -> None:
    sought = (Objective.parse(metric),)
    read = ONCE | (READ if metric == MEDIAN else {})
    assert sweep("two-stream", read, objectives=sought).objectives == sought
    if metric not in ("val_task_il", "forgetting"):  # learning accuracy is confirmed by class-il
        assert sweep("two-stream", read, objectives=sought, report_on=ROTATED).objectives == sought
        return
    with pytest.raises(UserError) as error:
        sweep("two-stream", ONCE, objectives=sought, report_on=ROTATED)
    assert str(error.value) == (
        f"`objectives` {metric}: digits-360, which `report_on` names, has no tasks, so a "
        "confirmation cannot test it; use val_class_il, val_learning_accuracy, keep_fraction or "
        "compute."
    )
    beside = (Objective.parse("val_class_il"), *sought)  # the first alone is confirmed
    assert sweep("two-stream", ONCE, objectives=beside, report_on=ROTATED).objectives == beside


@pytest.mark.parametrize(
    "given, confirmed",
    [
        ("val_class_il", "test_class_il:max"),
        ("test_class_il:min", "test_class_il:min"),
        ("compute:max", "compute:max"),
        ("forgetting", "forgetting:min"),
        ("val_learning_accuracy", "test_class_il:max"),
        (MEDIAN, "test_class_il:max"),
    ],
)
def test_a_confirmation_tests_the_objective_on_test_images_the_same_way(
    given: str, confirmed: str
) -> None:
    assert str(Objective.parse(given).confirmed) == confirmed


def test_no_sweep_is_a_confirmation_by_itself() -> None:
    test_base = TrainConfig(**preset("seq-digits", 200))
    for wrong in (
        {"protocol": CONFIRMATION, "base": test_base, **NEEDED["test"]},
        {"confirms": "other"},
    ):
        with pytest.raises(UserError, match="set by dynamos-sweep confirm only"):
            config(**wrong)


def test_an_unknown_protocol() -> None:
    with pytest.raises(
        UserError, match="unknown protocol 'val-all-sen'. Did you mean 'val-all-seen'?"
    ):
        config(protocol="val-all-sen")
