"""Labelled images as tensors, and a network's input."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_HASHED = 4096  # images that are hashed together


@dataclass(frozen=True, slots=True)
class Images:
    """N labelled images.

    With `rows`, `pixels` is a file of images that is mapped into memory, and an image is read when
    it is used. The file never changes its device; `labels` and `rows` are on the device to which
    the images go.
    """

    pixels: Tensor  # (N, C, H, W) uint8, C = 1 (grey) or 3; with `rows` any number of images
    labels: Tensor  # (N,) int64
    white: int  # pixel value that means 1.0
    tasks: Tensor | None = None  # (N,) int64 before they are cut into tasks, if images decide that
    rows: Tensor | None = None  # (N,) int64, places of the images in `pixels`; None: all of them

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> "Images":
        """Return the images at `index`; of a mapped file nothing is read."""

        def taken(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.index_select(0, index)

        pixels = self.pixels.index_select(0, index) if self.rows is None else self.pixels
        labels = self.labels.index_select(0, index)
        return Images(pixels, labels, self.white, taken(self.tasks), taken(self.rows))

    def first(self, count: int) -> "Images":
        """Return the first images; they share the memory of these."""
        return self._slice(slice(count))

    def read(self) -> "Images":
        """Return the same images in memory."""
        if self.rows is None:
            return self
        pixels = self.pixels.index_select(0, self.rows.cpu()).to(self.labels.device)
        return Images(pixels, self.labels, self.white, self.tasks)

    def parts(self, size: int) -> Iterator["Images"]:
        """Yield the images in memory, so many at a time."""
        for start in range(0, len(self), size):
            yield self._slice(slice(start, start + size)).read()

    def to(self, device: torch.device) -> "Images":
        """Return the same images on another device."""
        if self.rows is None:
            return Images(self.pixels.to(device), self.labels.to(device), self.white)
        labels, rows = self.labels.to(device), self.rows.to(device)
        return Images(self.pixels, labels, self.white, None, rows)

    def digest(self) -> str:
        """16 hex digits of the SHA-256 of pixels, labels and tasks."""
        digest = hashlib.sha256()
        for part in self.parts(_HASHED):
            digest.update(part.pixels.contiguous().numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        if self.tasks is not None:
            digest.update(self.tasks.numpy().tobytes())
        return digest.hexdigest()[:16]

    def _slice(self, own: slice) -> "Images":
        tasks, rows = (
            None if values is None else values[own] for values in (self.tasks, self.rows)
        )
        pixels = self.pixels[own] if rows is None else self.pixels
        return Images(pixels, self.labels[own], self.white, tasks, rows)


def joined(parts: Sequence[Images]) -> Images:
    """Return the images of several parts as one; parts of a mapped file must be of the same."""
    labels = torch.cat([part.labels for part in parts])
    rows = [part.rows for part in parts if part.rows is not None]
    if rows:
        return Images(parts[0].pixels, labels, parts[0].white, None, torch.cat(rows))
    return Images(torch.cat([part.pixels for part in parts]), labels, parts[0].white)


def as_input(pixels: Tensor, white: int) -> Tensor:
    """Return the network's input (N, 3, H, W) in [0, 1].

    Grey images become three equal channels.
    """
    return (pixels.float() / white).expand(-1, 3, -1, -1)
