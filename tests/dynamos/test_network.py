from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.plain import Agent as PlainAgent
from benchmarks.plain import PlainResNet
from dynamos.config import TrainConfig
from dynamos.errors import UserError
from dynamos.methods import METHODS
from dynamos.network import (
    Agent,
    PooledNorm,
    ResNet,
    build_network,
    convolution,
    load_original,
    original_state_dict,
)


def twins(config: TrainConfig, num_classes: int = 10) -> tuple[ResNet, PlainResNet]:
    """Return (our network, the plain network) with equal random weights and running statistics."""
    network = build_network(config, num_classes)
    torch.manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training: no statistic at its start value
            assert module.running_mean is not None and module.running_var is not None
            for value in (module.weight, module.running_var):
                nn.init.uniform_(value, 0.5, 1.5)
            for value in (module.bias, module.running_mean):
                nn.init.normal_(value, std=0.3)
    plain = PlainResNet(config, num_classes)
    plain.load_state_dict(original_state_dict(network), strict=True)
    return network, plain


def agents(channels_in: int = 6, channels: int = 16, ratio: int = 4) -> tuple[Agent, PlainAgent]:
    torch.manual_seed(1)
    plain = PlainAgent(channels_in, channels, ratio)
    nn.init.uniform_(plain.bn.weight, 0.5, 1.5)
    nn.init.normal_(plain.bn.bias)
    ours = Agent(channels_in, channels, ratio)
    names = zip(ours.state_dict(), plain.state_dict().values(), strict=True)
    ours.load_state_dict({name: value.clone() for name, value in names})
    return ours, plain


