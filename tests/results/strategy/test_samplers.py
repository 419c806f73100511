"""Every sampler: its suggestions depend only on the seed and the results, even after crashes."""

import dataclasses
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from optuna import Trial
from scipy.stats import qmc

from dynamos.config import preset
from dynamos.errors import UserError
from results.choice import train_config
from results.definition.objectives import Objective
from results.definition.sweep_config import SweepConfig
from results.ledger.ledger import Ledger
from results.strategy.samplers import GRID_LIMIT, SAMPLERS, SINGLE_OBJECTIVE_SAMPLERS, grid
from results.trial import TrialRecord
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import SEED, config, driven, result

SPACE = SearchSpace.from_dict(
    "two",
    {
        "parameters": {
            "policy_penalty": {"low": -1000, "high": -50, "log": True},
            "batch_size": {"low": 2, "high": 64},
        }
    },
)
RICH = SearchSpace.from_dict(
    "rich",
    {
        "parameters": {
            "policy_penalty": {"low": -1000, "high": -50, "log": True, "mean": -400, "sd": 0.7},
            "batch_size": {"low": 2, "high": 64, "step": 2},
            "keep_ratio": {"low": 0.4, "high": 0.9, "step": 0.1, "mean": 0.7, "sd": 0.2},
            "nf": {"choices": [8, 16, 32], "weights": [1, 2, 4]},
            "warmup_steps": {"low": 2, "high": 20, "when": {"warmup": True}},
            "warmup": {"choices": [True, False]},
        },
        "fixed": {"hidden_dim_ratio": 4},
        "forbid": ["nf == 32 and batch_size > 30", "keep_ratio < 0.55 and policy_penalty < -500"],
    },
)
TWO = (Objective("val_class_il", "max"), Objective("keep_fraction", "min"))
# Number of trials after which a sampler has left its start: it fits a model, or has a population or
# a generation.
STARTUP = {"tpe": 11, "noisy": 6, "cmaes": 9}
LONG_STARTUP = {"gp": 14, "nsga2": 29}


def sweep(sampler: str, **changes: Any) -> SweepConfig:
    return config(**dict[str, Any](space=SPACE, sampler=sampler, trials=40) | changes)


def end(ledger: Ledger, trial: TrialRecord) -> None:
    """End a trial in a way that depends on its number and parameters only."""
    if trial.number % 7 == 5:
        ledger.finish(trial.number, "FAIL", "a bug")
        return
    train = train_config(ledger.config, trial)
    metrics = {
        "val_class_il": 90 - train.batch_size / 10,
        "keep_fraction": -train.policy_penalty / 1e3,
    }
    ledger.add_result(trial.number, trial.attempt, SEED, result(**metrics))
    if trial.number % 7 == 3:
        ledger.finish(trial.number, "PRUNED", "median")
    else:
        ledger.finish(trial.number, "COMPLETE")


def play(ledger: Ledger, trials: int) -> list[dict[str, Any]]:
    """Run a session of N trials, one after the other; return the configurations of all trials so
    far."""
    with driven(ledger):
        for _ in range(trials):
            end(ledger, ledger.ask())
        return [t.config for t in ledger.trials()]


@pytest.fixture(
    scope="module",
    params=[
        *((SPACE, s, STARTUP.get(s, 2)) for s in SAMPLERS),
        *(
            pytest.param(
                (RICH, s, STARTUP.get(s, 2)),
                marks=[] if s in ("tpe", "qmc") else [pytest.mark.slow],
            )
            for s in SAMPLERS
        ),
        *(
            pytest.param((space, *at_work), marks=pytest.mark.slow)
            for space in (SPACE, RICH)
            for at_work in LONG_STARTUP.items()
        ),
    ],
    ids=lambda of: "-".join((of[0].name, *map(str, of[1:]))),
)
def begun(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Ledger]:
    """Return a function that copies a sweep that already has some trials."""
    folder = tmp_path_factory.mktemp("begun")
    space, sampler, trials = request.param
    play(Ledger.create(folder, sweep(sampler, seed=7, space=space), {}), trials)

    def copy() -> Ledger:
        to = tmp_path_factory.mktemp("copy")
        shutil.copytree(folder / "s", to / "s")
        return Ledger.open(to, "s")

    return copy


