"""Packing of a node: its workers, and the trials that each of them trains as one program.

It is measured on one node of each kind before a session's first trial. All trials of a sweep train
equally many steps, so the packing with the most steps a second has the most trials an hour.
"""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dynamos.config import TrainConfig
from dynamos.errors import NonFiniteError, RunError, UserError
from dynamos.methods.hyperparameters import is_trainer
from results.definition.sweep_config import SweepConfig
from results.wording import count
from tune.machines.images import RawImages, received
from tune.machines.slots import Node, fit

if TYPE_CHECKING:
    from dynamos.cohort import Cohort
    from dynamos.trainer import Trainer

WORKERS = (1, 2, 4, 8, 16)  # workers on a GPU to try
COHORTS = (1, 2, 4, 8, 16, 32, 64, 128)  # trials of a worker to try
PROBE_SECONDS = 10.0  # of training, for each packing
FILL_SECONDS = 2.0  # of training before, while buffers fill
START_SECONDS = 300.0  # limit until the workers of a packing are ready
GAIN = 1.05  # least speed-up at which more trials are worth their memory
MEMORY = 0.9  # share of the memory, of a GPU or a machine, that trials may fill


class Packing(NamedTuple):
    """The workers that train at a time, on each GPU or else on the node, and their trials."""

    workers: int
    cohort: int  # trials of a worker


