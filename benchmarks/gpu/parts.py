"""Parts of the benchmark: each is a process with a time limit."""

import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.cohorts.speed import alone
from benchmarks.gpu.bench import Bench, fill, many, one, run
from benchmarks.gpu.checks import part_check, tf32
from benchmarks.gpu.rows import BASE, Row
from benchmarks.gpu.sharing import part_processes
from benchmarks.gpu.whole import part_mnist, part_sweep, part_sweep_cohort
from benchmarks.train_speed import plain

MODES = ("eager", "graph")


@dataclass(frozen=True)
class Part:
    """A part and the seconds after which it is stopped."""

    run: Callable[[Bench], None]
    limit: float


def part_machine(bench: Bench) -> None:
    """Name and versions of the device."""
    name, notes = platform.processor() or platform.machine(), [f"{os.cpu_count()} CPU cores"]
    if bench.device.type == "cuda":
        name = torch.cuda.get_device_name()
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        notes += [f"{memory:.0f} GiB", f"driver {_driver()}", f"CUDA {torch.version.cuda}"]
        notes += [f"cuDNN {torch.backends.cudnn.version()}"]
    notes += [f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    bench.add(Row(what=name, note=", ".join(notes)))


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, text=True, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.split()[0]


def part_one(bench: Bench) -> None:
    """One run, eager and by graph, in several precisions.

    Without a word about it, torch computes convolutions in TF32 and products in fp32.
    """

    def row(what: str, **changes: Any) -> None:
        bench.measure(what, lambda: one(bench.config(**changes), bench.stream()))

    row(BASE)
    row("graph", step_mode="graph")
    for mode in MODES:
        row(f"{mode}, bf16", step_mode=mode, precision="bf16")
        with tf32(convolutions=True, products=True):
            row(f"{mode}, TF32 in products, too", step_mode=mode)
        with tf32(convolutions=False, products=False):
            row(f"{mode}, no TF32", step_mode=mode)
    row("eager, again")


def part_cohorts(bench: Bench) -> None:
    """Cohorts of several sizes, eager and by graph."""
    _cohorts(bench, (1, 2) if bench.dry else (1, 8, 32, 128), bench.size)
    for runs in (2,) if bench.dry else (32, 128):
        _cohort(bench, runs, bench.size, "graph", precision="bf16")


def part_small(bench: Bench) -> None:
    """The same for images of 8x8."""
    if not bench.dry:
        bench.measure(BASE, lambda: one(bench.config(), bench.stream(8)), size=8)
    _cohorts(bench, (2,) if bench.dry else (1, 32, 128), 8)


def _cohorts(bench: Bench, sizes: tuple[int, ...], size: int) -> None:
    for runs in sizes:
        for mode in MODES:
            _cohort(bench, runs, size, mode)


def _cohort(bench: Bench, runs: int, size: int, mode: str, **changes: Any) -> None:
    # settings differ, as in a sweep
    configs = [
        bench.config(
            seed, step_mode=mode, alpha=0.1 * (seed % 7), keep_ratio=0.5 + 0.05 * (seed % 8)
        )
        for seed in range(runs)
    ]
    configs = [config.replace(**changes) for config in configs]
    what = ", ".join([f"cohort of {runs}", mode, *changes.values()])
    bench.measure(what, lambda: many(configs, bench.stream(size)), runs, size)


def part_plain(bench: Bench) -> None:
    """The plain version of the method, which has the original program's operations."""

    def build() -> Callable[[], None]:
        trainer = plain(bench.config(), bench.stream())
        zeros = [0.0] * trainer.n_tasks
        trainer.untrained = {"class_il": zeros, "task_il": zeros}
        fill(trainer)
        return alone(trainer)

    bench.measure("plain version (benchmarks/plain.py)", build, note="eager")


def part_evaluation(bench: Bench) -> None:
    """Evaluation of a network on the images of a task."""
    trainer = run(bench.config(), bench.stream())
    images = len(trainer.stream.evaluation[0])

    def evaluate() -> None:
        trainer._evaluate(0)

    seconds = bench.seconds(evaluate)
    note = f"{1000 * seconds:.1f} ms, {images / seconds:.0f} images/s"
    bench.add(Row(what=f"evaluation of {images} images", size=bench.size, mib=bench.mib, note=note))


def part_compile(bench: Bench) -> None:
    """One run with step_mode compile."""
    if bench.dry:
        note = "skipped: compiling takes minutes on a CPU"
        bench.add(Row(what="compile", size=bench.size, note=note))
        return
    bench.measure("compile", lambda: one(bench.config(step_mode="compile"), bench.stream()))


# The most important first: parts for which no time is left are not run.
PARTS = {
    "machine": Part(part_machine, 30),
    "check": Part(part_check, 60),
    "one": Part(part_one, 60),
    "cohorts": Part(part_cohorts, 90),
    "plain": Part(part_plain, 30),
    "processes": Part(part_processes, 90),
    "sweep": Part(part_sweep, 120),
    "sweep-cohort": Part(part_sweep_cohort, 120),
    "mnist": Part(part_mnist, 120),
    "evaluation": Part(part_evaluation, 30),
    "small": Part(part_small, 60),
    "compile": Part(part_compile, 120),
}
