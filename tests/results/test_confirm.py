"""The statistics of a confirmation, by hand-computed numbers, and what is said of them."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dynamos.errors import UserError
from results.best import Choice, best, chosen, pareto
from results.compare import compared
from results.confirm import difference, frame, outcomes, verdict
from results.frame import Sweep
from results.ledger import Ledger
from tests.results.ledgers import confirmed, driven


def test_a_difference_by_hand() -> None:
    gain = difference([5, 7, 9], [4, 5, 6])  # 1, 2, 3: mean 2, deviation 1, t = 2 sqrt(3) with 2 degrees of freedom
    assert (gain.mean, gain.n) == (2, 3)
    assert gain.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # the table's t at 0.975
    assert gain.p_value == pytest.approx(1 - math.sqrt(12 / 14))  # Student's t with 2 degrees has this closed form
    assert gain.could_be_chance


def test_pairs_count_and_not_their_spread() -> None:
    base = [10.0, 50.0, 90.0, 20.0]
    assert not difference([b + d for b, d in zip(base, (1.0, 1.1, 0.9, 1.0), strict=True)], base).could_be_chance
    assert difference([11.0, 49.0, 93.0, 17.0], base).could_be_chance


def test_one_seed_tells_nothing_and_equal_ones_no_difference() -> None:
    alone = difference([5], [3])
    assert (alone.mean, alone.half_width, alone.p_value) == (2, None, None) and alone.could_be_chance
    same = difference([5, 6], [5, 6])
    assert (same.mean, same.half_width, same.p_value) == (0, 0, 1) and same.could_be_chance
    certain = difference([5, 6], [4, 5])
    assert (certain.half_width, certain.p_value) == (0, 0)


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    draws = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        seeds = draws.normal(80, 5, 5)  # what a seed does to both
        found.append(difference(seeds + draws.normal(0, 1, 5), seeds + draws.normal(0, 1, 5)).p_value)
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert 0.03 < np.mean(np.array(found) < 0.05) < 0.07


def told(sweep: Ledger, confirmation: Ledger) -> str:
    return verdict(sweep, confirmation, confirmation.trials())


def test_the_choice_comes_first_and_is_compared_in_words(tmp_path: Path) -> None:
    sweep, confirmation = confirmed(tmp_path, [80.0, 82.0, 81.0], [83.0, 84.5, 84.0], [70.0, 70.0, 70.0])
    assert [row.label for row in outcomes(confirmation, confirmation.trials())] == ["trial 11", "trial 12", "baseline"]
    said = told(sweep, confirmation)
    # 3, 2.5, 3: mean 2.8333, deviation 0.288675, half-width 4.302653 * 0.288675 / sqrt(3) = 0.7171
    assert said.startswith("Trial 11, which the sweep chose, is better than the baseline by 2.83 +- 0.72 points "
                           "(95% confidence; p = 0.0034; more than chance): test_class_il 83.83 +- 0.76 over 3 seeds "
                           "against 81.00 +- 1.00 over 3 seeds.")
    assert "tested better than the choice" not in said and said.endswith("looked at in 1 confirmation of this sweep.")


def test_what_tested_better_than_the_choice_is_not_to_be_taken(tmp_path: Path) -> None:
    said = told(*confirmed(tmp_path, [80.0, 82.0], [79.0, 82.5], [90.0, 91.0]))
    assert "is worse than the baseline by 0.25 +- " in said and "with 2 seeds this could be chance" in said
    assert "Trial 12 tested better than the choice; to take it now would be to choose on test images." in said


def test_one_seed_in_words(tmp_path: Path) -> None:
    said = told(*confirmed(tmp_path, [80.0], [81.0]))
    assert "better than the baseline by 1.00; one seed cannot tell that from chance: test_class_il 81.00 over 1" in said


def test_a_sweep_that_chose_the_baseline(tmp_path: Path) -> None:
    sweep, confirmation = confirmed(tmp_path, [80.0, 81.0], [70.0, 71.0], of={"0": 3, "1": 7})
    assert [row.label for row in outcomes(confirmation, confirmation.trials())] == ["trial 3 = baseline", "trial 7"]
    assert told(sweep, confirmation).startswith("The sweep chose the baseline itself: test_class_il 80.50 +- 0.71")


def test_a_configuration_that_diverged_has_no_numbers(tmp_path: Path) -> None:
    sweep, confirmation = confirmed(tmp_path, [80.0, 81.0], "PRUNED")
    assert told(sweep, confirmation).startswith("No answer yet: trial 11 was pruned (non-finite: logits).")
    table = frame(confirmation, confirmation.trials()).set_index("configuration")
    assert pd.isna(table.loc["trial 11", "test_class_il"]) and pd.isna(table.loc["trial 11", "difference"])
    assert table.loc["baseline", "test_class_il"] == 80.5 and table.loc["baseline", "n"] == 2


def test_of_a_configuration_that_was_run_again_the_rerun_counts(tmp_path: Path) -> None:
    _, there = confirmed(tmp_path, "FAIL", [80.0], of={"1": 7})
    with driven(there):
        there.rerun([0])
        number = there.ask().number
        there.add_result(number, 1, 100, {"task": 0, "n_tasks": 1}, {"test_class_il": 70.0, "compute": 0.5})
        there.finish(number, "COMPLETE")
    rows = outcomes(there, there.trials())
    assert [(row.label, row.trial.number) for row in rows] == [("trial 7", 1), ("baseline", 2)]
    assert rows[0].against is not None and rows[0].against.mean == 10.0


def test_the_table_has_means_spreads_and_the_paired_difference(tmp_path: Path) -> None:
    _, confirmation = confirmed(tmp_path, [80.0, 82.0, 81.0], [83.0, 84.5, 84.0])
    row = frame(confirmation, confirmation.trials()).set_index("configuration").loc["trial 11"]
    assert row["test_class_il"] == pytest.approx(251.5 / 3) and row["difference"] == pytest.approx(8.5 / 3)
    assert row["test_class_il_std"] == pytest.approx(0.763763, rel=1e-5)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((2.8333 - 0.7171, 2.8333 + 0.7171), abs=1e-3)
    assert row["keep_ratio"] == 0.2 and row["trial"] == 11 and row["compute"] == 0.5


def test_nothing_is_chosen_by_a_confirmation(tmp_path: Path) -> None:
    sweep, there = confirmed(tmp_path, [80.0, 82.0], [83.0, 84.5])
    with pytest.raises(UserError, match="'s-confirm-1' is a confirmation, and to choose by it .* it confirms, 's'"):
        chosen(there.trials(), there.config, Choice())
    assert best(there.trials(), there.config) is None and pareto(there.trials(), there.config) == []
    with pytest.raises(UserError, match="'s-confirm-1' is a confirmation, of which nothing is the best"):
        compared([Sweep.of(sweep), Sweep.of(there)])


def test_a_difference_in_a_fraction_has_four_digits() -> None:
    assert difference([0.52, 0.523], [0.516, 0.519]).told("compute") == "+0.004 +- 0"
    assert difference([0.516], [0.52]).told("keep_fraction") == "-0.004"
    assert difference([80.0], [81.234]).told("test_class_il") == "-1.23"
