"""Multiply-accumulates of networks."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain import PlainResNet
from dynamos.config import TrainConfig
from dynamos.depths import NETWORKS
from dynamos.macs import Macs, counted
from dynamos.metrics import Matrix
from dynamos.network import Block, build_network


def macs(size: int = 8, classes: int = 10, **changes: object) -> Macs:
    network = build_network(TrainConfig(nf=4, hidden_dim_ratio=4).replace(**changes), classes)
    return Macs.of(network, size, size)


PAPER = macs(28, nf=32, hidden_dim_ratio=16)


def two_stages(kept: Matrix, nf: int, classes: int, ratio: int, size: int) -> Matrix:
    """The closed formula for the network of the paper, agents included."""
    full, half, wide = size**2, ((size + 1) // 2) ** 2, 2 * nf
    k1, k2, k3, k4 = kept.T
    agents = nf * wide * full + 3 * wide * wide * half + 4 * 2 * wide * (wide // ratio)
    first = 9 * 3 * nf * full + 4 * 9 * nf * nf * full
    second = half * (9 * nf * k1 + 9 * k1 * k2 + nf * k2 + 9 * k2 * k3 + 9 * k3 * k4)
    return np.asarray(agents + first + second + k4 * classes)


def test_those_of_the_paper_s_network() -> None:
    # method.md section 7
    assert PAPER.dense / 1e6 == pytest.approx(55.3, abs=0.05)
    assert PAPER.agents / 1e6 == pytest.approx(4.0, abs=0.05)
    assert PAPER.channels == (64, 64, 64, 64)
    all_kept, none, some = (PAPER.expected(np.full((1, 4), k))[0] for k in (64, 0, 44.8))
    assert all_kept == PAPER.dense + PAPER.agents
    assert none < some < all_kept
    assert 1 - some / all_kept == pytest.approx(0.22, abs=0.03)  # "at most about 22 %"


@pytest.mark.parametrize("size", [8, 11, 28])
def test_the_count_is_the_closed_formula_for_the_paper_s_network(size: int) -> None:
    kept = np.random.default_rng(0).integers(0, 9, (50, 4)).astype(float)
    found = macs(size, 7).expected(kept)
    assert np.array_equal(found, two_stages(kept, 4, 7, 4, size))


@pytest.mark.parametrize("model, size", [("sgd", 8), ("dynamos", 8), ("dynamos", 11)])
def test_the_count_is_that_of_the_literal_network(model: str, size: int) -> None:
    network = PlainResNet(TrainConfig(model=model, nf=8, hidden_dim_ratio=4), 10)
    ours = macs(size, nf=8, model=model)
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.rand(1, 3, size, size))
    assert counter.get_total_flops() == 2 * (ours.dense + ours.agents)


@pytest.mark.parametrize("stages", ["last", "all", "1"])
@pytest.mark.parametrize("network", NETWORKS)
def test_layers_add_up_to_what_torch_counts(network: str, stages: str) -> None:
    config = TrainConfig(nf=4, hidden_dim_ratio=4, network=network, gated_stages=stages)
    dense = build_network(config.replace(model="sgd"), 10)
    found = macs(9, network=network, gated_stages=stages)
    assert found.dense == counted(dense, 9, 9) == sum(layer.macs for layer in found.layers)
    every = np.asarray([found.channels], float)
    assert found.expected(every)[0] == found.dense + found.agents
    assert Macs.of(dense, 9, 9) == Macs(found.dense, 0, (), ())


def test_a_layer_after_a_gate_skips_what_the_gate_dropped() -> None:
    """All channels of stage 1 are dropped: its second layers and what reads them cost nothing."""
    found = macs(8, network="resnet8", gated_stages="1")
    network = build_network(
        TrainConfig(nf=4, hidden_dim_ratio=4, network="resnet8", gated_stages="1"), 10
    )
    after = network.blocks[1]
    assert isinstance(after, Block) and after.shortcut is not None
    first, second = network.blocks[0], network.blocks[2]
    assert isinstance(first, Block) and isinstance(second, Block) and second.shortcut is not None
    # stem, the second convolution of stage 2, all of stage 3, classifier
    live = 64 * network.conv.weight.numel() + 16 * after.conv2.weight.numel()
    shortcut = second.shortcut[0].weight
    assert isinstance(shortcut, torch.Tensor)
    live += 4 * (second.conv1.weight.numel() + second.conv2.weight.numel() + shortcut.numel())
    live += network.linear.weight.numel()
    assert found.expected(np.zeros((1, 2)))[0] == live + found.agents
