"""A plain version of the method, without folding, pooling first or whole-batch rotation.

Its state dict has the original program's names, so that weights pass between it and
dynamos.network.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from dynamos.config import TrainConfig
from dynamos.methods import METHODS
from dynamos.network import Output


class Agent(nn.Module):
    """Policy logits (N, C) of a feature map (N, Cin, H, W)."""

    def __init__(self, channels_in: int, channels: int, hidden_dim_ratio: int) -> None:
        super().__init__()
        self.pw_conv = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        hidden = channels // hidden_dim_ratio
        self.prototype = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The pooled map z times sigmoid(W2 relu(W1 z + b1) + b2)."""
        z = F.adaptive_avg_pool2d(self.bn(self.pw_conv(x)), 1).flatten(1)
        return z * torch.sigmoid(self.prototype(z))


class Gate(nn.Module):
    """A gate that samples in training and thresholds at evaluation."""

    def __init__(self, channels_in: int, channels: int, config: TrainConfig) -> None:
        super().__init__()
        self.channel_net = Agent(channels_in, channels, config.hidden_dim_ratio)
        self.temperature, self.threshold = config.temperature, config.inf_thresh

    def forward(self, x: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """(policy logits (N, C), actions (N, C), log-probability (N,))."""
        v = self.channel_net(x)
        p = torch.sigmoid(v / self.temperature)
        if self.training:
            drawn = torch.rand_like(p) if noise is None else noise
            actions = (drawn < p).float().detach()
        else:
            actions = (p >= self.threshold).float()
        bernoulli = torch.distributions.Bernoulli(logits=v / self.temperature, validate_args=False)
        return v, actions, bernoulli.log_prob(actions).sum(1)


class Block(nn.Module):
    """A basic residual block, gated or not."""

    def __init__(
        self, channels_in: int, channels: int, stride: int, config: TrainConfig, gated: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.gated = gated
        if gated:
            self.gate1 = Gate(channels_in, channels, config)
            self.gate2 = Gate(channels, channels, config)

    def forward(
        self,
        x: Tensor,
        noise: list[Tensor | None],
        gate_results: list[tuple[Tensor, Tensor, Tensor]],
    ) -> Tensor:
        """The block's output; `gate_results` receives the results of its gates."""
        h = self.bn1(self.conv1(x))
        if self.gated:
            gate_results.append(self.gate1(x, noise[len(gate_results)]))
            h = h * gate_results[-1][1][:, :, None, None]
        h = F.relu(h)
        y = self.bn2(self.conv2(h)) + self.shortcut(x)
        if self.gated:
            gate_results.append(self.gate2(h, noise[len(gate_results)]))
            y = y * gate_results[-1][1][:, :, None, None]
        return F.relu(y)


class PlainResNet(nn.Module):
    """The dense or the gated network, as docs/explanation/method.md describes it."""

    def __init__(self, config: TrainConfig, num_classes: int) -> None:
        super().__init__()
        nf, gated = config.nf, METHODS[config.model].gated
        self.gated = gated
        self.conv1 = nn.Conv2d(3, nf, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(nf)
        self._features = nn.Sequential(
            self.conv1,
            self.bn1,
            nn.ReLU(),
            nn.ModuleList([Block(nf, nf, 1, config, False), Block(nf, nf, 1, config, False)]),
            nn.ModuleList(
                [Block(nf, 2 * nf, 2, config, gated), Block(2 * nf, 2 * nf, 1, config, gated)]
            ),
        )
        self.linear = nn.Linear(2 * nf, num_classes)
        self.classifier = self.linear

    @property
    def num_policy_logits(self) -> int:
        """Number D of policy logits."""
        return 4 * self.linear.in_features if self.gated else 0

    @property
    def noise_shape(self) -> tuple[int, int]:
        """(G, C) of the noise that a trainer passes.

        G is 0, because this network draws its noise itself.
        """
        return 0, self.linear.in_features

    def forward(self, images: Tensor, noise: Tensor | None = None, bypass: bool = False) -> Output:
        """Output of images (N, 3, H, W); `noise` (N, 4, C) decides sampled actions.

        It has no warm-up.
        """
        assert not bypass
        given = noise is not None and noise.shape[1] > 0
        drawn: list[Tensor | None] = [
            noise[:, g] if given and noise is not None else None for g in range(4)
        ]
        x = F.relu(self.bn1(self.conv1(images)))
        gate_results: list[tuple[Tensor, Tensor, Tensor]] = []
        for stage in (self._features[3], self._features[4]):
            assert isinstance(stage, nn.ModuleList)
            for block in stage:
                x = block(x, drawn, gate_results)
        logits = self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
        if not gate_results:
            none = logits.new_zeros(len(images), 0)
            return Output(logits, none, none.reshape(len(images), 0, self.linear.in_features), none)
        return Output(
            logits,
            torch.cat([v for v, _, _ in gate_results], 1),
            torch.stack([a for _, a, _ in gate_results], 1),
            torch.stack([p for _, _, p in gate_results], 1),
        )


def rotate_singly(pixels: Tensor, degrees: Tensor) -> Tensor:
    """Grey images (N, 1, H, W) uint8, turned counter-clockwise by PIL, one at a time."""
    turned = [
        np.asarray(Image.fromarray(image[0].numpy()).rotate(float(angle)))
        for image, angle in zip(pixels, degrees, strict=True)
    ]
    return torch.from_numpy(np.stack(turned))[:, None]
