import math
from random import Random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynamos import losses
from dynamos.config import TrainConfig
from dynamos.network import Output


def outputs(n: int = 6, k: int = 5, g: int = 4, c: int = 8, seed: int = 0) -> tuple[Output, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    actions = (torch.rand(n, g, c, generator=draws) < 0.6).float()
    out = Output(
        torch.randn(n, k, generator=draws),
        torch.randn(n, g * c, generator=draws),
        actions,
        -torch.rand(n, g, generator=draws),
    )
    return out, torch.randint(k, (n,), generator=draws)


def test_reward_by_hand() -> None:
    # kept 0.75 0 / 1 0.25
    actions = torch.tensor([[[1.0, 1, 1, 0], [0, 0, 0, 0]], [[1, 1, 1, 1], [1, 0, 0, 0]]])
    reward = losses.gate_reward(
        actions, torch.tensor([True, False]), keep_ratio=0.5, policy_penalty=-10.0
    )
    torch.testing.assert_close(reward, torch.tensor([[-0.0625, -0.25], [-2.5, -0.625]]))


@pytest.mark.parametrize("kind", [torch.bool, torch.int64])
def test_reward_of_actions_that_are_no_floats(kind: torch.dtype) -> None:
    actions = torch.tensor([[[1, 1, 1, 0], [0, 0, 0, 0]], [[1, 1, 1, 1], [1, 0, 0, 0]]]).to(kind)
    reward = losses.gate_reward(
        actions, torch.tensor([True, False]), keep_ratio=0.5, policy_penalty=-10.0
    )
    assert torch.equal(reward, torch.tensor([[-0.0625, -0.25], [-2.5, -0.625]]))


def test_reward_keeps_double_precision() -> None:
    actions = torch.zeros(2, 1, 8, dtype=torch.float64)
    reward = losses.gate_reward(
        actions, torch.tensor([True, False]), keep_ratio=0.7, policy_penalty=-0.3
    )
    assert reward.dtype == torch.float64
    assert reward.ravel().tolist() == pytest.approx([-0.49, -0.49 * 0.3], abs=1e-15)


def test_reward_at_the_kept_ratio_costs_nothing_right_or_wrong() -> None:
    actions = torch.tensor([1.0, 0, 1, 0]).expand(2, 3, 4)
    assert not losses.gate_reward(actions, torch.tensor([True, False]), 0.5, -500.0).any()


def test_reward_has_no_gradient() -> None:
    actions = torch.rand(2, 1, 4, requires_grad=True)
    assert not losses.gate_reward(actions, torch.tensor([True, False]), 0.5, -5.0).requires_grad


def test_policy_loss_by_hand() -> None:
    log_probs, rewards = (
        torch.tensor([[-1.0, -2.0], [-3.0, -4.0]]),
        torch.tensor([[-0.5, -1.0], [0.0, -2.0]]),
    )
    assert losses.policy_loss(log_probs, rewards).item() == pytest.approx(-(0.5 + 2 + 0 + 8) / 4)


def test_policy_loss_makes_a_costly_action_less_likely() -> None:
    """REINFORCE: a step along the negative gradient lowers the log-probability of an action with a
    bad reward."""
    log_probs = torch.tensor([[-1.0]], requires_grad=True)
    losses.policy_loss(log_probs, torch.tensor([[-3.0]])).backward()
    assert log_probs.grad is not None and log_probs.grad.item() > 0


def test_prototype_loss_by_hand() -> None:
    # squared distances 4 16 20 20 16 4, D = 2
    v = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
    labels = torch.tensor([0, 0, 1, 1])
    # same: (4 + 4) / 2 = 4; different: (16 + 20 + 20 + 16) / 2 = 36
    assert losses.prototype_loss(v, labels).item() == pytest.approx(5 / 37)
    # One of the images wrong: pairs 01 same, 02 12 different.
    correct = torch.tensor([True, True, True, False])
    assert losses.masked_prototype_loss(v, labels, correct).item() == pytest.approx(
        (1 + 2) / (1 + 8 + 10)
    )


@pytest.mark.parametrize("held, value", [(0, 0), (1, 0), (2, 0), (3, 1)])
def test_prototype_loss_needs_more_than_two(held: int, value: int) -> None:
    labels = torch.zeros(held, dtype=torch.int64)
    assert losses.prototype_loss(torch.ones(held, 4), labels).item() == value
    correct = torch.arange(5) < held
    assert losses.masked_prototype_loss(torch.ones(5, 4), torch.zeros(5), correct).item() == value


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(0, 2**31), st.randoms())
def test_the_order_within_a_batch_does_not_matter(n: int, seed: int, random: Random) -> None:
    out, labels = outputs(n=n, seed=seed)
    order = list(range(n))
    random.shuffle(order)
    config = TrainConfig(policy_penalty=-7)
    turned = Output(
        *(getattr(out, name)[order] for name in ("logits", "policy_logits", "actions", "log_probs"))
    )
    for gating in (True, False):
        torch.testing.assert_close(
            losses.stream_loss(out, labels, config, gating),
            losses.stream_loss(turned, labels[order], config, gating),
            rtol=1e-4,
            atol=1e-5,
        )


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 12), st.integers(0, 2**31))
def test_prototype_loss_equals_the_sum_over_pairs(n: int, seed: int) -> None:
    out, labels = outputs(n=n, seed=seed)
    correct = losses.correctness(out, labels)
    same = different = 0.0
    for i in range(n):
        for j in range(i + 1, n):
            if correct[i] and correct[j]:
                distance = (out.policy_logits[i] - out.policy_logits[j]).square().sum().item() / 32
                same, different = (
                    same + distance * (labels[i] == labels[j]).item(),
                    different + distance * (labels[i] != labels[j]).item(),
                )
    wanted = (1 + same) / (1 + different) if correct.sum() > 2 else 0.0
    assert losses.masked_prototype_loss(out.policy_logits, labels, correct).item() == pytest.approx(
        wanted, rel=1e-4
    )


