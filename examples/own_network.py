"""A network of one's own: a multilayer perceptron, as usual on MNIST.

dynamos --model er --network examples/own_network.py:mlp
dynamos-sweep run --space plain --set model=er network=examples/own_network.py:mlp
"""

from torch import nn


def mlp(config, num_classes):
    """Return a module: images (N, 3, H, W) from 0 to 1 -> logits (N, K)."""
    wide = 8 * config.nf
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(8),
        nn.Flatten(),
        nn.Linear(3 * 8 * 8, wide),
        nn.ReLU(),
        nn.Linear(wide, wide),
        nn.ReLU(),
        nn.Linear(wide, num_classes),
    )