class _Probe:
    """A worker that trains as those of a sweep do."""

    def __init__(self, base: TrainConfig, seeds: int, images: dict[str, RawImages] | None) -> None:
        import torch

        from dynamos.device import pick_device
        from dynamos.streams import load_stream

        if is_trainer(base.model):
            raise UserError(
                f"the trainer {base.model} shows no steps to measure; give a number in place of "
                "auto."
            )
        self._cuda = torch.cuda if base.device.startswith("cuda") else None
        # the first steps, without gates, are faster than the others
        self._config, self._seeds = base.replace(warmup=False), seeds
        self._stream = load_stream(self._config, pick_device(base.device), images=received(images))
        self._made = 0
        self.train(1, 1.0)

    def train(self, trials: int, seconds: float) -> float:
        """Train so many trials as one program; return the steps per second of all runs."""
        from dynamos.cohort import Cohort

        alone = self._config.step_mode == "compile"
        cohort = Cohort([self._run() for _ in range(1 if alone else trials * self._seeds)])
        self._steps(cohort, min(FILL_SECONDS, seconds))
        return self._steps(cohort, seconds)

    def memory(self) -> float:
        """The share of memory in use by all processes, of the GPU or else of the machine."""
        if self._cuda is not None:
            free, total = self._cuda.mem_get_info()
            return float(1 - free / total)
        lines = Path("/proc/meminfo").read_text().splitlines()
        size = {name: float(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
        return 1 - size["MemAvailable"] / size["MemTotal"]

    def _steps(self, cohort: "Cohort", seconds: float) -> float:
        """The steps per second of a cohort's runs.

        With one thread of a CPU they are CPU seconds, so that other programs do not count.
        """
        of_cpu = self._cuda is None and self._config.threads == 1
        clock = time.process_time if of_cpu else time.monotonic
        steps, end, began = 0, time.monotonic() + seconds, clock()
        while steps == 0 or time.monotonic() < end:
            wanted = {slot: self._next(cohort, slot) for slot in cohort.runs}
            cohort.step(wanted)
            steps += len(wanted)
        if self._cuda is not None:
            self._cuda.synchronize()
        return steps / (clock() - began)

    def _next(self, cohort: "Cohort", slot: int) -> Any:
        """The next step of a slot's run, or of a new run if it has ended."""
        while True:
            with suppress(NonFiniteError):
                if not cohort.runs[slot].done and (step := cohort.next(slot)) is not None:
                    return step
                if not cohort.runs[slot].done:
                    continue
            cohort.release(slot)
            cohort.put(slot, self._run())

    def _run(self) -> "Trainer":
        from dynamos.trainer import Trainer

        self._made += 1
        run = Trainer(self._config.replace(seed=self._made), self._stream)
        zeros = [0.0] * run.n_tasks  # evaluations before training would count too much
        run.untrained = {"class_il": zeros, "task_il": zeros}
        return run


def measure(
    config: SweepConfig,
    node: Node,
    images: dict[str, RawImages] | None,
    interrupted: Callable[[], bool],
) -> dict[Packing, float]:
    """Steps a second of all runs on a node, or on one of its GPUs, by packing.

    It tries more trials in a worker (if `cohort` is auto) and more workers on a GPU (if
    `gpus_per_trial` is auto) as long as they are faster. Packings that do not fit the memory or the
    CPUs are left out, and so are all packings after an interrupt. Raises RunError if a single trial
    cannot train.
    """
    found = dict[Packing, float]()
    shared, first = ray.put(images), 1
    for workers in WORKERS if config.pack_gpus else (_workers(config, node),):
        if found and (interrupted() or workers * config.cpus_per_trial > node.cpus):
            break
        cohorts = [k for k in COHORTS if k >= first] if config.pack_cohorts else [config.cohort]
        probes = _probes(config, node, workers, shared)
        try:
            room = _climb(probes, workers, cohorts, interrupted, found)
        except ray.exceptions.RayError as error:  # out of memory or out of time: too many trials
            if not found:
                said = str(error).strip().splitlines()[-1]
                raise RunError(
                    f"a trial on {'a GPU of ' if config.gpus_per_trial else ''}{node.host}, to "
                    f"measure its speed, failed: {said}"
                ) from None
            break
        finally:
            for one in probes:
                ray.kill(one)
        best = best_packing(found)
        if best.workers != workers or not room:
            break
        first = max(best.cohort // 2, 1)
    return found


def best_packing(found: Mapping[Packing, float]) -> Packing:
    """The packing with the most steps a second.

    More trials are chosen only if they are faster by more than GAIN.
    """
    fewest_first = sorted(found, key=lambda p: (p.workers * p.cohort, p.workers))
    chosen = fewest_first[0]
    for packing in fewest_first:
        if found[packing] > GAIN * found[chosen]:
            chosen = packing
    return chosen


def words(config: SweepConfig, packing: Packing) -> str:
    """A packing in words."""
    said = [f"{packing.workers} {'workers' if config.pack_cohorts else 'trials'} on each"]
    if not config.pack_gpus:
        said = []
    if config.pack_cohorts:
        said.append(f"{count(packing.cohort, 'trial')} in a worker")
    return ", ".join(said)


def rates(config: SweepConfig, found: Mapping[Packing, float]) -> str:
    """The steps per second that were measured, in words."""
    if not config.pack_cohorts:
        by, names = "number of trials", [str(p.workers) for p in found]
    elif not config.pack_gpus:
        by, names = "trials in a worker", [str(p.cohort) for p in found]
    else:
        by, names = "workers x trials", [f"{p.workers}x{p.cohort}" for p in found]
    values = zip(names, found.values(), strict=True)
    return f"by {by}: " + ", ".join(f"{name}: {rate:.1f}" for name, rate in values)


def kind_of_machine(node: Node) -> str:
    """The kind of a node: of its GPUs if they are used, else its processor."""
    if node.gpus:
        return f"GPU {node.kind or 'of unknown kind'}"
    on = NodeAffinitySchedulingStrategy(node.id, soft=False)
    remote: Any = ray.remote(processor).options(num_cpus=0, scheduling_strategy=on)
    return f"{ray.get(remote.remote())} ({count(int(node.cpus), 'CPU')})"


def processor() -> str:
    """The processor of this machine."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _workers(config: SweepConfig, node: Node) -> int:
    """The configured number of workers on a GPU, or else on a node."""
    share = config.gpus_per_trial
    if share:
        return max(int(1 / share + 1e-9), 1)
    return fit(node.cpus, node.gpus, config.cpus_per_trial, share)


def _probes(config: SweepConfig, node: Node, workers: int, images: Any) -> list[Any]:
    """Workers on a node that are being made."""
    on = NodeAffinitySchedulingStrategy(node.id, soft=False)
    share = max(config.gpus_per_trial, 1) / workers if config.gpus_per_trial else 0
    probe: Any = ray.remote(_Probe).options(
        num_cpus=config.cpus_per_trial, num_gpus=share, scheduling_strategy=on
    )
    return [probe.remote(config.base, config.seeds, images) for _ in range(workers)]


def _climb(
    probes: Sequence[Any],
    workers: int,
    cohorts: Sequence[int],
    interrupted: Callable[[], bool],
    found: dict[Packing, float],
) -> bool:
    """Add the steps per second with more and more trials in each worker, while they are faster.

    Returns True if the memory has room for twice as many workers.
    """

    def memory() -> float:
        calls = [one.memory.remote() for one in probes]
        return max(map(float, ray.get(calls, timeout=START_SECONDS)))

    before, taken = memory(), 0.0
    of_these = dict[Packing, float]()
    for cohort in cohorts:
        if of_these and interrupted():
            break
        packing = Packing(workers, cohort)
        calls = [one.train.remote(cohort, PROBE_SECONDS) for one in probes]
        of_these[packing] = found[packing] = sum(ray.get(calls, timeout=START_SECONDS))
        taken = memory()
        no_faster = best_packing(of_these) not in [*of_these][-2:]  # the last two
        if 2 * taken - before > MEMORY or no_faster:
            break
    return 2 * taken <= MEMORY
