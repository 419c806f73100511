"""Runs that are small enough for tests."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dynamos import checkpoints
from dynamos.cohort import Cohort
from dynamos.config import TrainConfig
from dynamos.metrics import TaskResult
from dynamos.network import Gate, ResNet
from dynamos.streams import Stream
from dynamos.trainer import Trainer

SMALL: dict[str, Any] = dict(
    nf=4,
    hidden_dim_ratio=4,
    dataset="seq-digits",
    max_train_images_per_task=40,
    buffer_size=20,
    n_tasks=2,
    evaluate_on="validation",
    device="cpu",
    warmup=True,
    warmup_steps=2,
)
TIMINGS = ("train_seconds", "eval_seconds")


def small(**changes: Any) -> TrainConfig:
    """A run of two tasks of four steps, the first two with warm-up, which takes a fraction of a
    second."""
    return TrainConfig(**(SMALL | changes))


def small_flags(**changes: Any) -> list[str]:
    """Return the configuration of `small` as command-line flags."""
    return [f"--set={name}={value}" for name, value in (SMALL | changes).items()]


def facts(result: TaskResult) -> dict[str, Any]:
    """Return the part of a result that must be equal to the last digit in a repeated run."""
    return {
        name: value for name, value in dataclasses.asdict(result).items() if name not in TIMINGS
    }


def outcome(trainer: Trainer) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """Train a run to its end; return (facts of every task, final network)."""
    for _ in trainer:
        pass
    return [facts(r) for r in trainer.results], trainer.network.state_dict()


def together(configs: Sequence[TrainConfig], stream: Stream | None = None) -> list[Trainer]:
    """Return the runs of these configurations, trained as one cohort, as the seeds of a trial."""
    runs = [Trainer(config, stream) for config in configs]
    for _ in Cohort(runs):
        pass
    return runs


def in_slot(config: TrainConfig, slot: int, of: int, base: TrainConfig | None = None) -> Trainer:
    """Return the run of this configuration, trained alone in a slot of a cohort of so many. `base`
    is a configuration to make the cohort of."""
    cohort = Cohort([Trainer(base or config) for _ in range(of)])
    for free in range(of):
        cohort.release(free)
    run = Trainer(config, cohort._first.stream)
    cohort.put(slot, run)
    for _ in cohort:
        pass
    return run


def resumed(config: TrainConfig, steps: int, folder: Path) -> tuple[Trainer, Trainer]:
    """(a finished run, one that continues from its checkpoint after so many steps)."""

    def save(trainer: Trainer) -> None:
        if trainer.steps == steps:
            checkpoints.save(trainer.state_dict(), folder)

    whole, again = Trainer(config, on_step=save), Trainer(config)
    list(whole)
    state = checkpoints.latest(folder)
    assert state is not None
    again.load_state_dict(state)
    return whole, again


def gates(network: ResNet) -> list[Gate]:
    """Return the gates of a network, in order."""
    return [module for module in network.modules() if isinstance(module, Gate)]


def assert_same_outcome(a: Trainer, b: Trainer) -> None:
    (results_a, network_a), (results_b, network_b) = outcome(a), outcome(b)
    assert results_a == results_b
    assert network_a.keys() == network_b.keys()
    for name, value in network_a.items():
        assert torch.equal(value, network_b[name]), name
