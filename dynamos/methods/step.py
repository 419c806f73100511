"""A step of a method: what it gets and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from dynamos.buffer import Replay
from dynamos.config import TrainConfig
from dynamos.data import Images
from dynamos.network import Output


@dataclass(frozen=True, slots=True)
class Step:
    """Input of a training step.

    Attributes:
        config: configuration of the run.
        images: N stream images.
        noise: (N, G, C), decides the gates of the stream images.
        replay: M images from the buffer, or `draws` * M; None if the buffer is empty.
        replay_noise: noise of the replayed images.
        gating: True if gates decide; False in a dense network and in a warm-up.
        forward: (pixels, noise) -> output of the network, with gradients; a dense network needs no
            noise. A batch normalisation takes its statistics from the images of one call. With
            `network=N` it is the output of another network.
    """

    config: TrainConfig
    images: Images
    noise: Tensor
    replay: Replay | None
    replay_noise: Tensor | None
    gating: bool
    forward: Callable[..., Output]


class Loss(NamedTuple):
    """Result of a training step."""

    value: Tensor  # scalar; its gradient is the step's
    output: Output  # on the stream images
    terms: dict[str, Tensor]  # parts of the value, by names of trainer.TERMS
