"""Hyperparameters of a method in a search space."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from dynamos.config import TrainConfig
from dynamos.errors import UserError
from results.definition.sweep_config import SweepConfig
from search_spaces.space import SearchSpace

FILE = """
class A:
    def __init__(self, run, tau=1.0, width=3, mode="mean"): pass
class B:
    def __init__(self, run, depth=2): pass
"""


@pytest.fixture
def base(tmp_path: Path) -> TrainConfig:
    (tmp_path / "mine.py").write_text(FILE)
    return TrainConfig(
        model=f"{tmp_path / 'mine.py'}:A", evaluate_on="validation", device="cpu"
    ).whole()


def space(**parameters: Any) -> SearchSpace:
    return SearchSpace.from_dict("s", {"parameters": parameters})


def test_they_have_the_types_of_the_method(base: TrainConfig) -> None:
    made = space(
        **{
            "method.tau": {"low": 1, "high": 4},
            "method.width": {"low": 1, "high": 8},
            "method.mode": {"choices": ["mean", "sum"]},
        }
    )
    config = SweepConfig(name="a", space=made, base=base)
    tau, width, mode = config.space.parameters
    assert (tau.kind, width.kind, mode.kind) == (float, int, str)
    assert isinstance(tau.distribution(), optuna.distributions.FloatDistribution)
    assert isinstance(width.distribution(), optuna.distributions.IntDistribution)
    # the record of the sweep needs no file
    again = SweepConfig.from_dict(config.to_dict())
    assert again.space == config.space and again.base == base
    assert again.base.replace(**{"method.tau": 3}).method["tau"] == 3.0


@pytest.mark.parametrize(
    "parameters, said",
    [
        (
            {"method.tua": {"low": 1, "high": 4}},
            "space s: unknown hyperparameter of .*:A 'method.tua'. Did you mean 'method.tau'?",
        ),
        ({"method.width": {"low": 0.5, "high": 4}}, "method.width 0.5 is not a whole number"),
        (
            {"method.mode": {"low": 1, "high": 4}},
            "method.mode is not a number; it must have choices",
        ),
        ({"method.mode": {"choices": [1, 2]}}, "method.mode 1 is not a text"),
        ({"method.tau": {"low": 2, "high": 4}}, "method.tau 1.0 lies outside the space"),
    ],
)
def test_what_does_not_fit_is_refused(
    parameters: dict[str, Any], said: str, base: TrainConfig
) -> None:
    with pytest.raises(UserError, match=said):
        SweepConfig(name="a", space=space(**parameters), base=base)


@pytest.mark.parametrize(
    "spec, said",
    [
        ({"low": "a", "high": "b"}, "low 'a' is not a number"),
        ({"low": True, "high": 2}, "low True is not a number"),
        ({"low": 3, "high": 1}, "low must be less than high"),
        ({"choices": [[1]]}, r"\[1\] is not a number, a text"),
    ],
)
def test_a_range_is_checked_when_it_is_read(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        space(**{"method.tau": spec})


def test_a_misspelt_field_is_still_refused_when_the_space_is_read() -> None:
    with pytest.raises(UserError, match="unknown field 'tau'.*named method.NAME"):
        space(tau={"low": 1, "high": 2})


def test_rules_and_conditions_may_name_them(base: TrainConfig) -> None:
    content: dict[str, Any] = {
        "parameters": {
            "method.tau": {"low": 1, "high": 4},
            "method.width": {"choices": [3, 4], "when": {"method.mode": "mean"}},
        },
        "forbid": ["method.tau > 2 and method.mode == 'mean'", "method.mode < 3"],
    }
    with pytest.raises(UserError, match="names no field that the space searches"):
        SearchSpace.from_dict("s", content)
    content["forbid"] = ["method.tau > 2 and method.mode == 'mean'", "method.tau < method.mode"]
    found = SearchSpace.from_dict("s", content).within(base.to_dict())
    assert found.forbids({"method.tau": 3.0}) is found.forbid[0]
    assert found.forbids({"method.tau": 1.5}) is None
    assert [p.name for p in found.active({})] == ["method.tau", "method.width"]
    other = SearchSpace.from_dict("s", content).within(
        base.replace(**{"method.mode": "sum"}).to_dict()
    )
    assert [p.name for p in other.active({})] == ["method.tau"]


def test_a_space_of_several_methods_says_to_which_one_they_belong(base: TrainConfig) -> None:
    other = base.model.replace(":A", ":B")
    varied: dict[str, Any] = {
        "model": {"choices": [base.model, other]},
        "method.tau": {"low": 1, "high": 4},
    }
    with pytest.raises(UserError, match=r"method.tau belongs to a method.*add `when: \{model"):
        SweepConfig(name="a", space=space(**varied), base=base)
    varied["method.tau"]["when"] = {"model": base.model}
    varied["method.depth"] = {"low": 1, "high": 4, "when": {"model": other}}
    config = SweepConfig(name="a", space=space(**varied), base=base)
    assert config.space.stored(base.to_dict()) == {"model": base.model, "method.tau": 1.0}
    trial = config.base.replace(**{"model": other, "method.depth": 3})
    assert trial.method == {"depth": 3} and trial.whole() == trial
