"""Labelled images as tensors, and a network's input."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Images:
    """N labelled images."""

    pixels: Tensor  # (N, C, H, W) uint8, C = 1 (grey) or 3
    labels: Tensor  # (N,) int64
    white: int  # pixel value that means 1.0
    tasks: Tensor | None = None  # (N,) int64 before they are cut into tasks, if images decide that

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> "Images":
        """Return the images at `index`."""
        tasks = None if self.tasks is None else self.tasks.index_select(0, index)
        return Images(
            self.pixels.index_select(0, index),
            self.labels.index_select(0, index),
            self.white,
            tasks,
        )

    def to(self, device: torch.device) -> "Images":
        """Return the same images on another device."""
        return Images(self.pixels.to(device), self.labels.to(device), self.white)

    def digest(self) -> str:
        """16 hex digits of the SHA-256 of pixels, labels and tasks."""
        digest = hashlib.sha256(self.pixels.contiguous().numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        if self.tasks is not None:
            digest.update(self.tasks.numpy().tobytes())
        return digest.hexdigest()[:16]


def as_input(pixels: Tensor, white: int) -> Tensor:
    """Return the network's input (N, 3, H, W) in [0, 1].

    Grey images become three equal channels.
    """
    return (pixels.float() / white).expand(-1, 3, -1, -1)
