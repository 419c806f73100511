import dataclasses
import datetime as dt
import heapq
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.definition.objectives import Objective
from results.names import ENDED
from results.strategy.pruners import BY_RUNG, PRUNERS, Judge
from results.strategy.pruning.leader import WILCOXON_P, WILCOXON_SEEDS
from results.strategy.pruning.pareto import front_numbers
from results.sweep import Sweep
from results.trial import TrialRecord
from tests.helpers.ledgers import result

METRIC = "val_class_il"
PRUNING = [name for name in PRUNERS if name != "none"]
BLANK: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(TrialRecord))


def trial(
    number: int,
    *values: float | Sequence[float | None],
    state: str = "RUNNING",
    n_tasks: int = 5,
    at: float | None = None,
    metric: str = METRIC,
) -> TrialRecord:
    """A trial with these values by task, of one seed or a list by seed. They were recorded at `at`
    and later, by default in the order of trial numbers. If the trial ended, it ended with its last
    value."""
    by_task = [v if isinstance(v, Sequence) else [v] for v in values]
    first = 100.0 * number if at is None else at
    results = {
        42 + seed: [
            result(task, n_tasks, **{metric: of_task[seed]}) for task, of_task in enumerate(by_task)
        ]
        for seed in range(len(by_task[0]) if by_task else 1)
    }
    ended = ended_at(first + max(len(by_task) - 1, 0)) if state in ENDED else None
    return TrialRecord(
        **BLANK
        | {
            "number": number,
            "state": state,
            "source": "sampler",
            "results": results,
            "recorded_at": {seed: [first + t for t in range(len(by_task))] for seed in results},
            "ended_at": ended,
        }
    )


