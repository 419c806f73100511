"""Networks of any depth, and gates in stages of choice."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dynamos.config import TrainConfig
from dynamos.depths import NETWORKS, stages_with_gates
from dynamos.errors import UserError
from dynamos.export import load, write
from dynamos.losses import gate_reward
from dynamos.methods import METHODS
from dynamos.network import Block, Output, build_network, load_original, original_state_dict
from dynamos.sparse import Predictor
from dynamos.trainer import Trainer
from tests.dynamos.test_cohort import assert_close, own_steps, varied
from tests.helpers.small import assert_same_outcome, gates, outcome, resumed, small, together

TINY: dict[str, Any] = dict(nf=2, hidden_dim_ratio=2)


def gated_blocks(**changes: Any) -> list[bool]:
    network = build_network(TrainConfig(**TINY | changes), 10)
    return [isinstance(b, Block) and b.gate1 is not None for b in network.blocks]


@pytest.mark.parametrize("network, stages", NETWORKS.items())
def test_a_name_counts_the_layers(network: str, stages: tuple[int, ...]) -> None:
    built = build_network(TrainConfig(model="sgd", network=network, **TINY), 10)
    found = [m for m in built.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size[0] == 3]
    assert f"resnet{len(found) + 1}" == network
    assert built.linear.in_features == 2 * 2 ** (len(stages) - 1)
    out = built.eval()(torch.rand(2, 3, 9, 9))
    assert out.logits.shape == (2, 10) and out.actions.shape[1] == 0


def test_stages_of_choice_have_gates() -> None:
    assert gated_blocks() == [False, False, True, True]
    assert gated_blocks(gated_stages="all") == [True] * 4
    assert gated_blocks(gated_stages="1") == [True, True, False, False]
    assert gated_blocks(network="resnet8", gated_stages="3, 1") == [True, False, True]
    assert gated_blocks(network="resnet18") == [False] * 6 + [True] * 2
    assert gated_blocks(model="er", gated_stages="all") == [False] * 4


def test_the_default_is_the_network_of_the_paper() -> None:
    network = build_network(TrainConfig(), 10)
    assert sum(p.numel() for p in network.parameters()) == 187_578
    assert list(network.state_dict())[:2] == ["conv.weight", "bn.weight"]
    blocks = {name.split(".")[1] for name in network.state_dict() if name.startswith("blocks.")}
    assert blocks == {*"0123"}


@pytest.mark.parametrize("text", ["", "0", "3", "1,1", "1,,2", "first", "-1", "1;2"])
def test_other_stages_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="gated_stages '.*' is not last, all or different numbers "):
        TrainConfig(gated_stages=text)
    with pytest.raises(UserError, match="from 1 to 3, the stages of resnet8"):
        stages_with_gates("4", "resnet8")


def test_an_agent_needs_a_hidden_unit_in_the_narrowest_gate() -> None:
    TrainConfig(nf=8, hidden_dim_ratio=16)
    with pytest.raises(UserError, match="with nf 8 it may be at most 8"):
        TrainConfig(nf=8, hidden_dim_ratio=16, gated_stages="all")
    with pytest.raises(UserError, match="unknown network 'resnet19'. Did you mean 'resnet18'"):
        TrainConfig(network="resnet19")


def test_gates_of_unequal_width_by_hand() -> None:
    actions = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]])
    none = torch.empty(1, 0)
    output = Output(none, none, actions, none, (2.0, 1.0))  # the first gate has two channels
    assert output.kept.tolist() == [[0.5, 0.75]]
    reward = gate_reward(actions, torch.tensor([True]), 0.25, -2.0, (2.0, 1.0))
    assert reward.tolist() == [[-0.0625, -0.25]]


@pytest.mark.parametrize("network", ["resnet10", "resnet8"])
def test_what_gates_of_unequal_width_report(network: str) -> None:
    config = small(network=network, gated_stages="all", warmup=False)
    trainer = Trainer(config)
    widths = [gate.channels for gate in gates(trainer.network)]
    assert trainer.network.gate_channels == tuple(widths) and len({*widths}) > 1
    noise = torch.rand(5, *trainer.network.noise_shape)
    out = trainer.network(torch.rand(5, 3, 8, 8), noise)
    assert out.policy_logits.shape == (5, sum(widths)) == (5, trainer.network.num_policy_logits)
    assert out.actions.shape == (5, len(widths), max(widths))
    start = 0
    for gate, width in enumerate(widths):
        own = out.policy_logits[:, start : start + width]
        start += width
        wanted = (noise[:, gate, :width] < torch.sigmoid(own / config.temperature)).float()
        assert torch.equal(out.actions[:, gate, :width], wanted)
        assert not out.actions[:, gate, width:].any()
        dist = torch.distributions.Bernoulli(logits=own / config.temperature)
        log_prob = dist.log_prob(wanted).sum(1)
        torch.testing.assert_close(out.log_probs[:, gate], log_prob)
    (results, _) = outcome(trainer)
    last = results[-1]
    assert len(last["keep_per_gate"]) == len(widths) and all(
        0 <= k <= 1 for k in last["keep_per_gate"]
    )
    assert last["keep_fraction"] == pytest.approx(np.average(last["keep_per_gate"], weights=widths))
    bypassed = trainer.network(torch.rand(2, 3, 8, 8), bypass=True)
    assert torch.equal(bypassed.kept, torch.ones(2, len(widths)))


DEEP: list[dict[str, Any]] = [
    dict(network="resnet8", gated_stages="all"),
    dict(network="resnet18", gated_stages="2,4"),
]


@pytest.mark.parametrize("changes", DEEP, ids=["resnet8", "resnet18"])
@pytest.mark.parametrize("model", METHODS)
def test_every_method_trains_every_network(model: str, changes: dict[str, Any]) -> None:
    config = small(model=model, max_train_images_per_task=30, **TINY | changes)
    (results, state) = outcome(Trainer(config))
    assert len(results) == 2 and all(bool(value.isfinite().all()) for value in state.values())


@pytest.mark.parametrize("changes", DEEP, ids=["resnet8", "resnet18"])
def test_runs_resume_exactly_and_are_exported(changes: dict[str, Any], tmp_path: Path) -> None:
    config = small(**TINY | changes, average_decay=0.5)
    whole, again = resumed(config, 6, tmp_path / "checkpoints")
    assert_same_outcome(whole, again)
    images = torch.rand(3, 3, 8, 8)
    exported = load(write(config, whole.evaluated, tmp_path / "export"))
    assert torch.equal(exported(images).logits, whole.evaluated.eval()(images).logits)
    other = build_network(config.replace(seed=1), 10)
    load_original(other, original_state_dict(whole.network))
    assert all(torch.equal(v, other.state_dict()[n]) for n, v in whole.network.state_dict().items())
    with pytest.raises(UserError, match="does not fit this network"):
        load_original(build_network(TrainConfig(**TINY), 10), original_state_dict(whole.network))


@pytest.mark.parametrize("model", ["dynamos", "sgd"])
def test_a_cohort_of_any_network_does_what_each_run_alone_does(model: str, double: None) -> None:
    more = dict(network="resnet8", gated_stages="all", log_every=4)
    own_steps(varied(model=model, minibatch_size=4, **more))


def test_whole_runs_of_a_cohort_end_where_they_end_alone(double: None) -> None:
    configs = varied(network="resnet8", gated_stages="1,3", log_every=3)
    alone = [Trainer(config) for config in configs]
    for trainer in alone:
        outcome(trainer)
    for run, trainer in zip(together(configs), alone, strict=True):
        assert_close(run, trainer, within=1e-7)


def test_channels_are_skipped_only_where_the_last_stage_alone_has_gates() -> None:
    network = build_network(TrainConfig(network="resnet8", nf=8), 10).eval()
    image = torch.rand(3, 13, 11)
    wanted = network(image[None])
    for skip in (True, False):
        found = Predictor(network, (13, 11), skip)(image)
        torch.testing.assert_close(found.logits, wanted.logits[0], rtol=1e-4, atol=1e-4)
        assert torch.equal(found.actions, wanted.actions[0].bool())
    other = build_network(TrainConfig(network="resnet8", gated_stages="all"), 10)
    with pytest.raises(UserError, match="gates in its last stage alone"):
        Predictor(other, (8, 8))


@pytest.mark.parametrize("model", ["dynamos", "sgd"])
def test_one_image_of_one_pixel_trains(model: str, double: None) -> None:
    """The maps of the last stage have one pixel, and the last batch has one image."""
    more = dict(network="resnet18", max_train_images_per_task=31, log_every=4)
    steps = own_steps(varied(model=model, minibatch_size=4, **more))
    assert {n for n, _, _ in steps} == {10, 1}


def test_the_statistics_of_one_pixel() -> None:
    network = build_network(TrainConfig(model="sgd", network="resnet18", nf=2), 10).train()
    bn = network.blocks[-1].bn2
    assert isinstance(bn, torch.nn.BatchNorm2d) and bn.running_var is not None
    torch.nn.init.constant_(bn.bias, 0.5)
    network(torch.rand(1, 3, 8, 8))
    torch.testing.assert_close(bn.running_var, torch.full((16,), 0.9))  # momentum 0.1 towards 0
    assert bn.num_batches_tracked == 1
