"""Augmentation of training images: random crops and horizontal flips of a whole batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = 4  # pixels of black on every side, as usual for images of 32x32 (He et al. 2016)
DRAWS = 3  # random numbers an image: row and column of the crop, flip


def crop_flip(pixels: Tensor, draws: Tensor) -> Tensor:
    """Return images (N, C, H, W), each padded, cropped to its size and perhaps flipped.

    `draws` (N, 3), uniform in [0, 1), decides. The first two choose the row and the column of the
    crop among 2 * PADDING + 1 each. An image whose third is below 0.5 is flipped after the crop.
    """
    n, channels, height, width = pixels.shape
    offsets = (draws[:, :2] * (2 * PADDING + 1)).long()  # (N, 2)
    down = torch.arange(height, device=pixels.device)
    right = torch.arange(width, device=pixels.device)
    columns = torch.where(draws[:, 2:] < 0.5, width - 1 - right, right)  # (N, W)
    rows = down + offsets[:, :1]
    columns = columns + offsets[:, 1:]
    place = rows[:, :, None] * (width + 2 * PADDING) + columns[:, None]  # (N, H, W)
    place = place.view(n, 1, -1).expand(-1, channels, -1)
    padded = F.pad(pixels, (PADDING,) * 4).view(n, channels, -1)
    return padded.gather(2, place).view(pixels.shape)
