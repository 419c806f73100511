"""The statistics of a confirmation, with numbers computed by hand, and the sentences about them."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dynamos.errors import UserError
from results.analysis.comparison import compared
from results.analysis.confirmation import (
    confirmation_frame,
    enter_outcome,
    finding,
    outcome,
    outcomes,
    verdict,
)
from results.analysis.difference import Difference, difference
from results.analysis.headline import headline
from results.choice import Choice, chosen
from results.definition.objectives import Objective
from results.ledger.attributes import latest_outcome
from results.ledger.ledger import Ledger
from results.sweep import Sweep
from tests.helpers.ledgers import complete, confirmed, driven, result


def differ(values: Sequence[float], baseline: Sequence[float]) -> Difference:
    """Return the difference, and assert that it exists."""
    found = difference(values, baseline)
    assert found is not None
    return found


def test_a_difference_by_hand() -> None:
    # 1, 2, 3: mean 2, deviation 1, t = 2 sqrt(3) with 2 degrees of freedom
    gain = differ([5, 7, 9], [4, 5, 6])
    assert (gain.mean, gain.spread, gain.n, gain.baseline) == (2, 1, 3, 5)
    # the table's t at 0.975
    assert gain.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    # Student's t with 2 degrees has this closed form
    assert gain.p_value == pytest.approx(1 - math.sqrt(12 / 14))
    assert gain.could_be_chance


def test_pairs_count_and_not_their_spread() -> None:
    base = [10.0, 50.0, 90.0, 20.0]
    assert not differ(
        [b + d for b, d in zip(base, (1.0, 1.1, 0.9, 1.0), strict=True)], base
    ).could_be_chance
    assert differ([11.0, 49.0, 93.0, 17.0], base).could_be_chance


def test_one_seed_tells_nothing() -> None:
    alone = differ([5], [3])
    assert (alone.mean, alone.spread, alone.half_width, alone.p_value) == (2, None, None, None)
    assert (
        alone.could_be_chance
        and alone.chance("test_class_il") == "One seed is not enough to rule out chance."
    )
    assert alone.shown("test_class_il") == "+2.00" and alone.shown_interval("test_class_il") == ""


@pytest.mark.parametrize(
    "values, baseline",
    [
        ([5, 6], [5, 6]),
        ([5, 6], [4, 5]),
        # equal on paper, apart by 1e-14 in float64
        ([100 * 31 / 36, 100 * 20 / 36], [100 * 30 / 36, 100 * 19 / 36]),
    ],
)
def test_no_test_is_defined_if_all_differences_are_equal(
    values: list[float], baseline: list[float]
) -> None:
    found = differ(values, baseline)
    assert (found.spread, found.half_width, found.p_value) == (
        0,
        None,
        None,
    ) and found.could_be_chance
    assert found.chance("test_class_il") == (
        "All 2 seeds have the same difference, so no test is possible."
    )


def test_seeds_without_a_number_are_left_out() -> None:
    assert difference([math.nan, 5.0], [4.0, math.inf]) is None and difference([], []) is None
    found = differ([math.nan, 5.0, 7.0], [4.0, 4.0, 5.0])
    assert (found.mean, found.n) == (1.5, 2) and found.could_be_chance


def test_an_interval_ends_where_the_metric_does() -> None:
    # -30, 8, -22: mean -14.67, deviation 20.03
    gain = differ([60.0, 99.0, 70.0], [90.0, 91.0, 92.0])
    assert gain.half_width == pytest.approx(4.302653 * 20.033306 / math.sqrt(3), rel=1e-5)
    assert gain.interval("test_class_il") == pytest.approx((-14.666667 - 49.7655, 9.0), abs=1e-3), (
        "91 + 9 is 100 %"
    )
    assert gain.shown_interval("test_class_il") == (
        "-64.43 to +9.00 (limited to the range of the metric)"
    )
    # -0.4, -0.6: mean -0.5, deviation 0.1414, half-width 12.7062 * 0.1
    few = differ([0.5, 0.3], [0.9, 0.9])
    assert few.interval("keep_fraction") == pytest.approx((-0.9, 0.1))
    assert few.interval("compute") == pytest.approx((-0.9, -0.5 + 1.27062), rel=1e-5), (
        "of compute 1 is no bound"
    )
    assert "cut" not in differ([81.0, 82.0], [80.0, 81.5]).shown_interval("test_class_il")


@pytest.mark.parametrize(
    "seeds, words",
    [
        (2, " But 2 seeds are few: use 5 or more."),
        (4, " But 4 seeds are few: use 5 or more."),
        (5, ""),
    ],
)
def test_few_seeds_are_called_few(seeds: int, words: str) -> None:
    gain = differ([81.0 + n / 100 for n in range(seeds)], [80.0] * seeds)
    said = gain.chance("test_class_il")
    assert said.startswith("This is more than chance (paired t-test p = ")
    assert said.endswith(f").{words}")


def test_with_two_seeds_a_large_difference_may_be_chance() -> None:
    gain = differ([70.0, 85.0], [80.0, 80.0])
    assert gain.chance("test_class_il").startswith(
        "With 2 seeds this could be chance (paired t-test p = 0.8, "
    )


def test_p_values_are_uniform_without_a_difference() -> None:
    draws = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        seeds = draws.normal(80, 5, 5)  # what a seed does to both
        first, second = ((seeds + draws.normal(0, 1, 5)).tolist() for _ in range(2))
        found.append(differ(first, second).p_value)
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert 0.03 < np.mean(np.array(found) < 0.05) < 0.07


def told(sweep: Ledger, confirmation: Ledger) -> str:
    return verdict(Sweep.of(sweep), Sweep.of(confirmation))


def test_the_choice_comes_first_and_is_compared_in_words(tmp_path: Path) -> None:
    sweep, confirmation = confirmed(
        tmp_path, [80.0, 82.0, 81.0], [83.0, 84.5, 84.0], [70.0, 70.0, 70.0]
    )
    assert [row.label for row in outcomes(Sweep.of(confirmation))] == [
        "trial 11",
        "trial 12",
        "baseline",
    ]
    said = told(sweep, confirmation)
    # 3, 2.5, 3: mean 2.8333, deviation 0.288675, half-width 4.302653 * 0.288675 / sqrt(3) = 0.7171
    assert said.startswith(
        "Confirmed on test images: trial 11, which the sweep chose, is better than the baseline by "
        "2.83 points. Its test_class_il is 83.83 (standard deviation 0.76 over 3 seeds); that of "
        "the baseline is 81.00 (standard deviation 1.00 over 3 seeds). This is more than chance "
        "(paired t-test p = 0.0034, 0.0055 by Holm's correction for 2 comparisons, 95% interval "
        "+2.12 to +3.55, standard deviation of the differences 0.29). But 3 seeds are few: use 5 "
        "or more. Its probability of improvement over the baseline is 1.00 (95% interval 0.50 to "
        "1.00). The baseline is the preset."
    ), "trial 12 is worse with p = 0.0027, which Holm's correction doubles"
    assert "tested better than the choice" not in said and said.endswith(
        "used in 1 confirmation of this sweep."
    )


def test_several_configurations_are_corrected_for_their_number(tmp_path: Path) -> None:
    base = [80.0, 82.0, 81.0]
    sweep, there = confirmed(tmp_path, base, [81.0, 84.0, 82.6], base)
    # 1, 2, 1.6: mean 1.5333, deviation 0.5033, t = 5.2766 with 2 degrees of freedom
    p = 1 - math.sqrt(1 - 2 / (5.276606**2 + 2))
    first, second, _ = outcomes(Sweep.of(there))
    gain = first.against
    assert gain is not None and second.against is not None and second.against.p_value is None
    assert gain.p_value == pytest.approx(p, rel=1e-4) and 0.025 < p < 0.05
    assert gain.adjusted == pytest.approx(2 * p, rel=1e-4) and gain.could_be_chance
    # the table's t at 0.9875 with 2 degrees of freedom is 6.2053
    assert gain.half_width == pytest.approx(6.20535 * 0.503322 / math.sqrt(3), rel=1e-4)
    assert told(sweep, there).startswith("Not confirmed on test images: trial 11")
    found = outcome(Sweep.of(there))
    assert found is not None and found["metrics"]["confirmed_p_holm"] == gain.adjusted
    _, alone = confirmed(tmp_path / "alone", base, [81.0, 84.0, 82.6])
    (gain, _) = (row.against for row in outcomes(Sweep.of(alone)))
    assert gain is not None and gain.adjusted is None and not gain.could_be_chance
    assert told(sweep, alone).startswith("Confirmed on test images: trial 11")


def test_a_configuration_without_a_result_counts_among_the_comparisons(tmp_path: Path) -> None:
    _, there = confirmed(tmp_path, [80.0, 82.0, 81.0], [81.0, 84.0, 82.6], "PRUNED")
    gain = outcomes(Sweep.of(there))[0].against
    assert gain is not None and gain.tests == 2 and gain.could_be_chance


def test_the_probability_of_improvement_goes_the_way_of_the_objective(tmp_path: Path) -> None:
    _, there = confirmed(tmp_path, [80.0, 82.0], [81.0, 83.0])
    # 81 beats 80, 83 beats both
    improves = outcomes(Sweep.of(there))[0].improves
    assert improves is not None and improves.value == 0.75
    row = confirmation_frame(Sweep.of(there)).set_index("configuration").loc["trial 11"]
    assert row["p_improvement"] == 0.75 and row["p_improvement_low"] == improves.low
    config = dataclasses.replace(there.config, objectives=(Objective.parse("test_class_il:min"),))
    less = outcomes(dataclasses.replace(Sweep.of(there), config=config))[0].improves
    assert less is not None and less.value == 0.25


def test_a_trial_that_tests_better_than_the_choice_must_not_be_chosen(tmp_path: Path) -> None:
    said = told(*confirmed(tmp_path, [80.0, 82.0], [79.0, 82.5], [90.0, 91.0]))
    assert said.startswith(
        "Not confirmed on test images: trial 11, which the sweep chose, is worse than the baseline"
    )
    assert "by 0.25 points" in said and "With 2 seeds this could be chance" in said
    assert (
        "Trial 12 tested better than the choice; do not choose it now: that would be a choice on "
        "test images." in said
    )


def test_one_seed_in_words(tmp_path: Path) -> None:
    said = told(*confirmed(tmp_path, [80.0], [81.0]))
    assert (
        "better than the baseline by 1.00 points. Its test_class_il is 81.00 (1 seed); that of the "
        "baseline is 80.00 (1 seed). One seed is not enough to rule out chance."
    ) in said


def test_a_sweep_that_chose_the_baseline(tmp_path: Path) -> None:
    sweep, confirmation = confirmed(tmp_path, [80.0, 81.0], [70.0, 71.0], of={"0": 3, "1": 7})
    assert [row.label for row in outcomes(Sweep.of(confirmation))] == [
        "trial 3 = baseline",
        "trial 7",
    ]
    assert told(sweep, confirmation).startswith(
        "The chosen configuration is the baseline: test_class_il 80.50 (standard "
        "deviation 0.71 over 2 seeds)."
    )
    found = outcome(Sweep.of(confirmation))
    assert found is not None and (found["verdict"], found["trial"]) == ("is the baseline", 3)
    means = {"test_class_il": 80.5, "compute": 0.5}.items()
    for whose in ("baseline_", "confirmed_"):
        told_of = {n.removeprefix(whose): v for n, v in found["metrics"].items() if whose in n}
        assert set(told_of) == set(confirmation.config.metrics) and means <= told_of.items()


def test_a_configuration_that_diverged_has_no_numbers(tmp_path: Path) -> None:
    sweep, confirmation = confirmed(tmp_path, [80.0, 81.0], "PRUNED")
    assert told(sweep, confirmation).startswith(
        "No answer yet: trial 11 was pruned (non-finite: logits)."
    )
    table = confirmation_frame(Sweep.of(confirmation)).set_index("configuration")
    assert table.loc["trial 11", ["test_class_il", "difference"]].isna().all()
    assert table.loc["baseline", "test_class_il"] == 80.5 and table.loc["baseline", "n"] == 2


def test_a_rerun_replaces_the_trial_that_it_runs_again(tmp_path: Path) -> None:
    _, there = confirmed(tmp_path, "FAIL", [80.0], of={"1": 7})
    with driven(there):
        there.rerun([0])
        number = there.ask().number
        there.add_result(number, 1, 100, result(test_class_il=70.0, compute=0.5))
        there.finish(number, "COMPLETE")
    rows = outcomes(Sweep.of(there))
    assert [(row.label, row.trial.number) for row in rows] == [("trial 7", 1), ("baseline", 2)]
    assert rows[0].against is not None and rows[0].against.mean == 10.0


def test_the_table_has_means_spreads_and_the_paired_difference(tmp_path: Path) -> None:
    _, confirmation = confirmed(tmp_path, [80.0, 82.0, 81.0], [83.0, 84.5, 84.0])
    row = confirmation_frame(Sweep.of(confirmation)).set_index("configuration").loc["trial 11"]
    assert row["test_class_il"] == pytest.approx(251.5 / 3) and row["difference"] == pytest.approx(
        8.5 / 3
    )
    assert row["test_class_il_std"] == pytest.approx(0.763763, rel=1e-5)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(
        (2.8333 - 0.7171, 2.8333 + 0.7171), abs=1e-3
    )
    assert row["keep_ratio"] == 0.2 and row["trial"] == 11 and row["compute"] == 0.5


def test_nothing_is_chosen_by_a_confirmation(tmp_path: Path) -> None:
    sweep, there = confirmed(tmp_path, [80.0, 82.0], [83.0, 84.5])
    with pytest.raises(
        UserError, match="'s-confirm-1' is a confirmation, and choosing from it .* it confirms, 's'"
    ):
        chosen(Sweep.of(there), Choice())
    assert Sweep.of(there).leader is None and Sweep.of(there).pareto_set == []
    with pytest.raises(UserError, match="'s-confirm-1' is a confirmation, which has no best trial"):
        compared([Sweep.of(sweep), Sweep.of(there)])


def test_a_difference_in_a_fraction_has_four_digits() -> None:
    assert differ([0.52, 0.523], [0.516, 0.519]).shown("compute") == "+0.004 ± 0"
    assert differ([0.516], [0.52]).shown("keep_fraction") == "-0.004"
    assert differ([80.0], [81.234]).shown("test_class_il") == "-1.23"


def refuted(folder: Path) -> tuple[Ledger, Ledger]:
    """(a sweep whose trial 1 looks best on validation images, its confirmation, in which trial 1 is
    worse)."""
    sweep, there = confirmed(folder, [80.0, 81.0, 82.0], [70.0, 71.5, 72.0], of={"1": 1})
    with driven(sweep):
        for value in (60, 70):
            complete(sweep, 100, value)
    enter_outcome(sweep, Sweep.of(there))
    return Ledger.open(folder, "s"), there


def heading_of(sweep: Ledger) -> str:
    return headline(Sweep.of(sweep))


def test_a_confirmations_verdict_is_the_headline_from_then_on(tmp_path: Path) -> None:
    sweep, there = refuted(tmp_path)
    assert heading_of(sweep) == finding(Sweep.of(there))
    assert heading_of(sweep).startswith(
        "Refuted on test images: trial 1, which the sweep chose, is worse than the"
    )
    found = latest_outcome(sweep.looks)
    assert found is not None and (found["verdict"], found["trial"], found["tested"]) == (
        "refuted",
        1,
        [1],
    )
    # Differences -10, -9.5, -10.
    assert found["metrics"]["confirmed_difference"] == pytest.approx(-29.5 / 3)
    assert found["metrics"]["confirmed_test_class_il"] == pytest.approx(213.5 / 3)
    assert found["metrics"]["baseline_test_class_il"] == 81
    with driven(sweep):
        complete(sweep, 100, 75)
    assert heading_of(sweep).endswith(
        "The sweep's best by val_class_il is now trial 2 (75.00), which that "
        "confirmation did not test."
    )


def test_an_outcome_is_entered_once_and_only_with_an_answer(tmp_path: Path) -> None:
    sweep, there = refuted(tmp_path)
    before = sweep.looks
    enter_outcome(sweep, Sweep.of(there))
    assert sweep.looks == before, "its time, too"
    other, pending = confirmed(tmp_path / "other", [80.0], "FAIL")
    enter_outcome(other, Sweep.of(pending))
    assert latest_outcome(other.looks) is None and heading_of(other).startswith("None of ")
