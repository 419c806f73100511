import pytest
import torch
from scipy.stats import chi2, chisquare
from torch import Tensor

from dynamos.buffer import Buffer, Replay


def new(capacity: int = 10, dim: int = 3) -> Buffer:
    return Buffer(capacity, (1, 2, 2), 4, dim, torch.device("cpu"))


def offer(buffer: Buffer, ids: Tensor, correct: Tensor, generator: torch.Generator) -> None:
    """Offer images whose pixels, labels and logits all hold their id."""
    n = len(ids)
    buffer.offer(
        ids[:, None, None, None].expand(n, 1, 2, 2).to(torch.uint8),
        ids,
        ids[:, None].expand(n, 4).float(),
        ids[:, None].expand(n, 3).float(),
        correct,
        torch.rand(n, dtype=torch.float64, generator=generator),
    )


def drawn(buffer: Buffer, n: int, generator: torch.Generator) -> Replay:
    """Draw from a buffer that is not empty."""
    index = buffer.drawn(n, generator)
    assert index is not None
    return buffer.take(index)


@pytest.mark.parametrize("batch", [1, 7, 20])
def test_uniform_over_the_correct_images_it_was_offered(batch: int) -> None:
    total, capacity, runs = 40, 6, 300
    generator = torch.Generator().manual_seed(batch)
    correct = torch.rand(total, generator=generator) < 0.6
    counts = torch.zeros(total)
    for _ in range(runs):
        buffer = new(capacity)
        for ids in torch.arange(total).split(batch):
            offer(buffer, ids, correct[ids], generator)
        assert buffer.drawn(100, generator) is not None
        counts += torch.bincount(buffer.labels[:capacity], minlength=total)
    assert not counts[~correct].any()
    held = counts[correct]
    assert held.sum() == runs * capacity
    # Slots of one run are drawn without replacement, which shrinks the statistic by (M - 1) / (M -
    # capacity).
    m = len(held)
    statistic = chisquare(held.numpy()).statistic * (m - 1) / (m - capacity)
    assert 0.001 < chi2.sf(statistic, m - 1) < 0.9999


def test_never_an_empty_slot() -> None:
    generator = torch.Generator().manual_seed(0)
    buffer = new(capacity=20)
    assert buffer.drawn(5, generator) is None
    seen = 0
    for ids in torch.arange(1, 201).split(5):
        correct = torch.rand(5, generator=generator) < 0.3
        offer(buffer, ids, correct, generator)
        seen += int(correct.sum())
        assert buffer.seen == seen
        index = buffer.drawn(8, generator)
        assert (index is None) == (seen == 0)
        if index is None:
            continue
        replay = buffer.take(index)
        assert len(replay.labels) == min(8, seen, 20)
        assert (replay.labels > 0).all() and len(replay.labels.unique()) == len(replay.labels)
        # The parts of an image are still stored in one slot.
        assert torch.equal(replay.images[:, 0, 0, 0].long(), replay.labels)
        assert torch.equal(replay.logits[:, 1].long(), replay.labels)
        assert torch.equal(replay.policy_logits[:, 2].long(), replay.labels)


@pytest.mark.parametrize("capacity", [1, 3, 10])
@pytest.mark.parametrize("seed", range(5))
def test_equals_algorithm_r_one_image_at_a_time(capacity: int, seed: int) -> None:
    """If images of a batch hit one slot, the last one is stored, as if they were offered one by
    one."""
    ours, theirs, mask = (torch.Generator().manual_seed(seed) for _ in range(3))
    buffer, slots, seen = new(capacity), dict[int, int](), 0
    for ids in torch.arange(120).split(12):
        correct = torch.rand(len(ids), generator=mask) < 0.7
        offer(buffer, ids, correct, ours)
        chances = torch.rand(len(ids), dtype=torch.float64, generator=theirs)
        for i, u, right in zip(ids.tolist(), chances.tolist(), correct.tolist(), strict=True):
            if right:
                slot = seen if seen < capacity else int(u * (seen + 1))
                if slot < capacity:
                    slots[slot] = i
                seen += 1
    assert buffer.labels[:capacity].tolist() == [slots[s] for s in range(capacity)]
    assert buffer.seen == seen


def test_nothing_correct_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    buffer = new()
    offer(buffer, torch.arange(5), torch.zeros(5, dtype=torch.bool), generator)
    assert buffer.drawn(3, generator) is None and buffer.seen == 0


def test_draws_are_uniform() -> None:
    generator = torch.Generator().manual_seed(3)
    buffer = new(capacity=12)
    offer(buffer, torch.arange(12), torch.ones(12, dtype=torch.bool), generator)
    counts = torch.zeros(12)
    for _ in range(2000):
        counts += torch.bincount(drawn(buffer, 4, generator).labels, minlength=12)
    assert chisquare(counts.numpy()).pvalue > 0.001


def test_a_dense_network_has_no_policy_logits_to_store() -> None:
    buffer = new(dim=0)
    generator = torch.Generator().manual_seed(0)
    ids = torch.arange(3)
    buffer.offer(
        torch.zeros(3, 1, 2, 2, dtype=torch.uint8),
        ids,
        torch.zeros(3, 4),
        torch.zeros(3, 0),
        torch.ones(3, dtype=torch.bool),
        torch.rand(3, dtype=torch.float64, generator=generator),
    )
    assert drawn(buffer, 2, generator).policy_logits.shape == (2, 0)


def test_state_goes_through() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = new(), new()
    offer(a, torch.arange(25), torch.rand(25) < 0.8, generator)
    b.load_state_dict(a.state_dict())
    states = generator.get_state()
    first = drawn(a, 6, generator)
    generator.set_state(states)
    second = drawn(b, 6, generator)
    assert torch.equal(first.labels, second.labels) and torch.equal(first.images, second.images)
