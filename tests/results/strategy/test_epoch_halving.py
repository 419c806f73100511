"""Halving whose rungs are at epochs, by hand."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from dynamos.metrics import EpochReading
from results.strategy.pruners import Judge
from results.strategy.rungs import rungs
from results.trial import TrialRecord
from tests.results.strategy.test_pruners import METRIC, trial

EPOCHS = 10  # of a task


def reading(epochs: int, value: float) -> EpochReading:
    return EpochReading(epochs=epochs, evaluated_on="validation", class_il=value, task_il=None)


def read(
    number: int,
    readings: dict[int, float | Sequence[float]],
    *values: float,
    state: str = "RUNNING",
) -> TrialRecord:
    """A trial with these readings by epochs, of one seed or a list by seed, and values by task; all
    recorded in the order of trial numbers."""
    by_epochs = {at: v if isinstance(v, Sequence) else [v] for at, v in readings.items()}
    seeds = len(next(iter(by_epochs.values())))
    made = trial(number, *([value] * seeds for value in values), state=state)
    if not values:
        made = replace(made, results={42 + seed: [] for seed in range(seeds)})
    return replace(
        made,
        epoch_readings={
            42 + seed: {
                at: (reading(at, of[seed]), 100.0 * number + at / 10)
                for at, of in by_epochs.items()
            }
            for seed in range(seeds)
        },
    )


def judge(grace: int = 3, maximize: bool = True) -> Judge:
    return Judge("halving", 2, METRIC, maximize, grace_epochs=grace, n_epochs=EPOCHS)


def test_rungs_double() -> None:
    assert rungs(10, 350) == [10, 20, 40, 80, 160, 320]
    assert rungs(5, 5) == [] == rungs(0, 100)
    assert rungs(1, 5) == [1, 2, 4]


def test_the_better_half_continues_within_the_first_task() -> None:
    made = judge()
    values = [50.0, 40.0, 60.0, 45.0]
    verdicts = [made.verdict(read(n, {3: value})) for n, value in enumerate(values)]
    # the first passes; of 2 the best 1; of 3 the best 1; of 4 the best 2, here 60 and 50
    assert verdicts == [
        None,
        "halving: val_class_il 40.00 after epoch 3 of the run, in task 1, is not among the best 1 "
        "of the 2 so far",
        None,
        "halving: val_class_il 45.00 after epoch 3 of the run, in task 1, is not among the best 2 "
        "of the 4 so far",
    ]


def test_less_may_be_better() -> None:
    made = judge(maximize=False)
    assert made.verdict(read(0, {3: 50})) is None
    assert made.verdict(read(1, {3: 40})) is None
    assert made.verdict(read(2, {3: 60})) is not None


def test_trials_meet_at_equal_epochs_only() -> None:
    made = judge()
    assert made.verdict(read(0, {3: 90, 6: 80})) is None
    assert made.verdict(read(1, {3: 91, 6: 20}), 3) is None, "91 after epoch 3 beats 90"
    assert "after epoch 6" in str(made.verdict(read(1, {3: 91, 6: 20}), 6))


def test_the_end_of_a_task_is_a_rung_where_its_epochs_are() -> None:
    made = judge(grace=5)  # 5, 10, 20, 40 of 50
    one, two = read(0, {5: 50}, 80.0, 60.0), read(1, {5: 55}, 70.0, 65.0)
    assert made.places(one) == [5, 10, 20]
    made.learn(one)
    assert made.verdict(two, 10) == (
        "halving: val_class_il 70.00 after epoch 10 of the run, in task 1, is not among the best 1 "
        "of the 2 so far"
    )
    assert made.verdict(two, 20) is None, "65 after two tasks beats 60"
    whole = read(2, {5: 1}, 1.0, 1.0, 1.0, 1.0, 1.0, state="COMPLETE")
    assert judge(grace=25).places(whole) == [], "a rung within a task without a reading"
    assert made.places(whole) == [5, 10, 20, 40], "the end of the last task is no rung"


def test_a_rung_needs_every_seed() -> None:
    made = judge()
    assert made.verdict(read(0, {3: [50.0, 70.0]})) is None
    half = read(1, {3: [10.0, 20.0]})
    half.epoch_readings[43].clear()
    assert made.places(half) == [] and made.verdict(half) is None
    assert made.verdict(read(2, {3: [40.0, 79.0]})) is not None, "59.5 against 60"


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_a_judge_made_of_records_decides_as_the_first_did(order: Sequence[int]) -> None:
    trials = [read(n, {3: value}) for n, value in enumerate((50.0, 40.0, 60.0, 45.0))]
    first, again = judge(), judge()
    verdicts = [first.verdict(one) for one in trials]
    for number in order:
        again.learn(trials[number])
    assert [again.verdict(one) for one in trials] == verdicts
