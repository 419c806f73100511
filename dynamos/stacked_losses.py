"""The losses of R runs at once, each with its own settings.

They are those of losses.py with R as the first axis, over the images that are present. Shapes: R
runs, N images, K classes, G gates, C channels of the widest gate, D policy logits.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamos.network import Output
from dynamos.stacked import Present

# Fields of TrainConfig that weigh or shape a loss; they may differ between the runs of a cohort.
SETTINGS = (
    "alpha",
    "beta",
    "policy_alpha",
    "keep_ratio",
    "policy_penalty",
    "reward_weight",
    "prototype_loss",
)
Settings = Mapping[str, Tensor]  # (R,) by name


def stream_terms(
    output: Output, labels: Tensor, settings: Settings, gating: bool
) -> dict[str, Tensor]:
    """Terms (R,) of the losses of the stream batches, as losses.stream_terms."""
    task = _cross_entropy(output, labels, None)
    if not gating:
        return {"task": task}
    policy, prototype = _gating_losses(output, labels, settings, None)
    return {"task": task, "policy": policy, "prototype": prototype}


def rehearsal_loss(
    output: Output,
    labels: Tensor,
    stored_logits: Tensor,
    stored_policy_logits: Tensor,
    settings: Settings,
    gating: bool,
    present: Present | None,
) -> Tensor:
    """Losses (R,) of the buffer batches, as losses.rehearsal_loss; 0 without a present image."""
    loss = settings["alpha"] * _mean((output.logits - stored_logits).square(), present)
    own = _cross_entropy(output, labels, present)
    if gating:
        policy, prototype = _gating_losses(output, labels, settings, present)
        own = own + policy
        distance = (output.policy_logits - stored_policy_logits).square()
        loss = loss + settings["policy_alpha"] * _mean(distance, present) + prototype
    return loss + settings["beta"] * own


def correctness(output: Output, labels: Tensor) -> Tensor:
    """(R, N) bool: True if the largest logit of an image is at its label."""
    return output.logits.argmax(2) == labels


def _mean(values: Tensor, present: Present | None) -> Tensor:
    """(R,) means of values (R, N, ...) over the images that are present; 0 without any."""
    if present is None:
        return values.flatten(1).mean(1)
    by_image = values.flatten(2).mean(2) if values.dim() > 2 else values
    return (by_image * present.weight).sum(1) / present.divisor


def _cross_entropy(output: Output, labels: Tensor, present: Present | None) -> Tensor:
    each = F.cross_entropy(output.logits.flatten(0, 1), labels.flatten(), reduction="none")
    return _mean(each.view_as(labels), present)


def _gating_losses(
    output: Output, labels: Tensor, settings: Settings, present: Present | None
) -> tuple[Tensor, Tensor]:
    """(reward_weight * policy loss, prototype_loss * T) of the runs, (R,) each."""
    correct = correctness(output, labels)
    cost = (settings["keep_ratio"][:, None, None] - output.kept).square()
    penalty = settings["policy_penalty"][:, None, None]
    rewards = torch.where(correct[:, :, None], -cost, penalty * cost)
    policy = -_mean(output.log_probs * rewards, present)
    if present is not None:
        correct = correct & (present.weight > 0)
    prototype = _prototype_loss(output.policy_logits, labels, correct)
    return settings["reward_weight"] * policy, settings["prototype_loss"] * prototype


def _prototype_loss(policy_logits: Tensor, labels: Tensor, correct: Tensor) -> Tensor:
    """(R,): losses.masked_prototype_loss of each run; policy logits are (R, N, D)."""
    n, d = policy_logits.shape[1:]
    centred = policy_logits - policy_logits.detach().mean(1, keepdim=True)
    products = torch.bmm(centred, centred.transpose(1, 2))
    squares = products.diagonal(dim1=1, dim2=2)
    distance = (squares[:, :, None] + squares[:, None] - 2 * products) / d
    pair = torch.ones(n, n, dtype=torch.bool, device=labels.device).triu(1)
    pair = pair & correct[:, :, None] & correct[:, None]
    same = labels[:, :, None] == labels[:, None]
    ratio = (1 + (distance * (pair & same)).sum((1, 2))) / (
        1 + (distance * (pair & ~same)).sum((1, 2))
    )
    return torch.where(correct.sum(1) > 2, ratio, torch.zeros_like(ratio))
