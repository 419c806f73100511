"""Sampling error of an accuracy: the evaluation images are a sample, too."""

import math
from collections.abc import Mapping
from typing import Any

from results.trial import TrialRecord
from results.wording import count

# Key of a sweep's record: number of evaluation images of each task. Older sweeps do not have it.
IMAGES = "evaluation_images"


def standard_error(trial: TrialRecord, metric: str, record: Mapping[str, Any]) -> float | None:
    """Standard error of an accuracy after the last task reported, in points; None if it is unknown.

    The accuracy is the unweighted mean over T tasks of the fraction of correct images, k_t of n_t.
    That is a stratified sample in which each task weighs 1/T: sqrt(sum over t of p_t (1 - p_t) /
    n_t) / T (Cochran 1977, Sampling Techniques, section 5.10), for one task sqrt(p (1 - p) / n).
    With p_t = k_t / n_t it would be 0 for a task whose images are all right or all wrong, so p_t is
    (k_t + 1) / (n_t + 2), Laplace's rule of succession. All seeds are evaluated on the same images.
    So more seeds reduce this error only as far as their mistakes differ, and with k_t as the mean
    over seeds the result is an upper bound.

    Args:
        trial: the trial.
        metric: class_il, task_il or learning_accuracy, with their prefix; None for any other
            metric.
        record: the sweep's record, with the numbers of images.
    """
    images, rates = record.get(IMAGES, ()), _rates(trial, metric)
    if rates is None or len(images) < len(rates):
        return None
    expected = [((rate * n + 1) / (n + 2), n) for rate, n in zip(rates, images, strict=False)]
    return 100 * math.sqrt(sum(p * (1 - p) / n for p, n in expected)) / len(rates)


def images_behind(trial: TrialRecord, metric: str, record: Mapping[str, Any]) -> str:
    """The number of images behind an accuracy and its standard error, in words; "" if unknown."""
    error = standard_error(trial, metric, record)
    if error is None:
        return ""
    return f"{count(sum(record[IMAGES][: _tasks(trial)]), 'image')}, standard error {error:.2g}"


def _rates(trial: TrialRecord, metric: str) -> list[float] | None:
    """Fraction of correct images for each task, mean over seeds.

    Returns None if it is unknown for a task.
    """
    prefix, _, kind = metric.partition("_")
    learned = kind == "learning_accuracy"  # of each task right after it was learned
    means = [
        trial.after(f"{prefix}_class_il_task{task}", task)
        if learned
        else trial.last(f"{metric}_task{task}")
        for task in range(1, _tasks(trial) + 1)
    ]
    known = [value / 100 for value in means if value is not None]
    return known if known and len(known) == len(means) else None


def _tasks(trial: TrialRecord) -> int:
    """Number of tasks seen in the last result that every seed has reported."""
    done = trial.tasks_done
    return next(iter(trial.results.values()))[done - 1].task + 1 if done else 0
