"""The dense and the gated ResNet (method.md section 1).

Shapes: N images, K classes, G gates (0 in a dense network), C channels of the widest gate, D policy
logits: the channels of all gates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynamos.config import TrainConfig
from dynamos.depths import NETWORKS, stages_with_gates
from dynamos.methods import method_of
from dynamos.original import load_original as load_original
from dynamos.original import original_state_dict as original_state_dict
from dynamos.user_code import code_of


@dataclass(frozen=True, slots=True)
class Output:
    """Output of a network for N images; a dense network has G = 0 gates."""

    logits: Tensor  # (N, K)
    policy_logits: Tensor  # (N, D), the gates' vectors side by side
    actions: Tensor  # (N, G, C), 1 where a channel is kept; a narrower gate has zeros at its end
    log_probs: Tensor  # (N, G), log-probability of a gate's actions; zeros if it was bypassed
    # (G,), C divided by each gate's channels; () if all gates have C
    narrower: tuple[float, ...] = ()

    @property
    def kept(self) -> Tensor:
        """(N, G), the fraction of its channels that each gate keeps."""
        return kept_share(self.actions, self.narrower)


def kept_share(actions: Tensor, narrower: Sequence[float]) -> Tensor:
    """Return the fraction (..., G) of its channels that each gate keeps, of actions (..., G, C)."""
    means = actions.mean(-1)
    if not narrower:
        return means
    return torch.stack([means[..., gate] * by for gate, by in enumerate(narrower)], -1)


class PooledNorm(torch.autograd.Function):
    """global_average_pool(batch_norm(conv1x1(x))) without the (N, C, H, W) map, in training.

    Apart from the batch statistics, both steps are linear in the pixels. The statistics of the map
    follow exactly from those of its input: the mean of w x is w E[x], its variance is w Cov[x] w'.
    `backward` is written by hand, because autograd would need three times as many small operations.
    Forward and backward each need one multiplication over all pixels.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(pooled map (N, C), mean (C,), biased variance (C,)), the last two without gradient.

        Args:
            ctx: autograd's context.
            x: (N, Cin, H, W), cheapest in channels-last memory.
            weight: (C, Cin) of the 1x1 convolution.
            gamma: (C,) scale of the batch norm.
            beta: (C,) shift of the batch norm.
            eps: constant that the batch norm adds to a variance.
        """
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # (N, H W, Cin)
        flat = pixels.flatten(0, 1)
        pooled = pixels.mean(1)
        mean = pooled.mean(0)
        covariance = torch.addr(flat.T @ flat, mean, mean, beta=1 / len(flat), alpha=-1)
        spread = weight @ covariance
        variance = (spread * weight).sum(1).clamp_(min=0)
        scale = torch.rsqrt(variance + eps)
        centred = pooled - mean
        normal = centred @ weight.T * scale
        ctx.save_for_backward(pixels, weight, gamma, mean, spread, scale, centred, normal)
        ctx.size = x.shape[2:]
        moments = weight @ mean, variance
        ctx.mark_non_differentiable(*moments)
        return torch.addcmul(beta, normal, gamma), *moments

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight, gamma and beta, by the chain rule through `forward`."""
        pixels, weight, gamma, mean, spread, scale, centred, normal = ctx.saved_tensors
        dz, (n, hw, channels) = gradients[0], pixels.shape
        dgamma = (dz * normal).sum(0)
        dmap = dz * (gamma * scale)
        dvariance = (dgamma * gamma * scale.square() * -0.5)[:, None]
        dweight = torch.addcmul(dmap.T @ centred, dvariance, spread, value=2)
        dcovariance = weight.T @ (dvariance * weight)
        dpooled = dmap @ weight
        # `mean` also depends on `pooled`. It enters through the centring and the covariance.
        dpooled -= dpooled.mean(0) + dcovariance @ mean * (2 / n)
        dx = torch.baddbmm(
            dpooled[:, None],
            pixels,
            dcovariance.expand(n, channels, channels),
            beta=1 / hw,
            alpha=2 / (n * hw),
        )
        return dx.unflatten(1, ctx.size).permute(0, 3, 1, 2), dweight, dgamma, dz.sum(0), None


