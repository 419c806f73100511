import html
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from results.analysis import overview
from results.analysis.headline import expectation, headline
from results.analysis.health.checks import findings
from results.choice import DEFAULT, RULES, Choice, choice_of, chosen, chosen_by, roles
from results.definition.objectives import Constraint
from results.gaussian_process import (
    PRIORS,
    GaussianProcess,
    conditional,
    coordinates,
    left_out,
    winsorised,
)
from results.ledger.ledger import Ledger
from results.pages.best_config import exported, write_views
from results.pages.charts import groups
from results.pages.report import write_report
from results.posterior import (
    LEAST_CONFIGURATIONS,
    LEAST_EXPLAINED,
    NOISE,
    fitted,
    posterior,
)
from results.sweep import Sweep
from search_spaces.space import SearchSpace, read_space
from tests.helpers.ledgers import ONE, config, driven, lucky, result
from tune.cli.summary import ending

SIGNAL = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.5], [0.0, 0.5, 1.0]])
CHEAP = Constraint.parse("compute<=0.75")


def test_the_posterior_of_three_points_is_by_hand() -> None:
    # values 1 and 2 at the outer points, which do not depend on each other; noise 1
    mean, covariance = conditional(SIGNAL, np.array([0, 2]), np.array([1.0, 2.0]), 1.0)
    # K + noise is 2 on the diagonal; so every weight is half of the covariance with the point
    assert mean == pytest.approx([0.5, 0.75, 1.0])
    assert np.diag(covariance) == pytest.approx([0.5, 0.75, 0.5])
    assert covariance[0, 2] == pytest.approx(0.0)
    assert covariance[0, 1] == pytest.approx(0.25)


def test_several_values_at_a_point_weigh_as_their_mean_with_less_noise() -> None:
    at, values = np.array([0, 0, 0, 2]), np.array([1.0, 2.0, 6.0, 2.0])
    mean, _ = conditional(SIGNAL, at, values, 1.5)
    # prior 1, the mean 3 of three values has the noise 0.5: 3 / 1.5
    assert mean[0] == pytest.approx(2.0)
    assert mean[2] == pytest.approx(2 / 2.5)


def test_a_point_left_out_is_predicted_by_the_values_of_the_others() -> None:
    at, values = np.array([0, 1, 1, 2]), np.array([1.0, 4.0, -2.0, 2.0])
    expected = [
        conditional(SIGNAL, at[at != point], values[at != point], 0.5)[0][point]
        for point in range(3)
    ]
    assert left_out(SIGNAL, at, values, 0.5) == pytest.approx(expected)
    # The outer points, 1 and 2, do not depend on each other; each weighs 0.5 / 1.5 at the middle.
    assert expected[1] == pytest.approx(1.0)


def test_coordinates_of_a_configuration() -> None:
    space = SearchSpace.from_dict(
        "s",
        {
            "parameters": {
                "lr": {"low": 0.01, "high": 1.0, "log": True},
                "policy_penalty": {"low": -1000, "high": -10, "log": True},
                "keep_ratio": {"low": 0.5, "high": 1.0},
                "average_decay": {"choices": [0.9, 0.0, 0.99]},
                "warmup": {"choices": [True, False]},
            }
        },
    )
    values = {
        "lr": 0.1,
        "policy_penalty": -100.0,
        "keep_ratio": 0.75,
        "average_decay": 0.9,
        "warmup": False,
    }
    # -1000 is the range's lower end
    assert coordinates(space, values) == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.0, 1.0])
    lowest = values | {"policy_penalty": -1000.0}
    assert coordinates(space, lowest)[1] == pytest.approx(0.0)


def test_collapsed_runs_are_raised_to_the_fence() -> None:
    # quartiles 2 and 4, so the fence is -1
    assert winsorised(np.array([-90.0, 2.0, 3.0, 4.0, 5.0])).tolist() == [-1.0, 2.0, 3.0, 4.0, 5.0]


def curve(x: float) -> float:
    return 80 - 100 * (x - 0.5) ** 2


def test_one_lucky_reading_is_no_best_configuration() -> None:
    points = [(i / 20,) for i in range(21)]
    noise = np.random.default_rng(1).normal(0, 1, 21)
    values = [curve(x) + e for (x,), e in zip(points, noise, strict=True)]
    values[2] = max(values) + 5
    model = fitted(tuple(points), tuple((v,) for v in values), (True,) * len(points))
    assert int(np.argmax(values)) == 2 and abs(int(np.argmax(model.means)) - 10) <= 3
    assert sum(model.shares) == pytest.approx(1.0) and model.shares[2] < 0.1
    assert model.explained > 0.3 and all(sd > 0 for sd in model.sds)
    assert model.noise is not None and 0.5 < model.noise < 6