@pytest.mark.parametrize("n", [1, 10])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_agent_equals_the_literal_one_in_training(n: int, layout: torch.memory_format) -> None:
    ours, plain = agents()
    for _ in range(3):
        x = torch.randn(n, 6, 7, 5) * 2 + 1
        inputs = [x.clone(memory_format=layout).requires_grad_(), x.clone().requires_grad_()]
        out = [agent(image) for agent, image in zip((ours, plain), inputs, strict=True)]
        torch.testing.assert_close(out[0], out[1], rtol=1e-4, atol=1e-5)
        direction = torch.randn(n, 16)
        for agent, value in zip((ours, plain), out, strict=True):
            agent.zero_grad()
            (value * direction).sum().backward()
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-3, atol=1e-5)
        for (name, a), b in zip(ours.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=2e-4, msg=name)
    for our, their in zip(ours.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(our, their, rtol=1e-5, atol=1e-5)
    assert ours.bn.num_batches_tracked == 3


@pytest.mark.parametrize("n", [1, 3])
def test_the_derivative_written_out_is_the_derivative(n: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(n, 4, 3, 2, dtype=torch.float64) + 1
    weight, gamma, beta = torch.randn(5, 4), torch.rand(5) + 0.5, torch.randn(5)
    inputs = [value.double().requires_grad_() for value in (x, weight, gamma, beta)]

    def pooled(*values: Any) -> Any:
        return PooledNorm.apply(*values, 1e-5)[0]  # type: ignore[no-untyped-call]

    assert torch.autograd.gradcheck(pooled, inputs)


def test_agent_equals_the_literal_one_at_evaluation() -> None:
    ours, plain = agents()
    x = torch.randn(9, 6, 5, 5)
    ours(x), plain(x)
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", METHODS)
@pytest.mark.parametrize("nf", [4, 8])
def test_network_equals_the_literal_one(model: str, nf: int) -> None:
    network, plain = twins(TrainConfig(model=model, nf=nf, hidden_dim_ratio=4))
    images, noise = torch.rand(6, 3, 11, 11), torch.rand(6, 4, 2 * nf)
    for training in (True, False):
        network.train(training), plain.train(training)
        ours, theirs = network(images, noise), plain(images, noise)
        assert torch.equal(ours.actions, theirs.actions)
        for a, b in (
            (ours.logits, theirs.logits),
            (ours.policy_logits, theirs.policy_logits),
            (ours.log_probs, theirs.log_probs),
        ):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    if METHODS[model].gated:
        assert 0 < ours.actions.mean() < 1


@pytest.mark.parametrize("model", ["dynamos", "sgd"])
def test_gradients_equal_the_literal_networks(model: str) -> None:
    network, plain = twins(TrainConfig(model=model, nf=8, hidden_dim_ratio=4))
    images, noise = torch.rand(6, 3, 12, 12), torch.rand(6, 4, 16)
    for net in (network, plain):
        out = net.train()(images, noise)
        (
            out.logits.square().sum() + out.policy_logits.sin().sum() + 0.1 * out.log_probs.sum()
        ).backward()
    ours = {name: p.grad for name, p in network.named_parameters()}
    theirs = build_network(TrainConfig(model=model, nf=8, hidden_dim_ratio=4), 10)
    gradients = {name: p.grad for name, p in plain.named_parameters(remove_duplicate=False)}
    load_original(theirs, plain.state_dict() | gradients)  # from the original's names to ours
    for name, value in theirs.named_parameters():
        torch.testing.assert_close(ours[name], value.data, rtol=1e-2, atol=1e-3, msg=name)


def test_sizes() -> None:
    gated, dense = build_network(TrainConfig(), 10), build_network(TrainConfig(model="sgd"), 10)
    assert sum(p.numel() for p in gated.parameters()) == 187578
    assert (len(original_state_dict(gated)), len(original_state_dict(dense))) == (110, 70)
    out = gated.eval()(torch.rand(2, 3, 28, 28))
    assert (out.logits.shape, out.policy_logits.shape, out.actions.shape) == (
        (2, 10),
        (2, 256),
        (2, 4, 64),
    )


def test_original_names() -> None:
    state = original_state_dict(build_network(TrainConfig(nf=8), 10))
    assert torch.equal(state["conv1.weight"], state["_features.0.weight"])
    assert torch.equal(state["linear.bias"], state["classifier.bias"])
    for name in (
        "_features.3.1.conv2.weight",
        "_features.4.0.shortcut.0.weight",
        "_features.4.0.shortcut.1.bias",
        "_features.4.1.gate2.channel_net.pw_conv.weight",
        "_features.4.0.gate1.channel_net.bn.running_var",
        "_features.4.0.gate1.channel_net.prototype.2.bias",
        "_features.1.num_batches_tracked",
    ):
        assert name in state
    assert not any(
        name.startswith(("_features.3.0.gate", "_features.3.0.shortcut")) for name in state
    )


def test_a_model_file_that_does_not_fit_is_refused() -> None:
    gated, dense = (
        build_network(TrainConfig(nf=8), 10),
        build_network(TrainConfig(nf=8, model="sgd"), 10),
    )
    with pytest.raises(UserError, match="unknown _features.4.0.gate1"):
        load_original(dense, original_state_dict(gated))
    with pytest.raises(UserError, match="missing _features.4.0.gate1"):
        load_original(gated, original_state_dict(dense))
    with pytest.raises(UserError, match="shape"):
        load_original(gated, original_state_dict(build_network(TrainConfig(nf=8), 9)))


def test_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    a, b, c = (build_network(TrainConfig(nf=8, seed=seed), 10).linear.weight for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("model", ["dynamos", "sgd"])
def test_one_image_alone(training: bool, model: str) -> None:
    network = build_network(TrainConfig(model=model, nf=4, hidden_dim_ratio=4), 10).train(training)
    out = network(torch.rand(1, 3, 8, 8))
    out.logits.sum().backward()
    assert out.logits.isfinite().all()


def test_task_losses_do_not_reach_the_agents_but_the_policy_does_reach_the_ungated_layers() -> None:
    network = build_network(TrainConfig(nf=4, hidden_dim_ratio=4), 10).train()
    out = network(torch.rand(5, 3, 8, 8))
    out.logits.square().sum().backward(retain_graph=True)
    assert all(
        p.grad is None or not p.grad.any() for n, p in network.named_parameters() if ".agent." in n
    )
    network.zero_grad()
    out.log_probs.sum().backward()
    assert network.conv.weight.grad is not None and network.conv.weight.grad.any()


def test_bypass_keeps_every_channel_and_leaves_the_agents_alone() -> None:
    network = build_network(TrainConfig(nf=4, hidden_dim_ratio=4), 10).train()
    dense = build_network(TrainConfig(nf=4, hidden_dim_ratio=4, model="sgd"), 10).train()
    dense.load_state_dict({n: v for n, v in network.state_dict().items() if "gate" not in n})
    images = torch.rand(5, 3, 8, 8)
    out = network(images, bypass=True)
    assert torch.equal(out.logits, dense(images).logits)
    assert out.actions.all() and not out.policy_logits.any()
    assert all(m.bn.num_batches_tracked == 0 for m in network.modules() if isinstance(m, Agent))


def test_sampled_actions_come_with_their_probability() -> None:
    network = build_network(
        TrainConfig(nf=4, hidden_dim_ratio=4, infer_mode="sample", temperature=0.5), 10
    ).eval()
    image = torch.rand(1, 3, 8, 8).expand(4000, -1, -1, -1)
    with torch.inference_mode():
        out = network(image)
    p = torch.sigmoid(out.policy_logits[0, :8] / 0.5)
    assert torch.allclose(out.actions[:, 0].mean(0), p, atol=0.04)
    a = out.actions[0, 0]
    assert torch.isclose(
        out.log_probs[0, 0], (a * p.log() + (1 - a) * (1 - p).log()).sum(), atol=1e-4
    )


def test_the_threshold_is_the_least_probability_kept() -> None:
    images = torch.rand(5, 3, 8, 8)
    kept = {}
    for threshold in (0.0, 0.3, 0.5, 0.9):
        config = TrainConfig(nf=4, hidden_dim_ratio=4, inf_thresh=threshold, temperature=0.02)
        network = build_network(config, 10).eval()
        out = network(images)
        p = torch.sigmoid(out.policy_logits.reshape(5, 4, 8) / 0.02)
        assert torch.equal(out.actions, (p >= threshold).float())
        # the first gate sees the same input whatever the threshold
        kept[threshold] = out.actions[:, 0].mean()
    assert kept[0.0] == 1 and kept[0.0] >= kept[0.3] >= kept[0.5] >= kept[0.9] < 1


@pytest.mark.parametrize("channels_in", [1, 4, 7, 8, 9])
def test_a_narrow_pointwise_convolution_takes_its_pixels_first(
    channels_in: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    strides = []

    def conv2d(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | tuple[int, int] = 1,
        padding: int = 0,
    ) -> Tensor:
        strides.append(stride)
        down, right = torch.nn.modules.utils._pair(stride)
        return torch.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x[:, :, ::down, ::right])

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    conv, x = nn.Conv2d(channels_in, 10, 1, 2, bias=False), torch.randn(10, channels_in, 9, 8)
    expected = conv2d(x, conv.weight, stride=2)
    torch.testing.assert_close(convolution(x, conv, conv.weight), expected)
    assert strides == [2, 1 if channels_in < 8 else (2, 2)]
