"""Trials of a space with conditional parameters: suggested, read, shown, compared."""

import csv
from typing import Any

import numpy as np
import pytest

from dynamos.errors import UserError
from results.analysis.importance import shares
from results.choice import train_config
from results.definition.sweep_config import SweepConfig, refuse_in_vain
from results.gaussian_process import coordinates
from results.ledger.ledger import Ledger
from results.pages.best_config import write_views
from results.pages.charts import parallel, slices
from results.pages.report import report
from results.posterior import posterior
from results.strategy.cube import config_of, coordinates_of, point_of
from results.strategy.samplers import SAMPLERS, grid
from results.sweep import Sweep
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import SEED, config, driven, result
from tests.helpers.studies import searched

SPACE = SearchSpace.from_dict(
    "branches",
    {
        "parameters": {
            "keep_ratio": {"low": 0.4, "high": 0.9, "when": {"model": "dynamos"}},
            "model": {"choices": ["dynamos", "multi_scale"]},
            "lr": {"low": 0.01, "high": 1.0, "log": True},
            "nf": {"choices": [16, 32], "when": {"model": "multi_scale"}},
        }
    },
)
GATED, DENSE = ["keep_ratio", "model", "lr"], ["model", "lr", "nf"]


def sweep(sampler: str = "random", **changes: Any) -> SweepConfig:
    return config(**dict[str, Any](space=SPACE, sampler=sampler, trials=40, seed=3) | changes)


def value(values: dict[str, Any]) -> float:
    """The best is dynamos with keep_ratio 0.6 and lr 0.1."""
    rate = -5 * np.log(values["lr"] / 0.1) ** 2
    if values["model"] == "multi_scale":
        return float(70 + rate + values["nf"] / 16)
    return float(90 + rate - 200 * (values["keep_ratio"] - 0.6) ** 2)


@pytest.mark.parametrize(
    "sampler", [pytest.param(s, marks=[pytest.mark.slow] if s == "gp" else []) for s in SAMPLERS]
)
def test_a_trial_has_the_active_fields_alone_and_a_resumed_sweep_the_same(sampler: str) -> None:
    trials = {"noisy": 8}.get(sampler, 16)
    made = sweep(sampler)
    study = searched(value, made, trials)
    found = [made.space.real(t.params) for t in study.trials]
    for values in found:
        wanted = GATED if values["model"] == "dynamos" else DENSE
        assert sorted(values) == sorted(wanted)
    assert {values["model"] for values in found} == {"dynamos", "multi_scale"}
    assert len({made.space.key(values) for values in found}) == trials
    if sampler == "nsga2":  # it keeps generations in the study, which a copy of the trials lacks
        return
    resumed = searched(value, made, trials, study.trials[:-2])
    assert [t.params for t in resumed.trials] == [t.params for t in study.trials]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "gp", "noisy"])
def test_a_model_finds_the_best_of_the_better_branch(sampler: str) -> None:
    """Within two of the twenty points that lie between the branches."""
    study = searched(value, sweep(sampler), 40)
    assert study.best_value > 88 and study.best_params["model"] == "dynamos"
    last = [t.params["model"] for t in study.trials[20:]]
    assert last.count("dynamos") > 15


def test_a_grid_has_each_different_configuration_once() -> None:
    points = grid(sweep("grid").space, 3)
    assert len(points) == 3 * 3 + 3 * 2
    assert all(sorted(p) == sorted(GATED if "keep_ratio" in p else DENSE) for p in points)