def ended_at(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def judge(
    pruner: str, finished: Iterable[TrialRecord] = (), grace: int = 2, maximize: bool = True
) -> Judge:
    made = Judge(pruner, grace, METRIC, maximize)
    for record in finished:
        made.learn(record)
    return made


def complete(
    number: int, second: float, third: float = 50, fourth: float = 40, fifth: float = 30
) -> TrialRecord:
    return trial(number, 99.0, second, third, fourth, fifth, state="COMPLETE")


TENS = [complete(n, value) for n, value in enumerate((10, 20, 30, 40, 50))]  # after two tasks


# Each pruner, by hand.


def test_median_names_the_trial_its_task_and_what_it_was_compared_with() -> None:
    finished = [complete(n, value) for n, value in enumerate((80, 86, 81, 83.1, 84, 82, 85))]
    assert judge("median", finished).verdict(trial(7, 99, 61.2)) == (
        "median: val_class_il 61.20 after task 2 is below the median of 7 finished trials, 83.10"
    )


@pytest.mark.parametrize(
    ("pruner", "maximize", "bar", "words"),
    [
        ("median", True, 30, "below the median of 5 finished trials, 30.00"),
        ("median", False, 30, "above the median of 5 finished trials, 30.00"),
        ("percentile", True, 20, "below the 25th percentile of 5 finished trials, 20.00"),
        ("percentile", False, 40, "above the 75th percentile of 5 finished trials, 40.00"),
    ],
)
def test_a_quantile_prunes_on_its_wrong_side_only(
    pruner: str, maximize: bool, bar: int, words: str
) -> None:
    made = judge(pruner, TENS, maximize=maximize)
    worse = -1 if maximize else 1
    assert str(made.verdict(trial(5, 99, bar + worse))).endswith(words)
    assert made.verdict(trial(5, 99, bar)) is None
    assert made.verdict(trial(5, 99, bar - worse)) is None


@pytest.mark.parametrize("pruner", ["median", "percentile", "patient"])
def test_five_complete_trials_are_waited_for_and_no_others_count(pruner: str) -> None:
    ended = [trial(n, 99, 90, 89, state="PRUNED") for n in range(10, 20)] + [
        trial(20, 99, 90, 89, 88, state="FAIL")
    ]
    running = trial(30, 99, 1, 0)
    assert judge(pruner, [*TENS[:4], *ended]).verdict(running) is None
    assert judge(pruner, [*TENS, *ended]).verdict(running) is not None


def test_halving_lets_the_better_half_of_those_so_far_pass_each_rung() -> None:
    made = judge("halving")
    reasons = [
        made.verdict(trial(n, 99, value)) for n, value in enumerate((50, 60, 55, 58, 58, 57))
    ]
    # The first is alone; then 1 of 2, 1 of 3, 2 of 4, 2 of 5 (equal to the second best), 3 of 6 (57
    # < 58) pass.
    assert [r is None for r in reasons] == [True, True, False, True, True, False]
    assert (
        reasons[2]
        == "halving: val_class_il 55.00 after task 2 is not among the best 1 of the 3 so far"
    )
    assert (
        reasons[5]
        == "halving: val_class_il 57.00 after task 2 is not among the best 3 of the 6 so far"
    )
    assert made.verdict(trial(0, 99, 50, 1)) is None, "three tasks are no rung"
    assert made.verdict(trial(1, 99, 60, 59, 40)) is None, "the first at the rung of four tasks"
    assert made.verdict(trial(0, 99, 50, 49, 39, at=500)) == (
        "halving: val_class_il 39.00 after task 4 is not among the best 1 of the 2 so far"
    )


def test_halving_takes_the_lower_half_where_less_is_better() -> None:
    made = judge("halving", maximize=False)
    assert [
        made.verdict(trial(n, 0, value)) is None for n, value in enumerate((50, 60, 45, 46))
    ] == [True, False, True, True]


def test_patient_lets_a_trial_that_holds_its_distance_go_on() -> None:
    # Medians and means: 80 after two tasks, 70 after three.
    made = judge("patient", [complete(n, 80 + d, 70 + d) for n, d in enumerate((-2, -1, 0, 1, 2))])
    assert made.verdict(trial(5, 99, 70)) is None, "nothing to compare its distance with yet"
    assert made.verdict(trial(5, 99, 70, 61)) is None, "9 behind, after 10"
    assert made.verdict(trial(5, 99, 70, 60)) is None, "10 behind, as before"
    assert made.verdict(trial(5, 99, 70, 59)) == (
        "patient: val_class_il 59.00 after task 3 is below the median of 5 finished trials, 70.00, "
        "and relative to their mean it changed from -10.00 after task 2 to -11.00"
    )
    assert made.verdict(trial(5, 99, 95, 71)) is None, "lost 14, but is above the median"


def test_patient_takes_no_rounding_for_a_change() -> None:
    # All fall by 10.1; in floating point the distance to the mean goes from -12.739999999999995 to
    # -12.740000000000009.
    second = (84.5, 82.6, 81.0, 83.0, 84.1)
    finished = [
        complete(n, v, third)
        for n, (v, third) in enumerate(zip(second, (74.4, 72.5, 70.9, 72.9, 74.0), strict=True))
    ]
    assert judge("patient", finished).verdict(trial(5, 99, 70.3, 60.2)) is None
    assert judge("patient", finished).verdict(trial(5, 99, 70.3, 60.1)) is not None


def test_patient_where_less_is_better() -> None:
    made = judge(
        "patient",
        [complete(n, 10 + d, 20 + d) for n, d in enumerate((-2, -1, 0, 1, 2))],
        maximize=False,
    )
    assert made.verdict(trial(5, 0, 15, 24)) is None
    assert "changed from +5.000 after task 2 to +6.000" in str(made.verdict(trial(5, 0, 15, 26)))


BEST = trial(3, [99] * 4, [80, 82, 84, 86], [70] * 4, [60] * 4, [50.0] * 4, state="COMPLETE")


@pytest.mark.parametrize(
    ("values", "pruned"),
    [
        ([79, 80, 81, 82], True),  # worse by 1, 2, 3, 4: p = 1/16
        ([79, 81, 83, 85], True),  # worse by 1 each: p = 1/16
        ([81, 80, 81, 82], False),  # better by 1, worse by 2, 3, 4: p = 2/16
        ([80, 82, 84, 86], False),  # equal
        ([80, 80, 81, 82], False),  # equal, worse by 2, 3, 4: p = 2/16
        ([90, 90, 90, 90], False),
    ],
)
def test_wilcoxon_compares_seed_by_seed_with_the_best(values: list[float], pruned: bool) -> None:
    assert (judge("wilcoxon", [BEST]).verdict(trial(4, [99] * 4, values)) is not None) == pruned


def test_wilcoxon_compares_with_the_finally_best_by_seed_numbers() -> None:
    # Better after two tasks, worse in the end.
    other = trial(2, [99] * 4, [60] * 4, [50] * 4, [40] * 4, [49.0] * 4, state="COMPLETE")
    early = trial(1, [99] * 4, [98] * 4, [50] * 4, [40] * 4, [10.0] * 4, state="COMPLETE")
    made = judge("wilcoxon", [other, BEST, early])
    assert made.verdict(trial(4, [99] * 4, [82, 83, 85, 87])) is None
    running = trial(4, [99] * 4, [79, 80, 81, 82])
    turned = dataclasses.replace(running, results=dict(reversed(running.results.items())))
    assert (
        made.verdict(running)
        == made.verdict(turned)
        == (
            "wilcoxon: val_class_il 80.50 after task 2 is below the value of trial 3, "
            "the best finished trial, 83.00, over 4 seeds (p < 0.1)"
        )
    )


def test_wilcoxon_where_less_is_better_and_the_earlier_of_equals() -> None:
    best = trial(1, [0] * 4, [10, 11, 12, 13], [20] * 4, [30] * 4, [40.0] * 4, state="COMPLETE")
    equal = trial(2, [0] * 4, [5, 5, 5, 5], [20] * 4, [30] * 4, [40.0] * 4, state="COMPLETE")
    worse = trial(0, [0] * 4, [99] * 4, [20] * 4, [30] * 4, [41.0] * 4, state="COMPLETE")
    for order in itertools.permutations((best, equal, worse)):
        made = judge("wilcoxon", order, maximize=False)
        assert "above the value of trial 1" in str(
            made.verdict(trial(4, [0] * 4, [11, 13, 15, 17]))
        )
        assert made.verdict(trial(4, [0] * 4, [9, 9, 9, 9])) is None


def test_fewer_seeds_than_wilcoxon_seeds_never_prune() -> None:
    for seeds, pruned in ((WILCOXON_SEEDS - 1, False), (WILCOXON_SEEDS, True)):
        best = trial(0, *([[90.0 + s for s in range(seeds)]] * 5), state="COMPLETE")
        verdict = judge("wilcoxon", [best]).verdict(
            trial(1, [99] * seeds, [1.0 * s for s in range(seeds)])
        )
        assert (verdict is not None) == pruned
    assert 1 / 2**WILCOXON_SEEDS < WILCOXON_P < 1 / 2 ** (WILCOXON_SEEDS - 1)


def test_leader_forgives_down_to_the_worst_seed_of_the_best() -> None:
    best = trial(3, [99] * 2, [80, 86], [70] * 2, [60] * 2, [50.0] * 2, state="COMPLETE")
    other = trial(2, [99] * 2, [40, 90], [70] * 2, [60] * 2, [49.0] * 2, state="COMPLETE")
    made = judge("leader", [best, other])
    assert made.verdict(trial(4, [99] * 2, [70, 90])) is None, "80, below the leader's mean of 83"
    assert made.verdict(trial(4, [99] * 2, [69, 90])) == (
        "leader: val_class_il 79.50 after task 2 is below the worst of 2 seeds of trial 3, the "
        "best finished trial, 80.00"
    )
    less = judge("leader", [best, other], maximize=False)  # the best is the other one: 40 and 90
    assert less.verdict(trial(4, [99] * 2, [90, 90])) is None
    assert less.verdict(trial(4, [99] * 2, [91, 90])) is not None
    assert judge("leader", [complete(0, 90)]).verdict(trial(1, 99, 1)) is None, "one seed"


def points(number: int, first: float, second: float, at: float | None = None) -> TrialRecord:
    """A trial after two tasks with an accuracy and a compute."""
    made = trial(number, 99.0, first, at=at)
    results = [
        dataclasses.replace(of, compute=second, class_il=value)
        for of, value in zip(made.results[42], (99.0, first), strict=True)
    ]
    return dataclasses.replace(made, results={42: results})


def test_fronts_are_by_hand() -> None:
    # (4, 1), (3, 3), (1, 4) are dominated by none; (3, 2) by (3, 3) only, (1, 1) by all, and
    # without the first front by (3, 2); equals are of one front
    scores = np.array([[1, 1], [4, 1], [3, 2], [3, 3], [1, 4], [3, 3]], float)
    assert front_numbers(scores).tolist() == [2, 0, 1, 0, 0, 0]


def test_pareto_prunes_behind_the_better_half_by_fronts() -> None:
    made = Judge("pareto", 2, METRIC, True, [("compute", False)])
    # accuracy up, compute down; a trial in the first front so far always passes
    shown = [(50, 0.9), (40, 0.5), (45, 0.95), (60, 0.4), (55, 0.6), (39, 0.7)]
    reasons = [made.verdict(points(n, a, c)) for n, (a, c) in enumerate(shown)]
    # The third is behind the first, one of three. Then (60, 0.4) dominates all; (55, 0.6) is
    # behind it alone, of five. The last is behind it and the front of (55, 0.6) and (40, 0.5).
    assert [r is None for r in reasons] == [True, True, False, True, True, False]
    assert reasons[5] == (
        "pareto: 3 of the 6 trials so far are in better Pareto fronts after task 2 "
        "(val_class_il 39.00, compute 0.7000)"
    )


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=9),
    st.randoms(),
)
def test_pareto_depends_on_times_and_not_on_numbers_and_keeps_the_first_front(
    values: list[tuple[int, int]], draws: Any
) -> None:
    numbers = list(range(len(values)))
    draws.shuffle(numbers)

    def reasons(names: Sequence[int], order: Sequence[int]) -> list[str | None]:
        made = Judge("pareto", 2, METRIC, True, [("compute", False)])
        records = [
            points(name, float(a), float(c), at=10.0 * place)
            for place, (name, (a, c)) in enumerate(zip(names, values, strict=True))
        ]
        for place in order:
            made.learn(records[place])
        return [made.verdict(record) for record in records]

    plain = reasons(range(len(values)), [])
    assert plain == reasons(numbers, []) == reasons(numbers, numbers)
    scores = np.array([(a, -c) for a, c in values], float)
    for place, reason in enumerate(plain):
        if front_numbers(scores[: place + 1])[-1] == 0:
            assert reason is None


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=9))
def test_pareto_with_one_metric_is_halving(values: list[int]) -> None:
    pareto, halving = judge("pareto"), judge("halving")
    for number, value in enumerate(values):
        asked = trial(number, 99.0, float(value))
        assert (pareto.verdict(asked) is None) == (halving.verdict(asked) is None)


