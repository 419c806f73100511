from typing import Any

import pytest
import torch
from torch import Tensor

from dynamos.config import TrainConfig
from dynamos.errors import UserError
from dynamos.network import build_network
from dynamos.sparse import Predictor, skipping_pays
from tests.dynamos.test_network import twins
from tests.helpers.small import gates


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.1])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("size", [8, 11])
def test_a_single_image_has_the_prediction_of_the_network(
    threshold: float, skip: bool, size: int
) -> None:
    network, _ = twins(
        TrainConfig(nf=8, hidden_dim_ratio=4, inf_thresh=min(threshold, 1.0), temperature=0.5)
    )
    for gate in gates(network):
        gate.threshold = threshold
    network.eval()
    predictor = Predictor(network, (size, size), skip)
    images = torch.rand(6, 3, size, size)
    with torch.inference_mode():
        out = network(images)
    for i, image in enumerate(images):
        said = predictor(image)
        assert torch.equal(said.actions, out.actions[i].bool())
        torch.testing.assert_close(said.logits, out.logits[i], rtol=1e-3, atol=1e-4)
    if threshold in (0.3, 0.5, 0.7):
        assert 0 < out.actions.mean() < 1


@pytest.mark.parametrize("skip", [True, False])
def test_sampled_actions_have_the_policys_probabilities(skip: bool) -> None:
    network, _ = twins(TrainConfig(nf=4, hidden_dim_ratio=4, temperature=0.5, infer_mode="sample"))
    network.eval()
    predictor, image = Predictor(network, (8, 8), skip), torch.rand(3, 8, 8)
    torch.manual_seed(0)
    kept = torch.stack([predictor(image).actions for _ in range(1000)]).float().mean(0)
    with torch.inference_mode():
        p = torch.sigmoid(network(image[None], torch.zeros(1, 4, 8)).policy_logits / 0.5).reshape(
            4, 8
        )
    torch.testing.assert_close(kept[0], p[0], rtol=0, atol=0.07)  # 4.4 standard deviations at most
    assert (p[0] - 0.5).abs().max() > 0.1, "no policy here tells keeping from dropping"


def test_gates_that_drop_a_whole_layer() -> None:
    network, _ = twins(TrainConfig(nf=8, hidden_dim_ratio=4, temperature=3.0))
    network.eval()
    gates(network)[0].threshold = gates(network)[3].threshold = 1.1
    image = torch.rand(3, 8, 8)
    with torch.inference_mode():
        out = network(image[None])
    said = Predictor(network, (8, 8), skip=True)(image)
    torch.testing.assert_close(said.logits, out.logits[0])
    torch.testing.assert_close(said.logits, network.linear.bias)


@pytest.mark.parametrize("skip", [True, False])
def test_later_training_does_not_change_a_predictor(skip: bool) -> None:
    network, _ = twins(TrainConfig(nf=8, hidden_dim_ratio=4, temperature=0.5))
    predictor = Predictor(network.eval(), (8, 8), skip)
    image = torch.rand(3, 8, 8)
    before = predictor(image)
    with torch.no_grad():
        for value in (*network.parameters(), *network.buffers()):
            value.copy_(torch.full_like(value, -3))
    after = predictor(image)
    assert torch.equal(before.logits, after.logits) and torch.equal(before.actions, after.actions)


def test_dropped_channels_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = twins(TrainConfig(nf=8, hidden_dim_ratio=4, inf_thresh=0.5))
    predictor = Predictor(network.eval(), (8, 8), skip=True)
    seen = []
    real = torch.nn.functional.conv2d

    def conv2d(x: Tensor, w: Tensor, *more: Any) -> Tensor:
        seen.append(tuple(w.shape[:2]))
        return real(x, w, *more)

    monkeypatch.setattr("dynamos.sparse.F.conv2d", conv2d)
    k1, k2, k3, k4 = predictor(torch.rand(3, 8, 8)).actions.sum(1).tolist()
    assert 0 < min(k1, k2, k3, k4) and min(k1, k2, k3, k4) < 16
    assert seen[5:] == [(k1, 8), (k2, k1), (k2, 8), (k3, k2), (k4, k3)]


def test_a_dense_network_is_refused_and_small_maps_are_masked() -> None:
    with pytest.raises(UserError, match="dense"):
        Predictor(build_network(TrainConfig(model="sgd"), 10), (28, 28))
    assert not skipping_pays(64, (8, 8)) and skipping_pays(256, (28, 28))