def test_the_model_is_the_mixture_of_a_process_for_each_prior() -> None:
    draws = np.random.default_rng(3)
    points, values = draws.random((12, 2)), draws.normal(70, 5, 12)
    each = [GaussianProcess(points, values, prior, NOISE) for prior in PRIORS]
    (a, b), (sd_a, sd_b) = zip(*(process.at(points) for process in each), strict=True)
    assert np.abs(a - b).max() > 0.01  # the processes disagree
    model = fitted(
        tuple(map(tuple, points.tolist())), tuple((v,) for v in values.tolist()), (True,) * 12
    )
    assert model.means == pytest.approx(values.mean() + values.std() * (a + b) / 2)
    variance = (sd_a**2 + sd_b**2) / 2 + ((a - b) / 2) ** 2
    assert model.sds == pytest.approx(values.std() * np.sqrt(variance), rel=1e-3)


def test_runs_without_visible_noise_leave_it_unknown() -> None:
    points = tuple((i / 20,) for i in range(21))
    model = fitted(points, tuple((curve(x),) for (x,) in points), (True,) * len(points))
    assert model.noise is None and model.explained > 0.9


def test_two_points_are_best_with_the_probability_of_their_difference() -> None:
    # far apart, many values each: the model knows both means, and hardly anything else
    values = {0.0: (1.0,) * 8, 1.0: (1.0,) * 8}
    spread = (-1.0, 1.0) * 4
    runs = tuple(
        tuple(mean + extra + e for e in spread)
        for (_, (mean, *_)), extra in zip(values.items(), (0.0, 0.5), strict=True)
    )
    model = fitted(((0.0,), (1.0,)), runs, (True, True))
    means, best = model.means, model.shares
    assert best[1] > 0.5 > best[0] and means[1] > means[0]
    assert sum(best) == 1.0
    # without a correlation P = Phi(gain / sd of the difference); a correlation makes it larger
    gain = (means[1] - means[0]) / math.hypot(*model.sds)
    assert best[1] >= 0.5 * (1 + math.erf(gain / math.sqrt(2))) - 0.03


def test_a_model_of_pure_noise_explains_nothing() -> None:
    draws = np.random.default_rng(0)
    points = tuple(map(tuple, draws.random((25, 3)).tolist()))
    explained = [
        fitted(points, tuple((v,) for v in draws.normal(size=25)), (True,) * 25).explained
        for _ in range(8)
    ]
    assert sum(e >= LEAST_EXPLAINED for e in explained) <= 1


def filled(folder: Path, values: list[float], **changes: Any) -> Ledger:
    made = config(space=read_space("core"), sampler="random", trials=len(values), **changes)
    with driven(Ledger.create(folder, made, {})) as there:
        for value in values:
            number = there.ask().number
            there.add_result(number, 1, 42, result(val_class_il=value))
            there.finish(number, "COMPLETE")
    return there


def test_a_sweep_of_few_or_equal_values_has_no_model(tmp_path: Path) -> None:
    few = [float(v) for v in range(LEAST_CONFIGURATIONS - 1)]
    assert posterior(Sweep.of(filled(tmp_path / "few", few))) is None
    assert posterior(Sweep.of(filled(tmp_path / "equal", [50.0] * 12))) is None


def test_a_model_that_predicts_nothing_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(50, 5, 40).tolist()
    sweep = Sweep.of(filled(tmp_path, noise))
    model = posterior(sweep)
    assert model is not None
    assert not model.useful
    assert expectation(sweep) == ""
    assert dict(findings(sweep))["model"].text == (
        "A model of the space does not predict the trials (it explains "
        f"{max(model.explained, 0):.0%} of their variance), so values near the best cannot be "
        "told apart."
    )
    few = Sweep.of(filled(tmp_path / "few", [50.0, 60.0]))
    assert expectation(few) == ""


def test_a_choice_without_a_useful_model_says_so(tmp_path: Path) -> None:
    few = filled(tmp_path, [50.0, 60.0])
    sweep = Sweep.of(few)
    assert chosen_by(sweep, Choice("best")) == "the best mean of the first objective"
    assert Choice().rule == DEFAULT and choice_of(sweep) is sweep.leader
    assert chosen_by(sweep, Choice("model", 2.0)) == (
        "the best mean of the first objective, with compute of at most 2; too few trials for "
        "a model"
    )
    told = exported(few, sweep.ranked[0], Choice("model"))["provenance"]
    assert told["chosen_by"] == chosen_by(sweep, Choice("model"))