def test_an_inactive_field_lies_in_the_middle_of_the_coordinates() -> None:
    space = sweep().space
    gated = {"model": "dynamos", "lr": 0.1, "keep_ratio": 0.9}
    dense = {"model": "multi_scale", "lr": 0.1, "nf": 32}
    assert coordinates(space, gated) == [1.0, 1.0, 0.0, 0.5, 0.5]
    assert coordinates(space, dense) == [0.5, 0.0, 1.0, 0.5, 1.0]
    cube = np.random.default_rng(0).random((50, 4))
    configs = [config_of(space, point) for point in cube]
    assert np.allclose(coordinates_of(space, cube), [coordinates(space, c) for c in configs])
    again = [config_of(space, point_of(space, c)) for c in configs]
    assert [space.key(c) for c in again] == [space.key(c) for c in configs]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A sweep of random configurations, twelve of them."""
    made = sweep(trials=12)
    with driven(Ledger.create(tmp_path_factory.mktemp("ended"), made, {})) as ledger:
        for _ in range(12):
            trial = ledger.ask()
            metrics = {"val_class_il": value(trial.config), "compute": 0.5}
            ledger.add_result(trial.number, 1, SEED, result(**metrics))
            ledger.finish(trial.number, "COMPLETE")
    write_views(ledger)
    return ledger


def test_an_inactive_field_has_the_value_of_trial_0(ended: Ledger) -> None:
    dense = next(t for t in ended.trials() if t.config["model"] == "multi_scale")
    trained = train_config(ended.config, dense)
    assert trained.keep_ratio == ended.config.base.keep_ratio and trained.nf == dense.config["nf"]


def test_an_inactive_field_is_empty_in_files_and_a_dash_in_the_report(ended: Ledger) -> None:
    with (ended.folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["model"]: row["keep_ratio"] == "" for row in rows} == {
        "dynamos": False,
        "multi_scale": True,
    }
    assert {row["model"]: row["nf"] == "" for row in rows} == {
        "dynamos": True,
        "multi_scale": False,
    }
    page = report(ended)
    assert "<td>-</td>" in page and "0.4 to 0.9, if model is dynamos" in page


def test_models_and_charts_take_conditional_fields(ended: Ledger) -> None:
    swept = Sweep.of(ended)
    found = shares(swept)
    assert found is not None and set(found) == {"keep_ratio", "model", "lr", "nf"}
    model = posterior(swept)
    assert model is not None and len(model.estimates) == 12
    dense = [t.number for t in swept.records if "nf" in t.config]
    points = [n for trace in slices(swept)["nf"].data for n in trace.customdata]
    assert sorted(points) == dense
    lines = [y for trace in parallel(swept).data for y in trace.y]
    assert lines.count(None) == 12 + 12, "one at the end of each line, one at its inactive field"


def test_a_warm_start_takes_conditional_configurations(ended: Ledger) -> None:
    again = Ledger.create(ended.folder.parent, sweep(name="again", warm_start="s"), {})
    key = again.config.space.key
    assert {key(t.config) for t in again.trials()} == {key(t.config) for t in ended.trials()}
    assert all(t.imported for t in again.trials())
    fixed = SearchSpace.from_dict(
        "all", {"parameters": {n: p.spec() | {"when": None} for n, p in named(SPACE).items()}}
    )
    # in a space without conditions they have the values of trial 0
    whole = Ledger.create(ended.folder.parent, sweep(name="whole", space=fixed, warm_start="s"), {})
    assert {len(t.config) for t in whole.trials()} == {4}


def named(space: SearchSpace) -> dict[str, Any]:
    return {p.name: p for p in space.parameters}


def test_a_point_of_an_inactive_field_is_refused() -> None:
    with pytest.raises(UserError) as error:
        sweep(points=({"nf": 16},))
    assert str(error.value) == (
        "`points`, configuration 1: nf is searched only if model is multi_scale; leave it out."
    )
    sweep(points=({"nf": 16, "model": "multi_scale"},))


def test_a_parameter_that_is_never_active_is_refused() -> None:
    space = SearchSpace.from_dict(
        "never",
        {
            "parameters": {
                "lr": {"low": 0.1, "high": 1},
                "beta": {"low": 1, "high": 3, "when": {"model": "multi_scale"}},
            }
        },
    )
    with pytest.raises(UserError) as error:
        refuse_in_vain(sweep(space=space))
    assert str(error.value) == (
        "the space never searches beta only if model is multi_scale, and every trial has model "
        "dynamos."
    )
