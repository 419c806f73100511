"""DER++: DER and the labels of further replayed images (Buzzega et al. 2020, arXiv 2004.07211)."""

import torch.nn.functional as F

from dynamos.methods.step import Loss, Step


def loss(step: Step) -> Loss:
    """Return CE(stream) + alpha * MSE(logits, stored logits) + beta * CE(labels).

    The two terms of rehearsal have replayed images of their own: the first and the second half.
    """
    output = step.forward(step.images.pixels, step.noise)
    task = F.cross_entropy(output.logits, step.images.labels)
    if (replay := step.replay) is None:
        return Loss(task, output, {"task": task})
    half = len(replay.labels) // 2
    first = step.forward(replay.images[:half])
    second = step.forward(replay.images[half:])
    rehearsal = step.config.alpha * F.mse_loss(
        first.logits, replay.logits[:half]
    ) + step.config.beta * F.cross_entropy(second.logits, replay.labels[half:])
    return Loss(task + rehearsal, output, {"task": task, "rehearsal": rehearsal})