def test_a_sweep_killed_at_every_trial_tries_what_an_undisturbed_one_does(
    begun: Callable[[], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    undisturbed, killed, other = play(begun(), 2), begun(), begun()
    start = len(killed.trials())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), driven(killed):
        patch.setattr(Trial, "_suggest", kill)
        killed.ask()  # the trial is there and has no parameters yet
    for _ in range(3):
        killed = Ledger.open(killed.folder.parent, "s")
        with driven(killed):
            trial = killed.ask()
            if trial.attempt == 2:  # left running by the session before
                end(killed, trial)
                if trial.number == start:
                    killed.ask()
    assert [t.config for t in killed.trials()] == undisturbed and len(undisturbed) == start + 2
    space = killed.config.space
    assert all(p.admits(values[p.name]) for values in undisturbed for p in space.active(values))
    assert all(("warmup_steps" in values) == values.get("warmup", False) for values in undisturbed)
    assert all(space.forbids(values) is None for values in undisturbed)
    if other.config.sampler != "noisy":  # after its start there is one best answer for all seeds
        other.config = dataclasses.replace(other.config, seed=9)
        assert play(other, 1)[-1] != undisturbed[start], "another seed tries something else"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two objectives with trials in every final state."""
    folder = tmp_path_factory.mktemp("mixed")
    play(Ledger.create(folder, sweep("random", objectives=TWO), {}), 15)
    return folder / "s"


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep whose first trial failed."""
    folder = tmp_path_factory.mktemp("failed")
    with driven(Ledger.create(folder, sweep("random"), {})) as ledger:
        ledger.finish(ledger.ask().number, "FAIL", "a bug")
    return folder / "s"


def copied(folder: Path, to: Path, sampler: str) -> Ledger:
    shutil.copytree(folder, to / "s")
    ledger = Ledger.open(to, "s")
    ledger.config = dataclasses.replace(ledger.config, sampler=sampler)
    return ledger


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sweep_all_of_whose_trials_fail_repeats_none(
    sampler: str, failed: Path, tmp_path: Path
) -> None:
    with driven(copied(failed, tmp_path, sampler)) as ledger:
        for _ in range(2):
            ledger.finish(ledger.ask().number, "FAIL", "a bug")
        assert len({tuple(t.config.values()) for t in ledger.trials()}) == 3


@pytest.mark.parametrize(
    "sampler",
    [
        pytest.param(s, marks=[pytest.mark.slow] if s == "gp" else [])
        for s in SAMPLERS
        if s not in SINGLE_OBJECTIVE_SAMPLERS
    ],
)
def test_several_objectives_are_searched_though_trials_were_pruned_and_failed(
    sampler: str, mixed: Path, tmp_path: Path
) -> None:
    ledger = copied(mixed, tmp_path, sampler)
    assert {t.state for t in ledger.trials()} == {"COMPLETE", "PRUNED", "FAIL"}
    tried = play(ledger, 1)
    assert len(tried) == 16 and all(
        p.admits(values[p.name]) for values in tried for p in SPACE.parameters
    )


def test_a_grid_tries_every_point_once_across_crashes_and_extensions_then_ends(
    tmp_path: Path,
) -> None:
    space = SearchSpace.from_dict(
        "g",
        {
            "parameters": {
                "lr": {"low": 0.05, "high": 0.2},
                "beta": {"choices": [1.0, 3.0]},
                "nf": {"choices": [32, 48]},
            }
        },
    )
    made = config(
        space=space, sampler="grid", grid_levels=2, trials=3, base=config().base.replace(beta=1.0)
    )
    ledger = Ledger.create(tmp_path, made, {})
    play(ledger, 2)
    with driven(Ledger.open(tmp_path, "s")) as again:
        assert again.remaining() == 1
        again.ask()  # and killed
    with driven(Ledger.open(tmp_path, "s")) as again:
        again.extend(2)
        assert (again.budget, again.remaining()) == (5, 3)
        while again.remaining() > 0:
            end(again, again.ask())
        again.extend(100)
        assert (again.budget, again.remaining()) == (9, 4), (
            "the base and two times two times two points"
        )
        while again.remaining() > 0:
            end(again, again.ask())
        again.extend(100)
        assert (again.budget, again.remaining()) == (9, 0)
        trials = again.trials()
    assert trials[0].source == "base" and sorted(t.source for t in trials[1:]) == [
        f"grid:{i}" for i in range(8)
    ]
    tried = {(t.config["lr"], t.config["beta"], t.config["nf"]) for t in trials[1:]}
    assert tried == {(lr, beta, nf) for lr in (0.05, 0.2) for beta in (1.0, 3.0) for nf in (32, 48)}
    assert [t.source for t in trials[1:]] != [f"grid:{i}" for i in range(8)], (
        "a part of the grid is spread over it"
    )


def test_a_grid_asks_for_combinations_that_do_not_go_together_too(tmp_path: Path) -> None:
    """Such a combination fails when it is trained, and the next point is still suggested."""
    space = SearchSpace.from_dict(
        "g", {"parameters": {"nf": {"choices": [4, 32]}, "hidden_dim_ratio": {"choices": [4, 16]}}}
    )
    base = config().base.replace(nf=32, hidden_dim_ratio=16)
    with driven(
        Ledger.create(tmp_path, config(space=space, sampler="grid", trials=5, base=base), {})
    ) as ledger:
        tried = []
        while ledger.remaining() > 0:
            trial = ledger.ask()
            tried.append((trial.config["nf"], trial.config["hidden_dim_ratio"]))
            ledger.finish(trial.number, "FAIL", "as its trainer would say of (4, 16)")
    assert tried[0] == (32, 16) and sorted(tried[1:]) == [(4, 4), (4, 16), (32, 4)], (
        "the base is not tried again"
    )


def test_a_grids_values_are_the_choices_and_go_from_low_to_high() -> None:
    space = SearchSpace.from_dict(
        "g",
        {
            "parameters": {
                "lr": {"low": 0.01, "high": 0.1, "log": True},
                "policy_penalty": {"low": -400, "high": -100, "log": True},
                "beta": {"low": 1, "high": 2},
                "batch_size": {"low": 4, "high": 5},
                "warmup": {"choices": [True, False]},
            }
        },
    )
    points = grid(space, 3)
    assert len(points) == 3 * 3 * 3 * 2 * 2
    for name, values in (("beta", [1, 1.5, 2]), ("batch_size", [4, 5]), ("warmup", [False, True])):
        assert sorted({point[name] for point in points}) == values
    assert np.allclose(
        sorted({point["lr"] for point in points}), [0.01, 0.01 * 10**0.5, 0.1], rtol=1e-12
    )
    assert np.allclose(
        sorted({point["policy_penalty"] for point in points}), [-400, -200, -100], rtol=1e-12
    )


@settings(deadline=None)
@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), st.booleans(), st.integers(2, 20))
def test_a_grids_points_lie_in_the_space_and_differ(
    one: float, other: float, log: bool, levels: int
) -> None:
    assume(abs(one - other) > 1e-9 * max(one, other))  # nearer ends are refused as equal
    space = SearchSpace.from_dict(
        "g",
        {"parameters": {"alpha": {"low": min(one, other), "high": max(one, other), "log": log}}},
    )
    values = [point["alpha"] for point in grid(space, levels)]
    assert all(space.parameters[0].admits(value) for value in values) and len(set(values)) == len(
        values
    )
    assert {min(values), max(values)} == {one, other}