# Properties of all pruners.


def crowd(seeds: int = 4) -> list[TrialRecord]:
    """Ten finished trials. Each falls from about 95 to about 55, and a higher number is better at
    every task."""
    return [
        trial(n, *([v + n] * seeds for v in (95.0, 85.0, 75.0, 65.0, 55.0)), state="COMPLETE")
        for n in range(10)
    ]


# Far below all others at every task, and farther below with each task.
BAD = (
    [50.0, 51.0, 52.0, 53.0],
    [35.0, 36.0, 37.0, 38.0],
    [20.0, 21.0, 22.0, 23.0],
    [5.0, 6.0, 7.0, 8.0],
    [1.0, 2.0, 3.0, 4.0],
)


@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.parametrize("grace", [1, 2, 3])
def test_never_within_grace_nor_after_the_last_task(pruner: str, grace: int) -> None:
    made = judge(pruner, crowd(), grace=grace)
    pruned_after = [
        tasks for tasks in range(6) if made.verdict(trial(10, *BAD[:tasks])) is not None
    ]
    every = list(range(grace, 5))
    assert pruned_after == {
        "none": [],
        **dict.fromkeys(BY_RUNG, [t for t in (grace, 2 * grace, 4 * grace) if t < 5]),
        "patient": every[1:],
    }.get(pruner, every)


