"""Runs to be measured, and the clock."""

import gc
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.cohorts.speed import alone, stream, together
from benchmarks.gpu.rows import Row, append
from dynamos.config import TrainConfig, preset
from dynamos.streams import Stream
from dynamos.trainer import Trainer

Step = Callable[[], None]


@dataclass(frozen=True)
class Bench:
    """A part of the benchmark at work.

    Attributes:
        dry: use tiny runs on the CPU.
        data_path: folder of MNIST, if there is one.
        folder: folder for the files of the benchmark.
        file: file for the part's rows.
    """

    dry: bool
    data_path: Path | None
    folder: Path
    file: Path

    @property
    def device(self) -> torch.device:
        """The device to measure."""
        return torch.device("cpu" if self.dry else "cuda")

    @property
    def size(self) -> int:
        """Images are size x size."""
        return 8 if self.dry else 28

    @property
    def least_seconds(self) -> float:
        """Seconds that a measurement lasts at least."""
        return 0.1 if self.dry else 1.0

    def add(self, row: Row) -> None:
        """Write a row."""
        append(self.file, row)
        print(row, flush=True)

    def config(self, seed: int = 0, **changes: Any) -> TrainConfig:
        """A run of the preset of seq-mnist at buffer 500, with settings that do not diverge."""
        tiny = {"nf": 4, "hidden_dim_ratio": 4, "buffer_size": 50} if self.dry else {}
        own = {
            "dataset": "seq-digits",
            "n_epochs": 100_000,
            "warmup": False,
            "device": self.device.type,
            "lr": 0.01,
            "policy_penalty": -10.0,
            "seed": seed,
        }
        return TrainConfig.from_dict(preset("seq-mnist", 500) | own | tiny | changes)

    def stream(self, size: int | None = None) -> Stream:
        """The digits as one task, on the device."""
        return stream(size or self.size, self.device)

    def measure(
        self,
        what: str,
        build: Callable[[], Step],
        runs: int = 1,
        size: int | None = None,
        note: str = "",
    ) -> None:
        """Add the row of a step, or of the error with which it failed.

        Args:
            what: first cell of the row.
            build: returns the step.
            runs: number of runs that it trains.
            size: size of the images.
            note: last cell; a step_mode that is not available is added to it.
        """
        size = size or self.size
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with self.tried(what, size), warnings_of_steps() as warnings:
            step = build()
            seconds = self.seconds(step)
            notes = [note, *dict.fromkeys(warnings)]
            self.add(
                Row(
                    what=what,
                    size=size,
                    runs=runs,
                    seconds=seconds,
                    mib=self.mib,
                    note="; ".join(filter(None, notes)),
                )
            )
            del step
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def tried(self, what: str, size: int | None = None) -> Iterator[None]:
        """Make an error a row; raise it if the device cannot be used any more."""
        try:
            yield
        except Exception as error:
            logging.exception(what)
            text = f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            self.add(Row(what=what, size=size, note=text))
            if "CUDA error" in text:
                raise

    @property
    def mib(self) -> float | None:
        """Largest memory of tensors since the last measurement; None on a CPU."""
        return torch.cuda.max_memory_allocated() / 2**20 if self.device.type == "cuda" else None

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, step: Step) -> float:
        """Median seconds of a step, over rounds after each of which the device is waited for."""
        for _ in range(5):  # a graph is recorded at the fourth
            step()
        once = max(self._round(step, 1), 1e-5)
        each = max(1, min(50, round(self.least_seconds / 5 / once)))
        took, began = list[float](), time.perf_counter()
        while len(took) < 3 or time.perf_counter() - began < self.least_seconds:
            took.append(self._round(step, each))
        return statistics.median(took)

    def _round(self, step: Step, steps: int) -> float:
        self.wait()
        began = time.perf_counter()
        for _ in range(steps):
            step()
        self.wait()
        return (time.perf_counter() - began) / steps


def run(config: TrainConfig, images: Stream) -> Trainer:
    """A run whose buffer is full, and that is not evaluated before it trains."""
    trainer = Trainer(config, images)
    zeros = [0.0] * trainer.n_tasks
    trainer.untrained = {"class_il": zeros, "task_il": zeros}
    fill(trainer)
    return trainer


def fill(trainer: Trainer) -> None:
    """Fill a run's buffer with images of its first task."""
    buffer, images = trainer.buffer, trainer.stream.train[0]
    index = torch.arange(buffer.capacity + 1, device=images.labels.device) % len(images)
    buffer.load_state_dict(
        {
            "images": images.pixels[index],
            "labels": images.labels[index],
            "logits": torch.zeros_like(buffer.logits),
            "policy_logits": torch.zeros_like(buffer.policy_logits),
            "seen": torch.tensor(3 * buffer.capacity),
        }
    )


def one(config: TrainConfig, images: Stream) -> Step:
    """A step of one run."""
    return alone(run(config, images))


def many(configs: Sequence[TrainConfig], images: Stream) -> Step:
    """A step of a cohort."""
    return together([run(config, images) for config in configs])


@contextmanager
def warnings_of_steps() -> Iterator[list[str]]:
    """Yield a list that collects the warnings of a step_mode that is not available."""
    found: list[str] = []

    class Collect(logging.Handler):
        """A handler that keeps messages."""

        def emit(self, record: logging.LogRecord) -> None:
            """Keep a message about step_mode."""
            if "step_mode" in record.getMessage():
                found.append(record.getMessage())

    handler, log = Collect(logging.WARNING), logging.getLogger("dynamos")
    log.addHandler(handler)
    try:
        yield found
    finally:
        log.removeHandler(handler)
