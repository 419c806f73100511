"""Parameters that are searched only with certain values of other fields."""

from typing import Any

import pytest

from dynamos.config import TrainConfig
from dynamos.errors import UserError
from search_spaces.parameter import Parameter
from search_spaces.space import SearchSpace

BASE = TrainConfig().to_dict()
FIELDS: dict[str, Any] = {
    "keep_ratio": {
        "low": 0.5,
        "high": 0.9,
        "step": 0.2,
        "when": {"model": ["dynamos", "dynamos_sgd"]},
    },
    "model": {"choices": ["dynamos", "dynamos_sgd", "multi_scale"]},
    "warmup": {"choices": [True, False], "when": {"model": "dynamos"}},
    "warmup_steps": {"choices": [5, 10], "when": {"warmup": True}},
    "lr": {"choices": [0.1, 0.2]},
}


def space(**changes: Any) -> SearchSpace:
    fields = {name: spec for name, spec in (FIELDS | changes).items() if spec is not None}
    return SearchSpace.from_dict("mine", {"parameters": fields}).within(BASE)


def names(parameters: tuple[Parameter, ...]) -> list[str]:
    return [p.name for p in parameters]


def test_a_parameter_is_active_if_all_that_it_depends_on_is_so() -> None:
    made = space()
    assert names(made.parents_first) == ["model", "keep_ratio", "warmup", "warmup_steps", "lr"]
    for values, wanted in (
        ({"model": "multi_scale"}, ["model", "lr"]),
        ({"model": "dynamos_sgd"}, ["keep_ratio", "model", "lr"]),
        ({"model": "dynamos", "warmup": False}, ["keep_ratio", "model", "warmup", "lr"]),
        ({"model": "dynamos", "warmup": True}, [*FIELDS]),
        # warmup is inactive here, so its value means nothing
        ({"model": "multi_scale", "warmup": True}, ["model", "lr"]),
        ({}, ["model", "lr"]),
    ):
        assert names(made.active(values)) == wanted, values


def test_inactive_fields_are_no_part_of_a_configuration() -> None:
    made, plain = space(), {"model": "multi_scale", "lr": 0.1}
    assert made.key(plain | {"keep_ratio": 0.5}) == made.key(plain | {"keep_ratio": 0.7})
    assert made.key(BASE | plain) == made.key(plain)
    assert made.stored(BASE | plain) == plain == made.trimmed(BASE | plain)
    assert made.whole(plain) and not made.whole({"model": "dynamos", "lr": 0.1})
    made.check(BASE | plain | {"keep_ratio": 0.123})  # outside, and without effect


def test_a_finite_space_has_as_many_configurations_as_differ() -> None:
    # dynamos: 3 ratios, warm-up with 2 numbers of steps or none, 2 rates; dynamos_sgd: 3 ratios, 2
    # rates; multi_scale: 2 rates
    assert space().size == 3 * 3 * 2 + 3 * 2 + 2
    assert len({space().key(c) for c in space().listed}) == 26


def test_a_condition_on_a_field_that_is_not_searched_is_that_of_the_base() -> None:
    made = space(model=None, warmup={"choices": [True, False]})
    assert "keep_ratio" in names(made.active({}))
    other = made.within(BASE | {"model": "sgd"})
    assert "keep_ratio" not in names(other.active({}))


def test_a_rule_sees_the_value_of_trial_0_in_place_of_an_inactive_one() -> None:
    parameters = {name: dict(spec) for name, spec in FIELDS.items()}
    made = SearchSpace.from_dict(
        "mine", {"parameters": parameters, "forbid": ["keep_ratio > 0.8 and lr > 0.15"]}
    ).within(BASE | {"keep_ratio": 0.5})
    inactive = {"model": "multi_scale", "lr": 0.2, "keep_ratio": 0.9}
    assert made.forbids(inactive) is None
    assert made.forbids(inactive | {"model": "dynamos_sgd"}) is not None


def test_conditions_are_shown_and_come_back() -> None:
    made = space()
    assert str(made.parameters[0]) == (
        "0.5 to 0.9 in steps of 0.2, if model is dynamos or dynamos_sgd"
    )
    assert str(made.parameters[3]) == "one of 5, 10, if warmup is true"
    assert SearchSpace.from_dict("mine", made.to_dict()) == made


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"lr": {"choices": [0.1], "when": "model"}}, "lr: when 'model' must be a mapping"),
        ({"lr": {"choices": [0.1], "when": {}}}, "lr: when {} must be a mapping"),
        ({"lr": {"choices": [0.1], "when": {"modl": "sgd"}}}, "Did you mean 'model'?"),
        ({"lr": {"choices": [0.1], "when": {"model": "sg"}}}, "Did you mean 'sgd'?"),
        ({"lr": {"choices": [0.1], "when": {"model": []}}}, "lr: when model has no value."),
        ({"lr": {"choices": [0.1], "when": {"lr": 0.1}}}, "lr: when names lr itself."),
        (
            {"lr": {"choices": [0.1], "when": {"model": "sgd"}}},
            "lr: when model is sgd: model has one of dynamos, dynamos_sgd, multi_scale.",
        ),
        (
            {"beta": {"low": 1, "high": 2}, "lr": {"choices": [0.1], "when": {"beta": 1}}},
            "lr: when beta: beta is a range of real numbers",
        ),
        (
            {"model": FIELDS["model"] | {"when": {"warmup_steps": 5}}},
            "its conditions depend on",
        ),
    ],
)
def test_a_condition_that_cannot_be_met_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        space(**changes)
    assert message in str(error.value) and str(error.value).startswith("space mine: ")
