"""Online EWC (Schwarz et al. 2018, arXiv 1805.06370, section 3.2), elastic weight consolidation."""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamos.data import as_input
from dynamos.methods.step import Loss, Step

if TYPE_CHECKING:
    from dynamos.trainer import Trainer


class OnlineEwc:
    """Holds weights near those of the task before where the Fisher information is large.

    Attributes:
        anchor: the weights after the task before, one vector; None in the first task.
        fisher: (P,), the diagonal of the running Fisher information.
    """

    def __init__(self, run: "Trainer", e_lambda: float, gamma: float, fisher_images: int) -> None:
        self._run, self._e_lambda, self._gamma = run, e_lambda, gamma
        self._fisher_images = fisher_images
        self.anchor: Tensor | None = None
        self.fisher: Tensor | None = None

    def loss(self, step: Step) -> Loss:
        """Return CE(stream) + e_lambda * sum_i F_i (w_i - anchor_i)^2.

        The paper's lambda is 2 * e_lambda; Mammoth has e_lambda.
        """
        output = step.forward(step.images.pixels, step.noise)
        task = F.cross_entropy(output.logits, step.images.labels)
        if self.anchor is None or self.fisher is None:
            return Loss(task, output, {"task": task})
        weights = torch.cat([p.flatten() for p in self._run.network.parameters()])
        penalty = self._e_lambda * (self.fisher * (weights - self.anchor).square()).sum()
        return Loss(task + penalty, output, {"task": task, "rehearsal": penalty})

    def end_task(self) -> None:
        """Set F to gamma * F + the task's F, and keep the weights.

        A task's F is the mean over images of the squared gradient of the log probability of their
        label, with the batch statistics of evaluation. The images are drawn without repetition.
        """
        run, network = self._run, self._run.network
        parameters = list(network.parameters())
        images = run.stream.train[run.task]
        count = min(self._fisher_images, len(images))
        chosen = torch.randperm(len(images), generator=run.generator, device=run.device)[:count]
        training = network.training
        network.eval()
        total = torch.zeros(sum(p.numel() for p in parameters), device=run.device)
        for place in chosen:
            pixels, label = images.pixels[place, None], images.labels[place, None]
            logits = network(as_input(pixels, images.white), bypass=True).logits
            gradients = torch.autograd.grad(F.cross_entropy(logits, label), parameters)
            total += torch.cat([g.flatten() for g in gradients]).square()
        network.train(training)
        self.fisher = total / count + (0 if self.fisher is None else self._gamma * self.fisher)
        self.anchor = torch.cat([p.detach().flatten() for p in parameters])

    def state_dict(self) -> dict[str, Any]:
        """Return the weights that it keeps and their Fisher information."""
        return {"anchor": self.anchor, "fisher": self.fisher}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.anchor, self.fisher = (
            None if state[name] is None else state[name].to(self._run.device)
            for name in ("anchor", "fisher")
        )