class Agent(nn.Module):
    """A gate's policy: feature map (N, Cin, H, W) -> policy logits (N, C)."""

    def __init__(self, channels_in: int, channels: int, hidden_dim_ratio: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.fc1 = nn.Linear(channels, channels // hidden_dim_ratio)
        self.fc2 = nn.Linear(channels // hidden_dim_ratio, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Policy logits (N, C) of x (N, Cin, H, W)."""
        # a policy in half precision would lose its small steps
        with torch.autocast(x.device.type, enabled=False):
            z = self._pooled(x.float())
            return z * torch.sigmoid(self.fc2(F.relu(self.fc1(z))))

    def _pooled(self, x: Tensor) -> Tensor:
        """global_average_pool(bn(conv1x1(x))), (N, C)."""
        bn, weight = self.bn, self.conv.weight.flatten(1)
        assert bn.running_mean is not None and bn.running_var is not None
        if not self.training:
            scale, _ = folded(bn)
            return (F.linear(x.mean((2, 3)), weight) - bn.running_mean) * scale + bn.bias
        z, mean, variance = PooledNorm.apply(x, weight, bn.weight, bn.bias, bn.eps)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert bn.momentum is not None and bn.num_batches_tracked is not None
            pixels = x.shape[0] * x.shape[2] * x.shape[3]
            bn.running_mean.lerp_(mean, bn.momentum)
            bn.running_var.lerp_(variance * (pixels / max(pixels - 1, 1)), bn.momentum)
            bn.num_batches_tracked.add_(1)
        return z  # type: ignore[no-any-return]


class Gate(nn.Module):
    """An agent and the actions that its policy logits decide."""

    def __init__(self, channels_in: int, channels: int, config: TrainConfig) -> None:
        super().__init__()
        self.agent = Agent(channels_in, channels, config.hidden_dim_ratio)
        self.channels = channels
        self.temperature = config.temperature
        self.infer_mode, self.threshold = config.infer_mode, config.inf_thresh

    def forward(self, x: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """(policy logits (N, C), actions (N, C)).

        `noise` (N, C), uniform in [0, 1), decides sampled actions; thresholded actions need none.
        """
        policy_logits = self.agent(x)
        with torch.no_grad():
            # Actions carry no gradient: the task losses reach the agents only through REINFORCE,
            # the prototype loss and the replay of policy logits.
            p = torch.sigmoid(policy_logits / self.temperature)
            if self.training or self.infer_mode == "sample":
                assert noise is not None
                return policy_logits, (noise < p).to(p.dtype)
            return policy_logits, (p >= self.threshold).to(p.dtype)

    def bypassed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return zeros as policy logits and every channel as kept, in the shapes of `forward`.

        The agent is not used.
        """
        zeros = torch.zeros(x.shape[0], self.channels, device=x.device)
        return zeros, torch.ones_like(zeros)


def folded(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(scale (C,), shift (C,)) of bn(x) = scale * x + shift at evaluation."""
    assert bn.running_mean is not None and bn.running_var is not None
    scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
    return scale, bn.bias - bn.running_mean * scale


def conv_bn(x: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> Tensor:
    """bn(conv(x)); at evaluation one convolution with the normalisation folded into its weights."""
    if bn.training:
        y = convolution(x, conv, conv.weight)
        normalised: Tensor = _centred(y, bn) if y.numel() == y.shape[1] else bn(y)
        return normalised
    scale, shift = folded(bn)
    weight = (conv.weight * scale[:, None, None, None]).contiguous(
        memory_format=torch.channels_last
    )
    return convolution(x, conv, weight, shift)


def _centred(y: Tensor, bn: nn.BatchNorm2d) -> Tensor:
    """bn(y) of one pixel, (1, C, 1, 1), in training: its mean is the pixel, its variance is 0.

    A batch of one image has it where the maps are as small as that; torch refuses it.
    """
    assert bn.running_mean is not None and bn.running_var is not None and bn.momentum is not None
    assert bn.num_batches_tracked is not None
    with torch.no_grad():
        # .data: an earlier pass may have saved these tensors for its backward pass, which does not
        # read them in training
        bn.running_mean.data.lerp_(y.flatten().to(bn.running_mean.dtype), bn.momentum)
        bn.running_var.data.mul_(1 - bn.momentum)
        bn.num_batches_tracked.add_(1)
    return (y - y) * bn.weight[:, None, None] + bn.bias[:, None, None]


def convolution(x: Tensor, conv: nn.Conv2d, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """conv(x) with another weight and bias."""
    if conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.in_channels < 8:
        # A library that torch uses failed on such narrow convolutions. Selecting the pixels first
        # gives the same result.
        down, right = conv.stride
        return F.conv2d(x[:, :, ::down, ::right], weight, bias)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding)


def _conv3x3(channels_in: int, channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)


class Block(nn.Module):
    """A basic residual block, gated or not."""

    def __init__(
        self, channels_in: int, channels: int, stride: int, config: TrainConfig, gated: bool
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(channels_in, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.gate1 = Gate(channels_in, channels, config) if gated else None
        self.gate2 = Gate(channels, channels, config) if gated else None

    def forward(self, x: Tensor, decide: "Decide") -> Tensor:
        """The block's output (N, C, H', W'); `decide` returns the mask of each gate."""
        # Operations are in place where no derivative needs the old values, so that the next
        # operation finds its input in the cache.
        h = conv_bn(x, self.conv1, self.bn1)
        if self.gate1 is not None:
            h *= decide(self.gate1, x)
        h = F.relu(h, inplace=True)
        y = conv_bn(h, self.conv2, self.bn2)
        y += x if self.shortcut is None else conv_bn(x, *self.shortcut)
        if self.gate2 is not None:
            y *= decide(self.gate2, h)  # the mask covers the residual sum, shortcut included
        return F.relu(y, inplace=True)


class Decide:
    """Decisions of one forward pass, gate by gate."""

    def __init__(self, noise: Tensor | None, bypass: bool) -> None:
        self.noise, self.bypass = noise, bypass
        self.policy_logits: list[Tensor] = []
        self.actions: list[Tensor] = []

    def __call__(self, gate: Gate, x: Tensor) -> Tensor:
        """Mask (N, C, 1, 1) of the channels that the gate keeps."""
        noise = None if self.noise is None else self.noise[:, len(self.actions), : gate.channels]
        v, a = gate.bypassed(x) if self.bypass else gate(x, noise)
        self.policy_logits.append(v)
        self.actions.append(a)
        return a[:, :, None, None].to(x.dtype)


class ResNet(nn.Module):
    """A ResNet of stages of basic blocks (dynamos.depths).

    Each stage after the first has twice the channels of the one before and begins with stride 2.
    With `gated` the blocks of config.gated_stages are gated.

    Attributes:
        gate_channels: (G,), channels of each gate.
    """

    def __init__(self, config: TrainConfig, num_classes: int, gated: bool) -> None:
        super().__init__()
        nf = config.nf
        self.conv = _conv3x3(3, nf)
        self.bn = nn.BatchNorm2d(nf)
        self.stages = NETWORKS[config.network]
        with_gates = stages_with_gates(config.gated_stages, config.network) if gated else ()
        blocks, before, channels = list[nn.Module](), nf, list[int]()
        for stage, count in enumerate(self.stages):
            wide, has_gates = nf * 2**stage, stage in with_gates
            for place in range(count):
                stride = 2 if stage and place == 0 else 1
                blocks.append(Block(before, wide, stride, config, has_gates))
                before = wide
            channels += [wide] * 2 * count * has_gates
        self.blocks = nn.ModuleList(blocks)
        self.linear = nn.Linear(before, num_classes)
        self.gate_channels = tuple(channels)
        widest = max(channels, default=0)
        equal = len({*channels}) < 2
        self._narrower = () if equal else tuple(widest / own for own in channels)
        self.gated, self.infer_mode, self.temperature = gated, config.infer_mode, config.temperature

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return self.linear.out_features

    @property
    def num_policy_logits(self) -> int:
        """D, the number of policy logits of an image; 0 in a dense network."""
        return sum(self.gate_channels)

    @property
    def widest(self) -> int:
        """C, the channels of the widest gate; in a dense network those of the last stage."""
        return max(self.gate_channels, default=self.linear.in_features)

    @property
    def noise_shape(self) -> tuple[int, int]:
        """(G, C), the shape of the noise that sampling needs per image; G = 0 without sampling."""
        samples = self.gated and (self.training or self.infer_mode == "sample")
        return len(self.gate_channels) if samples else 0, self.widest

    def forward(self, images: Tensor, noise: Tensor | None = None, bypass: bool = False) -> Output:
        """Output of images (N, 3, H, W) in [0, 1].

        `noise` (N, G, C), uniform in [0, 1), decides sampled actions; by default torch's global
        generator draws it. With `bypass` every channel is kept and no agent is used (warm-up).
        """
        if noise is None and not bypass:
            noise = torch.rand(len(images), *self.noise_shape, device=images.device)
        decide = Decide(noise if noise is not None and noise.shape[1] else None, bypass)
        x = images.contiguous(memory_format=torch.channels_last)
        x = F.relu(conv_bn(x, self.conv, self.bn), inplace=True)
        for block in self.blocks:
            x = block(x, decide)
        logits = self.linear(x.mean((2, 3))).float()
        n = len(images)
        if not self.gated:
            none = logits.new_zeros(n, 0)
            return Output(logits, none, none.reshape(n, 0, self.widest), none)
        if self._narrower:
            return self._unequal(logits, decide, bypass)
        policy_logits, actions = (
            torch.stack(decide.policy_logits, 1),
            torch.stack(decide.actions, 1),
        )
        # log Bernoulli(a | sigmoid(l)) is the negative cross entropy; torch's distributions would
        # make a GPU wait.
        log_probs = (
            logits.new_zeros(n, len(self.gate_channels))
            if bypass
            else -F.binary_cross_entropy_with_logits(
                policy_logits / self.temperature, actions, reduction="none"
            ).sum(2)
        )
        return Output(logits, policy_logits.flatten(1), actions, log_probs)

    def _unequal(self, logits: Tensor, decide: Decide, bypass: bool) -> Output:
        """The output of a network whose gates differ in width."""
        pairs = list(zip(decide.policy_logits, decide.actions, strict=True))
        log_probs = [
            a.new_zeros(len(a))
            if bypass
            else -F.binary_cross_entropy_with_logits(v / self.temperature, a, reduction="none").sum(
                1
            )
            for v, a in pairs
        ]
        return Output(
            logits,
            torch.cat([v for v, _ in pairs], 1),
            torch.stack([F.pad(a, (0, self.widest - a.shape[1])) for _, a in pairs], 1),
            torch.stack(log_probs, 1),
            self._narrower,
        )


def build_network(config: TrainConfig, num_classes: int) -> ResNet:
    """Build the network of a configuration on the CPU, its weights drawn from config.seed only.

    Raises UserError for a user's network that cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if code_of(config.network) is not None:
            from dynamos.own_network import own_network  # it imports this module

            # It has the part of a ResNet's interface that dense runs use (OwnNetwork).
            return cast(ResNet, own_network(config, num_classes))
        network = ResNet(config, num_classes, method_of(config.model).gated)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
