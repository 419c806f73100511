"""The standard error of an accuracy, computed by hand, and the places that show it."""

import math
from pathlib import Path
from typing import Any

import pytest

from results.analysis.comparison import compared, comparison_rows
from results.analysis.headline import answer
from results.analysis.sampling_error import IMAGES, images_behind, standard_error
from results.ledger.ledger import Ledger
from results.sweep import Sweep
from results.trial import TrialRecord
from tests.helpers.ledgers import config, driven, result

# By task learned: the accuracies on the tasks seen so far, in percent.
ROWS = ((90.0,), (80.0, 50.0), (60.0, 50.0, 100.0))


def swept(
    folder: Path, *seeds: tuple[tuple[float, ...], ...], record: dict[str, Any], name: str = "s"
) -> Ledger:
    """A sweep of one trial with the given accuracies, by seed and task learned."""
    with driven(
        Ledger.create(folder, config(name, sampler="random", seeds=len(seeds)), record)
    ) as ledger:
        ledger.ask()
        for seed, rows in enumerate(seeds, start=42):
            for task, row in enumerate(rows):
                told = result(
                    task,
                    len(rows),
                    val_class_il=sum(row[: task + 1]) / (task + 1),
                    class_il_row=row,
                    task_il=None,
                    task_il_row=(),
                )
                ledger.add_result(0, 1, seed, told)
        ledger.finish(0, "COMPLETE")
    return Ledger.open(folder, name)


def only(ledger: Ledger) -> TrialRecord:
    [trial] = ledger.trials()
    return trial


def test_for_one_task_it_is_the_error_of_a_proportion(tmp_path: Path) -> None:
    trial = only(swept(tmp_path, ((80.0,),), record={}))
    # 8 of 10 and one more of each kind: 100 sqrt(0.75 * 0.25 / 10).
    assert standard_error(trial, "val_class_il", {IMAGES: [10]}) == pytest.approx(13.693, abs=1e-3)
    assert images_behind(trial, "val_class_il", {IMAGES: [400]}) == "400 images, standard error 2"


@pytest.mark.parametrize("accuracy", [0.0, 100.0])
def test_it_is_not_zero_for_a_task_that_is_all_right_or_all_wrong(
    tmp_path: Path, accuracy: float
) -> None:
    trial = only(swept(tmp_path, ((accuracy,),), record={}))
    assert standard_error(trial, "val_class_il", {IMAGES: [8]}) == pytest.approx(
        100 * math.sqrt(0.09 / 8)
    )


def test_each_task_weighs_the_same_however_many_images_it_has(tmp_path: Path) -> None:
    trial = only(swept(tmp_path, ROWS, record={}))
    record = {IMAGES: [24, 100, 30]}
    # 15.4/26 * 10.6/26 / 24 = 0.01006, 0.5 * 0.5 / 100 = 0.0025, 31/32 * 1/32 / 30 = 0.00101, over
    # three tasks.
    assert standard_error(trial, "val_class_il", record) == pytest.approx(
        100 * math.sqrt(0.0135707) / 3, rel=1e-4
    )
    # Right after each was learned: 22.6/26 * 3.4/26 / 24 = 0.00474, 0.0025, 0.00101.
    assert standard_error(trial, "val_learning_accuracy", record) == pytest.approx(
        100 * math.sqrt(0.0082453) / 3, rel=1e-4
    )
    assert images_behind(trial, "val_class_il", record) == "154 images, standard error 3.9"


def test_several_seeds_count_by_their_mean_because_they_see_the_same_images(tmp_path: Path) -> None:
    trial = only(swept(tmp_path, ((70.0,),), ((90.0,),), record={}))
    assert images_behind(trial, "val_class_il", {IMAGES: [400]}) == "400 images, standard error 2"


def test_other_metrics_and_older_sweeps_have_none(tmp_path: Path) -> None:
    trial = only(swept(tmp_path, ROWS, record={}))
    assert (
        standard_error(trial, "val_class_il", {}) is None
        and images_behind(trial, "val_class_il", {}) == ""
    )
    for metric in ("compute", "forgetting", "keep_fraction", "val_task_il"):
        assert standard_error(trial, metric, {IMAGES: [24, 100, 30]}) is None
    assert standard_error(trial, "val_class_il", {IMAGES: [24, 100]}) is None, (
        "fewer tasks than were learned"
    )


def test_it_is_shown_in_the_headline_and_in_comparisons(tmp_path: Path) -> None:
    new = swept(tmp_path, ROWS, record={IMAGES: [24, 100, 30]})
    old = swept(tmp_path, ROWS, record={}, name="old")
    assert answer(Sweep.of(new)).startswith(
        "Trial 0 is best with val_class_il 70.00 (154 images, standard error 3.9); it is the preset"
    )
    assert answer(Sweep.of(old)).startswith("Trial 0 is best with val_class_il 70.00; it")
    _, found, _ = comparison_rows(compared([Sweep.of(new), Sweep.of(old)]))
    assert ("measured on", ["154 images, standard error 3.9", ""]) in found
    assert "measured on" not in dict(comparison_rows(compared([Sweep.of(old), Sweep.of(old)]))[1])