def written_out(out: Output, labels: Tensor, config: TrainConfig) -> tuple[float, float, float]:
    """Return (CE, P, T) by the formulas of method.md section 2, computed image by image."""
    n, g, c = out.actions.shape
    ce = (
        sum(
            math.log(sum(math.exp(x) for x in row)) - row[y]
            for row, y in zip(out.logits.tolist(), labels.tolist(), strict=True)
        )
        / n
    )
    p = 0.0
    for i in range(n):
        wrong = out.logits[i].argmax() != labels[i]
        for j in range(g):
            r = -((config.keep_ratio - out.actions[i, j].mean().item()) ** 2) * (
                -config.policy_penalty if wrong else 1
            )
            p += -out.log_probs[i, j].item() * r / (n * g)
    keep = losses.correctness(out, labels)
    return ce, p, losses.prototype_loss(out.policy_logits[keep], labels[keep]).item()


WEIGHTS = TrainConfig(
    keep_ratio=0.7,
    policy_penalty=-50,
    reward_weight=0.9,
    prototype_loss=0.4,
    alpha=0.3,
    beta=1.7,
    policy_alpha=0.6,
)


@pytest.mark.parametrize("n", [1, 2, 6])
@pytest.mark.parametrize("right", [None, True, False])
def test_stream_and_rehearsal_loss_are_their_terms(n: int, right: bool | None) -> None:
    out, labels = outputs(n=n, seed=3)
    if right is not None:
        labels = out.logits.argmax(1) if right else (out.logits.argmax(1) + 1) % 5
    ce, p, t = written_out(out, labels, WEIGHTS)
    assert losses.stream_loss(out, labels, WEIGHTS, True).item() == pytest.approx(
        ce + 0.9 * p + 0.4 * t, rel=1e-4
    )
    assert losses.stream_loss(out, labels, WEIGHTS, False).item() == pytest.approx(ce, rel=1e-4)
    stored, stored_policy = torch.randn_like(out.logits), torch.randn_like(out.policy_logits)
    mse, policy_mse = (
        F.mse_loss(out.logits, stored).item(),
        F.mse_loss(out.policy_logits, stored_policy).item(),
    )
    gated = losses.rehearsal_loss(out, labels, stored, stored_policy, WEIGHTS, True).item()
    assert gated == pytest.approx(
        0.3 * mse + 0.6 * policy_mse + 1.7 * (ce + 0.9 * p) + 0.4 * t, rel=1e-4
    )
    dense = losses.rehearsal_loss(out, labels, stored, stored_policy, WEIGHTS, False).item()
    assert dense == pytest.approx(0.3 * mse + 1.7 * ce, rel=1e-4)
