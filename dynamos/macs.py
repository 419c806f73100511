"""Multiply-accumulates of a network on one image.

Those of the dense network are counted by torch; those that gates save follow from its layers.
"""

import copy
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from dynamos.metrics import Matrix
from dynamos.network import Block, ResNet
from dynamos.own_network import OwnNetwork


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer whose input or output channels gates may drop.

    Attributes:
        macs: multiply-accumulates with all channels.
        given: the gate that drops channels of its input; None if none does.
        made: the gate that drops channels of its output; None if none does.
    """

    macs: int
    given: int | None
    made: int | None


@dataclass(frozen=True, slots=True)
class Macs:
    """Multiply-accumulates of a network on an image.

    Attributes:
        dense: those of the network without gates.
        agents: those of its agents, as published: they convolve whole maps (method.md section
            1). The agents of network.py pool first and need far fewer at inference.
        layers: all layers of a gated network; none of a dense one.
        channels: channels of each gate.
    """

    dense: int
    agents: int
    layers: tuple[Layer, ...]
    channels: tuple[int, ...]

    @classmethod
    def of(cls, network: ResNet, height: int, width: int) -> Self:
        """Count those of a network on images of a size."""
        dense = counted(network, height, width)
        if not network.gated:
            return cls(dense, 0, (), ())
        layers, agents = _layers(network, height, width)
        return cls(dense, agents, tuple(layers), network.gate_channels)

    def expected(self, kept: Matrix) -> Matrix:
        """Return (N,), the multiply-accumulates if dropped channels are skipped, with the agents.

        A dropped channel is neither computed nor used as an input downstream. A masked network,
        which computes everything and multiplies by zero, saves none of this.

        Args:
            kept: (N, G), number of channels that each gate kept of each image.
        """
        counts = np.asarray(kept, dtype=np.float64)
        found = np.full(len(counts), float(self.agents))
        for layer in self.layers:
            gates = [gate for gate in (layer.given, layer.made) if gate is not None]
            # a whole number for each pair of channels, so that the sum is exact
            of_pair = layer.macs // math.prod(self.channels[gate] for gate in gates)
            found += of_pair * counts[:, gates].prod(1)
        return found


def counted(network: ResNet, height: int, width: int) -> int:
    """Return the multiply-accumulates of a network without its agents, counted by torch.

    Each is two of the floating-point operations that torch.utils.flop_counter counts.
    """
    # no arithmetic on the meta device; a user's module may hold tensors that do not move there
    device = "cpu" if isinstance(network, OwnNetwork) else "meta"
    shape = copy.deepcopy(network).to(device).eval()
    image = torch.zeros(1, 3, height, width, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shape(image, bypass=True)
    return int(counter.get_total_flops()) // 2


def _layers(network: ResNet, height: int, width: int) -> tuple[list[Layer], int]:
    """(all layers of a gated network, multiply-accumulates of its agents)."""
    size, gates, given = (height, width), 0, None
    agents = 0

    def macs(weight: torch.Tensor) -> int:
        return weight.numel() * size[0] * size[1]

    layers = [Layer(macs(network.conv.weight), None, None)]
    for block in network.blocks:
        assert isinstance(block, Block)
        made = middle = None
        if block.gate1 is not None and block.gate2 is not None:
            middle, made, gates = gates, gates + 1, gates + 2
            agents += macs(block.gate1.agent.conv.weight)  # before the stride
        stride = block.conv1.stride[0]
        size = ((size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1)
        layers.append(Layer(macs(block.conv1.weight), given, middle))
        layers.append(Layer(macs(block.conv2.weight), middle, made))
        if block.shortcut is not None:
            layers.append(Layer(macs(block.shortcut[0].weight), given, made))  # type: ignore[arg-type]
        if block.gate1 is not None and block.gate2 is not None:
            agents += macs(block.gate2.agent.conv.weight)
            for gate in (block.gate1, block.gate2):
                agents += gate.agent.fc1.weight.numel() + gate.agent.fc2.weight.numel()
        given = made
    layers.append(Layer(network.linear.weight.numel(), given, None))
    return layers, agents