@pytest.mark.parametrize("pruner", PRUNERS)
def test_nothing_to_compare_with(pruner: str) -> None:
    assert judge(pruner).verdict(trial(0)) is None
    assert judge(pruner).verdict(trial(0, *BAD[:3])) is None
    # A stream of one task has no border to prune at.
    one = [trial(n, [50.0 + n] * 4, state="COMPLETE", n_tasks=1) for n in range(9)]
    assert judge(pruner, one, grace=1).verdict(trial(9, [1.0] * 4, n_tasks=1)) is None
    # Trials that ended without a result, for instance a trial that failed at once.
    assert (
        judge(pruner, [trial(0, state="FAIL"), trial(1, state="WAITING")]).verdict(
            trial(2, *BAD[:3])
        )
        is None
    )


@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_values_that_are_not_finite_are_never_compared(pruner: str, value: float | None) -> None:
    odd = [
        trial(n, [95.0] * 4, [value] * 4, [75.0] * 4, [value] * 4, [value] * 4, state="COMPLETE")
        for n in range(20, 40)
    ]
    made = judge(pruner, [*odd, *crowd()])
    assert made.verdict(trial(50, [50.0] * 4, [50.0, value, 50.0, 50.0])) is None
    for tasks in range(1, 6):
        reason = made.verdict(trial(51, *BAD[:tasks]))
        assert (reason is None) == (judge(pruner, crowd()).verdict(trial(51, *BAD[:tasks])) is None)
        assert "nan" not in str(reason) and "inf" not in str(reason)


