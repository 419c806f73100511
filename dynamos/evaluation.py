"""Evaluation: a network on the images of the tasks seen, and the TaskResult that follows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynamos import metrics
from dynamos.config import TrainConfig
from dynamos.macs import Macs
from dynamos.methods import method_of
from dynamos.metrics import TaskResult
from dynamos.network import Output
from dynamos.streams import Stream

BATCH = 250  # images that are evaluated together
# A gate has collapsed if its keep fraction is within COLLAPSED of 0 (or of 1), although keep_ratio
# is farther than CLEAR_OF_COLLAPSE from 0 (or from 1).
COLLAPSED, CLEAR_OF_COLLAPSE = 0.02, 0.05


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Evaluation of a network on one task's evaluation images; accuracies in percent."""

    class_il: float
    task_il: float
    kept: np.ndarray  # (N, G) channels that each gate kept of each image
    entropy: float  # mean entropy of a channel's keep probability, nats
    # (K, G, C) number of images of each class that kept each channel; 0 beyond a gate's channels
    use: np.ndarray


@torch.inference_mode()
def evaluate(
    forward: Callable[[Tensor, int], Output], stream: Stream, task: int, temperature: float
) -> Evaluation | None:
    """Return the evaluation of a network on a task's images; None if a logit is not finite.

    Args:
        forward: returns the network's output, in evaluation mode, for stored pixels (N, ...) and
            their value of white.
        stream: the stream, on the network's device.
        task: the task, from 0.
        temperature: temperature of the gates, on which the entropy depends.
    """
    images = stream.evaluation[task]
    device = images.labels.device
    others = torch.ones(stream.num_classes, dtype=torch.bool, device=device)
    others[list(stream.tasks[task])] = False
    hits = torch.zeros(2, dtype=torch.int64, device=device)
    finite = torch.ones((), dtype=torch.bool, device=device)
    kept, entropy, used = [], [], list[Tensor]()
    for part in images.parts(BATCH):
        labels = part.labels
        output = forward(part.pixels, part.white)
        own = output.logits.masked_fill(others, -math.inf)
        hits += torch.stack(
            [(output.logits.argmax(1) == labels).sum(), (own.argmax(1) == labels).sum()]
        )
        finite &= torch.isfinite(output.logits).all() & torch.isfinite(output.policy_logits).all()
        kept.append(output.actions.sum(2))
        if not used:
            used.append(torch.zeros(stream.num_classes, *output.actions.shape[1:], device=device))
        used[0].index_add_(0, labels, output.actions.float())
        logits = output.policy_logits / temperature
        # H(p) = softplus(l) - p l for p = sigmoid(l)
        entropy.append(
            (torch.nn.functional.softplus(logits) - torch.sigmoid(logits) * logits).sum()
        )
    if not finite:
        return None
    # computed in float64
    class_il, task_il = (100 * correct / len(images) for correct in hits.tolist())
    channels = len(images) * output.policy_logits.shape[1]
    return Evaluation(
        class_il,
        task_il,
        torch.cat(kept).cpu().double().numpy(),
        float(torch.stack(entropy).sum()) / channels if channels else 0.0,
        used[0].cpu().numpy(),
    )


def channel_use(stream: Stream, seen: Sequence[Evaluation]) -> np.ndarray:
    """Return (K, G, C), the fraction of each class's images that kept each channel.

    `seen` are the evaluations of the tasks seen. A class not seen yet has NaN.
    """
    counts = np.bincount(
        torch.cat([stream.evaluation[t].labels for t in range(len(seen))]).cpu(),
        minlength=stream.num_classes,
    )
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        use: np.ndarray = np.sum([e.use for e in seen], axis=0) / counts[:, None, None]
    return use


def task_result(
    config: TrainConfig,
    stream: Stream,
    count: Macs,
    evaluated: Sequence[Evaluation],
    earlier: Sequence[tuple[float, ...]],
    untrained: Sequence[float] | None,
    **training: Any,
) -> TaskResult:
    """Return the TaskResult after a task, by the formulas of method.md section 4.

    Args:
        config: the run's configuration.
        stream: the run's stream.
        count: multiply-accumulates of the network.
        evaluated: evaluations of the tasks seen and of the next one, if any.
        earlier: class-il rows after the earlier tasks.
        untrained: (T,), class-il of the network before training; None if it is not known.
        training: TaskResult's fields on training: train_loss, train_accuracy, steps, train_seconds,
            eval_seconds.
    """
    task, n_tasks = len(earlier), len(stream.tasks)
    gated, seen = method_of(config.model).gated, evaluated[: task + 1]
    class_row = tuple(e.class_il for e in evaluated)
    task_row = tuple(e.task_il for e in evaluated)
    matrix = metrics.accuracy_matrix([*earlier, class_row], n_tasks)
    so_far = matrix[: task + 1, : task + 1]
    channels = np.asarray(count.channels)
    kept = np.concatenate([e.kept for e in seen])
    keep_per_gate = tuple((kept.mean(0) / channels).tolist())
    dense = float(count.dense)
    macs = float(count.expected(kept).mean()) if gated else dense
    # None in a rotating stream, which has no tasks
    in_tasks: dict[str, Any] = dict.fromkeys(
        ("forgetting", "backward_transfer", "forward_transfer")
    )
    if not stream.rotating:
        in_tasks = {
            "learning_accuracy": metrics.learning_accuracy(so_far),
            "forgetting": metrics.forgetting(so_far),
            "backward_transfer": metrics.backward_transfer(so_far),
            "forward_transfer": None
            if untrained is None
            else metrics.forward_transfer(so_far, np.asarray(untrained)),
        }
    return TaskResult(
        task=task,
        n_tasks=n_tasks,
        evaluated_on=config.evaluate_on,
        class_il=metrics.mean_accuracy(matrix, task),
        class_il_row=class_row,
        # the task of an image must rule out classes
        task_il=metrics.mean(task_row[: task + 1]) if stream.has_task_il else None,
        task_il_row=task_row if stream.has_task_il else (),
        keep_fraction=float(kept.mean() / channels.mean()) if gated else 1.0,
        keep_per_gate=keep_per_gate,
        keep_per_task=tuple(tuple((e.kept.mean(0) / channels).tolist()) for e in seen),
        policy_entropy=metrics.mean(e.entropy for e in seen),
        macs=macs,
        compute=macs / dense if dense else 1.0,
        warnings=collapse(config, task, keep_per_gate),
        **in_tasks,
        **training,
    )


def collapse(config: TrainConfig, task: int, keep_per_gate: Sequence[float]) -> tuple[str, ...]:
    """Return a warning if gates keep nearly all or no channels and keep_ratio asks for neither."""
    stuck = [
        f"gate {g + 1} keeps {keep:.3f}"
        for g, keep in enumerate(keep_per_gate)
        for end in (0.0, 1.0)
        if abs(keep - end) < COLLAPSED and abs(config.keep_ratio - end) > CLEAR_OF_COLLAPSE
    ]
    if not stuck:
        return ()
    return (
        f"policy collapse: after task {task + 1} {', '.join(stuck)} of its channels; "
        f"keep_ratio is {config.keep_ratio}",
    )
