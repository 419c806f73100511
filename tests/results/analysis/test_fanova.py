"""Shares of a function's variance: by hand, and as Optuna's evaluator has them."""

from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.importance import FanovaImportanceEvaluator

from results.analysis.fanova import _alone, _boxes, explained
from results.analysis.importance import _importances


def test_of_a_tree_with_three_leaves_by_hand() -> None:
    # x0 <= 1 of 0 to 4 gives 0; else x1 <= 0.5 of 0 to 1 gives 4, and 8 above
    tree = SimpleNamespace(
        node_count=5,
        children_left=np.array([1, -1, 3, -1, -1]),
        children_right=np.array([2, -1, 4, -1, -1]),
        feature=np.array([0, -2, 1, -2, -2]),
        threshold=np.array([1.0, -2, 0.5, -2, -2]),
        value=np.array([0.0, 0, 0, 4, 8])[:, None, None],
    )
    low, high, values = _boxes(tree, np.array([[0.0, 4], [0, 1]]))
    assert low.tolist() == [[0, 0], [1, 0], [1, 0.5]]
    assert high.tolist() == [[1, 1], [4, 0.5], [4, 1]]
    weights = np.array([1.0, 1.5, 1.5])
    # over x1: 0 on a quarter and 6 on the rest, mean 4.5; over x0: 3 and 6, mean 4.5
    alone = [_alone(low, high, values, weights, [i]) for i in (0, 1)]
    assert alone == pytest.approx([0.25 * 4.5**2 + 0.75 * 1.5**2, 1.5**2])


def test_nothing_varies() -> None:
    points = np.linspace(0, 1, 12)[:, None]
    assert explained(points, np.ones(12), np.array([[0.0, 1]]), [[0]], 4) is None


def test_it_equals_optunas() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def function(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0.01, 10, log=True)
        n = trial.suggest_int("n", 1, 5)
        step = trial.suggest_float("step", 0, 1, step=0.25)
        kind = trial.suggest_categorical("kind", ["a", "b", "c"])
        return x + n * (kind == "b") + step * (kind != "a")

    study.optimize(function, n_trials=40)
    theirs = optuna.importance.get_param_importances(
        study, evaluator=FanovaImportanceEvaluator(n_trees=8, seed=0)
    )
    assert _importances(study.trials, 8) == pytest.approx(theirs, abs=1e-9)