@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_metric_that_is_not_there_is_no_reason(pruner: str) -> None:
    made = Judge(pruner, 2, "val_task_il", maximize=True)
    for record in crowd():
        made.learn(record)
    rotating = trial(10, *[[None] * 4] * 3, metric="val_task_il")
    assert rotating.tasks_done == 3 and made.verdict(rotating) is None


@pytest.mark.parametrize("pruner", PRUNERS)
def test_equals_are_not_pruned(pruner: str) -> None:
    finished = [
        trial(n, *([v] * 4 for v in (95.0, 85.0, 75.0, 65.0, 55.0)), state="COMPLETE")
        for n in range(10)
    ]
    made = judge(pruner, finished)
    assert [
        made.verdict(trial(10, *([v] * 4 for v in (95.0, 85.0, 75.0, 65.0)[:tasks])))
        for tasks in (2, 3, 4)
    ] == [None, None, None]


@pytest.mark.parametrize("pruner", PRUNERS)
def test_learning_twice_changes_nothing(pruner: str) -> None:
    # Four, so that a trial counted twice would make up the five that median waits for.
    made = judge(pruner, [*crowd()[:4], *crowd()[:4]])
    once = judge(pruner, crowd()[:4])
    for running in (trial(10, *BAD[:tasks]) for tasks in (2, 3, 4)):
        assert made.verdict(running) == once.verdict(running)


# Whole sweeps, simulated.

Ask = Callable[[TrialRecord, list[TrialRecord]], str | None]


