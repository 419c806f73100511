"""The losses of method.md section 2, as pure functions.

Shapes: N images, K classes, G gates, C channels of the widest gate, D policy logits.
"""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamos.config import TrainConfig
from dynamos.network import Output, kept_share


def gate_reward(
    actions: Tensor,
    correct: Tensor,
    keep_ratio: float,
    policy_penalty: float,
    narrower: Sequence[float] = (),
) -> Tensor:
    """Reward of every gate, (N, G), without gradient.

    r = -(keep_ratio - mean_c a)^2, times -policy_penalty where the image was classified wrongly
    (method.md section 2).

    Args:
        actions: (N, G, C), 1 or True if a channel was kept; the reward has the same precision.
        correct: (N,) bool, True if an image was classified correctly.
        keep_ratio: fraction of channels to keep.
        policy_penalty: its negative multiplies the reward of a wrong prediction; at most 0.
        narrower: as in network.Output.
    """
    actions = actions.detach() if actions.is_floating_point() else actions.float()
    cost = (keep_ratio - kept_share(actions, narrower)).square()
    return torch.where(correct[:, None], -cost, policy_penalty * cost)


def policy_loss(log_probs: Tensor, rewards: Tensor) -> Tensor:
    """REINFORCE without baseline: the mean over N and G of -log_probs * rewards, a scalar."""
    return -(log_probs * rewards).mean()


def prototype_loss(policy_logits: Tensor, labels: Tensor) -> Tensor:
    """Return (1 + same) / (1 + different), a scalar; 0 for fewer than three images.

    `same` and `different` sum the squared distances of policy logits over the pairs i < j of equal
    and of different label, each divided by D (method.md section 2).

    Args:
        policy_logits: (N, D), of images already known to be classified correctly.
        labels: (N,).
    """
    return masked_prototype_loss(policy_logits, labels, torch.ones_like(labels, dtype=torch.bool))


def masked_prototype_loss(policy_logits: Tensor, labels: Tensor, correct: Tensor) -> Tensor:
    """prototype_loss over the rows where `correct` (N,) holds.

    The mask keeps a GPU from waiting for the host.
    """
    n, d = policy_logits.shape
    # |v_i - v_j|^2 = |v_i|^2 + |v_j|^2 - 2 v_i v_j needs no (N, N, D) tensor; centred vectors
    # reduce cancellation.
    centred = policy_logits - policy_logits.detach().mean(0)
    products = centred @ centred.T
    squares = products.diagonal()
    distance = (squares[:, None] + squares - 2 * products) / d
    pair = torch.ones(n, n, dtype=torch.bool, device=labels.device).triu(1)
    pair = pair & correct[:, None] & correct[None]
    same = labels[:, None] == labels[None]
    ratio = (1 + (distance * (pair & same)).sum()) / (1 + (distance * (pair & ~same)).sum())
    return torch.where(correct.sum() > 2, ratio, torch.zeros_like(ratio))


def correctness(output: Output, labels: Tensor) -> Tensor:
    """(N,) bool: True if the largest logit of an image is at its label."""
    return output.logits.argmax(1) == labels


def gating_losses(output: Output, labels: Tensor, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """(reward_weight * policy loss, prototype_loss * T) of a gated network's batch, scalars."""
    correct = correctness(output, labels)
    rewards = gate_reward(
        output.actions, correct, config.keep_ratio, config.policy_penalty, output.narrower
    )
    return (
        config.reward_weight * policy_loss(output.log_probs, rewards),
        config.prototype_loss * masked_prototype_loss(output.policy_logits, labels, correct),
    )


def stream_terms(
    output: Output, labels: Tensor, config: TrainConfig, gating: bool
) -> dict[str, Tensor]:
    """Terms of a stream batch's loss: cross entropy and, with `gating`, the losses of the gates."""
    task = F.cross_entropy(output.logits, labels)
    if not gating:
        return {"task": task}
    policy, prototype = gating_losses(output, labels, config)
    return {"task": task, "policy": policy, "prototype": prototype}


def stream_loss(output: Output, labels: Tensor, config: TrainConfig, gating: bool) -> Tensor:
    """Loss of a stream batch, the sum of its terms."""
    return functools.reduce(torch.add, stream_terms(output, labels, config, gating).values())


def rehearsal_loss(
    output: Output,
    labels: Tensor,
    stored_logits: Tensor,
    stored_policy_logits: Tensor,
    config: TrainConfig,
    gating: bool,
) -> Tensor:
    """Loss of a buffer batch, which keeps its logits near the stored ones.

    alpha * mse(logits) + beta * CE and, with gates, policy_alpha * mse(policy logits) + beta *
    policy loss + the prototype loss, which beta does not scale (method.md sections 2 and 7).
    """
    loss = config.alpha * F.mse_loss(output.logits, stored_logits)
    own = F.cross_entropy(output.logits, labels)
    if gating:
        policy, prototype = gating_losses(output, labels, config)
        own = own + policy
        loss = (
            loss
            + config.policy_alpha * F.mse_loss(output.policy_logits, stored_policy_logits)
            + prototype
        )
    return loss + config.beta * own
