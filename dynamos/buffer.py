"""Rehearsal buffer: a reservoir of correctly classified images (docs/method.md section 2)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Replay:
    """M images drawn from the buffer, as stored."""

    images: Tensor  # (M, C, H, W) uint8
    labels: Tensor  # (M,)
    logits: Tensor  # (M, K)
    policy_logits: Tensor  # (M, D)


class Buffer:
    """Vitter's algorithm R over correctly classified images, in whole-tensor operations.

    At the end every candidate is in the buffer with equal probability. Only `draw` reads from the
    device, and only until the buffer is full.
    """

    def __init__(
        self,
        capacity: int,
        image_shape: tuple[int, ...],
        num_classes: int,
        num_policy_logits: int,
        device: torch.device,
    ) -> None:
        self.capacity = capacity
        # The row after the last slot takes the images that are not stored, so that no write depends
        # on a count.
        rows = capacity + 1
        self.images = torch.zeros(rows, *image_shape, dtype=torch.uint8, device=device)
        self.labels = torch.zeros(rows, dtype=torch.int64, device=device)
        self.logits = torch.zeros(rows, num_classes, device=device)
        self.policy_logits = torch.zeros(rows, num_policy_logits, device=device)
        # candidates so far: images that were classified correctly when they were offered
        self.seen = torch.zeros((), dtype=torch.int64, device=device)
        self.held = 0  # slots filled, as far as the host knows

    @torch.no_grad()
    def offer(
        self,
        images: Tensor,
        labels: Tensor,
        logits: Tensor,
        policy_logits: Tensor,
        correct: Tensor,
        generator: torch.Generator,
    ) -> None:
        """Store each of N images with the reservoir's probability if it is `correct` (N,)."""
        order = self.seen + correct.cumsum(0) - 1  # number of candidates before each
        drawn = (
            torch.rand(len(labels), dtype=torch.float64, device=labels.device, generator=generator)
            * (order + 1)
        ).long()
        slot = torch.where(order < self.capacity, order, drawn)
        slot = torch.where(correct & (slot < self.capacity), slot, self.capacity)
        # If several images hit one slot, the last wins: the earlier ones go to the spare row.
        later = torch.ones(len(slot), len(slot), dtype=torch.bool, device=slot.device).triu(1)
        slot = torch.where(((slot[:, None] == slot[None]) & later).any(1), self.capacity, slot)
        for stored, new in (
            (self.images, images),
            (self.labels, labels),
            (self.logits, logits),
            (self.policy_logits, policy_logits),
        ):
            stored.index_copy_(0, slot, new.to(stored.dtype))
        self.seen += correct.sum()

    def draw(self, count: int, generator: torch.Generator) -> Replay | None:
        """Draw min(count, images held) images without replacement; None if the buffer is empty."""
        if self.held < self.capacity:
            self.held = min(int(self.seen), self.capacity)
        if self.held == 0:
            return None
        index = torch.randperm(self.held, device=self.labels.device, generator=generator)[:count]
        return Replay(
            self.images[index], self.labels[index], self.logits[index], self.policy_logits[index]
        )

    def state_dict(self) -> dict[str, Any]:
        """The buffer's whole state, as tensors."""
        return {
            name: getattr(self, name)
            for name in ("images", "labels", "logits", "policy_logits", "seen")
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        for name, value in state.items():
            getattr(self, name).copy_(value)
        self.held = min(int(self.seen), self.capacity)
