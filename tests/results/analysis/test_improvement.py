import math

import numpy as np
import pytest
from scipy import stats

from results.analysis.improvement import Improvement, improvement


def found(values: list[float], baseline: list[float], sign: int = 1) -> Improvement:
    """Return the probability of improvement, and assert that it exists."""
    there = improvement(values, baseline, sign, 0.05)
    assert there is not None
    return there


def test_the_fraction_of_pairs_by_hand() -> None:
    # 3 beats 1 and 2 and equals 3; 2 beats 1 and equals 2: 4.0 of 6 pairs
    assert found([3.0, 2.0], [1.0, 2.0, 3.0]).value == pytest.approx(4 / 6)
    assert found([3.0, 2.0], [1.0, 2.0, 3.0], -1).value == pytest.approx(2 / 6)


def test_the_interval_of_one_pair_is_wilsons() -> None:
    z = 1.959964
    assert found([2.0], [1.0]).low == pytest.approx(1 / (1 + z * z))
    assert found([2.0], [1.0]).high == 1.0
    half = z / (2 * math.sqrt(1 + z * z))
    equal = found([1.0], [1.0])
    assert (equal.low, equal.high) == pytest.approx((0.5 - half, 0.5 + half))


def test_an_interval_turns_with_the_sign_and_shrinks_with_runs() -> None:
    values, baseline = [3.0, 5.0, 4.0, 8.0], [2.0, 4.5, 1.0, 6.0]
    more, less = found(values, baseline), found(values, baseline, -1)
    assert (less.low, less.high) == pytest.approx((1 - more.high, 1 - more.low))
    often = found(values * 3, baseline * 3)
    assert often.value == more.value and more.low < often.low < often.high < more.high


def test_every_run_better_is_no_certainty() -> None:
    always = found([2.0] * 5, [1.0] * 5)
    assert (always.value, always.high) == (1.0, 1.0) and 0.6 < always.low < 0.7
    assert str(always) == "1.00 (95% interval 0.64 to 1.00)"


def test_runs_without_a_number_are_left_out() -> None:
    assert found([math.nan, 2.0], [1.0, math.inf]).value == 1.0
    assert improvement([math.nan], [1.0], 1, 0.05) is None and improvement([], [], 1, 0.05) is None


@pytest.mark.parametrize("shift", [0.0, 0.8, 2.0])
def test_the_interval_holds_the_truth_as_often_as_it_says(shift: float) -> None:
    draws = np.random.default_rng(0)
    truth, held = stats.norm.cdf(shift / math.sqrt(2)), 0
    for _ in range(400):
        one = found((draws.normal(size=5) + shift).tolist(), draws.normal(size=5).tolist())
        held += one.low <= truth <= one.high
    assert held / 400 > 0.92
