"""Rehearsal buffer: a reservoir of correctly classified images (method.md section 2)."""

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

    At the end every candidate is in the buffer with equal probability. Only `drawn` reads from the
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
        drawn: Tensor,
    ) -> None:
        """Store each of N images with the reservoir's probability if it is `correct` (N,).

        `drawn` (N,) float64, uniform in [0, 1), decides.
        """
        slot = reservoir_slots(self.seen, correct, drawn, self.capacity)
        for stored, new in (
            (self.images, images),
            (self.labels, labels),
            (self.logits, logits),
            (self.policy_logits, policy_logits),
        ):
            stored.index_copy_(0, slot, new.to(stored.dtype))
        self.seen += correct.sum()

    def take(self, index: Tensor) -> Replay:
        """Return the images in some slots."""
        return Replay(
            self.images[index], self.labels[index], self.logits[index], self.policy_logits[index]
        )

    def drawn(self, count: int, generator: torch.Generator) -> Tensor | None:
        """Return min(count, images held) different slots at random; None if the buffer is empty."""
        if self.held < self.capacity:
            self.held = min(int(self.seen), self.capacity)
        if self.held == 0:
            return None
        return torch.randperm(self.held, device=self.labels.device, generator=generator)[:count]

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


def reservoir_slots(seen: Tensor, correct: Tensor, drawn: Tensor, capacity: int) -> Tensor:
    """Return the slot (..., N) of each of N offered images; `capacity` means that it is not stored.

    Args:
        seen: (...), number of candidates before.
        correct: (..., N) bool, True if an image is a candidate.
        drawn: (..., N), uniform in [0, 1).
        capacity: number of slots.
    """
    order = seen[..., None] + correct.cumsum(-1) - 1  # number of candidates before each
    slot = torch.where(order < capacity, order, (drawn * (order + 1)).long())
    slot = torch.where(correct & (slot < capacity), slot, capacity)
    # If several images hit one slot, the last wins: the earlier ones go to the spare row.
    n = slot.shape[-1]
    later = torch.ones(n, n, dtype=torch.bool, device=slot.device).triu(1)
    hit_again = ((slot[..., :, None] == slot[..., None, :]) & later).any(-1)
    return torch.where(hit_again, capacity, slot)
