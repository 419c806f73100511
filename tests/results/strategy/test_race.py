"""The final race: common fresh seeds for the best, and none for those that fall behind."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dynamos.errors import UserError
from results.definition.objectives import Objective
from results.ledger.ledger import Ledger
from results.ledger.study import enqueue
from results.strategy.race import LEVEL, behind
from results.sweep import Sweep
from results.trial import TrialRecord
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import ONE, begun, config, driven, result
from tune.engine.suggestions import first_suggestions

THREE = SearchSpace.from_dict("three", {"parameters": {"keep_ratio": {"choices": [0.4, 0.5, 0.7]}}})


def test_the_paired_differences_to_the_best_decide() -> None:
    # differences 10, 7, 10: mean 9, standard error 1, and t(0.95, 2) = 2.92
    assert [*behind(np.array([[80.0, 82, 84], [70, 75, 74]]))] == [False, True]
    # differences 10, -4, 3: mean 3, standard error 4.04
    assert not behind(np.array([[80.0, 71, 77], [70, 75, 74]])).any()
    # of one seed nothing follows; without any residual a smaller mean is behind
    assert not behind(np.array([[80.0], [20.0]])).any()
    assert [*behind(np.array([[3.0, 4], [1, 2], [3, 4]]))] == [False, True, False]


VALUES = st.integers(2, 4).flatmap(
    lambda k: st.integers(2, 5).flatmap(
        lambda n: st.lists(
            st.lists(st.integers(0, 100), min_size=n, max_size=n), min_size=k, max_size=k
        )
    )
)


@settings(deadline=None, max_examples=100)
@given(VALUES, st.randoms())
def test_neither_the_order_of_configurations_nor_that_of_seeds_matters(
    values: list[list[int]], draws: Any
) -> None:
    table = np.array(values, float)
    rows, columns = [*range(len(table))], [*range(table.shape[1])]
    draws.shuffle(rows)
    draws.shuffle(columns)
    found = behind(table)
    gaps = table.mean(1).max() - table.mean(1)
    assert not found[gaps == 0].any(), "the best stays"
    assert [*behind(table[rows][:, columns])] == [*found[rows]]
    if len(table) == 2 and 0 < gaps.max() and np.ptp(table[0] - table[1]):
        best, other = table[[gaps.argmin(), gaps.argmax()]]
        p = stats.ttest_rel(best, other, alternative="greater").pvalue
        assert found.any() == (p < LEVEL), "for two it is the paired t-test"


def test_a_clear_winner_is_rarely_lost_and_equals_keep_racing() -> None:
    """With noise of 1 and a lead of 1, five rounds lose the best in 2 % of races."""
    draws, lost, runs = np.random.default_rng(0), 0, 0
    for _ in range(200):
        values = np.array([[1.0], [0.0], [0.0]]) + draws.normal(size=(3, 5))
        racing = np.arange(3)
        for rounds in range(1, 6):
            runs += len(racing)
            racing = racing[~behind(values[racing, :rounds])]
        lost += 0 not in racing
    assert lost <= 10 and runs < 0.92 * 200 * 15


def made(folder: Path, **changes: Any) -> Ledger:
    fields: dict[str, Any] = {"space": ONE, "sampler": "random", "trials": 16, "race": 2}
    return Ledger.create(folder, config(**fields | {"seed_policy": "fresh"} | changes), {})


def end(ledger: Ledger, trial: TrialRecord, *values: float, state: str = "COMPLETE") -> None:
    for seed, value in zip(trial.results, itertools.cycle(values), strict=False):
        ledger.add_result(trial.number, trial.attempt, seed, result(val_class_il=value))
    ledger.finish(trial.number, state, None if state == "COMPLETE" else "a bug")


def searched(ledger: Ledger, trials: int) -> None:
    """Run the search: trial n has the value n."""
    for _ in range(trials):
        trial = begun(ledger)
        assert not trial.races
        end(ledger, trial, float(trial.number))


def raced(ledger: Ledger, values: Sequence[float]) -> list[tuple[str, int | None]]:
    """Run the next trials, each with its value; return their sources and seeds."""
    found = []
    for value in values:
        trial = begun(ledger)
        found.append((trial.source, trial.seed))
        end(ledger, trial, value)
    return found


@pytest.mark.parametrize("policy, first", [("fresh", 42 + 12), ("shared", 42 + 12)])
def test_the_last_quarter_goes_to_the_best_on_common_fresh_seeds(
    tmp_path: Path, policy: str, first: int
) -> None:
    with driven(made(tmp_path, seed_policy=policy)) as ledger:
        searched(ledger, 12)
        assert raced(ledger, [60.0, 50.0, 40.0, 70.0]) == [
            ("race:11", first),
            ("race:10", first),
            ("race:11", first + 2),
            ("race:10", first + 2),
        ]
        assert ledger.remaining() == 0
        order = [(t.number, t.value) for t in Sweep.of(ledger).ranked]
    # (11 + 60 + 40) / 3, (10 + 50 + 70) / 3
    assert order[:3] == [(10, pytest.approx(43.333, abs=1e-3)), (11, 37.0), (9, 9.0)]


def test_whoever_is_left_comes_before_a_lucky_single_run(tmp_path: Path) -> None:
    with driven(made(tmp_path)) as ledger:
        searched(ledger, 12)
        raced(ledger, [8.0, 5.0, 8.0, 5.0])  # trial 9 has 9.0 from one run
        assert [t.number for t in Sweep.of(ledger).ranked[:3]] == [11, 9, 8]
        assert Sweep.of(ledger).ranked[0].value == 9.0, "10 fell behind by 3 and 3"


def test_those_that_fall_behind_get_no_further_seed(tmp_path: Path) -> None:
    with driven(made(tmp_path, trials=24, race=3, seeds=2)) as ledger:
        searched(ledger, 18)
        for source, values in (("race:17", (60, 62)), ("race:16", (61, 60)), ("race:15", (9, 10))):
            trial = begun(ledger)
            assert (trial.source, [*trial.results]) == (source, [42 + 2 * 18, 43 + 2 * 18])
            end(ledger, trial, *values)
        assert not ledger.waits()
        # 17 leads with 61; the last round has room for one
        sources = [source for source, _ in raced(ledger, [50.0, 55.0, 50.0])]
        assert sources == ["race:17", "race:16", "race:16"] and ledger.remaining() == 0


@pytest.mark.parametrize("state", ["PRUNED", "FAIL"])
def test_one_that_fails_is_out(tmp_path: Path, state: str) -> None:
    with driven(made(tmp_path)) as ledger:
        searched(ledger, 12)
        end(ledger, begun(ledger), 60.0)
        end(ledger, begun(ledger), 90.0, state=state)
        assert [source for source, _ in raced(ledger, [50.0, 55.0])] == ["race:11"] * 2


def test_the_race_and_its_rounds_wait_for_the_results_that_decide_them(tmp_path: Path) -> None:
    with driven(made(tmp_path)) as ledger:
        searched(ledger, 11)
        last = begun(ledger)
        assert ledger.waits(), "the last trial may be one of the best"
        end(ledger, last, 99.0)
        assert not ledger.waits()
        one, other = begun(ledger), begun(ledger)
        assert ledger.waits() and [one.source, other.source] == ["race:11", "race:10"]
        end(ledger, other, 50.0)
        assert ledger.waits()
        ledger.interrupt(one.number)
        assert not ledger.waits() and begun(ledger).number == one.number


def test_a_round_that_a_kill_cut_off_is_completed(tmp_path: Path) -> None:
    there = made(tmp_path)
    with driven(there) as ledger:
        searched(ledger, 12)
        best = ledger.trial(11)
        enqueue(ledger._study, ledger.config, "race:11", best.config, 54)  # and no more
    with driven(Ledger.open(tmp_path, "s")) as ledger:
        sources = raced(ledger, [60.0, 50.0, 60.0])
        assert sources == [("race:11", 54), ("race:10", 54), ("race:11", 56)]


def test_an_extended_sweep_searches_on_and_races_again(tmp_path: Path) -> None:
    with driven(made(tmp_path)) as ledger:
        searched(ledger, 12)
        raced(ledger, [60.0, 50.0, 60.0, 50.0])
        ledger.extend(8)  # of 24 the race has 6
        assert [source for source, _ in raced(ledger, [99.0, 98.0])] == ["sampler"] * 2
        sources = raced(ledger, [60.0, 50.0])
        assert sources == [("race:11", 42 + 18), ("race:16", 42 + 18)], "the winner and the best"


def test_an_exhausted_space_races_with_the_rest(tmp_path: Path) -> None:
    with driven(made(tmp_path, space=THREE, replicates=0.125)) as ledger:
        searched(ledger, 3)
        assert ledger.budget == 3 + 2 + 4
        sources = [source for source, _ in raced(ledger, [1.0] * ledger.remaining())]
    assert [s.partition(":")[0] for s in sources] == ["replicate"] * 2 + ["race"] * 4


def crash(ledger: Ledger) -> Ledger:
    """The ledger as a later driver finds it, after a trial that it began was lost."""
    if ledger.remaining() > 0:
        begun(ledger)
    return Ledger.open(ledger.folder.parent, "s")


def test_a_crash_changes_nothing(tmp_path: Path) -> None:
    found: list[list[Any]] = []
    lost: Callable[[Ledger], Ledger]
    for folder, lost in (("whole", lambda ledger: ledger), ("crashed", crash)):
        there, seen = made(tmp_path / folder, sampler="tpe", race=2, replicates=0.3), []
        for _ in range(16):
            with driven(there) as ledger:
                there = lost(ledger)
            with driven(there) as ledger:
                trial = begun(ledger)
                end(ledger, trial, 90 * float(trial.config["keep_ratio"]) % 7 + trial.number % 2)
                seen.append((trial.source, trial.config, trial.seed))
        found.append(seen)
    assert found[0] == found[1]
    kinds = [source.partition(":")[0] for source, *_ in found[0]]
    assert kinds[-4:] == ["race"] * 4 and kinds.count("replicate") == 3


def test_a_dry_run_shows_the_beginning_of_a_sweep_with_a_race(tmp_path: Path) -> None:
    tried = first_suggestions(
        tmp_path, config(trials=8, race=2, replicates=0.5, sampler="random"), {}
    )
    assert tried.trials == 8 and [one["source"] for one in tried.suggestions][1:] == ["sampler"] * 5


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"race": 1}, "`race` 1 compares nothing; use 2 or more, or 0 for no race."),
        (
            {"race": 5},
            "`race` 5 needs 5 trials for its first round, and the last quarter of `trials` 16 has "
            "4; use `trials` 20 or more.",
        ),
        (
            {"objectives": (Objective.parse("val_class_il"), Objective.parse("compute"))},
            "`race` compares configurations in one objective; use one, or `race` 0.",
        ),
        ({"replicates": 0.95}, "`replicates` 0.95 is out of range; it must be from 0 to 0.9."),
    ],
)
def test_a_race_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        config(**{"trials": 16, "race": 2} | changes)
    assert str(error.value) == message