def test_a_model_of_few_runs_keeps_those_that_may_be_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("results.posterior.MOST_RUNS", LEAST_CONFIGURATIONS)
    made = config(space=ONE, sampler="random", trials=20, constraints=(CHEAP,))
    with driven(Ledger.create(tmp_path, made, {})) as there:
        for _ in range(20):
            number = there.ask().number
            ratio = there.trial(number).config["keep_ratio"]
            told = result(val_class_il=100 * ratio, compute=ratio)
            there.add_result(number, 1, 42, told)
            there.finish(number, "COMPLETE")
    sweep = Sweep.of(there)
    found = posterior(sweep)
    assert found is not None
    assert {n for e in found.estimates for n in e.trials} == {
        t.number for t in sweep.ranked[:LEAST_CONFIGURATIONS]
    }
    assert expectation(sweep) != ""


def test_the_model_chooses_the_expected_best_and_not_the_luckiest(tmp_path: Path) -> None:
    there = lucky(tmp_path)
    sweep = Sweep.of(there)
    luckiest, expected = (chosen(sweep, Choice(rule))[0] for rule in ("best", "model"))
    assert choice_of(sweep) is expected and sweep.leader is luckiest
    assert luckiest.config["keep_ratio"] == pytest.approx(0.18)
    assert expected.config["keep_ratio"] == pytest.approx(0.5, abs=0.09)
    text = expectation(sweep)
    begins = f"A model of all trials expects the best value from trial {expected.number}: "
    assert text.startswith(begins)
    assert chosen_by(sweep, Choice("model")) == RULES["model"]
    assert f"The luckiest, trial {luckiest.number}, has " in text
    assert text.endswith("because similar trials have other values.")
    content = exported(there, expected, Choice("model"))
    told = content["provenance"]["expected"]
    assert told.startswith(begins) and text.startswith(told)
    limited = exported(there, luckiest, Choice("model", 1.0))["provenance"]["expected"]
    assert limited.startswith(f"{told} Trial {luckiest.number}, the best within the limit, has ")
    assert "expected" not in exported(there, luckiest, Choice("best"))["provenance"]
    assert html.escape(text) in write_report(there).read_text()


def test_the_expected_best_is_the_best_everywhere_and_the_luckiest_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = lucky(tmp_path)
    sweep = Sweep.of(there)
    best, luckiest, preset = roles(sweep).values()
    model = posterior(sweep)
    assert list(roles(sweep)) == ["best", "luckiest", "preset"] and model is not None
    of_best, of_preset = model.of(best), model.of(preset)
    assert of_best is not None and of_preset is not None
    lead = of_best.expected - of_preset.expected
    assert headline(sweep) == (
        f"Trial {best.number} is best by a model of all trials, with val_class_il "
        f"{of_best.expected:.2f} expected, better by {lead:.2f} than the preset "
        f"({of_preset.expected:.2f} expected). Confirm it on fresh seeds."
    )
    told = overview.details(there, sweep)["chosen"]
    assert (told["number"], told["value"]) == (best.number, best.value)
    assert (told["expected"], told["sd"], told["p_best"]) == (
        of_best.expected,
        of_best.sd,
        of_best.p_best,
    )
    assert overview.summary(there, sweep, "finished")["best"]["number"] == luckiest.number
    names = [group.name for group in groups(sweep)]
    assert f"chosen: trial {best.number}" in names and f"luckiest: trial {luckiest.number}" in names
    write_views(there)
    exported_ = yaml.safe_load((there.folder / "best_config.yaml").read_text())
    assert exported_["provenance"]["trial"] == best.number
    assert sweep.best()["number"] == best.number and sweep.best("best")["number"] == luckiest.number
    assert ending(there, None)
    out = capsys.readouterr().out
    assert "by val_class_il:max, compared with the luckiest and the preset:" in out
    assert f"luckiest (trial {luckiest.number})" in out
    running = replace(best, state="RUNNING")
    going = Sweep(sweep.config, {}, [running, *(t for t in sweep.records if t is not best)])
    assert choice_of(going) is going.leader is not None and going.leader.number == luckiest.number


def test_a_sweeps_estimates_are_of_its_trials_and_best_first(tmp_path: Path) -> None:
    values = [50.0 + 3 * n for n in range(LEAST_CONFIGURATIONS + 2)]
    sweep = Sweep.of(filled(tmp_path, values))
    found = posterior(sweep)
    assert found is not None
    assert sorted(n for e in found.estimates for n in e.trials) == list(range(len(values)))
    expected = [e.expected for e in found.estimates]
    assert expected == sorted(expected, reverse=True)
    for estimate in found.estimates:
        assert estimate.observed == values[estimate.trials[0]] and estimate.runs == 1
    assert sum(e.p_best for e in found.estimates) == pytest.approx(1.0)
    again = posterior(Sweep(sweep.config, sweep.record, sweep.records[::-1]))
    assert again == found  # the order of trials does not matter
