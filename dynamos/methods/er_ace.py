"""ER-ACE: replay with an asymmetric cross entropy (Caccia et al. 2022, arXiv 2104.05025)."""

import math

import torch
import torch.nn.functional as F

from dynamos.methods.step import Loss, Step


def loss(step: Step) -> Loss:
    """Return CE(stream, over the classes of its batch) + CE(replayed images, over all classes).

    So a stream image does not push the logits of earlier classes down.
    """
    images = step.images
    output = step.forward(images.pixels, step.noise)
    absent = torch.ones(output.logits.shape[1], dtype=torch.bool, device=images.labels.device)
    absent = absent.index_fill(0, images.labels, False)
    task = F.cross_entropy(output.logits.masked_fill(absent, -math.inf), images.labels)
    if (replay := step.replay) is None:
        return Loss(task, output, {"task": task})
    again = step.forward(replay.images, step.replay_noise)
    rehearsal = F.cross_entropy(again.logits, replay.labels)
    return Loss(task + rehearsal, output, {"task": task, "rehearsal": rehearsal})
