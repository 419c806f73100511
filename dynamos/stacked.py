"""R networks of one shape as one: their tensors in stacks, and one training pass for all of them.

A feature map of all networks is (N, R * C, H, W) in channels-last memory. So one grouped
convolution and one batch normalisation serve all of them. Everything else has R as its first axis.

Shapes: R runs, N images, K classes, G gates (0 dense), C channels of the widest gate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynamos.network import Agent as OneAgent
from dynamos.network import Block as OneBlock
from dynamos.network import Output, ResNet


@dataclass(frozen=True, slots=True)
class Conv:
    """R convolutions without bias."""

    weight: Tensor  # (R * Cout, Cin, k, k), channels-last
    runs: int
    stride: int

    def __call__(self, x: Tensor) -> Tensor:
        """Return (N, R * Cout, H', W') of x (N, R * Cin, H, W)."""
        size, stride = self.weight.shape[-1], self.stride
        if size == 1 and stride != 1 and self.weight.shape[1] < 8:
            x, stride = x[:, :, ::stride, ::stride], 1  # as network.convolution
        return F.conv2d(x, self.weight, None, stride, size // 2, 1, self.runs)


@dataclass(frozen=True, slots=True)
class Norm:
    """R batch normalisations and their running statistics."""

    scale: Tensor  # (R, C)
    shift: Tensor  # (R, C)
    mean: Tensor  # (R, C)
    var: Tensor  # (R, C)
    momentum: float
    eps: float

    def __call__(self, x: Tensor, present: "Present | None") -> Tensor:
        """Normalise x (N, R * C, H, W) with the statistics of the images that are present."""
        if present is None and x.numel() == x.shape[1]:  # one pixel: as network.conv_bn
            present = Present(torch.ones(len(self.mean), 1, device=x.device))
        if present is None:
            return F.batch_norm(
                x,
                self.mean.view(-1),
                self.var.view(-1),
                self.scale.view(-1),
                self.shift.view(-1),
                True,
                self.momentum,
                self.eps,
            )
        values, size = x.to(self.mean.dtype), x.shape[2] * x.shape[3]
        counted = present.of_map(x.shape[1])
        pixels = present.divisor[:, None] * size  # (R, 1)
        mean = (values * counted).sum((0, 2, 3)).view_as(self.mean) / pixels
        centred = values - mean.view(1, -1, 1, 1)
        var = (centred.square() * counted).sum((0, 2, 3)).view_as(self.var) / pixels
        self.track(mean, var, size, len(x), present)
        scale = (self.scale * torch.rsqrt(var + self.eps)).view(1, -1, 1, 1)
        return torch.addcmul(self.shift.view(1, -1, 1, 1), centred, scale).to(x.dtype)

    @torch.no_grad()
    def track(
        self, mean: Tensor, var: Tensor, pixels: int, images: int, present: "Present | None"
    ) -> None:
        """Move the running statistics towards those of a batch, (R, C), `var` biased.

        Those of a run without a present image stay.

        Args:
            mean: means of the batch.
            var: biased variances of the batch.
            pixels: number of pixels of an image.
            images: number of images of the batch.
            present: the images that count; None for all.
        """
        # .data: a batch norm may have saved these tensors for its backward pass, which does not
        # read them in training
        if present is None:
            counted = images * pixels
            self.mean.data.lerp_(mean, self.momentum)
            self.var.data.lerp_(var * (counted / max(counted - 1, 1)), self.momentum)
            return
        each = present.divisor[:, None] * pixels
        weight = (self.momentum * present.any.to(mean.dtype))[:, None].expand_as(mean)
        self.mean.data.lerp_(mean, weight)
        self.var.data.lerp_(var * (each / (each - 1).clamp(min=1)), weight)


class Present:
    """The images of a batch that count; a run with a filling buffer replays fewer than others.

    Attributes:
        weight: (R, N), 1 for an image that is present, 0 for one that is not.
        any: (R,) bool, True if a run has a present image.
        normed: `weight`, but 1 for all images of a run without a present one. They are of no use,
            but without statistics their values would grow out of range.
        divisor: (R,), sums of `normed`.
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.any = weight.sum(1) > 0
        self.normed = torch.where(self.any[:, None], weight, 1)
        self.divisor = self.normed.sum(1)

    def of_map(self, channels: int) -> Tensor:
        """Return `normed` as (N, R * C, 1, 1), for a map with so many channels, R * C."""
        return self.normed.T.repeat_interleave(channels // len(self.weight), 1)[:, :, None, None]


class PooledNorm(torch.autograd.Function):
    """network.PooledNorm of R runs, over the images that are present."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        gamma: Tensor,
        beta: Tensor,
        eps: float,
        present: Present | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(pooled map (R, N, C), mean (R, C), biased variance (R, C)).

        The last two are without gradient. Values of an image that is not present mean nothing.

        Args:
            ctx: autograd's context.
            x: (N, R * Cin, H, W), channels-last.
            weight: (R, C, Cin) of the 1x1 convolutions.
            gamma: (R, C) scale of the batch norms.
            beta: (R, C) shift of the batch norms.
            eps: constant that a batch norm adds to a variance.
            present: the images that count; None for all.
        """
        runs, n = len(weight), len(x)
        if present is not None:
            x = x * present.of_map(x.shape[1]).to(x.dtype)
        rows = x.permute(0, 2, 3, 1).flatten(1, 2)  # (N, H W, R Cin)
        hw = rows.shape[1]
        pixels = rows.reshape(n * hw, runs, -1).transpose(0, 1)  # (R, N H W, Cin)
        pooled = rows.mean(1).view(n, runs, -1).transpose(0, 1)
        share = (
            weight.new_full((runs, 1), 1 / n)
            if present is None
            else (1 / present.divisor.to(weight.dtype))[:, None]
        )
        mean = pooled.sum(1) * share
        gram = torch.bmm(pixels.transpose(1, 2), pixels) * (share / hw)[:, :, None]
        covariance = torch.baddbmm(gram, mean[:, :, None], mean[:, None], alpha=-1)
        spread = torch.bmm(weight, covariance)
        variance = (spread * weight).sum(2).clamp_(min=0)
        scale = torch.rsqrt(variance + eps)
        centred = pooled - mean[:, None]
        normal = torch.bmm(centred, weight.transpose(1, 2)) * scale[:, None]
        ctx.save_for_backward(pixels, weight, gamma, mean, spread, scale, centred, normal, share)
        ctx.size, ctx.present = x.shape, present
        moments = torch.bmm(weight, mean[:, :, None]).squeeze(2), variance
        ctx.mark_non_differentiable(*moments)
        return torch.addcmul(beta[:, None], normal, gamma[:, None]), *moments

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight, gamma and beta, by the chain rule through `forward`."""
        pixels, weight, gamma, mean, spread, scale, centred, normal, share = ctx.saved_tensors
        n, channels, height, width = ctx.size
        runs, hw, dz = len(weight), height * width, gradients[0]
        dgamma = (dz * normal).sum(1)
        dmap = dz * (gamma * scale)[:, None]
        dvariance = (dgamma * gamma * scale.square() * -0.5)[:, :, None]
        dweight = torch.addcmul(
            torch.bmm(dmap.transpose(1, 2), centred), dvariance, spread, value=2
        )
        dcovariance = (
            torch.bmm(weight.transpose(1, 2), dvariance * weight) * (2 * share)[:, :, None]
        )
        dpooled = torch.bmm(dmap, weight)
        # `mean` also depends on `pooled`. It enters through the centring and the covariance.
        common = dpooled.sum(1) * share + torch.bmm(dcovariance, mean[:, :, None]).squeeze(2)
        if ctx.present is None:
            dpooled = dpooled - common[:, None]
        else:
            dpooled = dpooled - common[:, None] * ctx.present.normed[:, :, None]
        dx = dpooled.new_empty(n, hw, runs, channels // runs)
        dx.copy_(dpooled.transpose(0, 1)[:, None])
        by_run = dx.view(n * hw, runs, -1).transpose(0, 1)
        by_run.baddbmm_(pixels, dcovariance, beta=1 / hw, alpha=1 / hw)
        return (
            dx.view(n, height, width, channels).permute(0, 3, 1, 2),
            dweight,
            dgamma,
            dz.sum(1),
            None,
            None,
        )


@dataclass(frozen=True, slots=True)
class Agent:
    """R agents of a gate."""

    conv: Tensor  # (R, C, Cin)
    norm: Norm
    weight1: Tensor  # (R, hidden, C)
    bias1: Tensor  # (R, hidden)
    weight2: Tensor  # (R, C, hidden)
    bias2: Tensor  # (R, C)

    def __call__(self, x: Tensor, present: Present | None) -> Tensor:
        """Policy logits (R, N, C) of x (N, R * Cin, H, W)."""
        with torch.autocast(x.device.type, enabled=False):
            norm = self.norm
            z, mean, variance = PooledNorm.apply(  # type: ignore[no-untyped-call]
                x.float(), self.conv, norm.scale, norm.shift, norm.eps, present
            )
            norm.track(mean, variance, x.shape[2] * x.shape[3], len(x), present)
            hidden = F.relu(linear(z, self.weight1, self.bias1))
            v: Tensor = z * torch.sigmoid(linear(hidden, self.weight2, self.bias2))
            return v


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """R linear layers: (R, N, B) of x (R, N, A), weight (R, B, A) and bias (R, B)."""
    return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))


@dataclass(frozen=True, slots=True)
class Pass:
    """One training pass of R networks: its inputs, and the decisions of its gates so far."""

    noise: Tensor  # (R, N, G, C)
    temperature: Tensor  # (R,)
    bypass: bool
    present: Present | None
    policy_logits: list[Tensor]
    actions: list[Tensor]

    def mask(self, agent: Agent, x: Tensor) -> Tensor:
        """Mask (N, R * C, 1, 1) of the channels that a gate keeps."""
        if self.bypass:
            v = torch.zeros(len(agent.conv), len(x), agent.conv.shape[1], device=x.device)
            a = torch.ones_like(v)
        else:
            v = agent(x, self.present)
            with torch.no_grad():
                p = torch.sigmoid(v / self.temperature[:, None, None])
                noise = self.noise[:, :, len(self.actions), : p.shape[2]]
                a = (noise < p).to(p.dtype)
        self.policy_logits.append(v)
        self.actions.append(a)
        return a.transpose(0, 1).flatten(1)[:, :, None, None].to(x.dtype)


@dataclass(frozen=True, slots=True)
class Block:
    """R basic residual blocks, gated or not."""

    conv1: Conv
    norm1: Norm
    conv2: Conv
    norm2: Norm
    shortcut: tuple[Conv, Norm] | None
    agent1: Agent | None
    agent2: Agent | None

    def __call__(self, x: Tensor, one: Pass) -> Tensor:
        """The blocks' output (N, R * C, H', W')."""
        h = self.norm1(self.conv1(x), one.present)
        if self.agent1 is not None:
            h *= one.mask(self.agent1, x)
        h = F.relu(h, inplace=True)
        y = self.norm2(self.conv2(h), one.present)
        if self.shortcut is None:
            y += x
        else:
            conv, norm = self.shortcut
            y += norm(conv(x), one.present)
        if self.agent2 is not None:
            y *= one.mask(self.agent2, h)
        return F.relu(y, inplace=True)


class Networks:
    """R networks of one shape. The tensors of network r are row r of stacks.

    Attributes:
        parameters: the stacks of the parameters, as leaves of autograd; R * A rows or R rows each.
        gated: True if the networks have gates.
    """

    def __init__(self, networks: Sequence[ResNet]) -> None:
        """Stack the networks; from here on they share their memory with the stacks."""
        first = networks[0]
        self.runs, self.gated = len(networks), first.gated
        self._narrower, self._widest = first._narrower, first.widest
        tensors = [dict(_tensors(network)) for network in networks]
        self._stacks = {name: _stack([own[name] for own in tensors]) for name in tensors[0]}
        # agents last: a pass that bypasses the gates counts no batch of theirs
        norms = sorted(
            (name for name, module in first.named_modules() if isinstance(module, nn.BatchNorm2d)),
            key=lambda name: "agent" in name,
        )
        self._open_norms = sum("agent" not in name for name in norms)
        counts = [f"{name}.num_batches_tracked" for name in norms]
        self._counts = torch.stack([self._stacks[name] for name in counts])  # (norms, R)
        self._stacks |= dict(zip(counts, self._counts, strict=True))
        for row, network in enumerate(networks):
            self._point(row, network)
        self.parameters: list[Tensor] = []
        self._conv, self._norm = self._conv_of("conv", first.conv), self._norm_of("bn", first.bn)
        self._blocks = [
            self._block_of(f"blocks.{i}", block)
            for i, block in enumerate(first.blocks)
            if isinstance(block, OneBlock)
        ]
        self._weight, self._bias = self._leaf("linear.weight"), self._leaf("linear.bias")

    def __call__(
        self,
        images: Tensor,
        noise: Tensor,
        temperature: Tensor,
        bypass: bool,
        present: Present | None = None,
    ) -> Output:
        """Output of a training pass, every tensor with R as its first axis.

        Args:
            images: (R, N, 3, H, W) in [0, 1].
            noise: (R, N, G, C), uniform in [0, 1).
            temperature: (R,), of the gates.
            bypass: keep every channel and use no agent (warm-up).
            present: the images that count; None for all. The rows of others mean nothing.
        """
        one = Pass(noise, temperature, bypass, present, [], [])
        n = images.shape[1]
        x = images.permute(1, 3, 4, 0, 2).flatten(3).permute(0, 3, 1, 2)
        x = F.relu(self._norm(self._conv(x), present), inplace=True)
        for block in self._blocks:
            x = block(x, one)
        pooled = x.mean((2, 3)).view(n, self.runs, -1).transpose(0, 1)
        logits = linear(pooled, self._weight, self._bias).float()
        with torch.no_grad():
            used = self._counts[: self._open_norms] if bypass else self._counts
            used.add_(1 if present is None else present.any.long())
        if not self.gated:
            none = logits.new_zeros(self.runs, n, 0)
            return Output(
                logits, none, none[:, :, :, None].expand(-1, -1, 0, pooled.shape[2]), none
            )
        if self._narrower:
            return self._unequal(logits, one)
        v, a = torch.stack(one.policy_logits, 2), torch.stack(one.actions, 2)
        log_probs = (
            logits.new_zeros(self.runs, n, v.shape[2])
            if bypass
            else -F.binary_cross_entropy_with_logits(
                v / temperature[:, None, None, None], a, reduction="none"
            ).sum(3)
        )
        return Output(logits, v.flatten(2), a, log_probs)

    def _unequal(self, logits: Tensor, one: Pass) -> Output:
        """The output of networks whose gates differ in width."""
        pairs = list(zip(one.policy_logits, one.actions, strict=True))
        temperature = one.temperature[:, None, None]
        log_probs = [
            a.new_zeros(a.shape[:2])
            if one.bypass
            else -F.binary_cross_entropy_with_logits(v / temperature, a, reduction="none").sum(2)
            for v, a in pairs
        ]
        return Output(
            logits,
            torch.cat([v for v, _ in pairs], 2),
            torch.stack([F.pad(a, (0, self._widest - a.shape[2])) for _, a in pairs], 2),
            torch.stack(log_probs, 2),
            self._narrower,
        )

    def take(self, row: int, network: ResNet) -> None:
        """Make a network row `row`; it shares its memory with the stacks from here on."""
        with torch.no_grad():
            for name, tensor in _tensors(network):
                self._stacks[name][row].copy_(tensor)
        self._point(row, network)

    def copies(self) -> list[Tensor]:
        """Return copies of the stacks, for `restore`."""
        return [stack.clone() for stack in self._stacks.values()]

    def restore(self, copies: list[Tensor], rows: Tensor) -> None:
        """Give the networks of some `rows` (R,) bool back the values that they had at `copies`."""
        for stack, copy in zip(self._stacks.values(), copies, strict=True):
            torch.where(rows.view(-1, *[1] * (stack.dim() - 1)), copy, stack, out=stack)

    def release(self, network: ResNet) -> None:
        """Give a network memory of its own again."""
        _replace(network, {name: tensor.clone() for name, tensor in _tensors(network)})

    def _point(self, row: int, network: ResNet) -> None:
        _replace(network, {name: stack[row] for name, stack in self._stacks.items()})

    def _leaf(self, name: str, *flat: int) -> Tensor:
        """The stack of a parameter as a leaf of autograd, with the dimensions `flat` as one."""
        stack = self._stacks[name].detach()
        self.parameters.append((stack.flatten(*flat) if flat else stack).requires_grad_())
        return self.parameters[-1]

    def _conv_of(self, name: str, conv: nn.Module) -> Conv:
        assert isinstance(conv, nn.Conv2d)
        return Conv(self._leaf(f"{name}.weight", 0, 1), self.runs, conv.stride[0])

    def _norm_of(self, name: str, bn: nn.Module) -> Norm:
        assert isinstance(bn, nn.BatchNorm2d) and bn.momentum is not None
        scale, shift = self._leaf(f"{name}.weight"), self._leaf(f"{name}.bias")
        mean, var = (self._stacks[f"{name}.running_{what}"] for what in ("mean", "var"))
        return Norm(scale, shift, mean, var, bn.momentum, bn.eps)

    def _agent_of(self, name: str, agent: OneAgent) -> Agent:
        conv = self._leaf(f"{name}.conv.weight", 2, 4)
        weight1, bias1, weight2, bias2 = (
            self._leaf(f"{name}.{layer}.{kind}")
            for layer in ("fc1", "fc2")
            for kind in ("weight", "bias")
        )
        norm = self._norm_of(f"{name}.bn", agent.bn)
        return Agent(conv, norm, weight1, bias1, weight2, bias2)

    def _block_of(self, name: str, block: OneBlock) -> Block:
        shortcut = None
        if block.shortcut is not None:
            conv, bn = block.shortcut
            shortcut = (
                self._conv_of(f"{name}.shortcut.0", conv),
                self._norm_of(f"{name}.shortcut.1", bn),
            )
        return Block(
            self._conv_of(f"{name}.conv1", block.conv1),
            self._norm_of(f"{name}.bn1", block.bn1),
            self._conv_of(f"{name}.conv2", block.conv2),
            self._norm_of(f"{name}.bn2", block.bn2),
            shortcut,
            *(
                None if gate is None else self._agent_of(f"{name}.{which}.agent", gate.agent)
                for which, gate in (("gate1", block.gate1), ("gate2", block.gate2))
            ),
        )


def _tensors(network: ResNet) -> list[tuple[str, Tensor]]:
    """(name, tensor) of a network's parameters and buffers."""
    return [(n, p.detach()) for n, p in network.named_parameters()] + list(network.named_buffers())


def _replace(network: ResNet, tensors: dict[str, Tensor]) -> None:
    """Make `tensors` the memory of a network's parameters and buffers."""
    for name, parameter in network.named_parameters():
        parameter.data = tensors[name]
    for name, _ in list(network.named_buffers()):
        module, _, buffer = name.rpartition(".")
        setattr(network.get_submodule(module), buffer, tensors[name])


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """Return (R, ...) of R tensors; kernels (O, I, k, k) stay in channels-last memory."""
    if tensors[0].dim() != 4:
        return torch.stack(list(tensors))
    return torch.stack([t.permute(0, 2, 3, 1) for t in tensors]).permute(0, 1, 4, 2, 3)
