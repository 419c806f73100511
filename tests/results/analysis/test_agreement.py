import dataclasses
from typing import Any

import pytest

from results.analysis.agreement import SPEARMAN_SAFE, TRIALS_NEEDED, Agreement, agreements, sentence
from results.trial import TrialRecord
from tests.helpers.ledgers import result

BLANK: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(TrialRecord))


def about(value: float) -> Any:
    """Return a value that equals any number near it."""
    return pytest.approx(value)


def trial(
    number: int, *values: float | None | list[float], state: str = "COMPLETE", n_tasks: int = 3
) -> TrialRecord:
    """A trial with these values of forgetting by task, of one seed or a list by seed."""
    by_task = [v if isinstance(v, list) else [v] for v in values]
    results = {
        seed: [result(t, n_tasks, forgetting=of_task[seed]) for t, of_task in enumerate(by_task)]
        for seed in range(len(by_task[0]) if by_task else 1)
    }
    return TrialRecord(**BLANK | {"number": number, "state": state, "results": results})


def test_spearman_of_every_task_but_the_last() -> None:
    # Final ranks 1 2 3 4 5. After task 1: 2 1 4 3 5, squared differences 1 1 1 1 0: 1 - 6 * 4 / (5
    # * 24) = 0.8. After task 2: 5 4 3 2 1: -1.
    trials = [
        trial(n, first, second, 10.0 * n)
        for n, (first, second) in enumerate(((92, 50), (91, 40), (94, 30), (93, 20), (95, 10)))
    ]
    assert agreements(trials, "forgetting", True) == [
        Agreement(1, 5, about(0.8), True),
        Agreement(2, 5, about(-1), False),
    ]


def test_if_less_is_better_the_lowest_value_is_best() -> None:
    trials = [
        trial(n, *values)
        for n, values in enumerate(((1, 9, 10), (2, 5, 20), (3, 6, 30), (4, 7, 40)))
    ]
    # After task 2: ranks 4 1 2 3 against 1 2 3 4, squared differences 9 1 1 1: 1 - 6 * 12 / (4 *
    # 15) = -0.2.
    assert agreements(trials, "forgetting", False) == [
        Agreement(1, 4, about(1), True),
        Agreement(2, 4, about(-0.2), False),
    ]
    # trial 3: 4, and 7 over 6.5
    assert [a.best_kept for a in agreements(trials, "forgetting", True)] == [True, True]


def test_ties_share_their_mean_rank() -> None:
    # Ranks 1.5 1.5 3 against 1 2 3: sqrt(3) / 2.
    found = agreements(
        [trial(0, 5, 1, 1), trial(1, 5, 1, 2), trial(2, 6, 1, 3)], "forgetting", True
    )
    assert found[0].spearman == pytest.approx(3**0.5 / 2)
    # After task 2 all are equal: there is no correlation, and no trial was below the median.
    assert found[1] == Agreement(2, 3, None, True)
    assert agreements([trial(n, n, n, 7) for n in range(3)], "forgetting", True)[0].spearman is None
    # Of trials that are equal at the end, the earlier one is the best, in any order of the list.
    equals = [trial(1, 9, 9, 3), trial(0, 1, 1, 3), trial(2, 5, 5, 1)]
    assert not agreements(equals, "forgetting", True)[0].best_kept


def test_the_median_itself_is_kept() -> None:
    trials = [trial(n, first, 1, n) for n, first in enumerate((5, 4, 1, 2, 3))]
    assert agreements(trials, "forgetting", True)[0].best_kept  # 3, the median
    assert not agreements([*trials, trial(5, 2.5, 1, 9)], "forgetting", True)[
        0
    ].best_kept  # 2.5 under 2.75


def test_only_complete_trials_with_the_metric_are_compared() -> None:
    complete = [trial(n, n, n, n) for n in range(3)]
    others = [
        trial(3, 99, 0, state="PRUNED"),
        trial(4, 99, 1, state="RUNNING"),
        trial(5, 99, 0, 0, state="FAIL"),
        trial(6, state="WAITING"),
        trial(7, None, float("nan"), 5),
        trial(8, 99, 1, None),
    ]
    assert agreements(complete + others, "forgetting", True) == [
        Agreement(t, 3, about(1), True) for t in (1, 2)
    ]
    assert agreements(complete, "val_other", True) == [Agreement(t, 0, None, False) for t in (1, 2)]