def test_too_large_a_grid_is_refused_before_it_is_made() -> None:
    fields = (
        "lr",
        "alpha",
        "beta",
        "policy_alpha",
        "reward_weight",
        "prototype_loss",
        "temperature",
    )
    space = SearchSpace.from_dict(
        "g", {"parameters": {name: {"low": 0.1, "high": 0.2} for name in fields}}
    )
    with pytest.raises(
        UserError,
        match=f"12 levels of 7 parameters give 35831808 .* more than the limit {GRID_LIMIT}",
    ):
        grid(space, 12)


def test_quasi_random_points_are_one_sobol_sequence_across_crashes(tmp_path: Path) -> None:
    space = SearchSpace.from_dict(
        "q",
        {"parameters": {"lr": {"low": 0.0625, "high": 0.1875}, "beta": {"low": 1.0, "high": 3.0}}},
    )
    Ledger.create(tmp_path, config(space=space, sampler="qmc", seed=5, trials=10), {})
    for trials in (2, 1):
        play(Ledger.open(tmp_path, "s"), trials)
    killed = Ledger.open(tmp_path, "s")
    with suppress(KeyboardInterrupt), killed.driving():
        set_param, calls = killed._storage.set_trial_param, iter([True, False])

        def between_two_parameters(*arguments: Any) -> None:
            if not next(calls):
                raise KeyboardInterrupt
            set_param(*arguments)

        with patch.object(killed._storage, "set_trial_param", between_two_parameters):
            killed.ask()
    play(Ledger.open(tmp_path, "s"), 2)
    tried = [[t.config["lr"], t.config["beta"]] for t in Ledger.open(tmp_path, "s").trials()[1:]]
    sobol = qmc.Sobol(2, scramble=True, seed=5).random(4)
    assert np.allclose(tried, np.array([0.0625, 1.0]) + sobol * np.array([0.125, 2.0]), rtol=1e-12)


