"""Exponential average of a network's weights and batch-norm statistics over training steps.

At a step's end: average = decay * average + (1 - decay) * trained. The network after one step may
be far worse than those of the steps before and after it; their average is steadier
(Soutif-Cormerais et al. 2023, arXiv 2306.16817).
"""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from dynamos.network import ResNet

# Largest reach of an average, 1 / (1 - decay) steps, as a fraction of a task's steps. An average
# with a larger reach lags behind the task (benchmarks/averaging.py).
LONGEST = 1 / 3


def limited(decay: float, task_steps: int) -> float:
    """Return the decay, lowered if its reach is more than LONGEST of the task's steps.

    Args:
        decay: the decay of a step.
        task_steps: number of training steps of the task.
    """
    return min(decay, max(0.0, 1 - 1 / (LONGEST * task_steps)))


def warmed(decay: float, updates: int) -> float:
    """Return the decay of an update: min(decay, (1 + k) / (10 + k)) after k earlier `updates`.

    So the untrained network is soon forgotten, as in TensorFlow's ExponentialMovingAverage.
    """
    return min(decay, (1 + updates) / (10 + updates))


class Average:
    """The exponential average of a network in training.

    Attributes:
        network: a network with the averaged weights and statistics, in evaluation mode.
        updates: number of updates so far.
    """

    def __init__(self, trained: ResNet) -> None:
        """Begin with a copy of the network."""
        self.network = copy.deepcopy(trained).eval().requires_grad_(False)
        self.updates = 0
        self.follow(trained)

    def follow(self, trained: ResNet) -> None:
        """Average this network from now on, or the same one after its tensors were replaced."""
        averaged, current = dict(_tensors(self.network)), dict(_tensors(trained))
        self._averaged, self._current = list[Tensor](), list[Tensor]()
        for name, tensor in current.items():
            if tensor.is_floating_point():
                self._averaged.append(averaged[name])
                self._current.append(tensor)
            else:  # a count has no average: both networks share it
                module, _, buffer = name.rpartition(".")
                setattr(self.network.get_submodule(module), buffer, tensor)

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move the average towards the trained network, after a step."""
        move = get_ema_multi_avg_fn(warmed(decay, self.updates))
        move(self._averaged, self._current, None)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the average as tensors and plain values."""
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.updates = state["updates"]


def _tensors(network: ResNet) -> list[tuple[str, Tensor]]:
    """(name, tensor) of the network's weights and buffers."""
    return [(n, t.detach()) for n, t in network.named_parameters()] + list(network.named_buffers())
