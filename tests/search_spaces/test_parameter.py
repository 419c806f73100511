"""Steps, priors, weights and fixed fields of a search space."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution

from dynamos.errors import UserError
from search_spaces.parameter import Parameter, parameter_of
from search_spaces.space import SearchSpace


def parameter(field: str, **spec: Any) -> Parameter:
    return parameter_of("mine", field, spec)


STEPPED = parameter("keep_ratio", low=0.1, high=0.7, step=0.2)
WHOLE_STEPS = parameter("batch_size", low=8, high=32, step=8)
NORMAL = parameter("keep_ratio", low=0.0, high=1.0, mean=0.5, sd=0.1)
LOG_NORMAL = parameter("lr", low=0.001, high=1.0, log=True, mean=0.03, sd=math.log(2))
NEGATIVE = parameter("policy_penalty", low=-1000, high=-10, log=True, mean=-100, sd=0.5)
WHOLE_NORMAL = parameter("batch_size", low=1, high=64, log=True, mean=16, sd=0.4)
STEPPED_NORMAL = parameter("keep_ratio", low=0.1, high=0.7, step=0.2, mean=0.3, sd=0.1)
WEIGHTED = parameter("nf", choices=[8, 16, 32], weights=[2, 1, 1])
ALL = (
    STEPPED,
    WHOLE_STEPS,
    NORMAL,
    LOG_NORMAL,
    NEGATIVE,
    WHOLE_NORMAL,
    STEPPED_NORMAL,
    WEIGHTED,
    parameter("lr", low=0.001, high=1.0, log=True),
    parameter("policy_penalty", low=-1000, high=-10, log=True),
    parameter("batch_size", low=2, high=9),
)


def test_a_step_gives_the_values_from_low_to_high() -> None:
    assert STEPPED.values == (0.1, 0.3, 0.5, 0.7), "not 0.30000000000000004"
    assert WHOLE_STEPS.values == (8, 16, 24, 32)
    assert STEPPED.admits(0.1 + 0.2) and not STEPPED.admits(0.4) and not STEPPED.admits(0.9)
    assert str(STEPPED) == "0.1 to 0.7 in steps of 0.2"


def test_a_sampler_sees_the_number_of_a_step_and_a_probability_for_a_prior() -> None:
    assert STEPPED.sampled_distribution() == IntDistribution(0, 3) and STEPPED.sampled(0.5) == 2
    assert NORMAL.sampled_distribution() == FloatDistribution(0, 1)
    assert NORMAL.sampled(0.5) == pytest.approx(0.5)
    # P(Z <= 1) = 0.8413, and the range cuts off what lies 5 standard deviations away
    assert NORMAL.sampled(0.6) == pytest.approx(0.8413, abs=1e-4)
    assert NORMAL.real(0.8413447) == pytest.approx(0.6)


def test_the_deviation_of_a_log_range_is_that_of_the_logarithm() -> None:
    assert LOG_NORMAL.sampled(0.06) == pytest.approx(0.8413, abs=1e-4), "a factor of two"
    assert LOG_NORMAL.sampled(0.015) == pytest.approx(0.1587, abs=1e-4)
    assert NEGATIVE.real(0.5) == pytest.approx(-100, rel=1e-4)
    assert str(LOG_NORMAL) == "0.001 to 1 (log), log-normal around 0.03 with sd 0.693147"


def test_a_prior_is_cut_off_at_the_ends() -> None:
    half = parameter("keep_ratio", low=0.5, high=1.0, mean=0.5, sd=0.1)
    assert half.real(0.0) == 0.5 and half.real(1.0) == 1.0
    # the median of a half-normal distribution is 0.6745 standard deviations
    assert half.real(0.5) == pytest.approx(0.56745, abs=1e-5)


def test_whole_numbers_and_steps_with_a_prior_are_those_of_the_range() -> None:
    drawn = [WHOLE_NORMAL.real(u) for u in np.linspace(0, 1, 1001)]
    assert set(map(type, drawn)) == {int} and min(drawn) >= 1 and max(drawn) <= 64
    assert np.median(drawn) == 16
    places = np.linspace(0.0005, 0.9995, 1000)
    stepped = [STEPPED_NORMAL.real(u) for u in places]
    # P(0.2 < x < 0.4) of N(0.3, 0.1), 0.6827, over P(0 < x < 0.8), 0.9987
    assert np.mean([x == 0.3 for x in stepped]) == pytest.approx(0.6827 / 0.9987, abs=0.002)


def test_weights_are_parts_of_the_places() -> None:
    drawn = [WEIGHTED.at(u) for u in (0.0, 0.49, 0.51, 0.74, 0.76, 1.0)]
    assert drawn == [8, 8, 16, 16, 32, 32]
    assert [WEIGHTED.place(value) for value in (8, 16, 32)] == [0.25, 0.625, 0.875]
    assert str(WEIGHTED) == "one of 8 (weight 2), 16 (weight 1), 32 (weight 1)"


@pytest.mark.parametrize("p", ALL, ids=lambda p: f"{p.name} {p}")
@given(place=st.floats(0, 1))
def test_every_place_has_a_value_of_the_parameter_that_comes_back(
    p: Parameter, place: float
) -> None:
    value = p.at(place)
    assert p.admits(value), value
    again = p.at(p.place(value))
    assert again == value if p.values is not None else again == pytest.approx(value, rel=1e-9)
    seen = p.real(p.sampled(value))
    assert p.admits(seen)
    assert seen == value if p.values is not None else seen == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("p", ALL, ids=lambda p: f"{p.name} {p}")
def test_a_parameter_comes_back_from_its_description(p: Parameter) -> None:
    assert parameter_of("mine", p.name, p.spec()) == p


def test_a_value_far_out_of_a_narrow_prior_is_stored_as_it_is() -> None:
    """Its probability rounds to 1, and the storage holds the value itself."""
    narrow = parameter("lr", low=0.001, high=1.0, log=True, mean=0.01, sd=0.1)
    space = SearchSpace("mine", (narrow,))
    assert narrow.sampled(0.9) == 1.0
    assert space.real(space.stored({"lr": 0.9})) == {"lr": 0.9}


@pytest.mark.parametrize(
    "field, spec, message",
    [
        ("lr", {"low": 0.1, "high": 0.2, "step": 0}, "lr: step 0 must be greater than 0."),
        ("lr", {"low": 0.1, "high": 0.2, "step": "x"}, "lr: step 'x' is not a number."),
        ("lr", {"low": 0.1, "high": 0.2, "step": True}, "lr: step True is not a number."),
        (
            "lr",
            {"low": 0.1, "high": 0.45, "step": 0.1},
            "lr goes from 0.1 to 0.45, which is no multiple of step 0.1; use high 0.4.",
        ),
        (
            "lr",
            {"low": 0.1, "high": 0.2, "log": True, "step": 0.1},
            "lr: step 0.1 does not go with log; list the values as choices.",
        ),
        ("lr", {"low": 0.1, "high": 0.2, "step": 1e-7}, "step 1e-07 gives more than 10000 values"),
        ("nf", {"low": 8, "high": 16, "step": 0.5}, "nf: step 0.5 is not a whole number"),
        ("lr", {"low": 0.1, "high": 0.2, "mean": 0.1}, "lr has mean alone; a prior needs mean and"),
        ("lr", {"low": 0.1, "high": 0.2, "sd": 1}, "lr has sd alone; a prior needs mean and sd."),
        (
            "lr",
            {"low": 0.1, "high": 0.2, "mean": 0.3, "sd": 1},
            "lr: mean 0.3 must lie in the range, from 0.1 to 0.2.",
        ),
        ("lr", {"low": 0.1, "high": 0.2, "mean": 0.1, "sd": 0}, "lr: sd 0 must be greater than 0."),
        ("lr", {"low": 0.1, "high": 0.2, "mena": 0.1}, "Did you mean 'mean'?"),
        ("lr", {"low": 0.1, "high": 0.2, "weights": [1]}, "lr: weights are for choices; a range"),
        ("nf", {"choices": [8], "weights": [1, 2]}, "weights [1, 2] must be a list of 1 numbers."),
        ("nf", {"choices": [8, 9], "weights": [1, 0]}, "nf: weight 0 must be greater than 0; to"),
        ("nf", {"choices": [8, 8], "weights": [1, 1]}, "lists the choice 8 more than once; with"),
        ("nf", {"choices": [8], "step": 1}, "either choices, a list that is not empty, or low"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused(
    field: str, spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        parameter_of("mine", field, spec)
    assert message in str(error.value) and str(error.value).startswith("space mine: ")
    assert "\n" not in str(error.value)


def fixing(**fixed: Any) -> SearchSpace:
    lr = {"lr": {"low": 0.1, "high": 0.2}}
    return SearchSpace.from_dict("mine", {"parameters": lr, "fixed": fixed})


def test_fixed_fields_come_back_and_are_shown() -> None:
    space = fixing(nf="1e1", warmup=True)
    assert space.fixed == {"nf": 10, "warmup": True}
    assert SearchSpace.from_dict("mine", space.to_dict()) == space
    assert str(space) == "lr 0.1 to 0.2; fixed: nf 10, warmup true"
    assert "fixed" not in fixing().to_dict()


@pytest.mark.parametrize(
    "fixed, message",
    [
        ({"lr": 0.1}, "space mine both searches lr and fixes it; leave one of them out."),
        ({"nff": 8}, "Did you mean 'nf'?"),
        ({"dataset": "seq-mnist"}, "dataset selects the stream, the machine or the output, and"),
        ({"nf": 0}, "space mine: fixed: nf 0 is out of range"),
    ],
)
def test_fixed_fields_that_do_not_fit_are_refused(fixed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        fixing(**fixed)
    assert message in str(error.value)
