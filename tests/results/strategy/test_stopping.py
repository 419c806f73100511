"""Advice to stop: by hand, on a known landscape, and as an end of the search."""

import dataclasses
import datetime as dt
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import qmc

from dynamos.errors import UserError
from results.analysis.health.checks import findings
from results.definition.objectives import Objective
from results.gaussian_process import coordinates
from results.ledger.glance import glance
from results.ledger.ledger import Ledger
from results.pages.report import report
from results.strategy import stopping
from results.strategy.cube import config_of
from results.strategy.stopping import Gain, advice, gain, judged_at, regret
from results.sweep import Sweep
from results.trial import TrialRecord
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import ONE, complete, config, driven, result
from tune.cli.summary import show_sweep

THREE = SearchSpace.from_dict(
    "three",
    {
        "parameters": {
            "lr": {"low": 0.01, "high": 1.0, "log": True},
            "keep_ratio": {"low": 0.5, "high": 1.0},
            "beta": {"low": 0.5, "high": 4.0},
        }
    },
)
BEGAN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def test_the_regret_of_normal_values_is_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "DRAWS", 100_000)
    draws = np.random.default_rng(0)
    # the difference of two independent values has variance 2, so E[max(d, 0)] = 1 / sqrt(pi)
    assert regret(np.zeros(2), np.eye(2), draws) == pytest.approx(1 / math.sqrt(math.pi), abs=0.01)
    # values that are known differ by 3; and what is best has no regret
    assert regret(np.array([1.0, 4.0]), 1e-9 * np.eye(2), draws) == pytest.approx(3, abs=1e-3)
    assert regret(np.array([4.0, 1.0]), 1e-9 * np.eye(2), draws) == pytest.approx(0, abs=1e-3)
    # values that are one: nothing to gain, however uncertain
    assert regret(np.zeros(2), np.ones((2, 2)), draws) < 0.02


def test_a_search_is_judged_ever_less_often() -> None:
    # 20, then 20 * 1.15 = 23, 26.45 -> 27; ten trials per field at least: 30, 34.5 -> 35
    assert [judged_at(n, 1) for n in (19, 20, 22, 23, 26, 27)] == [None, 20, 20, 23, 23, 27]
    assert [judged_at(n, 3) for n in (29, 30, 34, 35)] == [None, 30, 30, 35]
    assert len({judged_at(n, 1) for n in range(1000)}) < 30


def landscape(trials: int) -> Sweep:
    """A peak of 90 in the middle of THREE, 50 far away, with noise of 3. The first 20 trials lie
    evenly, the others near the peak, as those of a sampler."""
    noise, evenly = np.random.default_rng(1), qmc.Sobol(3, seed=1).random(32)
    records = []
    for n in range(trials):
        at = evenly[n] if n < 20 else np.clip(noise.normal(0.5, 0.15, 3), 0, 1)
        tried = config_of(THREE, at)
        away = np.array(coordinates(THREE, tried)) - 0.5
        value = 50 + 40 * math.exp(-8 * (away**2).sum()) + 3 * noise.normal()
        ended = BEGAN + dt.timedelta(seconds=n)
        of = {n: [result(val_class_il=value)]}
        records.append(
            TrialRecord(
                n, "COMPLETE", "sampler", tried, of, 1, False, None, BEGAN, ended, value, True,
                1.0, 1.0, 0.0, recorded_at={n: [0.0]},
            )
        )  # fmt: skip
    return Sweep(config(space=THREE, sampler="random", trials=100), {}, records)


def test_on_a_known_landscape_the_advice_comes_neither_at_once_nor_never() -> None:
    early, late = landscape(20), landscape(40)
    at_first, at_last = gain(early), gain(late)
    assert at_first is not None and not at_first.negligible and advice(early) is None
    assert at_last is not None and at_last.negligible
    # a difference of two configurations with five seeds each, and noise of about 3
    assert at_last.noise == pytest.approx(3 * math.sqrt(2 / 5), abs=0.4)
    assert at_last.expected < 0.5 < at_first.expected
    said = advice(late)
    assert said is not None and said.startswith(
        "after 40 complete trials, a model expects at most 0."
    )
    names = [[name for name, _ in findings(sweep)][0] for sweep in (early, late)]
    assert names == ["few trials", "gain"] and "few trials" not in dict(findings(late))

    # while trials run, the first 35 of them are judged
    runs = dataclasses.replace(late.records[-1], number=40, state="RUNNING", ended_at=None)
    running = Sweep(late.config, {}, [*late.records, runs])
    told = advice(running)
    assert told is not None and told.startswith("after 35 complete trials")


def test_little_is_unknown_without_noise_a_model_or_with_several_objectives() -> None:
    late = landscape(30)
    two = config(
        space=THREE,
        sampler="random",
        objectives=(Objective.parse("val_class_il"), Objective.parse("compute")),
    )
    assert gain(Sweep(two, {}, late.records)) is None
    assert gain(Sweep(late.config, {}, late.records[:7])) is None
    assert advice(Sweep(late.config, {}, late.records[:29])) is None
    with pytest.raises(UserError, match=r"`stop_when_done` .* one objective"):
        dataclasses.replace(two, stop_when_done=True)


def made(folder: Path, **changes: Any) -> Ledger:
    return Ledger.create(
        folder, config(space=ONE, sampler="random", trials=9, stop_when_done=True, **changes), {}
    )


def test_a_search_that_ended_has_no_trials_left_and_an_extension_overrules_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with driven(made(tmp_path)) as there:
        for value in (50, 60, 70):
            complete(there, value)
        assert there.may_be_done and there.done is None and there.remaining() == 6
        there.ask()
        there.end_search("the search ended: enough")
        assert (there.remaining(), there.budget, there.left) == (0, 4, 1), "one still runs"
        there.finish(3, "FAIL", "no")
    again = Ledger.open(tmp_path, "s")
    assert again.state.name == "finished" == glance(tmp_path, "s").state.name
    assert Sweep.of(again).done == "the search ended: enough" and not again.may_be_done
    assert "the search ended: enough." in report(again)
    show_sweep(again)
    assert "note: the search ended: enough." in capsys.readouterr().out
    with driven(again):
        again.extend(2)
        assert (again.remaining(), again.budget, again.done) == (2, 6, None)
        assert not again.may_be_done, "an extension runs to its end"
        complete(again, 50)
        again.extend(1)
        assert again.budget == 7 == glance(tmp_path, "s").budget


def test_after_the_search_the_race_is_run_and_nothing_else(tmp_path: Path) -> None:
    with driven(made(tmp_path, seed_policy="fresh", replicates=0.5, race=2)) as there:
        there.extend(11)  # of 20 trials, the race has five
        for n in range(8):
            number = there.ask().number
            assert there.trial(number).seed is not None
            seed = there.trial(number).seed or 0
            there.add_result(number, 1, seed, result(val_class_il=50.0 + n))
            there.finish(number, "COMPLETE")
        there.end_search("the search ended: enough")
        sources = []
        while there.remaining() > 0:
            assert not there.waits()
            trial = there.ask()
            sources.append(trial.source.split(":")[0])
            there.add_result(trial.number, 1, trial.seed or 0, result(val_class_il=60.0))
            there.finish(trial.number, "COMPLETE")
    assert sources == ["race"] * 5
    assert there.state.name == "finished"


def test_a_gain_is_negligible_below_the_noise() -> None:
    assert Gain(0, 0.9, 1.0).negligible and not Gain(0, 1.0, 1.0).negligible
