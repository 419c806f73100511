"""Errors carry data for programs besides their message."""

import pickle
from collections.abc import Callable

import pytest

from dynamos.config import TrainConfig
from dynamos.errors import SHOWN_NAMES, UserError, unknown
from results.definition.objectives import Constraint, Objective
from search_spaces.space import SearchSpace


@pytest.mark.parametrize(
    "make, near",
    [
        (lambda: Objective.parse("val_clas_il"), "val_class_il"),
        (lambda: Constraint.parse("comput<=1"), "compute"),
        (lambda: TrainConfig.from_dict({"keep_ration": 0.5}), "keep_ratio"),
        (
            lambda: SearchSpace.from_dict("s", {"parameters": {"alhpa": {"low": 1, "high": 2}}}),
            "alpha",
        ),
        (
            lambda: SearchSpace.from_dict("s", {"parameters": {"alpha": {"lo": 1, "high": 2}}}),
            "low",
        ),
        (lambda: Objective.parse("qqqq"), None),
    ],
)
def test_the_nearest_name_is_carried_whatever_the_words_around_it(
    make: Callable[[], object], near: str | None
) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert caught.value.near == near and (
        near is None or f"Did you mean '{near}'?" in str(caught.value)
    )
    assert pickle.loads(pickle.dumps(caught.value)).near == near


def test_of_many_names_some_are_shown_and_the_nearest_of_all_is_named() -> None:
    error = unknown("sweep", "sweep-99x", [f"sweep-{i}" for i in range(200)])
    assert error.near == "sweep-99" and str(error).count("sweep-") == SHOWN_NAMES + 2
    assert str(error).endswith("sweep-59, and more.")


def test_where_no_name_is_allowed_the_message_says_so() -> None:
    said = str(unknown("sweep", "s", [], " (in runs)"))
    assert said == "unknown sweep 's'. There is none. (in runs)"
