"""The sampler noisy: expected improvement over the posterior, by hand and in sweeps."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.study import StudyDirection
from scipy.stats import qmc

from results.definition.objectives import Constraint
from results.gaussian_process import PRIORS, Array, GaussianProcess, coordinates
from results.ledger.ledger import Ledger
from results.strategy.cube import config_of, coordinates_of, point_of
from results.strategy.noisy import (
    NOISE,
    NoisySampler,
    improvement,
    largest,
    log_expected_improvement,
)
from results.trial import TrialRecord
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import SEED, config, driven, result

SPACE = SearchSpace.from_dict(
    "s",
    {
        "parameters": {
            "lr": {"low": 0.01, "high": 1.0, "log": True},
            "policy_penalty": {"low": -1000, "high": -10, "log": True},
            "batch_size": {"low": 2, "high": 64, "log": True},
            "average_decay": {"choices": [0.9, 0.0, 0.99]},
            "warmup": {"choices": [True, False]},
        }
    },
)
SQUARE = SearchSpace.from_dict(
    "square",
    {"parameters": {"keep_ratio": {"low": 0.0, "high": 1.0}, "beta": {"low": 0.0, "high": 1.0}}},
)


def test_the_expected_improvement_at_three_points_is_by_hand() -> None:
    # phi(0) = 0.398942; phi(1) = 0.241971 and Phi(1) = 0.841345
    mean, sd = np.array([5.0, 7.0, 3.0]), np.array([1.0, 2.0, 2.0])
    found = np.exp(log_expected_improvement(mean, sd, np.array([5.0])))
    assert found == pytest.approx(
        [0.398942, 2 * (0.241971 + 0.841345), 2 * (0.241971 - 0.158655)], rel=1e-5
    )


def test_a_tiny_expected_improvement_keeps_its_logarithm() -> None:
    def at(u: float) -> float:
        return float(log_expected_improvement(np.array([u]), np.array([1.0]), np.array([0.0]))[0])

    # phi(u) / u^2 (1 - 3 / u^2 + 15 / u^4 - 105 / u^6 ...)
    for u in (40.0, 200.0, 1e4):
        series = 1 - 3 / u**2 + 15 / u**4 - 105 / u**6
        expected = -u * u / 2 - math.log(2 * math.pi) / 2 - 2 * math.log(u) + math.log(series)
        assert at(-u) == pytest.approx(expected, rel=1e-12, abs=1e-6)
    steps = np.array([at(u) for u in np.linspace(-1200, 3, 4000)])
    assert (np.diff(steps) > 0).all(), "no jump where the formula changes"


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_a_point_of_the_cube_has_the_coordinates_of_its_configuration(at: list[float]) -> None:
    cube = np.array(at)
    there = config_of(SPACE, cube)
    SPACE.stored(there)  # raises outside the space
    assert type(there["batch_size"]) is int
    place = coordinates_of(SPACE, cube[None])[0]
    assert place == pytest.approx(coordinates(SPACE, there), abs=1e-9)
    again = config_of(SPACE, point_of(SPACE, there))
    assert SPACE.key(again) == SPACE.key(there)


def test_the_corners_of_the_cube_are_the_ends_of_the_ranges() -> None:
    low, high = (config_of(SPACE, np.full(5, x)) for x in (0.0, 1.0))
    assert low == {
        "lr": 0.01,
        "policy_penalty": -1000,
        "batch_size": 2,
        "average_decay": 0.9,
        "warmup": True,
    }
    assert high == {
        "lr": 1.0,
        "policy_penalty": -10,
        "batch_size": 64,
        "average_decay": 0.99,
        "warmup": False,
    }


LINE = np.linspace(0, 1, 9)[:, None]


def at_work(*more: Any, values: Any = None) -> Callable[[Array], Array]:
    points = np.concatenate([LINE, *more]) if more else LINE
    values = -((LINE[:, 0] - 0.5) ** 2) if values is None else values
    return improvement(points, values, [], np.random.default_rng(0), PRIORS[1])


@pytest.mark.parametrize("prior", PRIORS)
def test_the_model_shares_a_lucky_value_among_its_neighbours(prior: Any) -> None:
    noise = 0.05 * np.array([1, -1, 1, -1, 1, -1, 1, -1, 1] * 3)
    points = np.linspace(0, 1, 27)[:, None]
    values = points[:, 0] + noise
    values[5] += 0.7  # luck
    model = GaussianProcess(points, values, prior, NOISE)
    expected, sd = model.at(points)
    assert values.argmax() == 26 or values.argmax() == 5
    assert expected.argmax() > 20 and model.standardised(values)[5] - expected[5] > 1
    assert 0.02 < model.noise < 1 and (sd < 1).all()


def test_the_search_goes_where_the_posterior_is_best_and_not_to_the_luckiest_value() -> None:
    draws = np.random.default_rng(3)
    points = draws.random((60, 1))
    values = points[:, 0] + draws.normal(0, 0.1, 60)
    lucky = np.abs(points[:, 0] - 0.3).argmin()
    values[lucky] = 1.6
    score = improvement(points, values, [], draws, PRIORS[1])
    found = largest(score, points[[lucky]], np.array([False]), draws)
    assert found[0] > 0.8, values.max()


def test_a_running_trial_sends_the_next_one_elsewhere() -> None:
    mesh = np.linspace(0, 1, 201)[:, None]
    alone = mesh[at_work()(mesh).argmax()]
    with_it = mesh[at_work(alone[None])(mesh).argmax()]
    assert abs(with_it - alone)[0] > 0.03
    assert at_work(alone[None])(alone[None])[0] < at_work()(alone[None])[0] - 0.5


def test_replicates_make_a_configuration_known() -> None:
    """Nine bad values at a place with a good one say that it was luck."""
    points = np.concatenate([LINE, np.full((9, 1), 0.5)])
    values = np.array([0.0, 0.1, 0.2, 0.3, 1.0, 0.3, 0.2, 0.1, 0.0, *[-0.5] * 9])
    middle = np.array([[0.5], [0.35]])
    before, after = (
        improvement(points[:n], values[:n], [], np.random.default_rng(0), PRIORS[1])(middle)
        for n in (9, 18)
    )
    assert before[0] - before[1] > after[0] - after[1]


def test_a_constraint_keeps_the_search_away_from_where_it_is_broken() -> None:
    values = LINE[:, 0]  # the best value is at 1, and beyond 0.6 the constraint is broken
    broken = LINE[:, 0] - 0.6
    mesh = np.linspace(0, 1, 101)[:, None]
    free, bound = (
        improvement(LINE, values, limits, np.random.default_rng(0), PRIORS[1])(mesh)
        for limits in ([], [broken])
    )
    assert mesh[free.argmax(), 0] > 0.9 and 0.4 < mesh[bound.argmax(), 0] < 0.65
    none = improvement(LINE, values, [broken + 1.2], np.random.default_rng(0), PRIORS[1])(mesh)
    assert mesh[none.argmax(), 0] < 0.05, "nothing keeps it: the likeliest to keep it"
    unknown = np.where(LINE[:, 0] < 0.2, np.nan, broken)  # trials that failed
    some = improvement(LINE, values, [unknown], np.random.default_rng(0), PRIORS[1])(mesh)
    assert 0.4 < mesh[some.argmax(), 0] < 0.65


def test_the_largest_score_is_found_in_corners_and_among_choices() -> None:
    target = np.array([1.0, 0.0, 0.37, 0.9])
    choices = np.array([False, False, False, True])

    def score(cube: Array) -> Array:
        other = np.minimum((cube[:, 3] * 5).astype(int), 4) != 4
        return np.asarray(-np.abs(cube[:, :3] - target[:3]).sum(1) - other)

    found = largest(score, np.full((1, 4), 0.5), choices, np.random.default_rng(0))
    assert found[:3] == pytest.approx(target[:3], abs=0.01) and found[3] >= 0.8


def played(
    folder: Path, trials: int, value: Callable[[dict[str, Any]], float], **changes: Any
) -> list[TrialRecord]:
    """Run a sweep of trials one after the other."""
    made = config(**dict[str, Any](space=SQUARE, sampler="noisy", trials=trials) | changes)
    ledger = Ledger.create(folder, made, {})
    with driven(ledger):
        while ledger.remaining() > 0:
            trial = ledger.ask()
            metrics = {"val_class_il": value(trial.config), "compute": trial.config["beta"]}
            ledger.add_result(trial.number, 1, SEED, result(**metrics))
            ledger.finish(trial.number, "COMPLETE")
        return ledger.trials()


def hill(there: dict[str, Any]) -> float:
    return float(80 - 100 * (there["keep_ratio"] - 0.8) ** 2 - 60 * (there["beta"] - 0.3) ** 2)


BASE = config().base.replace(keep_ratio=0.5, beta=0.5)


def test_a_sweep_finds_the_top_of_a_hill(tmp_path: Path) -> None:
    trials = played(tmp_path, 12, hill, base=BASE)
    best = max(trials, key=lambda t: hill(t.config))
    assert hill(best.config) > 79
    points = np.array([[t.config["keep_ratio"], t.config["beta"]] for t in trials])
    gaps = np.abs(points[:, None] - points[None]).max(2) + np.eye(len(points))
    assert gaps.min() > 0.02, "no trial is as good as a replicate of another"


def asked(study: optuna.Study, space: SearchSpace) -> dict[str, Any]:
    """The suggestion for the next trial of a study."""
    sampler = NoisySampler(space, 1, len(study.trials), 7)
    study.ask()
    trial = study.get_trials(deepcopy=False)[-1]
    return space.real(sampler.sample_relative(study, trial, space.distributions()))


def test_the_first_trials_are_a_sobol_sequence_of_the_sweeps_seed(tmp_path: Path) -> None:
    for seed in (5, 6):
        trials = played(tmp_path / str(seed), 5, hill, base=BASE, seed=seed)
        tried = [[t.config["keep_ratio"], t.config["beta"]] for t in trials[1:]]
        assert np.allclose(tried, qmc.Sobol(2, scramble=True, seed=seed).random(4))


def test_a_minimised_objective_is_minimised() -> None:
    found = []
    for sign, direction in ((1, StudyDirection.MAXIMIZE), (-1, StudyDirection.MINIMIZE)):
        study = optuna.create_study(direction=direction)
        for point in np.random.default_rng(0).random((8, 2)):
            there = config_of(SQUARE, point)
            study.add_trial(
                optuna.trial.create_trial(
                    params=there, distributions=SQUARE.distributions(), value=sign * hill(there)
                )
            )
        found.append(asked(study, SQUARE))
    assert found[0] == found[1] and hill(found[0]) > 70


def test_a_sweep_looks_where_its_constraint_is_kept(tmp_path: Path) -> None:
    trials = played(tmp_path, 13, hill, base=BASE, constraints=(Constraint.parse("compute<=0.2"),))
    late = [t.config["beta"] for t in trials[8:]]
    assert sum(beta <= 0.25 for beta in late) >= 3
    kept = [hill(t.config) for t in trials if t.config["beta"] <= 0.2]
    assert max(kept) > 78, "the best that keeps it has 79.4"


def test_trials_that_start_together_differ(tmp_path: Path) -> None:
    ledger = Ledger.create(
        tmp_path, config(space=SQUARE, base=BASE, sampler="noisy", trials=30), {}
    )
    with driven(ledger):
        for _ in range(8):
            trial = ledger.ask()
            ledger.add_result(trial.number, 1, SEED, result(val_class_il=hill(trial.config)))
            ledger.finish(trial.number, "COMPLETE")
        together = [ledger.ask().config for _ in range(4)]
    points = np.array([[c["keep_ratio"], c["beta"]] for c in together])
    gaps = np.abs(points[:, None] - points[None]).max(2) + np.eye(4)
    assert gaps.min() > 0.029


def test_a_near_number_is_taken_if_no_other_is_left() -> None:
    """The step to an untried number is smaller than the least step."""
    space = SearchSpace.from_dict("b", {"parameters": {"batch_size": {"low": 2, "high": 60}}})
    study = optuna.create_study(direction="maximize")
    for number in range(2, 61, 2):
        study.add_trial(
            optuna.trial.create_trial(
                params={"batch_size": number}, distributions=space.distributions(), value=number
            )
        )
    assert asked(study, space)["batch_size"] == 59


@settings(max_examples=5, deadline=None)
@given(st.permutations(range(9)))
def test_the_order_of_trials_does_not_change_the_model(order: list[int]) -> None:
    values = np.sin(5 * LINE[:, 0])
    there = np.array([[0.21], [0.77]])
    model = GaussianProcess(LINE, values, PRIORS[1], NOISE).at(there)
    again = GaussianProcess(LINE[list(order)], values[list(order)], PRIORS[1], NOISE).at(there)
    assert np.allclose(model, again, atol=1e-3)
