from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from results.analysis.multiplicity import holm, level_of
from results.analysis.power import power

P = st.one_of(st.none(), st.floats(0, 1))


def test_holms_correction_by_hand() -> None:
    # 4 x 0.005, 3 x 0.01, 2 x 0.03; the last, 1 x 0.04, is not smaller than the one before
    found = holm([0.01, 0.04, 0.03, 0.005], 0.05)
    assert [c.p_value for c in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # 0.03 is the first that is not significant: it is not below 0.05 / 2
    assert [c.divisor for c in found] == [3, 2, 2, 4]


def test_a_test_that_could_not_be_made_counts() -> None:
    assert [c.p_value for c in holm([0.02, None], 0.05)] == [0.04, 1.0]
    assert holm([], 0.05) == []


@given(st.lists(P, max_size=8), st.sampled_from([0.05, 0.0125]))
def test_the_divisors_decide_as_the_adjusted_values_do(
    p_values: list[float | None], level: float
) -> None:
    for p, found in zip(p_values, holm(p_values, level), strict=True):
        if abs(found.p_value - level) > 1e-9:
            assert (p is not None and p < level / found.divisor) == (found.p_value < level)
        assert found.p_value >= (1.0 if p is None else p)


def test_the_error_of_several_dependent_tests_is_that_of_one() -> None:
    draws = np.random.default_rng(0)
    z = draws.normal(size=(4000, 3)) + draws.normal(size=(4000, 1))  # a common baseline
    p = 2 * stats.norm.sf(np.abs(z) / np.sqrt(2))
    wrong = np.mean([min(c.p_value for c in holm(list(row), 0.05)) < 0.05 for row in p])
    assert 0.03 < wrong < 0.055


def test_each_look_has_half_of_the_error_that_is_left() -> None:
    assert [level_of(look) for look in (1, 2, 3)] == [0.025, 0.0125, 0.00625]
    assert level_of(None) == 0.05
    assert sum(level_of(look) for look in range(1, 60)) <= 0.05


def errors(
    looks: int, extend: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], shift: float
) -> float:
    """Fraction of confirmations in which one of the looks finds a difference.

    Args:
        looks: number of looks at most.
        extend: seeds, sums and standard deviations so far, by confirmation, and the critical value
            of the next look by number of seeds -> seeds to add.
        shift: the true mean difference; the differences have the standard deviation 1.
    """
    draws, confirmations, most = np.random.default_rng(0), 40_000, 60
    n = np.zeros(confirmations, int)
    sums, squares = np.zeros(confirmations), np.zeros(confirmations)
    more, found = np.full(confirmations, 5), np.zeros(confirmations, bool)
    for look in range(1, looks + 1):
        for place in range(int(more.max())):
            x = np.where(place < more, draws.normal(size=confirmations) + shift, 0.0)
            sums, squares = sums + x, squares + x * x
        n = n + more
        spread = np.sqrt((squares - sums**2 / n) / (n - 1))
        found |= 2 * stats.t.sf(np.abs(sums) / np.sqrt(n) / spread, n - 1) < level_of(look)
        seeds = np.arange(2, 6 + most * looks)
        critical = np.concatenate([[0, 0], stats.t.isf(level_of(look + 1) / 2, seeds - 1)])
        more = extend(n, np.abs(sums) / spread, critical)
    return float(found.mean())


def ten(n: np.ndarray, t: np.ndarray, critical: np.ndarray) -> np.ndarray:
    return np.full(len(n), 10)


def worst(n: np.ndarray, t: np.ndarray, critical: np.ndarray) -> np.ndarray:
    """The extension that makes a difference most likely to be found, given the results so far."""
    added = np.arange(1, 61)
    whole = n[:, None] + added
    gaps = (t[:, None] - critical[whole] * np.sqrt(whole)) / np.sqrt(added)
    return np.asarray(added[gaps.argmax(1)])


@pytest.mark.slow
def test_the_error_over_all_looks_is_at_most_five_percent_with_few_seeds() -> None:
    # looks at 5, 15 and 25 seeds; the parts add up to 4.375 %
    assert 0.03 < errors(3, ten, 0.0) < 0.044
    # even if each extension is as long as the results so far ask for
    assert 0.04 < errors(5, worst, 0.0) < 0.05


@pytest.mark.slow
def test_an_extension_finds_what_the_first_look_has_missed() -> None:
    # a test at 5 % finds a difference of 1 standard deviation with 5 seeds in 40 %
    assert errors(1, ten, 1.0) == pytest.approx(power(1.0, 5, 0.025), abs=0.01)
    assert errors(1, ten, 1.0) == pytest.approx(0.256, abs=0.01)
    assert errors(2, ten, 1.0) == pytest.approx(0.838, abs=0.01)
