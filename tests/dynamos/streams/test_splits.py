"""Fixed splits are scikit-learn's, without its import."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from dynamos.errors import UserError
from dynamos.streams.splits import TEST, VALIDATION, Split


@given(
    st.lists(st.integers(2, 40), min_size=1, max_size=12),
    st.sampled_from([VALIDATION, TEST, Split(0.37, 5, "images", "a part")]),
    st.integers(0, 10**6),
)
def test_the_split_is_that_of_scikit_learn(counts: list[int], split: Split, order: int) -> None:
    labels = np.random.default_rng(order).permutation(np.repeat(np.arange(len(counts)), counts))
    try:
        theirs = train_test_split(
            np.arange(len(labels)),
            test_size=split.fraction,
            stratify=labels,
            random_state=split.seed,
        )
    except ValueError:
        with pytest.raises(UserError, match="too few"):
            split.of(labels)
        return
    for ours, part in zip(split.of(labels), theirs, strict=True):
        assert ours.tolist() == sorted(part)


def test_labels_need_not_be_numbers_from_zero() -> None:
    labels = np.array([7, 3] * 10)
    kept, held_out = TEST.of(labels)
    assert len(kept) == 16 and sorted(labels[held_out]) == [3, 3, 7, 7]


def test_digits_are_read_without_scikit_learn() -> None:
    code = (
        "import sys; from dynamos.streams.sources import read; read('digits', None); "
        "assert 'sklearn' not in sys.modules and 'scipy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
