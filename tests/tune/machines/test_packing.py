"""Packing of trials on a GPU."""

import pytest

from tune.machines.packing import best_packing


@pytest.mark.parametrize(
    "found, expected",
    [
        ({1: 10.0}, 1),
        ({1: 10.0, 2: 18.0, 4: 25.0, 8: 24.0}, 4),
        ({1: 10.0, 2: 10.4}, 1),
        ({1: 10.0, 2: 10.4, 4: 10.8}, 4),
        ({2: 5.0, 1: 4.0}, 2),
    ],
)
def test_the_fastest_packing_is_taken_and_of_equally_fast_ones_the_smallest(
    found: dict[int, float], expected: int
) -> None:
    assert best_packing(found) == expected
