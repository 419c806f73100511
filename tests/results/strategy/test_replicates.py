"""Replicates: further runs of the leader and its challenger, and means over all runs."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.analysis.headline import tried
from results.analysis.power import plan
from results.choice import tie_sentence
from results.definition.objectives import Constraint
from results.ledger.glance import glance
from results.ledger.ledger import Ledger
from results.pages.charts import groups
from results.posterior import Estimate, Posterior
from results.strategy.replicates import due, next_seed, quota, replicated, seeds_of
from results.strategy.samplers import SAMPLERS
from results.sweep import Sweep
from results.trial import TrialRecord, pooled
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import ONE, begun, config, driven, result
from tune.cli.summary import show_sweep

FOUR = SearchSpace.from_dict(
    "four", {"parameters": {"keep_ratio": {"choices": [0.4, 0.5, 0.7, 1]}}}
)
KEEPS = [{"keep_ratio": value} for value in (0.3, 0.5, 0.9)]


def made(folder: Path, **changes: Any) -> Ledger:
    fields: dict[str, Any] = {
        "space": ONE,
        "sampler": "random",
        "trials": 12,
        "seed_policy": "fresh",
    } | changes
    return Ledger.create(folder, config(**fields), {})


def play(ledger: Ledger, *values: float, state: str = "COMPLETE", **metrics: float) -> TrialRecord:
    """Run the next trial: each of its seeds has the next of the values."""
    trial = begun(ledger)
    for seed, value in zip(trial.results, itertools.cycle(values), strict=False):
        told = {"val_class_il": value} | metrics
        ledger.add_result(trial.number, trial.attempt, seed, result(**told))
    reason = "non-finite: logits" if state == "PRUNED" else "a bug" if state == "FAIL" else None
    ledger.finish(trial.number, state, reason)
    return ledger.trial(trial.number)


def test_replicates_keep_their_share_once_there_is_something_to_choose_from() -> None:
    assert quota(0.29, 100) == 29 and quota(0.25, 7) == 1
    # of 20 trials: with 8 complete configurations, or from the half of the budget on
    assert not due(0.25, 9, 0, 10, configurations=7)
    assert due(0.25, 9, 0, 10, configurations=8) and due(0.25, 10, 0, 10, configurations=2)
    # a quarter of 11 is 2.75
    assert due(0.25, 10, 1, 10, 8) and not due(0.25, 10, 2, 10, 8)
    assert not due(0.0, 19, 0, 10, 18)


def test_leader_and_runner_up_take_turns_by_their_means_over_all_runs(tmp_path: Path) -> None:
    with driven(made(tmp_path, points=tuple(KEEPS), replicates=0.5)) as ledger:
        for value in (50.0, 80.0, 70.0, 60.0):
            play(ledger, value)
        for _ in range(2):  # until half of the budget has begun
            play(ledger, 10.0)
        sources = []
        # 80, 70 -> 64 for the leader makes 72, still first; then the runner-up's turn: 90 makes 80
        for value in (64.0, 90.0, 75.0):
            sources.append(play(ledger, value).source)
        assert sources == ["replicate:1", "replicate:2", "replicate:2"]
        sweep = Sweep.of(ledger)
    first, second = sweep.ranked[:2]
    # mean of 70, 90, 75; of 80 and 64
    assert (first.number, round(first.value or 0, 3), len(first.results)) == (2, 78.333, 3)
    assert (second.number, second.value) == (1, 72.0)
    assert sweep.leader is first and first.spread("val_class_il") == pytest.approx(10.408, abs=1e-3)
    assert [t.replicates for t in sweep.records[6:]] == [1, 2, 2]
    assert sorted(first.results) == [44, 49, 50], "each trial has its own seeds"


def test_table_charts_and_lists_show_replicates_as_runs_of_their_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with driven(made(tmp_path, points=tuple(KEEPS), replicates=0.5, trials=8)) as ledger:
        for value in (50.0, 80.0, 70.0, 60.0, 66.0, 90.0):
            play(ledger, value)
        sweep = Sweep.of(ledger)
    # 80 and 66 make 73; 70 and 90 make 80
    chosen = groups(sweep)[-1]
    assert (chosen.name, len(chosen.trials[0].results)) == ("chosen: trial 2", 2)
    assert list(sweep.trials["source"][4:]) == ["replicate:1", "replicate:2"]
    assert list(sweep.trials["seed"]) == [42, 43, 44, 45, 46, 47]
    assert sweep.best()["val_class_il"] == 80.0 and sweep.best()["number"] == 2
    show_sweep(Ledger.open(tmp_path, "s"))
    shown = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in shown if " complete " in line and line.split()[0].isdigit()]
    assert [(row[0], next(word for word in row if ":" in word)) for row in rows[:4]] == [
        ("2", "points:2"),
        ("5", "replicate:2"),
        ("1", "points:1"),
        ("4", "replicate:1"),
    ]


def test_sentences_count_configurations_and_all_their_runs(tmp_path: Path) -> None:
    with driven(made(tmp_path, points=tuple(KEEPS), replicates=0.5, trials=8)) as ledger:
        for value in (50.0, 80.0, 70.0, 60.0, 66.0, 90.0):
            play(ledger, value)
        sweep = Sweep.of(ledger)
    assert tried(sweep) == "4 configurations with 1 to 2 seeds each"
    assert tie_sentence(sweep).startswith("With few seeds each, configurations")
    assert "best: trial 2, val_class_il 80>" in repr(sweep)


def test_the_power_of_a_confirmation_weighs_configurations_by_their_runs(tmp_path: Path) -> None:
    with driven(made(tmp_path, points=tuple(KEEPS), replicates=0.5)) as ledger:
        for value in (50.0, 80.0, 70.0, 60.0, 10.0, 10.0, 64.0, 90.0, 75.0):
            play(ledger, value)
        sweep = Sweep.of(ledger)
    # 80, 64: squares 128 of one degree of freedom; 70, 90, 75: 216.67 of two; (344.67 / 3) ** 0.5
    assert plan(sweep, 5).startswith(
        "The standard deviation over seeds of the best trials is 10.72."
    )


def test_runs_in_training_count_so_that_two_slots_do_not_do_the_same(tmp_path: Path) -> None:
    with driven(made(tmp_path, points=tuple(KEEPS), replicates=0.5, trials=8)) as ledger:
        for value in (50.0, 80.0, 70.0, 60.0):
            play(ledger, value)
        assert [begun(ledger).source for _ in range(2)] == ["replicate:1", "replicate:2"]


def estimate(number: int, p_best: float) -> Estimate:
    return Estimate((number,), 0.0, 1, 90.0 - number, 1.0, p_best)


@pytest.mark.parametrize(
    "explained, chosen", [(0.5, [1, 3, 1, 3]), (0.1, [1, 2, 1, 2])], ids=["model", "no model"]
)
def test_the_challenger_is_the_likeliest_of_the_others(
    tmp_path: Path, explained: float, chosen: list[int]
) -> None:
    model = Posterior([estimate(1, 0.4), estimate(2, 0.2), estimate(3, 0.3)], explained, 1.0)
    with (
        driven(made(tmp_path, points=tuple(KEEPS), replicates=0.9)) as ledger,
        patch("results.strategy.replicates.posterior", lambda _: model),
    ):
        for value in (50.0, 80.0, 70.0, 60.0, 10.0, 10.0):
            play(ledger, value)
        assert [play(ledger, 70.0).replicates for _ in range(4)] == chosen


@pytest.mark.parametrize(
    "end",
    [
        lambda ledger: play(ledger, 99.0, state="PRUNED"),
        lambda ledger: play(ledger, 99.0, state="FAIL"),
        # its mean over both runs breaks the bound, 0.75 <= 0.7
        lambda ledger: play(ledger, 99.0, keep_fraction=1.0),
    ],
    ids=["diverged", "failed", "infeasible"],
)
def test_a_configuration_that_a_replicate_showed_to_be_bad_gets_no_more_runs(
    tmp_path: Path, end: Callable[[Ledger], TrialRecord]
) -> None:
    bounds = (Constraint.parse("keep_fraction<=0.7"),)
    there = made(tmp_path, points=tuple(KEEPS), replicates=0.9, constraints=bounds)
    with driven(there) as ledger:
        play(ledger, 50.0, keep_fraction=0.5)
        play(ledger, 80.0, keep_fraction=0.5)
        for keep in (0.5, 0.8):
            play(ledger, 70.0, keep_fraction=keep)
        play(ledger, 99.0, state="FAIL")
        play(ledger, 99.0, state="PRUNED")
        assert end(ledger).replicates == 1
        assert replicated(Sweep.of(ledger)) == ledger.trial(2), "trial 3 breaks the bound"
        leader = Sweep.of(ledger).leader
    failed = leader is not None and ledger.trial(6).state == "FAIL"
    assert leader is not None and leader.number == (1 if failed else 2), "a bug is no fault of it"


def test_seeds_of_replicates(tmp_path: Path) -> None:
    with driven(made(tmp_path, seed_policy="shared", seeds=2, replicates=0.5)) as ledger:
        for value in (50.0, 80.0):
            play(ledger, value)
        sweep = Sweep.of(ledger)
        assert next_seed(sweep, sweep.records[0], 9) == 44, "the next pair, for every configuration"
        assert next_seed(sweep, sweep.records[1], 9) == 44
        for _ in range(4):
            play(ledger, 10.0)
        assert list(play(ledger, 70.0).results) == [44, 45]
        assert seeds_of(Sweep.of(ledger), sweep.records[1]) == {42, 43, 44, 45}
        assert next_seed(Sweep.of(ledger), sweep.records[1], 9) == 46


RUNS = st.lists(st.lists(st.integers(0, 100), min_size=1, max_size=3), min_size=1, max_size=5)


def trial(number: int, seeds: range, values: list[int]) -> TrialRecord:
    return TrialRecord(
        number=number,
        state="COMPLETE",
        source="sampler",
        config={"keep_ratio": 0.5},
        results={
            seed: [result(val_class_il=float(v))] for seed, v in zip(seeds, values, strict=True)
        },
        attempt=1,
        held=False,
        reason=None,
        started_at=None,
        ended_at=None,
        value=float(values[0]),
        feasible=True,
        seconds=1.0,
        cpu_seconds=1.0,
        gpu_seconds=0.0,
        recorded_at={seed: [0.0] for seed in seeds},
    )


@settings(deadline=None, max_examples=50)
@given(RUNS, st.randoms())
def test_a_replicate_never_lowers_n_and_the_order_of_trials_does_not_matter(
    runs: list[list[int]], draws: Any
) -> None:
    trials = [
        trial(n, range(10 * n, 10 * n + len(values)), values) for n, values in enumerate(runs)
    ]
    sizes = [len(pooled(trials[:n]).results) for n in range(1, len(trials) + 1)]
    assert sizes == sorted(sizes) and sizes[-1] == sum(map(len, runs))
    flat = [value for values in runs for value in values]
    shuffled = trials.copy()
    draws.shuffle(shuffled)
    for of in (trials, shuffled):
        assert pooled(of).final("val_class_il") == pytest.approx(sum(flat) / len(flat))


def test_of_two_runs_with_one_seed_one_counts() -> None:
    one = pooled([trial(0, range(3), [10, 20, 30]), trial(1, range(2, 4), [30, 40])])
    assert one.by_seed("val_class_il") == [10.0, 20.0, 30.0, 40.0]


@pytest.mark.parametrize(
    "sampler",
    [s if s in ("tpe", "grid") else pytest.param(s, marks=pytest.mark.slow) for s in SAMPLERS],
)
def test_a_sampler_sees_further_trials_and_a_crash_changes_nothing(
    tmp_path: Path, sampler: str
) -> None:
    """Each trial of the second sweep is lost once, right after it began."""
    told: list[list[Any]] = []
    for folder in ("whole", "crashed"):
        changes: dict[str, Any] = {"grid_levels": 14} if sampler == "grid" else {}
        there = made(
            tmp_path / folder, sampler=sampler, replicates=0.4, seed=3, trials=14, **changes
        )
        seen = []
        for _ in range(14):
            if folder == "crashed":
                with driven(there) as ledger:
                    begun(ledger)
                there = Ledger.open(tmp_path / folder, "s")
            with driven(there) as ledger:
                ended = begun(ledger)
                value = 90 * float(ended.config["keep_ratio"]) % 7
                ledger.add_result(
                    ended.number, ended.attempt, ended.seed or 0, result(val_class_il=value)
                )
                ledger.finish(ended.number, "COMPLETE")
                seen.append((ended.source, ended.config, ended.seed))
        told.append(seen)
    assert told[0] == told[1]
    repeated = [config for source, config, _ in told[0] if source.startswith("replicate:")]
    assert len(repeated) == quota(0.4, 14) and all(
        config in [c for _, c, _ in told[0][:7]] for config in repeated[:1]
    )


def test_a_warm_start_takes_a_configuration_with_all_its_runs(tmp_path: Path) -> None:
    with driven(made(tmp_path, points=tuple(KEEPS), replicates=0.5)) as ledger:
        for value in (50.0, 80.0, 70.0, 60.0, 10.0, 10.0, 20.0):
            play(ledger, value)
    later = config("later", space=ONE, sampler="random", warm_start="s", seed_policy="fresh")
    with driven(Ledger.create(tmp_path, later, {})) as there:
        found = {t.source: t.results for t in there.trials()}
        assert sorted(found["imported:s/1"]) == [43, 48] and len(found) == 6
        assert next(t.value for t in there.trials() if t.source == "imported:s/1") == 50.0
        assert begun(there).seed == 42 + 6 + 7, "after all seeds of the earlier sweep"


def test_when_a_space_is_exhausted_its_replicates_remain(tmp_path: Path) -> None:
    with driven(made(tmp_path, space=FOUR, replicates=0.25)) as ledger:
        for value in (50.0, 80.0, 70.0, 60.0):
            assert ledger.remaining() > 0 and ledger.budget in (4, 7)
            play(ledger, value)
        assert ledger.budget == 4 + 3, "a quarter of 12"
        found = [play(ledger, 75.0).replicates for _ in range(ledger.remaining())]
        assert None not in found and len(found) == 3 and ledger.remaining() == 0
        seen, leader = glance(tmp_path, "s"), Sweep.of(ledger).leader
        assert leader is not None and (seen.budget, seen.best) == (7, leader.value)