def drawn(sampler: str, space: SearchSpace, trials: int, folder: Path) -> list[dict[str, Any]]:
    """The configurations of a sweep whose trials all have one value, without its base."""
    with driven(
        Ledger.create(folder, sweep(sampler, space=space, trials=trials + 1, seed=3), {})
    ) as ledger:
        for _ in range(trials + 1):
            trial = ledger.ask()
            ledger.add_result(trial.number, 1, SEED, result(val_class_il=50.0))
            ledger.finish(trial.number, "COMPLETE")
        return [t.config for t in ledger.trials()[1:]]


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe", "noisy"])
def test_what_is_drawn_at_random_follows_priors_and_weights(sampler: str, tmp_path: Path) -> None:
    space = SearchSpace.from_dict(
        "p",
        {
            "parameters": {
                "lr": {"low": 0.001, "high": 1.0, "log": True, "mean": 0.03, "sd": 0.1},
                "warmup": {"choices": [False, True], "weights": [1, 9]},
            }
        },
    )
    count = {"random": 24, "qmc": 24, "tpe": 9, "noisy": 4}[sampler]
    with patch("tests.helpers.ledgers.preset", lambda *_: preset("seq-digits", 200) | {"lr": 0.03}):
        configs = drawn(sampler, space, count, tmp_path)
    # four standard deviations around the mean; uniform draws would lie there in 12 of 100 cases
    assert all(0.03 * np.exp(-0.4) < c["lr"] < 0.03 * np.exp(0.4) for c in configs)
    if count == 24:  # of 10 equal draws, 9 or more would be True in one case of a hundred
        assert 0.7 < np.mean([c["warmup"] for c in configs]) < 1.0


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_a_fixed_field_is_that_of_every_trial_and_is_not_searched(
    sampler: str, tmp_path: Path
) -> None:
    made = sweep(sampler, space=RICH)
    assert made.base.hidden_dim_ratio == 4 and not made.base_is_preset
    configs = play(Ledger.create(tmp_path, made, {}), 3)
    assert all("hidden_dim_ratio" not in c and "nf" in c for c in configs)


def test_a_grid_takes_steps_and_even_probabilities_of_a_prior() -> None:
    space = SearchSpace.from_dict(
        "g",
        {
            "parameters": {
                "keep_ratio": {"low": 0.1, "high": 0.9, "step": 0.1},
                "alpha": {"low": 0.0, "high": 1.0, "mean": 0.5, "sd": 0.1},
                "nf": {"choices": [8, 16], "weights": [1, 9]},
            }
        },
    )
    points = grid(space, 3)
    assert len(points) == 18
    assert sorted({p["keep_ratio"] for p in points}) == [0.1, 0.5, 0.9]
    assert sorted({p["alpha"] for p in points}) == [0.0, 0.5, 1.0]
    # the quartiles of a normal distribution lie 0.6745 standard deviations from its mean
    alphas = sorted({p["alpha"] for p in grid(space, 5)})
    assert np.allclose(alphas, [0, 0.43255, 0.5, 0.56745, 1], atol=1e-5)


def test_a_space_of_steps_alone_is_finite_and_ends(tmp_path: Path) -> None:
    space = SearchSpace.from_dict(
        "s", {"parameters": {"keep_ratio": {"low": 0.5, "high": 0.9, "step": 0.2}}}
    )
    assert space.size == 3
    ledger = Ledger.create(tmp_path, sweep("tpe", space=space, trials=20), {})
    assert ledger.budget == 3
    configs = play(ledger, 3)
    assert sorted(c["keep_ratio"] for c in configs) == [0.5, 0.7, 0.9]
