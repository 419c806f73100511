"""No sampler suggests a configuration that its space forbids; a given one is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynamos.errors import UserError
from results.definition.sweep_config import SweepConfig, refuse_in_vain
from results.ledger.asking import nearest_allowed, untried
from results.ledger.ledger import Ledger
from results.strategy.samplers import SAMPLERS, grid
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import SEED, config, driven, result
from tests.helpers.studies import searched

RULE = "lr > 0.2 and beta > 2.6"


def space(*rules: str) -> SearchSpace:
    return SearchSpace.from_dict(
        "half",
        {
            "parameters": {
                "lr": {"low": 0.01, "high": 1.0, "log": True},
                "beta": {"low": 0.0, "high": 4.0},
                "warmup": {"choices": [True, False]},
            },
            "forbid": list(rules or (RULE, "not warmup and beta < 1")),
        },
    )


def sweep(sampler: str = "random", **changes: Any) -> SweepConfig:
    return config(**dict[str, Any](space=space(), sampler=sampler, trials=40, seed=3) | changes)


def value(values: dict[str, Any]) -> float:
    """The best configuration, lr 0.4 and beta 3, is forbidden."""
    return float(90 - 5 * np.log(values["lr"] / 0.4) ** 2 - (values["beta"] - 3) ** 2)


def play(ledger: Ledger, trials: int) -> list[dict[str, Any]]:
    with driven(ledger):
        for _ in range(trials):
            trial = ledger.ask()
            ledger.add_result(trial.number, 1, SEED, result(val_class_il=value(trial.config)))
            ledger.finish(trial.number, "COMPLETE")
        return [t.config for t in ledger.trials()]


@pytest.mark.parametrize(
    "sampler", [pytest.param(s, marks=[pytest.mark.slow] if s == "gp" else []) for s in SAMPLERS]
)
def test_no_sampler_suggests_a_forbidden_configuration_and_a_resumed_one_the_same(
    sampler: str,
) -> None:
    trials = {"noisy": 8}.get(sampler, 16)
    made = sweep(sampler)
    study = searched(value, made, trials)
    found = [made.space.real(t.params) for t in study.trials]
    assert all(made.space.forbids(c) is None for c in found)
    assert len({made.space.key(c) for c in found}) == trials
    if sampler == "nsga2":  # it keeps generations in the study, which a copy of the trials lacks
        return
    resumed = searched(value, made, trials, study.trials[:-2])
    assert [t.params for t in resumed.trials] == [t.params for t in study.trials]


def test_quasi_random_points_skip_the_forbidden_ones_and_no_other() -> None:
    whole = [t.params for t in searched(value, sweep("qmc", space=space("lr > 0.999")), 20).trials]
    made = sweep("qmc")
    allowed = [c for c in whole[1:] if made.space.forbids(c) is None]
    assert [t.params for t in searched(value, made, 10).trials][1:] == allowed[:9]
    assert len(allowed) < 19


def test_the_nearest_allowed_configuration_replaces_a_forbidden_one() -> None:
    made = sweep().space
    forbidden = {"lr": 0.5, "beta": 2.7, "warmup": True}
    found = nearest_allowed(made, forbidden, (), np.random.default_rng(0))
    assert found is not None and made.forbids(found) is None
    assert found["warmup"] is True and found["lr"] == pytest.approx(0.5, rel=0.25)
    assert 2.4 < found["beta"] <= 2.6
    taken = {made.key(found)}
    other = nearest_allowed(made, forbidden, taken, np.random.default_rng(0))
    assert other is not None and other != found


def test_a_random_configuration_is_allowed_and_none_is_found_in_an_empty_space() -> None:
    made = sweep().space
    assert all(made.forbids(untried(made, (), seed) or {}) is None for seed in range(20))


def test_a_finite_space_ends_when_all_that_is_allowed_is_tried(tmp_path: Path) -> None:
    finite = SearchSpace.from_dict(
        "f",
        {
            "parameters": {"nf": {"choices": [8, 16, 32]}, "warmup": {"choices": [True, False]}},
            "forbid": ["nf == 8 and not warmup"],
        },
    )
    ledger = Ledger.create(tmp_path, sweep("tpe", space=finite, trials=10), {})
    assert ledger.budget == 5
    with driven(ledger):
        tried = []
        while ledger.remaining() > 0:
            trial = ledger.ask()
            tried.append((trial.config["nf"], trial.config["warmup"]))
            ledger.finish(trial.number, "FAIL", "a bug")
    assert sorted(tried) == [(8, True), (16, False), (16, True), (32, False), (32, True)]


def test_a_grid_leaves_out_what_is_forbidden_and_says_so(tmp_path: Path) -> None:
    made = sweep("grid", trials=15)
    assert len(grid(made.space, 3)) == 18 - 2 - 3
    ledger = Ledger.create(tmp_path, made, {})
    assert ledger.remarks[0] == (
        f"5 of the grid's 18 points are left out, because the space forbids {RULE}; not warmup and "
        "beta < 1."
    )
    assert ledger.budget == 14
    with pytest.raises(UserError, match="the space half forbids every point of 2 levels"):
        sweep("grid", grid_levels=2, space=space("lr < 0.02", "lr > 0.9"))


def test_a_forbidden_base_or_point_is_refused() -> None:
    with pytest.raises(UserError) as error:
        sweep(base=config().base.replace(lr=0.3, beta=3.0))
    assert str(error.value) == (
        f"trial 0: the space half forbids it: {RULE}. Widen the space, or change `base`."
    )
    with pytest.raises(UserError) as error:
        sweep(points=({"beta": 1.5}, {"lr": 0.5, "beta": 3.0}))
    assert str(error.value) == f"`points`, configuration 2: the space half forbids it: {RULE}."


def test_a_warm_start_leaves_out_what_is_forbidden_and_says_so(tmp_path: Path) -> None:
    points = tuple({"beta": 1 + i / 5, "lr": 0.5} for i in range(10))
    early = sweep(name="early", space=space("lr > 0.9"), points=points, trials=11)
    play(Ledger.create(tmp_path, early, {}), 11)
    ledger = Ledger.create(tmp_path, sweep(warm_start="early"), {})
    assert ledger.remarks[1] == (
        "`warm_start`: 1 trial of early (10) is left out, because the space forbids "
        f"{RULE}; not warmup and beta < 1."
    )
    assert len(ledger.trials()) == 10 and all(t.imported for t in ledger.trials())


def test_a_space_that_forbids_nearly_everything_is_refused() -> None:
    with pytest.raises(UserError) as error:
        refuse_in_vain(sweep(space=space("lr < 0.1799 or lr > 0.1801")))
    assert str(error.value) == (
        "the space half forbids all but 0.02% of its configurations; narrow its ranges, so that "
        "0.1% or more are allowed."
    )
    refuse_in_vain(sweep(space=space("lr < 0.17 or lr > 0.19")))  # 2.4 % are left


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "gp", "noisy"])
def test_a_model_finds_the_best_allowed_configuration_at_the_border(sampler: str) -> None:
    """As good as the border allows, within 0.3 of its 10 points."""
    border = max(value({"lr": 0.2, "beta": 3.0}), value({"lr": 0.4, "beta": 2.6}))
    assert searched(value, sweep(sampler), 40).best_value > border - 0.3
