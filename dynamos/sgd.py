"""Plain SGD, without momentum and weight decay."""

from collections.abc import Iterable

import torch
from torch import Tensor

from dynamos.torch_names import fused_sgd


class Sgd:
    """The steps of torch.optim.SGD(parameters, lr, fused=True), to the last bit.

    torch's optimizers import torch's compiler at their first step, which takes a second of each
    worker's start.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        """Optimise these parameters with the learning rate `lr`."""
        self._parameters, self._lr = list(parameters), lr

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Subtract `lr` times its gradient from each parameter that has one."""
        moved = [p for p in self._parameters if p.grad is not None]
        fused_sgd(moved, [p.grad for p in moved if p.grad is not None], self._lr)