def test_seeds_are_averaged() -> None:
    # Means 3 2 1 after task 1 and 1 2 3 in the end; the first seed alone would agree.
    trials = [
        trial(0, [1, 5], [1, 1], [1, 1]),
        trial(1, [2, 2], [2, 2], [2, 2]),
        trial(2, [3, -1], [3, 3], [3, 3]),
    ]
    assert [a.spearman for a in agreements(trials, "forgetting", True)] == [
        pytest.approx(-1),
        pytest.approx(1),
    ]


def test_fewer_than_three_have_no_correlation() -> None:
    assert agreements([trial(0, 1, 1, 1), trial(1, 2, 2, 2)], "forgetting", True)[0] == Agreement(
        1, 2, None, True
    )


def test_a_stream_of_one_task_and_a_sweep_without_results_have_nothing_to_compare() -> None:
    for trials in (
        [trial(n, 50 + n, n_tasks=1) for n in range(9)],
        [],
        [trial(0, state="WAITING")],
    ):
        assert agreements(trials, "forgetting", True) == []
    assert sentence([], 2, "none") == (
        "Rankings cannot be compared, because no trial has a result before the last task (in a "
        "stream of one task, none can have one)."
    )


# As measured on seq-mnist: after the first task the ranking says nothing, from the second on it is
# nearly the final.
MEASURED = [
    Agreement(1, 14, 0.0, False),
    Agreement(2, 14, 0.93, True),
    Agreement(3, 14, 0.91, True),
    Agreement(4, 14, 0.96, True),
]


def test_safe_from_the_second_task_on() -> None:
    assert sentence(MEASURED, 2, "none") == (
        "Pruning after 2 tasks would have been safe. From then on, the lowest Spearman correlation "
        "of a ranking of the 14 finished trials with the final ranking was 0.91 (0.70 is "
        "enough). "
        "The best trial at the end was never below the median."
    )


def test_unsafe_after_the_first_and_what_would_have_been_safe() -> None:
    assert sentence(MEASURED, 1, "none") == (
        "Pruning after 1 task would have been unsafe. From then on, the lowest Spearman "
        "correlation of a ranking of the 14 finished trials with the final ranking was 0.00 (0.70 "
        "is enough). "
        "The best trial at the end was below the median after task 1. A grace of 2 tasks would "
        "have been safe."
    )


def test_with_a_pruner_it_says_that_pruned_trials_are_missing() -> None:
    text = sentence(MEASURED, 2, "median")
    assert text.startswith("Pruning after 2 tasks was safe. ")
    assert text.endswith(
        " Only finished trials are compared. So the correlation tends to be too low, and good "
        "trials that were pruned do not appear."
    )


@pytest.mark.parametrize(
    "spearman, words",
    [(0.7 - 1e-12, "safe."), (0.696, "safe."), (0.69, "unsafe."), (0.6949, "unsafe.")],
)
def test_a_correlation_is_judged_as_it_is_printed(spearman: float, words: str) -> None:
    said = sentence([Agreement(1, 9, spearman, True)], 1, "none")
    assert (
        f"would have been {words}" in said
        and f"final ranking was {spearman:.2f} (0.70 is enough)" in said
    )


def test_safe_needs_both_the_correlation_and_the_best() -> None:
    assert Agreement(1, 9, SPEARMAN_SAFE, True).safe
    assert not Agreement(1, 9, SPEARMAN_SAFE - 0.01, True).safe
    assert not Agreement(1, 9, 1.0, False).safe
    # A later task counts as much as the first one after grace. If the last one is wrong, no grace
    # is safe.
    text = sentence([Agreement(1, 9, 0.9, True), Agreement(2, 9, 0.9, False)], 1, "none")
    assert (
        "unsafe" in text and "The best trial at the end was below the median after task 2." in text
    )


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        (1, "1 finished trial is too few, 5 are needed."),
        (TRIALS_NEEDED - 1, "4 finished trials are too few, 5 are needed."),
    ],
)
def test_few_trials_give_no_judgement(trials: int, words: str) -> None:
    found = [Agreement(t, trials, 1.0, True) for t in (1, 2)]
    assert (
        sentence(found, 1, "none") == f"It is unknown whether pruning after 1 task is safe: {words}"
    )
    assert "It is unknown" not in sentence(
        [Agreement(t, TRIALS_NEEDED, 1.0, True) for t in (1, 2)], 1, "none"
    )


def test_equal_trials_give_no_judgement() -> None:
    assert sentence([Agreement(1, 6, None, True)], 1, "none") == (
        "It is unknown whether pruning after 1 task is safe: the 6 finished trials are all "
        "equal after a task."
    )


def test_a_grace_as_long_as_the_stream_prunes_nothing() -> None:
    assert (
        sentence(MEASURED, 5, "median")
        == "With a grace of 5 tasks, no trial can be pruned in a stream of 5 tasks."
    )