def sweep(
    ask: Ask,
    learn: Callable[[TrialRecord], None],
    shape: Callable[[float, int], float],
    seed: int = 3,
) -> int:
    """Return the number of pruned trials of 40 that run four at a time. `shape` makes a trial's
    value after a number of tasks. ask(trial, the others) is called when a trial has reported.
    Values are whole numbers, so some are equal."""
    rng = np.random.default_rng(seed)
    values = [
        [
            [float(rng.integers(-3, 4) + (n * 7 % 40) * tasks // 8) for _ in range(4)]
            for tasks in range(1, 6)
        ]
        for n in range(40)
    ]
    records: dict[int, TrialRecord] = {}
    queue = [(rng.random(), n, 1) for n in range(4)]  # when, which trial, tasks then done
    waiting, pruned = iter(range(4, 40)), 0
    while queue:
        now, number, tasks = heapq.heappop(queue)
        made = trial(
            number,
            *(
                [shape(v, t) for v in of_task]
                for t, of_task in enumerate(values[number][:tasks], start=1)
            ),
        )
        before = records[number].recorded_at if number in records else {}
        for seed, times in made.recorded_at.items():
            times[:] = [*before.get(seed, []), now]
        reason = ask(made, [r for n, r in records.items() if n != number])
        state = "COMPLETE" if tasks == 5 else "RUNNING" if reason is None else "PRUNED"
        records[number] = dataclasses.replace(
            made, state=state, ended_at=ended_at(now) if state in ENDED else None
        )
        if state == "RUNNING":
            heapq.heappush(queue, (now + 0.5 + rng.random(), number, tasks + 1))
            continue
        pruned += state == "PRUNED"
        learn(records[number])
        following = next(waiting, None)
        if following is not None:
            heapq.heappush(queue, (now + 0.5 + rng.random(), following, 1))
    return pruned


def falling(value: float, tasks: int) -> float:
    return 100.0 - 12 * tasks + value


def rising(value: float, tasks: int) -> float:
    return 20.0 + 12 * tasks + value


@pytest.mark.parametrize("seed", [3, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_judge_rebuilt_at_any_later_time_decides_as_the_one_that_lived_through(
    pruner: str, seed: int
) -> None:
    lived = judge(pruner)
    decided: list[tuple[TrialRecord, str | None]] = []

    def ask(asked: TrialRecord, others: list[TrialRecord]) -> str | None:
        reason = lived.verdict(asked)
        decided.append((asked, reason))
        interrupted = [
            dataclasses.replace(r, state="INTERRUPTED") if r.state == "RUNNING" else r
            for r in (*others, asked)
        ]
        rebuilt = judge(pruner, sorted(interrupted, key=lambda r: r.number))
        assert rebuilt.verdict(asked) == lived.verdict(asked) == reason
        # Trials that were judged earlier and have continued since. Each is judged again, as after a
        # stop or a loss.
        for earlier, before in decided[-8::3] if len(decided) % 20 else decided:
            assert rebuilt.verdict(earlier) == before
            assert lived.verdict(earlier) == before
        return reason

    assert (0 < sweep(ask, lived.learn, falling, seed) < 35) == (pruner != "none")


@pytest.mark.parametrize("pruner", [name for name in PRUNING if name not in BY_RUNG])
def test_a_trial_that_was_let_pass_is_not_pruned_for_those_that_finished_later(pruner: str) -> None:
    # four had ended, and with the last task five
    made, running = judge(pruner, crowd()), trial(10, *BAD[:3], at=402)
    assert [made.verdict(running, tasks) is None for tasks in (2, 3)] == [
        pruner not in ("wilcoxon", "leader"),
        False,
    ]
    assert made.verdict(trial(10, *BAD[:3])) is not None, "later, all count"
    first = trial(10, *BAD[:3], at=1)
    assert [made.verdict(first, tasks) for tasks in (2, 3)] == [None, None], (
        "recorded before any had ended"
    )


@pytest.mark.parametrize("pruner", PRUNING)
def test_a_common_change_of_all_curves_and_the_direction_make_no_difference(pruner: str) -> None:
    decisions: list[list[bool]] = []
    for sign, shape in ((1, falling), (1, rising), (-1, falling), (-1, rising)):
        made = judge(pruner, maximize=sign > 0)
        taken: list[bool] = []

        def ask(
            asked: TrialRecord,
            others: list[TrialRecord],
            made: Judge = made,
            taken: list[bool] = taken,
        ) -> str | None:
            reason = made.verdict(asked)
            taken.append(reason is not None)
            return reason

        def turned(
            value: float,
            tasks: int,
            sign: int = sign,
            shape: Callable[[float, int], float] = shape,
        ) -> float:
            return sign * shape(value, tasks)

        sweep(ask, made.learn, turned)
        decisions.append(taken)
    assert any(decisions[0])
    assert decisions[0] == decisions[1] == decisions[2] == decisions[3]


def test_halving_compares_a_trial_with_those_recorded_before_it_only() -> None:
    early, later = (
        trial(7, 99, 50, at=10),
        [trial(n, 99, 60 + n, state="PRUNED", at=20 + n) for n in range(4)],
    )
    made = judge("halving")
    assert [made.verdict(t) is None for t in (early, trial(8, 99, 40, at=11), early)] == [
        True,
        False,
        True,
    ]
    # As after a crash between record and decision: the first trial passes, although all others are
    # known.
    assert judge("halving", later).verdict(early) is None
    assert judge("halving", [trial(8, 99, 55, state="FAIL", at=5), *later]).verdict(early) == (
        "halving: val_class_il 50.00 after task 2 is not among the best 1 of the 2 so far"
    )


def test_halving_judges_again_where_an_earlier_record_turns_up() -> None:
    made = judge("halving")
    running = trial(1, 99, 50, at=10)
    assert made.verdict(running) is None
    made.learn(trial(0, 99, 60, state="FAIL", at=5))
    assert made.verdict(running) is not None


# Rules that would be wrong.


def test_last_values_of_all_trials_pick_a_stopped_one_and_finished_ones_the_best() -> None:
    trials = [
        trial(0, 97, 60, 50, 40, 30, state="COMPLETE"),
        trial(1, 93, 90, 85, 80, 75, state="COMPLETE"),
        trial(2, 98, 50, state="PRUNED"),
        trial(3, 96, state="PRUNED"),
    ]
    trials = [
        dataclasses.replace(
            t, value=t.last(METRIC) if t.state == "COMPLETE" else None, feasible=True
        )
        for t in trials
    ]
    config: Any = SimpleNamespace(objectives=(Objective(METRIC, "max"),), confirms=None)
    assert max(trials, key=lambda t: t.last(METRIC) or 0).number == 3
    leader = Sweep(config, {}, trials).leader
    assert leader is not None and leader.number == 1


def test_the_stock_median_pruner_never_prunes_falling_curves_and_ours_does() -> None:
    curves = [(99.0, 80.0 + n, 70.0 + n, 60.0 + n, 50.0 + n) for n in range(7)]
    # right after one task; forgets nearly everything with the second
    bad = (98.0, 40.0, 30.0, 25.0, 20.0)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.MedianPruner(n_warmup_steps=1)
    )
    for curve in curves:
        study.add_trial(
            optuna.trial.create_trial(value=curve[-1], intermediate_values=dict(enumerate(curve)))
        )
    stock = study.ask()
    stopped = []
    for task, value in enumerate(bad):
        stock.report(value, task)
        stopped.append(stock.should_prune())
    assert stopped == [False] * 5  # its 98 after one task is what is compared
    ours = judge("median", [trial(n, *curve, state="COMPLETE") for n, curve in enumerate(curves)])
    assert [ours.verdict(trial(7, *bad[:tasks])) is not None for tasks in range(1, 6)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_nothing_is_printed() -> None:
    made = subprocess.run(
        [
            sys.executable,
            "-c",
            "from results.strategy.pruners import PRUNERS, Judge\n"
            "for p in PRUNERS: Judge(p, 2, 'val_class_il', True)",
        ],
        capture_output=True,
        text=True,
    )
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
