import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos import metrics
from dynamos.metrics import TaskResult
from dynamos.trainer import Trainer
from tests.helpers.small import small

NAN = np.nan
MATRIX = np.array([[90.0, 10.0, NAN], [95.0, 80.0, 20.0], [60.0, 85.0, 70.0]])


def test_transfer_and_forgetting_by_hand() -> None:
    assert metrics.backward_transfer(MATRIX) == pytest.approx(((60 - 90) + (85 - 80)) / 2)
    assert metrics.forward_transfer(MATRIX, np.array([50.0, 4.0, 8.0])) == pytest.approx(
        ((10 - 4) + (20 - 8)) / 2
    )
    assert metrics.forgetting(MATRIX) == pytest.approx(((95 - 60) + 0) / 2)
    assert metrics.learning_accuracy(MATRIX) == pytest.approx((90 + 80 + 70) / 3)
    assert metrics.mean_accuracy(MATRIX, 1) == pytest.approx(87.5)


def test_cells_of_tasks_not_yet_learned_never_count_as_forgotten() -> None:
    matrix = MATRIX.copy()
    matrix[0, 1] = 100.0  # better before it was learned than ever after
    assert metrics.forgetting(matrix) == metrics.forgetting(MATRIX)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**31))
def test_unmeasured_cells_are_never_read_and_forgetting_is_not_negative(n: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).uniform(0, 100, (n, n))
    matrix[np.triu_indices(n, 2)] = NAN
    values = (
        metrics.backward_transfer(matrix),
        metrics.forward_transfer(matrix, np.zeros(n)),
        metrics.forgetting(matrix),
    )
    assert np.isfinite(values).all()
    assert values[2] >= 0
    assert metrics.forgetting(matrix) >= -metrics.backward_transfer(matrix) - 1e-9


@pytest.mark.parametrize(
    "one, other",
    [
        ([100 * k / 29 for k in (28, 27, 20, 17, 3)], [100 * k / 29 for k in (3, 17, 20, 27, 28)]),
        ([100 * k / 36 for k in (31, 30, 29)], [100 * k / 36 for k in (30, 30, 30)]),
        ([100 * 7 / 10, 100 * 2 / 30], [100 * 14 / 20, 100 * 4 / 60]),
    ],
)
def test_means_that_are_equal_in_exact_arithmetic_compare_equal(
    one: list[float], other: list[float]
) -> None:
    assert metrics.mean(one) == metrics.mean(other)
    assert metrics.mean_accuracy(np.array([one] * len(one)), len(one) - 1) == metrics.mean(other)


def test_one_value_is_its_own_mean_and_one_image_more_is_another_mean() -> None:
    assert metrics.mean([87.36111450195312]) == 87.36111450195312 and metrics.mean([]) == 0
    assert metrics.mean([100 * 12345 / 100_000, 50]) != metrics.mean([100 * 12346 / 100_000, 50])


def test_accuracies_are_exact_ratios_of_counts() -> None:
    trainer = Trainer(small())
    *_, last = trainer
    counts = [len(images) for images in trainer.stream.evaluation]
    for value, n in zip(last.class_il_row + last.task_il_row, counts * 2, strict=True):
        assert value in {100 * k / n for k in range(n + 1)}
    channels = 2 * trainer.config.nf
    assert all(
        any(
            abs(keep * sum(counts) * channels - k) < 1e-9
            for k in [round(keep * sum(counts) * channels)]
        )
        for keep in last.keep_per_gate
    )


def test_one_task() -> None:
    one = np.array([[55.0]])
    assert (
        metrics.forgetting(one)
        == metrics.backward_transfer(one)
        == metrics.forward_transfer(one, one[0])
        == 0
    )


def test_metric_names_say_what_was_measured_on() -> None:
    trainer = Trainer(small())
    first, second = trainer
    names = second.metrics()
    assert names["val_class_il"] == pytest.approx(np.mean(second.class_il_row))
    assert names["val_task_il_task2"] == second.task_il_row[1]
    assert "class_il" not in names and not any(name.startswith("test_") for name in names)
    assert {"keep_gate1", "keep_gate4", "forgetting", "compute", "steps"} <= set(names)
    assert all(isinstance(value, int | float) for value in names.values())
    assert TaskResult.from_dict(second.to_dict()) == second
    assert TaskResult.of_metrics(names) == dataclasses.replace(second, keep_per_task=())
    assert not first.final and second.final
