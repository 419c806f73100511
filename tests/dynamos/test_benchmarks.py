"""The shares of kernels, passes and peak in benchmarks/train_speed.py."""

import time
from typing import Any

import pytest
import torch

from benchmarks.train_speed import Racer, kernel_share, of_peak, passes
from dynamos.config import TrainConfig
from dynamos.trainer import Trainer


def racer() -> Racer:
    r = Racer(
        Trainer(
            TrainConfig(
                nf=16,
                batch_size=32,
                minibatch_size=32,
                classes_per_task=5,
                n_epochs=20,
                device="cpu",
            )
        )
    )
    r.run(3)
    return r


def burn(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def slowed(racer: Racer) -> None:
    """Add Python work to each step, outside the passes."""
    pause = racer.trainer.on_step
    assert pause is not None

    def on_step(trainer: Trainer) -> None:
        burn(0.3)
        pause(trainer)

    racer.trainer.on_step = on_step


@pytest.mark.slow
def test_python_between_the_operations_counts_as_what_it_is() -> None:
    """Python work outside the passes lowers both shares; inside the passes it lowers only the share
    of kernels."""
    outside, inside = racer(), racer()
    slowed(outside)
    loss = inside.trainer._loss

    def burnt(*arguments: Any) -> Any:
        burn(0.3)
        return loss(*arguments)

    inside.trainer._loss = burnt
    kernels, both = kernel_share(outside, 1, 2)
    assert 0 < kernels < 0.5 and 0 < both < 0.5
    kernels, both = kernel_share(inside, 1, 2)
    assert 0 < kernels < 0.5 < both < 1


@pytest.mark.slow
def test_operations_outside_forward_and_backward_are_no_kernels_of_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    r = racer()
    step, big = r.trainer.optimizer.step, torch.rand(800, 800)

    def slow() -> None:
        until = time.perf_counter() + 0.3
        while time.perf_counter() < until:
            big @ big
        step()

    monkeypatch.setattr(r.trainer.optimizer, "step", slow)
    kernels, both = kernel_share(r, 1, 2)
    assert 0 < kernels < 0.5 and 0 < both < 0.5


def test_both_passes_are_timed_and_nothing_is_left_behind() -> None:
    r = racer()
    loss, backward = r.trainer._loss, torch.Tensor.backward
    with passes(r.trainer) as took:
        r.run(4)
    assert len(took) == 8 and all(seconds > 0 for seconds in took)
    assert r.trainer._loss == loss and torch.Tensor.backward is backward


@pytest.mark.slow
def test_a_step_that_waits_is_farther_from_the_peak() -> None:
    quick, slow = racer(), racer()
    slowed(slow)
    assert 0 < of_peak(slow, 3, 2) < of_peak(quick, 3, 2) / 2 < 1
