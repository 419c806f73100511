"""Rotation of images."""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


def rotate(pixels: Tensor, degrees: Tensor) -> Tensor:
    """Images (N, C, H, W) turned counter-clockwise by `degrees` (N,) about their centres.

    The size stays, pixels are those of the nearest neighbour, and pixels from outside are black.
    """
    n, channels, height, width = pixels.shape
    border, right, down = _grid(height, width, pixels.device)
    angle = torch.deg2rad(degrees.double()).view(n, 1, 1)
    cos, sin = angle.cos(), angle.sin()
    # (N, H, W), the source of each pixel of the result. Coordinates start one pixel outside the
    # image: so `int` rounds down everywhere inside it, and every pixel outside is black. The signs
    # are those of the inverse turn, because rows grow downwards. Single precision would sometimes
    # take a wrong neighbour.
    x = ((cos * right).add_(width / 2 + 1) - sin * down).int()
    y = ((sin * right).add_(height / 2 + 1) + cos * down).int()
    row = width + 2 * border
    place = x.add_(y, alpha=row).add_((border - 1) * (row + 1)).long().view(n, 1, -1)
    if channels > 1:
        place = place.expand(-1, channels, -1)
    return F.pad(pixels, (border,) * 4).reshape(n, channels, -1).gather(2, place).view(pixels.shape)


@cache
def _grid(height: int, width: int, device: torch.device) -> tuple[int, Tensor, Tensor]:
    """(border, right (W,), down (H, 1)) of an image size, the same for every angle.

    `right` and `down` are distances of pixel centres from the middle. The black border is so wide
    that the source of every pixel lies within it, at every angle.
    """
    right, down = (
        torch.arange(size, device=device, dtype=torch.float64) + 0.5 - size / 2
        for size in (width, height)
    )
    return math.ceil((math.hypot(height, width) - min(height, width)) / 2) + 1, right, down[:, None]
