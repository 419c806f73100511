"""ER: experience replay (Chaudhry et al. 2019, arXiv 1902.10486)."""

import torch
import torch.nn.functional as F

from dynamos.methods.step import Loss, Step
from dynamos.network import Output


def loss(step: Step) -> Loss:
    """Return the mean cross entropy of stream and replayed images, which pass together."""
    images, replay = step.images, step.replay
    if replay is None:
        output = step.forward(images.pixels, step.noise)
        value = F.cross_entropy(output.logits, images.labels)
        return Loss(value, output, {"task": value})
    together = step.forward(torch.cat([images.pixels, replay.images]))
    labels = torch.cat([images.labels, replay.labels])
    each = F.cross_entropy(together.logits, labels, reduction="none") / len(labels)
    task, rehearsal = each[: len(images)].sum(), each[len(images) :].sum()
    own = slice(len(images))
    output = Output(
        together.logits[own],
        together.policy_logits[own],
        together.actions[own],
        together.log_probs[own],
    )
    return Loss(task + rehearsal, output, {"task": task, "rehearsal": rehearsal})
