"""Packing of trials on a GPU: measured on one node of each kind before a session's first trial.

All trials of a sweep train equally many steps, so the packing with the most steps a second has the
most trials an hour.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dynamos.config import TrainConfig
from dynamos.errors import RunError
from results.definition.sweep_config import SweepConfig
from tune.machines.images import RawImages, received
from tune.machines.slots import Node

if TYPE_CHECKING:
    from dynamos.trainer import Trainer

PACKINGS = (1, 2, 4, 8, 16)  # trials on a GPU to try
PROBE_SECONDS = 10.0  # of training, for each packing
START_SECONDS = 300.0  # limit until the processes of a packing are ready
GAIN = 1.05  # least speed-up at which more trials on a GPU are worth their memory
MEMORY = 0.9  # share of a GPU's memory that trials may fill


class _Probe:
    """A process that trains as a trial does."""

    def __init__(self, base: TrainConfig, images: dict[str, RawImages] | None) -> None:
        import torch

        from dynamos.device import pick_device
        from dynamos.streams import load_stream

        self._cuda = torch.cuda if base.device.startswith("cuda") else None
        # the first steps, without gates, are faster than the others
        self._config = base.replace(warmup=False)
        self._stream = load_stream(self._config, pick_device(base.device), images=received(images))
        self._until, self._steps = 0.0, 0
        self._trainer: Trainer | None = None
        self.train(1.0)

    def train(self, seconds: float) -> float:
        """Train for `seconds` and return the steps per second."""
        from dynamos.trainer import Trainer

        self._until, self._steps, began = time.monotonic() + seconds, 0, time.monotonic()
        while time.monotonic() < self._until:
            if self._trainer is None or self._trainer.done:
                self._trainer = Trainer(self._config, self._stream, on_step=self._count)
            with suppress(TimeoutError):
                self._trainer.run_task()
        return self._steps / (time.monotonic() - began)

    def memory(self) -> float:
        """The share of its GPU's memory in use, by this process and all others."""
        if self._cuda is None:
            return 0.0
        free, total = self._cuda.mem_get_info()
        return float(1 - free / total)

    def _count(self, _: Any) -> None:
        self._steps += 1
        if time.monotonic() >= self._until:
            raise TimeoutError


def measure(
    config: SweepConfig,
    node: Node,
    images: dict[str, RawImages] | None,
    interrupted: Callable[[], bool],
) -> dict[int, float]:
    """Steps a second of all trials on a node's GPU together, by the number of trials.

    Packings that do not fit its memory or its CPUs are left out, and so are all packings after
    an interrupt. Raises RunError if a single trial cannot train.
    """
    found = dict[int, float]()
    shared = ray.put(images)
    for trials in PACKINGS:
        if found and (interrupted() or trials * config.cpus_per_trial > node.cpus):
            break
        on = NodeAffinitySchedulingStrategy(node.id, soft=False)
        probe: Any = ray.remote(_Probe).options(
            num_cpus=config.cpus_per_trial, num_gpus=1 / trials, scheduling_strategy=on
        )
        probes = [probe.remote(config.base, shared) for _ in range(trials)]
        try:
            ray.get([one.memory.remote() for one in probes], timeout=START_SECONDS)
            found[trials] = sum(
                ray.get([one.train.remote(PROBE_SECONDS) for one in probes], timeout=START_SECONDS)
            )
            taken = max(ray.get([one.memory.remote() for one in probes], timeout=START_SECONDS))
        except ray.exceptions.RayError as error:  # out of memory or out of time: too many trials
            if not found:
                said = str(error).strip().splitlines()[-1]
                raise RunError(
                    f"a trial on a GPU of {node.host}, to measure its speed, failed: {said}"
                ) from None
            break
        finally:
            for one in probes:
                ray.kill(one)
        if 2 * taken > MEMORY or best_packing(found) != trials:
            break
    return found


def best_packing(found: Mapping[int, float]) -> int:
    """Number of trials on a GPU with the most steps a second.

    More trials are chosen only if they are faster by more than GAIN.
    """
    chosen = min(found)
    for trials in sorted(found):
        if found[trials] > GAIN * found[chosen]:
            chosen = trials
    return chosen
