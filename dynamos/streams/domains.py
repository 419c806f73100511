"""Domain-incremental streams: all tasks have the same images, each task shows them differently."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dynamos.streams.rotation import rotate

# Fixed: tasks are the same for every run. As in Mammoth, the first task is changed like the others.
DOMAIN_SEED = 20260117
LARGEST_ANGLE = 180.0  # degrees


def permuted(task: int, pixels: Tensor) -> Tensor:
    """Return images (N, C, H, W) with their pixels in the task's order (Goodfellow et al. 2013)."""
    n, channels, height, width = pixels.shape
    order = torch.from_numpy(_draws(task).permutation(height * width)).to(pixels.device)
    return pixels.reshape(n, channels, -1).index_select(2, order).view(pixels.shape)


def rotated(task: int, pixels: Tensor) -> Tensor:
    """Return images (N, C, H, W) turned counter-clockwise by the task's angle.

    The angles are uniform from 0 to LARGEST_ANGLE (Lopez-Paz and Ranzato 2017).
    """
    angle = _draws(task).uniform(0, LARGEST_ANGLE)
    return rotate(pixels, torch.full((len(pixels),), angle, device=pixels.device))


DOMAIN_OF: dict[str, Callable[[int, Tensor], Tensor]] = {"permuted": permuted, "rotated": rotated}


def _draws(task: int) -> np.random.Generator:
    return np.random.default_rng([DOMAIN_SEED, task])
