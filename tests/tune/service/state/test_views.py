"""Views of sweeps, as JSON."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tune.service.state.views import encoded

AT = dt.datetime(2024, 5, 6, 7, 8, 9, 10, dt.UTC)


@pytest.mark.parametrize(
    "value, told",
    [
        (float("nan"), None),
        (float("-inf"), None),
        (np.float64("nan"), None),
        (np.float32("nan"), None),
        ({"a": [np.float32("inf"), (1, np.float64(2.5))]}, {"a": [None, [1, 2.5]]}),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        ({0: 1.0}, {"0": 1.0}),
        (Path("/runs/s"), "/runs/s"),
    ],
)
def test_what_is_no_number_is_null_and_numpys_numbers_are_numbers(value: Any, told: Any) -> None:
    assert json.loads(encoded(value)) == told


def test_a_moment_is_read_back_as_it_was() -> None:
    text = json.loads(encoded(AT))
    assert text.endswith("Z") and dt.datetime.fromisoformat(text) == AT
