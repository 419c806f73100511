"""Sparse inference on single images: computes only the channels that the gates keep."""

from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynamos.errors import UserError
from dynamos.network import Block, Gate, ResNet, folded

# Multiply-accumulates of a 3x3 convolution between gated layers. From this number on, skipping
# channels saves time; below it, selecting the weights costs more. The time of skipping divided by
# that of masking, by benchmarks/sparse_inference.py (one AVX2 core, 70 % kept): with 28x28 images
# 1.02 at nf 32, 1.00 at 48, 0.96 at 64 and 0.93 at 128; with 8x8 images 1.1 to 1.2 up to nf 32.
SKIPPING_PAYS_FROM = 20e6


@dataclass(frozen=True, slots=True)
class Prediction:
    """Output of the network for one image."""

    logits: Tensor  # (K,)
    actions: Tensor  # (G, C) bool, the channels that were kept


@dataclass(frozen=True, slots=True)
class Folded:
    """A convolution with the following batch normalisation folded in."""

    weight: Tensor  # (Cout, Cin, k, k)
    bias: Tensor  # (Cout,)
    stride: int
    padding: int

    def __call__(
        self, x: Tensor, kept: Tensor | None = None, given: Tensor | None = None
    ) -> Tensor:
        """Return the output channels `kept` for x (1, C, H, W), which holds the channels `given`.

        None means all channels.
        """
        # in memory order, in which selecting is cheap
        weight, bias = self.weight.permute(0, 2, 3, 1), self.bias
        if kept is not None:
            weight, bias = weight.index_select(0, kept), bias.index_select(0, kept)
        if given is not None:
            weight = weight.index_select(3, given)
        weight = weight.permute(0, 3, 1, 2)
        if weight.numel() == 0:  # no input or no output channel; convolutions refuse both
            height, width = ((size - 1) // self.stride + 1 for size in x.shape[2:])
            return bias[None, :, None, None].expand(1, -1, height, width)
        return F.conv2d(x, weight, bias, self.stride, self.padding)


class FoldedAgent:
    """A gate's agent with everything before its hidden layer folded into one matrix."""

    def __init__(self, gate: Gate) -> None:
        agent = gate.agent
        scale, self.bias = folded(agent.bn)
        self.matrix = agent.conv.weight.flatten(1) * scale[:, None]  # (C, Cin)
        self.fc1, self.fc2 = (
            deepcopy(layer).requires_grad_(False) for layer in (agent.fc1, agent.fc2)
        )
        self.temperature, self.threshold = gate.temperature, gate.threshold
        self.samples = gate.infer_mode == "sample"

    def __call__(self, x: Tensor, given: Tensor | None) -> Tensor:
        """Return actions (C,) bool for x (1, Cin, H, W), which holds the channels `given`.

        All other channels are zero. None means all channels.
        """
        matrix = self.matrix if given is None else self.matrix.index_select(1, given)
        z = F.linear(x.mean((2, 3)), matrix, self.bias)
        v = z * torch.sigmoid(self.fc2(F.relu(self.fc1(z))))
        p = torch.sigmoid(v / self.temperature)[0]
        return torch.rand_like(p) < p if self.samples else p >= self.threshold


class FoldedBlock:
    """A basic block for one image."""

    def __init__(self, block: Block) -> None:
        self.conv1, self.conv2 = (
            _folded_conv(block.conv1, block.bn1),
            _folded_conv(block.conv2, block.bn2),
        )
        self.shortcut: Folded | None = None
        if block.shortcut is not None:
            conv, bn = block.shortcut
            assert isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d)
            self.shortcut = _folded_conv(conv, bn)
        self.agent1 = None if block.gate1 is None else FoldedAgent(block.gate1)
        self.agent2 = None if block.gate2 is None else FoldedAgent(block.gate2)

    def plain(self, x: Tensor) -> Tensor:
        """The output of an ungated block."""
        y = self.conv2(F.relu(self.conv1(x)))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))

    def masked(self, x: Tensor, actions: list[Tensor]) -> Tensor:
        """The output of a gated block, every channel computed, dropped ones multiplied by zero."""
        assert self.agent1 is not None and self.agent2 is not None
        actions.append(self.agent1(x, None))
        h = F.relu(self.conv1(x) * actions[-1][:, None, None])
        actions.append(self.agent2(h, None))
        y = self.conv2(h) + (x if self.shortcut is None else self.shortcut(x))
        return F.relu(y * actions[-1][:, None, None])

    def skipped(
        self, x: Tensor, given: Tensor | None, actions: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """(kept channels (1, k, H', W') of the output, their indices (k,)).

        `x` holds the channels `given`; None means all.
        """
        assert self.agent1 is not None and self.agent2 is not None
        actions.append(self.agent1(x, given))
        middle = actions[-1].nonzero().ravel()
        h = F.relu(self.conv1(x, middle, given))
        actions.append(self.agent2(h, middle))
        kept = actions[-1].nonzero().ravel()
        y = self.conv2(h, kept, middle)
        if self.shortcut is not None:
            y = y + self.shortcut(x, kept, given)
        elif given is not None:
            whole = x.new_zeros(1, len(actions[-1]), *x.shape[2:])
            y = y + whole.index_copy_(1, given, x).index_select(1, kept)
        else:
            y = y + x.index_select(1, kept)
        return F.relu(y), kept


class Predictor:
    """A gated network for single images.

    It copies its weights, so later training does not change it.

    Args of the constructor:
        network: gated network; its running statistics are folded into the weights.
        image_size: (H, W) of the images.
        skip: whether to compute kept channels only; by default `skipping_pays` at this width and
            size.
    """

    def __init__(
        self, network: ResNet, image_size: tuple[int, int], skip: bool | None = None
    ) -> None:
        if not network.gated:
            raise UserError("only a gated network has channels to skip; this one is dense.")
        with_gates = [isinstance(b, Block) and b.gate1 is not None for b in network.blocks]
        first = with_gates.index(True)
        if not all(with_gates[first:]) or len({*network.gate_channels}) > 1:
            raise UserError("only a network with gates in its last stage alone can skip channels.")
        with torch.no_grad():
            self.stem = _folded_conv(network.conv, network.bn)
            blocks = [FoldedBlock(block) for block in network.blocks if isinstance(block, Block)]
            self.weight, self.bias = (
                network.linear.weight.detach().clone(),
                network.linear.bias.detach().clone(),
            )
        self.open, self.gated = blocks[:first], blocks[first:]
        for _ in network.stages[2:]:
            image_size = ((image_size[0] + 1) // 2, (image_size[1] + 1) // 2)
        self.skip = skipping_pays(network.linear.in_features, image_size) if skip is None else skip

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Prediction:
        """The prediction on an image (3, H, W) in [0, 1]."""
        x = F.relu(self.stem(image[None].contiguous(memory_format=torch.channels_last)))
        for block in self.open:
            x = block.plain(x)
        actions: list[Tensor] = []
        weight, given = self.weight, None
        for block in self.gated:
            if self.skip:
                x, given = block.skipped(x, given, actions)
            else:
                x = block.masked(x, actions)
        if given is not None:
            weight = weight.index_select(1, given)
        return Prediction(F.linear(x.mean((2, 3)), weight, self.bias)[0], torch.stack(actions))


def skipping_pays(channels: int, image_size: tuple[int, int]) -> bool:
    """True if skipping channels saves time for N gated channels and images of (H, W)."""
    height, width = ((size + 1) // 2 for size in image_size)
    return 9 * channels * channels * height * width >= SKIPPING_PAYS_FROM


def _folded_conv(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> Folded:
    scale, shift = folded(bn)
    weight = (
        (conv.weight * scale[:, None, None, None])
        .detach()
        .contiguous(memory_format=torch.channels_last)
    )
    padding = conv.padding[0]
    assert isinstance(padding, int)
    return Folded(weight, shift.detach(), conv.stride[0], padding)
