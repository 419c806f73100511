"""DER: dark experience replay (Buzzega et al. 2020, arXiv 2004.07211)."""

import torch.nn.functional as F

from dynamos.methods.step import Loss, Step


def loss(step: Step) -> Loss:
    """Return CE(stream) + alpha * mean squared distance to the stored logits of replayed images."""
    output = step.forward(step.images.pixels, step.noise)
    task = F.cross_entropy(output.logits, step.images.labels)
    if (replay := step.replay) is None:
        return Loss(task, output, {"task": task})
    again = step.forward(replay.images, step.replay_noise)
    rehearsal = step.config.alpha * F.mse_loss(again.logits, replay.logits)
    return Loss(task + rehearsal, output, {"task": task, "rehearsal": rehearsal})
