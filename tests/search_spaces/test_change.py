"""Change of the space of a sweep that has run."""

from typing import Any

import pytest

from dynamos.config import TrainConfig
from dynamos.errors import UserError
from search_spaces.change import changed
from search_spaces.parameter import field_value
from search_spaces.space import SearchSpace

BASE = TrainConfig(lr=0.1, nf=8, policy_penalty=-100.0).to_dict()
FIELDS: dict[str, Any] = {
    "lr": {"low": 0.05, "high": 0.2, "log": True},
    "nf": {"choices": [8, 16]},
    "policy_penalty": {"low": -200, "high": -50, "log": True},
}


def space(fixed: dict[str, Any] | None = None, forbid: Any = (), **changes: Any) -> SearchSpace:
    fields = {name: spec for name, spec in (FIELDS | changes).items() if spec is not None}
    content = {"parameters": fields, "fixed": fixed, "forbid": list(forbid)}
    return SearchSpace.from_dict("mine", content).within(BASE)


def test_ranges_keep_their_stored_names_and_other_kinds_get_new_ones() -> None:
    new = changed(
        space(),
        space(
            nf={"choices": [8, 16, 32]},
            lr={"low": 0.01, "high": 0.5, "log": True},
            policy_penalty={"low": -200, "high": 0},
        ),
        20,
    )
    assert new is not None and new.since == 20
    assert [p.stored_name for p in new.parameters] == ["lr", "nf@20", "policy_penalty@20"]
    old = space().stored({"lr": 0.1, "nf": 8, "policy_penalty": -100.0})
    assert old == {"lr": 0.1, "nf": 8, "neg_policy_penalty": 100.0}
    assert new.real(old) == {"lr": 0.1, "nf": 8, "policy_penalty": -100.0}
    now = new.stored(new.real(old))
    assert now == {"lr": 0.1, "nf@20": 8, "policy_penalty@20": -100.0} and new.real(now) == (
        new.real(old)
    )
    assert SearchSpace.from_dict("mine", new.to_dict()) == new
    again = changed(new, space(nf={"choices": [8, 32]}), 30)
    assert again is not None
    assert [p.stored_name for p in again.parameters] == ["lr", "nf@30", "neg_policy_penalty@30"]
    assert again.real(now) == new.real(old), "whatever the space was"


@pytest.mark.parametrize(
    "name, value, wanted",
    [
        ("lr", 0.1, ("lr", 0.1)),
        ("lr@20", 0.1, ("lr", 0.1)),
        ("neg_policy_penalty", 50.0, ("policy_penalty", -50.0)),
        ("neg_policy_penalty@7", 50.0, ("policy_penalty", -50.0)),
    ],
)
def test_a_stored_parameter_is_read_in_any_space(name: str, value: float, wanted: object) -> None:
    assert field_value(name, value) == wanted


def test_the_same_space_in_any_order_changes_nothing() -> None:
    assert changed(space(), space(), 20) is None
    shuffled = SearchSpace.from_dict(
        "other", {"description": "the same", "parameters": dict(reversed(FIELDS.items()))}
    )
    assert changed(space(), shuffled, 20) is None
    new = changed(space(), space(lr={"low": 0.05, "high": 0.3, "log": True}), 20)
    assert new is not None
    assert changed(new, space(lr={"low": 0.05, "high": 0.3, "log": True}), 30) is None


def test_what_fits_is_whole_in_range_and_allowed() -> None:
    new = changed(space(), space(forbid=["lr > 0.1 and nf == 16"], nf={"choices": [8, 16]}), 3)
    assert new is not None
    fit = {"lr": 0.1, "nf": 16, "policy_penalty": -100.0}
    assert new.fits(fit) and not new.fits(fit | {"lr": 0.15})
    assert not new.fits(fit | {"nf": 32}) and not new.fits({"lr": 0.1})


@pytest.mark.parametrize(
    "new, message",
    [
        ({"beta": {"low": 1, "high": 2}}, "the space mine searches beta, and the trials so far"),
        ({"nf": None}, "the space mine lacks nf, of which the trials so far have several values"),
        (
            {"nf": {"choices": [8, 16], "when": {"model": "dynamos"}}},
            "the space mine searches nf under other conditions than so far",
        ),
        ({"fixed": {"beta": 3.3}}, "the space mine fixes beta at 3.3, and the trials so far have"),
        (
            {"lr": {"low": 0.15, "high": 0.2, "log": True}},
            "trial 0, the baseline, must stay in the space: lr 0.1 lies outside the space mine, "
            "which has 0.15 to 0.2 (log).",
        ),
        (
            {"forbid": ["lr < 0.15"]},
            "trial 0, the baseline, must stay in the space: the space mine forbids it: lr < 0.15.",
        ),
    ],
)
def test_a_change_of_meaning_is_refused(new: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        changed(space(), space(**new), 20)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
