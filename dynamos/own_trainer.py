"""A trainer in a user's file, FILE.py:NAME, as a run.

The user's class trains in its own way. After each task it yields a function from images to logits,
which is evaluated here as every network is.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dynamos.config import TrainConfig, default
from dynamos.data import as_input
from dynamos.device import pick_device
from dynamos.errors import NonFiniteError, UserError
from dynamos.evaluation import BATCH, Evaluation, evaluate, task_result
from dynamos.macs import Macs
from dynamos.methods.own import facts
from dynamos.metrics import EpochReading, TaskResult
from dynamos.network import Output
from dynamos.runs import Run, refuse_other_run
from dynamos.streams import Stream
from dynamos.user_code import code_hashes, load

Predict = Callable[[Tensor], Tensor]
# Fields that act in this package's own steps and networks.
UNUSED = ("average_decay", "readings", "log_every", "augment", "network", "gated_stages")


class OwnTrainer(Protocol):
    """A trainer in a user's file. It is constructed with (config, stream, **hyperparameters)."""

    def __iter__(self) -> Iterator[Predict]:
        """Train the tasks that are left; after each, yield images (N, 3, H, W) -> logits (N, K)."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on, as tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class OwnRun(Run):
    """One run of a user's trainer.

    While the user's code works, the global random generators of Python, numpy and torch have this
    run's state, which starts at config.seed and is part of `state_dict`. So runs that take turns in
    one process do not disturb each other, and a resumed run repeats.

    Attributes:
        results: TaskResults so far.
        untrained, channel_use, curve: as of a run of this package; a user's trainer has none.
    """

    untrained: dict[str, list[float]] | None = None
    channel_use: np.ndarray | None = None

    def __init__(self, config: TrainConfig, stream: Stream) -> None:
        """Make the user's trainer. Raises UserError if it does not fit."""
        self.config = config = config.whole()
        for name in UNUSED:
            if getattr(config, name) != default(name):
                raise UserError(
                    f"{name} {getattr(config, name)} has no effect with the trainer "
                    f"{config.model}; leave it out."
                )
        self.device, self.stream = pick_device(config.device), stream
        self.method = facts(config.model)
        torch.set_num_threads(config.threads)
        torch.use_deterministic_algorithms(config.deterministic)
        self.results: list[TaskResult] = []
        self.epoch_readings: list[EpochReading] = []
        self.curve: list[dict[str, float]] = []
        made = cast(Any, load(config.model, "trainer"))
        for name in ("state_dict", "load_state_dict"):
            if not callable(getattr(made, name, None)):
                raise UserError(f"the trainer {config.model} has no method `{name}`.")
        outside = _random_state()
        random.seed(config.seed)
        np.random.seed(config.seed % 2**32)
        torch.manual_seed(config.seed)
        self._random = _random_state()
        _set_random_state(outside)
        with self._own_random_numbers():
            self._trainer: OwnTrainer = made(config, stream, **config.method)
        self._tasks: Iterator[Predict] | None = None
        self._predict: Predict | None = None
        self._code = code_hashes([config.model, config.dataset])

    def run_task(self) -> TaskResult:
        """Let the user's trainer learn the next task, and evaluate it."""
        started = time.perf_counter()
        with self._own_random_numbers():
            if self._tasks is None:
                self._tasks = iter(self._trainer)
            predict = next(self._tasks, None)
        if predict is None:
            raise UserError(
                f"the trainer {self.config.model} ends after {len(self.results)} of "
                f"{self.n_tasks} tasks."
            )
        self._predict, trained = predict, time.perf_counter()
        result = self._result(predict, trained - started)
        self.results.append(result)
        return result

    def _result(self, predict: Predict, seconds: float) -> TaskResult:
        started, task = time.perf_counter(), len(self.results)
        with self._own_random_numbers():
            evaluated = [self._evaluate(predict, t) for t in range(min(task + 2, self.n_tasks))]
            count = Macs(self._macs(predict), 0, (), ())
        return task_result(
            self.config,
            self.stream,
            count,
            evaluated,
            [r.class_il_row for r in self.results],
            None,
            train_loss=None,
            train_accuracy=None,
            steps=int(getattr(self._trainer, "steps", 0)),
            train_seconds=seconds,
            eval_seconds=time.perf_counter() - started,
        )

    def _evaluate(self, predict: Predict, task: int) -> Evaluation:
        def forward(pixels: Tensor, white: int) -> Output:
            logits = self._logits(predict, pixels, white)
            none = logits.new_zeros(len(logits), 0)
            return Output(logits, none, none.reshape(len(logits), 0, 0), none)

        found = evaluate(forward, self.stream, task, self.config.temperature)
        if found is None:
            done = len(self.results)
            raise NonFiniteError(
                f"logits became non-finite in task {done + 1}", self.config.to_dict()
            )
        return found

    def _logits(self, predict: Predict, pixels: Tensor, white: int) -> Tensor:
        logits = predict(as_input(pixels, white))
        wanted = len(pixels), self.stream.num_classes
        if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(
                f"the trainer {self.config.model} yields a function that returns {shape} for "
                f"{wanted[0]} images; it must return logits of shape {wanted}."
            )
        return logits.detach().float()

    @torch.inference_mode()
    def logits(self) -> list[Tensor]:
        """Return the logits (N, K) of each task's evaluation images, after a task."""
        predict = self._predict
        assert predict is not None, "no task is learned yet"
        with self._own_random_numbers():
            return [
                self._logits(predict, part.pixels, part.white)
                for images in self.stream.evaluation
                for part in images.parts(BATCH)
            ]

    def _macs(self, predict: Predict) -> int:
        """Multiply-accumulates of an image, by torch's counter."""
        part = self.stream.evaluation[0].first(1)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            self._logits(predict, part.pixels, part.white)
        return int(counter.get_total_flops()) // 2

    def state_dict(self) -> dict[str, Any]:
        """Return the run's whole state, as tensors and plain values."""
        return {
            "config": self.config.to_dict(),
            "data": [self.stream.data_hash, self.stream.split_hash],
            "code": self._code,
            "trainer": self._trainer.state_dict(),
            "random": self._random,
            "results": [r.to_dict() for r in self.results],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned, before the first task of this object.

        Raises UserError if it belongs to another configuration or to other images.
        """
        refuse_other_run(state, self.config, self.stream)
        assert self._tasks is None, "the user's iterator has started"
        with self._own_random_numbers():
            self._trainer.load_state_dict(state["trainer"])
        self._random = state["random"]
        self.results = [TaskResult.from_dict(r) for r in state["results"]]

    @contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        """Give the global generators this run's state while the context lasts."""
        outside = _random_state()
        _set_random_state(self._random)
        try:
            yield
        finally:
            self._random = _random_state()
            _set_random_state(outside)


def _random_state() -> dict[str, Any]:
    """The state of the global generators, as tensors and plain values."""
    version, numbers, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    return {
        "random": [version, list(numbers), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *map(_plain, rest)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def _plain(value: Any) -> float:
    return float(value) if isinstance(value, float) else int(value)


def _set_random_state(state: dict[str, Any]) -> None:
    version, numbers, gauss = state["random"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_initialized():
        torch.cuda.set_rng_state_all([part.cpu() for part in state["cuda"]])
