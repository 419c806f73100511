"""A run: the training of one configuration with one seed, whatever program trains it."""

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from dynamos.config import TrainConfig, differing
from dynamos.errors import UserError
from dynamos.methods import Method
from dynamos.methods.hyperparameters import is_trainer
from dynamos.metrics import EpochReading, TaskResult
from dynamos.user_code import changed_code

if TYPE_CHECKING:
    import numpy as np
    import torch

    from dynamos.streams import Stream
    from dynamos.trainer import Trainer


class Run(Protocol):
    """A run, as sweeps and recorders use it: a Trainer, or a run of a user's trainer.

    Both inherit from it what they share.

    Attributes:
        config, stream, device, method: as of `dynamos.trainer.Trainer`.
        results: TaskResults so far.
        epoch_readings: EpochReadings so far; [] if none are taken.
        curve: points of the training curve; [] if none are taken.
        channel_use: (K, G, C) after the last task of a gated network; else None.
    """

    config: TrainConfig
    stream: "Stream"
    device: "torch.device"
    method: Method
    results: list[TaskResult]
    epoch_readings: list[EpochReading]
    curve: list[dict[str, float]]
    untrained: dict[str, list[float]] | None
    channel_use: "np.ndarray | None"

    @property
    def n_tasks(self) -> int:
        """Number of tasks of the stream."""
        return len(self.stream.tasks)

    @property
    def done(self) -> bool:
        """True if every task has been learned and evaluated."""
        return len(self.results) == self.n_tasks

    def __iter__(self) -> Iterator[TaskResult]:
        """Train the tasks that are left; yield the result of each."""
        while not self.done:
            yield self.run_task()

    def run_task(self) -> TaskResult:
        """Train the next task, or the rest of one, and evaluate."""

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, as tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; UserError if it is of another run."""


def build_run(
    config: TrainConfig,
    stream: "Stream",
    on_step: Callable[["Trainer"], None] | None = None,
    read_epochs: Collection[int] = (),
) -> Run:
    """Return the run of a configuration: of the Trainer, or of a user's trainer, FILE.py:NAME.

    `on_step` is called after every step of the Trainer, and `read_epochs` are the epochs after
    which it takes readings; a user's trainer has no steps or epochs that show.
    """
    if is_trainer(config.model):
        from dynamos.own_trainer import OwnRun

        return OwnRun(config, stream)
    from dynamos.trainer import Trainer

    return Trainer(config, stream, on_step=on_step, read_epochs=read_epochs)


def refuse_other_run(state: dict[str, Any], config: TrainConfig, stream: "Stream") -> None:
    """Raise UserError if a state belongs to another configuration, images or code of the user."""
    others = differing(state["config"], config.to_dict())
    if others:
        raise UserError(
            f"the checkpoint belongs to another configuration; these differ: {', '.join(others)}."
        )
    if state["data"] != [stream.data_hash, stream.split_hash]:
        raise UserError("the checkpoint was made with other images.")
    if changed := changed_code(state.get("code", {})):  # older states have none
        raise UserError(f"the file of {changed[0]} has changed since the checkpoint was made.")
