"""LwF: learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282).

As in Mammoth, one output layer has all classes. The warm-up of the new classes' outputs, which the
paper has for its separate layers, is left out.
"""

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamos.methods.step import Loss, Step
from dynamos.network import ResNet

if TYPE_CHECKING:
    from dynamos.trainer import Trainer


class LwF:
    """Keeps the answers of the network of the task before.

    Attributes:
        old: that network, in evaluation mode; None in the first task.
        seen: the classes that it was trained on.
    """

    def __init__(self, run: "Trainer", temperature: float) -> None:
        self._run, self._temperature = run, temperature
        self.old: ResNet | None = None
        self.seen: list[int] = []

    def loss(self, step: Step) -> Loss:
        """Return CE(stream, over the classes so far) + alpha * KL(earlier answers, answers).

        The second term compares softmax(logits / temperature) over the classes of earlier tasks, on
        the stream images.
        """
        output = step.forward(step.images.pixels, step.noise)
        logits = output.logits
        known = {*self.seen, *self._run.stream.tasks[self._run.task]}
        ahead = [c for c in range(logits.shape[1]) if c not in known]
        task = F.cross_entropy(_without(logits, ahead), step.images.labels)
        if self.old is None:
            return Loss(task, output, {"task": task})
        with torch.no_grad():
            before = step.forward(step.images.pixels, network=self.old).logits
        of = torch.tensor(self.seen, device=logits.device)
        rehearsal = step.config.alpha * F.kl_div(
            (logits.index_select(1, of) / self._temperature).log_softmax(1),
            (before.index_select(1, of) / self._temperature).softmax(1),
            reduction="batchmean",
        )
        return Loss(task + rehearsal, output, {"task": task, "rehearsal": rehearsal})

    def end_task(self) -> None:
        """Keep the network as it is."""
        self.seen = sorted({*self.seen, *self._run.stream.tasks[self._run.task]})
        self.old = _frozen(self._run.network)

    def state_dict(self) -> dict[str, Any]:
        """Return the classes and the network that it keeps."""
        return {"seen": self.seen, "old": None if self.old is None else self.old.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.seen, self.old = list(state["seen"]), None
        if state["old"] is not None:
            self.old = _frozen(self._run.network)
            self.old.load_state_dict(state["old"])


def _without(logits: Tensor, classes: list[int]) -> Tensor:
    """Logits with -inf for some classes."""
    if not classes:
        return logits
    return logits.index_fill(1, torch.tensor(classes, device=logits.device), -math.inf)


def _frozen(network: ResNet) -> ResNet:
    return copy.deepcopy(network).eval().requires_grad_(False)
