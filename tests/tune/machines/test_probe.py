"""Checks of a sweep's configurations before training."""

import pytest

from dynamos.errors import UserError
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import config
from tune.machines.probe import data_record

# Four tasks of sixty images, ten at a time: a first task of few steps.
BASE = config().base.replace(
    device="cpu",
    n_epochs=1,
    batch_size=10,
    max_train_images_per_task=60,
    warmup=True,
    warmup_steps=2,
)


def steps(high: int) -> SearchSpace:
    return SearchSpace.from_dict("w", {"parameters": {"warmup_steps": {"low": 1, "high": high}}})


def test_a_value_with_which_no_trial_could_train_is_refused_before_anything_is_spent() -> None:
    data_record(BASE, True, config(base=BASE, space=steps(5)))
    with pytest.raises(
        UserError,
        match="the space w has warmup_steps 6, which cannot be trained: warmup_steps 6 would "
        "cover the whole first task, which has 6 steps",
    ):
        data_record(BASE, True, config(base=BASE, space=steps(6)))


def test_a_point_with_which_no_trial_could_train_is_refused_too() -> None:
    both = SearchSpace.from_dict(
        "b",
        {
            "parameters": {
                "warmup_steps": {"low": 1, "high": 9},
                "warmup": {"choices": [True, False]},
            }
        },
    )
    data_record(
        BASE, True, config(base=BASE, space=both, points=({"warmup_steps": 9, "warmup": False},))
    )
    with pytest.raises(UserError, match="`points`, configuration 1: warmup_steps 9 would cover"):
        data_record(BASE, True, config(base=BASE, space=both, points=({"warmup_steps": 9},)))
