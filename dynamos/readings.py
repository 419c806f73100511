"""Readings: evaluations of a network on part of the validation images, late in the last task."""

import dataclasses

import torch

from dynamos.data import Images
from dynamos.streams import Stream

IMAGES_PER_CLASS = 50  # of the evaluation images, at most; so readings cost little


def reading_steps(readings: int, steps: int) -> list[int]:
    """Return the steps of the last task after which a reading is taken, ascending.

    They lie at equal distances (rounded to whole steps) in the last tenth of the task. The last of
    them is the last step.

    Args:
        readings: number of readings; at most `most_readings(steps)`.
        steps: number of steps of the last task.
    """
    return [steps - steps * i // (10 * readings) for i in range(readings)][::-1]


def most_readings(steps: int) -> int:
    """Return the largest number of readings for a last task of so many steps, at least 1."""
    return max(steps // 10, 1)


def reading_part(stream: Stream) -> Stream:
    """Return the stream with a fixed part of its evaluation images, IMAGES_PER_CLASS of each class.

    A class with fewer has all of its images. They are taken at equal distances in the order of the
    class's images; in a rotating stream this is the order of the angles.
    """
    return dataclasses.replace(stream, evaluation=tuple(map(_part, stream.evaluation)))


def _part(images: Images) -> Images:
    return images.take(
        torch.cat(
            [
                places[torch.arange(n := min(len(places), IMAGES_PER_CLASS)) * len(places) // n]
                for places in (
                    (images.labels == label).nonzero().ravel() for label in images.labels.unique()
                )
            ]
        )
    )
