"""A-GEM: averaged gradient episodic memory (Chaudhry et al. 2019, arXiv 1812.00420).

Its memory is the reservoir of the other methods.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamos.methods.step import Loss, Step


def loss(step: Step) -> Loss:
    """Return the cross entropy of the stream images."""
    output = step.forward(step.images.pixels, step.noise)
    value = F.cross_entropy(output.logits, step.images.labels)
    return Loss(value, output, {"task": value})


def project(step: Step, parameters: Sequence[Tensor]) -> None:
    """Project the gradient g so that the loss on the replayed images does not grow.

    With their gradient r, g becomes g - (g.r / r.r) r if g.r < 0 (equation 11 of the paper).
    """
    if (replay := step.replay) is None:
        return
    again = step.forward(replay.images, step.replay_noise)
    reference = torch.autograd.grad(F.cross_entropy(again.logits, replay.labels), parameters)
    gradients = [p.grad for p in parameters if p.grad is not None]
    product = torch.stack([(g * r).sum() for g, r in zip(gradients, reference, strict=True)]).sum()
    square = torch.stack([r.square().sum() for r in reference]).sum()
    share = torch.where(product < 0, product / square, torch.zeros_like(product))
    for gradient, r in zip(gradients, reference, strict=True):
        gradient.sub_(share * r)
