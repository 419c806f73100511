"""Augmentation: crop and flip."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.augment import DRAWS, crop_flip
from dynamos.config import TrainConfig
from dynamos.errors import UserError
from dynamos.methods import METHODS
from dynamos.methods.learner import Learner
from dynamos.methods.step import Loss, Step
from dynamos.trainer import Trainer
from tests.helpers.small import assert_same_outcome, outcome, resumed, small

MOST = float(np.nextafter(np.float32(1), np.float32(0)))  # the largest number that is drawn


def test_a_crop_and_a_flip_by_hand() -> None:
    image = torch.tensor([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]], dtype=torch.uint8)
    same, low, high, flipped = (
        crop_flip(image, torch.tensor([draws]))[0, 0].tolist()
        # the draw x is the offset floor(9 x); 4 is the middle
        for draws in ((0.5, 0.5, 0.5), (0.34, 0.6, 0.9), (0.5, MOST, 0.5), (0.5, 0.6, 0.49))
    )
    assert same == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert low == [[0, 0, 0], [2, 3, 0], [5, 6, 0]]  # a row down, a column to the left
    assert high == [[0, 0, 0]] * 3  # the crop lies in the padding
    assert flipped == [[0, 3, 2], [0, 6, 5], [0, 9, 8]]  # the flip follows the crop


@given(st.data(), st.sampled_from([(1, 8, 8), (3, 9, 11), (3, 32, 32)]), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_each_image_is_a_window_of_its_padded_self(
    data: st.DataObject, shape: tuple[int, int, int], n: int
) -> None:
    number = st.floats(0, MOST, width=32)
    draws = torch.tensor([[data.draw(number) for _ in range(DRAWS)] for _ in range(n)])
    pixels = torch.randint(
        0, 256, (n, *shape), generator=torch.Generator().manual_seed(n), dtype=torch.uint8
    )
    found = crop_flip(pixels, draws)
    assert found.dtype == torch.uint8 and found.shape == pixels.shape
    padded = np.pad(pixels.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)))
    for i, (row, column, flip) in enumerate(draws.tolist()):
        y, x = int(np.float32(row) * np.float32(9)), int(np.float32(column) * np.float32(9))
        assert 0 <= y <= 8 and 0 <= x <= 8
        window = padded[i, :, y : y + shape[1], x : x + shape[2]]
        assert np.array_equal(found[i].numpy(), window[..., ::-1] if flip < 0.5 else window)


def test_offsets_and_flips_are_equally_likely() -> None:
    draws = torch.rand(20_000, DRAWS, generator=torch.Generator().manual_seed(0))
    place = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    place[0, 0, 4, 4] = 1  # the middle stays in every crop
    found = crop_flip(place.expand(len(draws), -1, -1, -1), draws)[:, 0]
    assert bool((found.flatten(1).sum(1) == 1).all())
    shares = found.float().mean(0)
    assert bool(((shares - 1 / 81).abs() < 0.004).all())
    corner = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    corner[0, 0, 4, 3:5] = torch.tensor([1, 2], dtype=torch.uint8)
    rows = crop_flip(corner.expand(len(draws), -1, -1, -1), draws).amax(2)[:, 0].int()
    both = rows[(rows.amax(1) == 2) & ((rows == 1).any(1))]
    flipped = (both.argmax(1) < (both == 1).int().argmax(1)).float().mean()
    assert float(flipped) == pytest.approx(0.5, abs=0.02)


def seen(config: TrainConfig) -> tuple[Trainer, list[Step]]:
    """(a finished run, the steps that its method saw)."""
    trainer, steps = Trainer(config), list[Step]()
    plain = trainer._learner

    def loss(step: Step) -> Loss:
        steps.append(step)
        return plain.loss(step)

    trainer._learner = Learner(loss, *dataclasses.astuple(plain)[1:])
    list(trainer)
    return trainer, steps


@pytest.mark.parametrize("model", METHODS)
def test_a_method_sees_augmented_images_and_the_buffer_keeps_the_stored_ones(model: str) -> None:
    trainer, steps = seen(small(model=model, augment="crop-flip", warmup=False))
    stored = {p.numpy().tobytes() for part in trainer.stream.train for p in part.pixels}
    for step in steps:
        changed = [p.numpy().tobytes() not in stored for p in step.images.pixels]
        assert sum(changed) > len(changed) / 2
        if step.replay is not None:
            assert any(p.numpy().tobytes() not in stored for p in step.replay.images)
    assert all(
        p.numpy().tobytes() in stored for p in trainer.buffer.images[: int(trainer.buffer.held)]
    )
    assert METHODS[model].rehearses == (trainer.buffer.held > 0)


def test_augmentation_changes_a_run_and_evaluates_on_unchanged_images() -> None:
    plain, augmented = Trainer(small()), Trainer(small(augment="crop-flip"))
    before = [e.pixels.clone() for e in augmented.stream.evaluation]
    assert outcome(plain)[0] != outcome(augmented)[0]
    assert plain.untrained == augmented.untrained
    now = [e.pixels for e in augmented.stream.evaluation]
    assert all(torch.equal(a, b) for a, b in zip(before, now, strict=True))


@pytest.mark.parametrize("changes", [{}, {"model": "agem"}, {"model": "derpp"}])
def test_a_resumed_run_draws_the_same_crops(changes: dict[str, Any], tmp_path: Path) -> None:
    config = small(augment="crop-flip", **changes)
    assert_same_outcome(*resumed(config, 6, tmp_path))


@pytest.mark.parametrize("dataset", ["digits-360", "seq-digits"])
def test_every_size_of_batch_is_augmented(dataset: str) -> None:
    of = dict(n_tasks=None, max_train_images_per_task=108) if dataset == "digits-360" else {}
    assert outcome(Trainer(small(dataset=dataset, augment="crop-flip", batch_size=7, **of)))[0]


def test_other_augmentations_are_refused() -> None:
    with pytest.raises(UserError, match="unknown augment 'crop'. Did you mean 'crop-flip'"):
        TrainConfig(augment="crop")
    assert TrainConfig().augment == "none"
