import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from results.analysis.multiplicity import holm

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
