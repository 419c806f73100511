"""Dynamos and its ablations: gates or none, rehearsal or none (method.md section 2)."""

import functools

import torch

from dynamos import losses
from dynamos.methods.step import Loss, Step


def loss(step: Step) -> Loss:
    """Return the stream loss plus the rehearsal loss, if images are replayed."""
    images, config, gating = step.images, step.config, step.gating
    output = step.forward(images.pixels, step.noise)
    terms = losses.stream_terms(output, images.labels, config, gating)
    value = functools.reduce(torch.add, terms.values())
    if (replay := step.replay) is not None:
        # A second pass: the batch statistics of stream and buffer images stay apart.
        again = step.forward(replay.images, step.replay_noise)
        terms["rehearsal"] = losses.rehearsal_loss(
            again, replay.labels, replay.logits, replay.policy_logits, config, gating
        )
        value = value + terms["rehearsal"]
    return Loss(value, output, terms)
