"""CPU seconds of a training step of a run in a cohort, divided by those of the run alone.

Run: python -m benchmarks.cohorts.speed [--sizes 8 28] [--runs 1 4 8] [--turns 9] [--set nf=8 ...]
With --operations it prints torch's profile of a step instead, in milliseconds a run.

Cohort and Trainer take turns in one process, because a shared machine's speed drifts: trust the
ratios, not the absolute times. The images are scikit-learn's digits, at 8x8 or enlarged to 28x28,
as one task of ten classes; the settings are the preset of seq-mnist at buffer 500, without warm-up,
on one thread. Every run has its own seed. The first steps, in which buffers fill, are not measured.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from dynamos.cohort import Cohort
from dynamos.config import TrainConfig, parsed_settings, preset
from dynamos.data import Images
from dynamos.streams import Stream
from dynamos.streams.sources import read
from dynamos.streams.stream import shuffled_order
from dynamos.trainer import Trainer

TURN = 5  # steps of one variant before the other's turn
FILLING = 30  # steps before the first turn
OPERATIONS = 12  # rows of a profile


def stream(size: int, device: torch.device | None = None) -> Stream:
    """Scikit-learn's digits, enlarged to size x size pixels, as one task; by default on the CPU."""
    images = read("digits", None)
    if size != 8:
        large = F.interpolate(images.pixels.float(), size=(size, size), mode="bilinear")
        pixels = (large * (255 / images.white)).round().clamp(0, 255).to(torch.uint8)
        images = Images(pixels, images.labels, 255)
    if device is not None:
        images = images.to(device)
    classes = tuple(range(10))
    return Stream("seq-digits", 10, (classes,), (images,), (images,), shuffled_order, "", None)


def alone(trainer: Trainer) -> Callable[[], None]:
    """A function that does a step of a run."""
    steps = trainer.steps_of_task()

    def step() -> None:
        images, bypass = next(steps)
        trainer._train_step(images, bypass)

    return step


def together(trainers: list[Trainer]) -> Callable[[], None]:
    """A function that does a step of a cohort."""
    cohort = Cohort(trainers)
    walks = [trainer.steps_of_task() for trainer in trainers]
    return lambda: cohort.step({slot: next(walk) for slot, walk in enumerate(walks)})


def seconds(step: Callable[[], None], count: int) -> float:
    """CPU seconds of some steps."""
    started = time.process_time()
    for _ in range(count):
        step()
    return time.process_time() - started


def steps(config: TrainConfig, size: int, runs: int) -> tuple[Callable[[], None], ...]:
    """Return (a step of a run alone, a step of a cohort), past the steps that fill buffers."""
    images = stream(size)
    trainers = [Trainer(config.replace(seed=seed), images) for seed in range(runs + 1)]
    for trainer in trainers:
        zeros = [0.0] * trainer.n_tasks
        trainer.untrained = {"class_il": zeros, "task_il": zeros}  # no evaluation before training
    one, many = alone(trainers[0]), together(trainers[1:])
    seconds(one, FILLING), seconds(many, FILLING)
    return one, many


def operations(config: TrainConfig, size: int, runs: int) -> str:
    """Return a table of the slowest operations of a step, in milliseconds a run."""
    found = []
    for step, among in zip(steps(config, size, runs), (1, runs), strict=True):
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            seconds(step, TURN)
        times = {
            e.key: e.self_cpu_time_total / 1000 / TURN / among for e in profiled.key_averages()
        }
        found.append({"all": sum(times.values())} | times)
    first, second = found
    names = sorted({*first, *second}, key=lambda n: -max(first.get(n, 0), second.get(n, 0)))
    rows = [f"{first.get(n, 0):10.2f} {second.get(n, 0):13.2f}  {n}" for n in names[:OPERATIONS]]
    return "\n".join([f"{size}x{size}, {runs} runs", " alone, ms in cohort, ms", *rows])


def race(config: TrainConfig, size: int, runs: int, turns: int) -> str:
    """One line: times of a step of a run alone and in a cohort, and their ratio."""
    one, many = steps(config, size, runs)
    pairs = [(seconds(one, TURN) / TURN, seconds(many, TURN) / TURN / runs) for _ in range(turns)]
    single, in_cohort = (1000 * statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = sorted(b / a for a, b in pairs)
    spread = f"{ratios[len(ratios) // 4]:.2f} to {ratios[-1 - len(ratios) // 4]:.2f}"
    return (
        f"{config.model:12s} {size:3d} {runs:5d} {single:10.2f} {in_cohort:10.2f} "
        f"{statistics.median(ratios):7.2f}   {spread}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 28])
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--operations", action="store_true")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE")
    arguments = parser.parse_args()
    own = {"dataset": "seq-digits", "n_epochs": 1000, "warmup": False, "device": "cpu"}
    config = TrainConfig.from_dict(preset("seq-mnist", 500) | own | parsed_settings(arguments.set))
    print(f"torch {torch.__version__}, {config.threads} thread, nf {config.nf}")
    if not arguments.operations:
        print("method      size  runs  alone, ms in cohort, ms  ratio   quartiles")
    for size in arguments.sizes:
        for runs in arguments.runs:
            if arguments.operations:
                print(operations(config, size, runs), flush=True)
            else:
                print(race(config, size, runs, arguments.turns), flush=True)


if __name__ == "__main__":
    main()
