"""Rotating streams: one task of digits that turn slowly (method.md section 3)."""

import numpy as np
import torch

from dynamos.data import Images
from dynamos.streams.rotation import rotate
from dynamos.streams.stream import Batch


def rotating_order(images: Images, batch_size: int, draws: np.random.Generator) -> list[Batch]:
    """Return batches of two slowly rotating digits each (method.md section 3).

    Digit j starts at (j - 1) * 60 degrees and turns by 360 / n_j with each of its n_j images. Its
    images are cut into six chunks; the last chunk is used first. Three rounds visit the pairs
    (0, 1), (1, 2), ..., (8, 0). Each visit uses one chunk of either digit and ends when one of the
    two chunks is used up.
    """
    labels = images.labels.cpu().numpy()
    digits = int(labels.max()) + 1
    of_digit = [np.flatnonzero(labels == j) for j in range(digits)]
    chunks = [
        [own[at : at + len(own) // 6 + 1] for at in range(0, len(own), len(own) // 6 + 1)]
        for own in of_digit
    ]
    drawn = [0] * digits
    batches: list[Batch] = []

    def take(digit: int, chunk: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        turns = drawn[digit] + np.arange(count)
        drawn[digit] += count
        return chunk[:count], (digit - 1) * 60 + turns * (360 / len(of_digit[digit]))

    for visit in range(3 * digits):
        pair = (visit % digits, (visit + 1) % digits)
        # Few images make fewer than six chunks of n // 6 + 1 (12 make four, 30 five): the last
        # visits are empty.
        first, second = (
            draws.permutation(chunks[j].pop()) if chunks[j] else np.empty(0, np.int64) for j in pair
        )
        while len(first) and len(second):
            n = min(round(len(first) / (len(first) + len(second)) * batch_size), len(first))
            m = min(batch_size - n, len(second))
            a, b = take(pair[0], first, n), take(pair[1], second, m)
            first, second = first[n:], second[m:]
            index, degrees = np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]])
            batches.append(
                Batch(
                    torch.from_numpy(index).to(images.labels.device),
                    torch.from_numpy(degrees).to(images.labels.device),
                )
            )
    return batches


def turned(images: Images) -> Images:
    """Every image once, digit by digit, turned through 360 degrees in equal steps per digit."""
    places = [(images.labels == label).nonzero().ravel() for label in images.labels.unique()]
    degrees = torch.cat([torch.arange(len(part)).double() * (360 / len(part)) for part in places])
    sorted_by_digit = images.take(torch.cat(places))
    return Images(
        rotate(sorted_by_digit.pixels, degrees), sorted_by_digit.labels, sorted_by_digit.white
    )
