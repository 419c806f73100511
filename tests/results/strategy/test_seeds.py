"""Training seeds of trials: shared or fresh, and never those of a confirmation."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamos.errors import UserError
from results.choice import Choice, reported_config, train_config
from results.definition.sweep_config import SweepConfig
from results.ledger.ledger import Ledger
from results.strategy.pruning.leader import WILCOXON_SEEDS
from results.strategy.seeds import POOL, fresh_seed
from results.sweep import Sweep
from tests.helpers.ledgers import begun, config, driven, result
from tune.engine.retraining import confirmation


def complete(ledger: Ledger, value: float) -> int:
    trial = begun(ledger)
    for seed in trial.results:
        ledger.add_result(trial.number, trial.attempt, seed, result(val_class_il=value))
    ledger.finish(trial.number, "COMPLETE")
    return trial.number


def fresh(folder: Path, name: str = "s", **changes: object) -> Ledger:
    return Ledger.create(folder, config(name, **{"seed_policy": "fresh"} | changes), {})


def test_each_trial_takes_the_next_seeds() -> None:
    assert [fresh_seed(42, 1, number) for number in range(3)] == [42, 43, 44]
    assert [fresh_seed(42, 3, number) for number in range(3)] == [42, 45, 48]
    # of another sweep's 42 to 46, the last is the third pair's: the sweep's own begin with the 4th
    assert fresh_seed(42, 2, 5, imported=[42, 43, 46]) == 42 + 2 * (5 + 3)
    assert fresh_seed(42, 2, 5, imported=[7, 42 + POOL]) == fresh_seed(42, 2, 5), "not of the pool"


@given(
    st.integers(1, 5),
    st.sets(st.integers(0, 30), max_size=8),
    st.sets(st.integers(0, 20), min_size=1),
)
def test_no_seed_is_used_twice(seeds: int, imported: set[int], numbers: set[int]) -> None:
    used = list(imported)
    for number in numbers:
        first = fresh_seed(0, seeds, number, imported)
        used += range(first, first + seeds)
    assert len(used) == len(set(used))


def test_a_trial_keeps_its_seeds_through_a_crash_and_a_rerun(tmp_path: Path) -> None:
    points = ({"lr": 0.05}, {"lr": 0.02})
    with driven(fresh(tmp_path, seeds=2, points=points, sampler="random")) as ledger:
        assert [t.seed for t in ledger.trials()] == [None] * 3, "before it starts"
        complete(ledger, 60.0)
        lost = begun(ledger)
        assert lost.seed == 44 and list(lost.results) == [44, 45]
        again = Ledger.open(tmp_path, "s")
    with driven(again) as ledger:
        assert begun(ledger).seed == 44
        ledger.finish(1, "FAIL", "a bug")
        ledger.rerun([1])
        assert begun(ledger).seed == 46
        rerun = begun(ledger)
        assert (rerun.reruns, rerun.number, rerun.seed) == (1, 3, 44)
        assert begun(ledger).seed == 42 + 2 * 4
    trial = Ledger.open(tmp_path, "s").trial(1)
    assert train_config(ledger.config, trial).seed == reported_config(ledger.config, trial).seed
    assert train_config(ledger.config, trial) == ledger.config.base.replace(**points[0], seed=44)


def test_shared_seeds_are_the_bases(tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(seeds=2), {})) as ledger:
        assert [begun(ledger).seed for _ in range(3)] == [42, 42, 42]
        assert list(ledger.trial(2).results) == [42, 43]


def test_imported_results_keep_their_seeds_and_no_trial_takes_them(tmp_path: Path) -> None:
    with driven(fresh(tmp_path, "early", sampler="random")) as early:
        for value in (50.0, 70.0, 60.0):
            complete(early, value)
    with driven(fresh(tmp_path, warm_start="early", sampler="random")) as ledger:
        assert sorted(t.seed or 0 for t in ledger.trials()) == [42, 43, 44]
        assert begun(ledger).seed == 42 + 3 + 3


def test_a_policy_is_fresh_unless_trials_are_compared_seed_by_seed(tmp_path: Path) -> None:
    plain = dataclasses.replace(config(), seed_policy="auto")
    assert plain.seed_policy == "fresh"
    wilcoxon = config(seed_policy="auto", pruner="wilcoxon", seeds=WILCOXON_SEEDS)
    assert wilcoxon.seed_policy == "shared"
    with pytest.raises(UserError, match="`seed_policy` fresh: `pruner` wilcoxon compares trials "):
        dataclasses.replace(wilcoxon, seed_policy="fresh")
    with pytest.raises(UserError, match="unknown seed_policy 'fresch'. Did you mean 'fresh'"):
        config(seed_policy="fresch")


def test_a_sweep_of_an_earlier_version_has_shared_seeds() -> None:
    values = dataclasses.replace(config(), seed_policy="fresh").to_dict()
    assert SweepConfig.from_dict(values).seed_policy == "fresh"
    del values["seed_policy"]
    assert SweepConfig.from_dict(values).seed_policy == "shared"


def test_more_seeds_than_the_pool_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`trials` 2000 with `seeds` 501 need 1002000"):
        config(seed_policy="fresh", trials=2000, seeds=501)
    with (
        driven(fresh(tmp_path, trials=1000, seeds=1000)) as ledger,
        pytest.raises(UserError, match="`trials` 1001 with `seeds` 1000"),
    ):
        ledger.extend(1)


def test_a_confirmation_takes_no_seed_of_the_tuning_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without the slow checks of machine and images
    monkeypatch.setattr(
        "tune.engine.retraining.create_sweep",
        lambda storage, made, more, _: Ledger.create(storage, made, more),
    )
    ledger = fresh(tmp_path, sampler="random", trials=3)
    with driven(ledger):
        for value in (50.0, 70.0, 60.0):
            complete(ledger, value)
    there = confirmation(ledger, 2, 1, Choice(), None, {})
    assert there.config.training_seeds == (42 + POOL, 43 + POOL)
    assert there.config.seed_policy == "shared"
    with driven(ledger):
        ledger.extend(2)
        complete(ledger, 80.0)
    assert Sweep.of(ledger).records[3].seed == 45
    later = confirmation(ledger, 2, 1, Choice(), None, {})
    assert later.config.training_seeds == (44 + POOL, 45 + POOL)
    with driven(fresh(tmp_path, "t", warm_start="s", sampler="random")) as warm:
        complete(warm, 70.0)
    last = confirmation(warm, 1, 1, Choice(), None, {})
    assert last.config.training_seeds == (46 + POOL,), "s, its pool and its confirmations count"
