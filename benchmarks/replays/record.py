"""Record a table of real runs, from which searches can be replayed without training.

    python -m benchmarks.replays.record --configurations 160 --seeds 5 --set nf=8
    python -m benchmarks.replays.record --dataset seq-mnist --buffer-size 500 --configurations 40
        --seeds 3 --set max_train_images_per_task=1000 --data-path DIR

Configuration 0 is the preset; the others are drawn at random from the space `core`. Every
configuration is trained once with every seed, on training images without the validation images.
Averages do not change the training. So each training is evaluated with all decays of the space
`averaged`. Together with each decay, a configuration of `core` is one of `averaged`.

The table, benchmarks/tables/DATASET.jsonl.xz, holds a JSON object per line: first the settings,
then the runs. It is written again every few runs; the same command continues where it stopped. A
run has its configuration's number and fields, its seed, the CPU seconds of its training alone, and
for each decay, in percent:

    after_task: after each task, the class-il on the validation images of each task seen
    readings: class-il of each reading in the last tenth of the last task (dynamos/readings.py)
    test: class-il on the test images of each task, at the end

A run that diverged has "diverged" in place of the decays.
"""

import argparse
import json
import lzma
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import torch

from dynamos.averaging import Average, limited
from dynamos.config import TrainConfig, parsed_settings, preset
from dynamos.data import as_input
from dynamos.device import pick_device
from dynamos.errors import NonFiniteError
from dynamos.evaluation import evaluate
from dynamos.files import write_whole
from dynamos.network import ResNet
from dynamos.readings import most_readings, reading_part, reading_steps
from dynamos.streams import Stream, load_stream
from dynamos.trainer import Trainer
from search_spaces.space import read_space

TABLES = Path(__file__).parents[1] / "tables"
READINGS = 16  # at most
RUNS_BETWEEN_WRITES = 10


def main() -> None:
    """Record the runs that the table does not have yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="seq-digits", help="stream")
    parser.add_argument("--buffer-size", type=int, default=200, help="buffer of its preset")
    parser.add_argument("--data-path", help="folder of the images")
    parser.add_argument("--configurations", type=int, default=160)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 1")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--tables", type=Path, default=TABLES, help="folder of the tables")
    parser.add_argument("--set", nargs="+", default=[], help="further fields, field=value")
    given = parser.parse_args()
    base = TrainConfig.from_dict(
        {
            **preset(given.dataset, given.buffer_size),
            "data_path": given.data_path,
            "evaluate_on": "validation",
            "device": "cpu",
            **parsed_settings(given.set),
        }
    )
    decays = [p.choices for p in read_space("averaged").parameters if p.name == "average_decay"][0]
    assert decays is not None
    settings = base.replace(data_path=None).to_dict()
    path = given.tables / f"{given.dataset}.jsonl.xz"
    there, runs = read(path) if path.is_file() else (settings, [])
    if there != settings:
        raise SystemExit(f"{path} was recorded with other settings; move it away.")
    have = {(run["configuration"], run["seed"]) for run in runs}
    fields = configurations(given.configurations)
    wanted = [
        (base, list(decays), number, fields[number], seed)
        for seed in range(1, given.seeds + 1)
        for number in range(given.configurations)
        if (number, seed) not in have
    ]
    print(f"{len(have)} runs recorded, {len(wanted)} to go", flush=True)
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        for n, run in enumerate(pool.imap_unordered(recorded, wanted), start=1):
            runs.append(run)
            late = time.monotonic() - began > given.seconds
            if n % RUNS_BETWEEN_WRITES == 0 or n == len(wanted) or late:
                write(path, settings, runs)
                print(f"{n} of {len(wanted)}, {time.monotonic() - began:.0f} s", flush=True)
            if late:
                pool.terminate()
                return


def configurations(number: int) -> list[dict[str, Any]]:
    """Return {}, which stands for the preset, and random configurations of the space `core`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = read_space("core")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = (space.real(study.ask(space.distributions()).params) for _ in range(number - 1))
    return [{}, *drawn]


def recorded(
    wanted: tuple[TrainConfig, list[float], int, dict[str, Any], int],
) -> dict[str, Any]:
    """Train a configuration with a seed and return its line of the table."""
    base, decays, number, fields, seed = wanted
    config = base.replace(**fields, seed=seed)
    about = {"configuration": number, "fields": fields, "seed": seed}
    trainer = Trainer(config)
    eyes = Eyes(trainer, decays)
    trainer.on_step = eyes.step
    began = time.process_time()
    try:
        for _ in trainer:
            eyes.task()
    except NonFiniteError as error:
        return about | {"diverged": str(error)}
    seconds = time.process_time() - began - eyes.seconds
    test = load_stream(config.replace(evaluate_on="test"), pick_device(config.device))
    return about | {
        "cpu_seconds": round(seconds, 2),
        "decays": {
            f"{decay:g}": {
                "after_task": eyes.after_task[decay],
                "readings": eyes.readings[decay],
                "test": [class_il(network, test, task) for task in range(trainer.n_tasks)],
            }
            for decay, network in eyes.networks()
        },
    }


class Eyes:
    """The averages of a run by all decays, and their accuracies so far.

    Attributes:
        seconds: CPU seconds that they cost, which are not the training's.
        after_task: by decay, for each task learned the accuracies on the tasks seen.
        readings: by decay, the class-il of each reading.
    """

    def __init__(self, trainer: Trainer, decays: list[float]) -> None:
        self.trainer, self.seconds = trainer, 0.0
        self.averages = {decay: Average(trainer.network) for decay in decays if decay}
        self.part = reading_part(trainer.stream)
        self.after_task = {decay: list[list[float]]() for decay in decays}
        self.readings = {decay: list[float]() for decay in decays}
        self.steps = [
            len(trainer.stream.batches(task, 0, trainer.config)) * trainer.config.n_epochs
            for task in range(trainer.n_tasks)
        ]

    def networks(self) -> Iterator[tuple[float, ResNet]]:
        """Yield (decay, network): the trained one, by decay 0, and the averages."""
        yield 0.0, self.trainer.network
        yield from ((decay, average.network) for decay, average in self.averages.items())

    def step(self, trainer: Trainer) -> None:
        """Move the averages after a step, and take the readings that are due."""
        began = time.process_time()
        steps = self.steps[trainer.task]
        for decay, average in self.averages.items():
            average.update(limited(decay, steps))
        if trainer.task == trainer.n_tasks - 1:
            of_epoch = steps // trainer.config.n_epochs
            at = reading_steps(min(READINGS, most_readings(steps)), steps)
            if trainer.epoch * of_epoch + trainer.step in at:
                for decay, network in self.networks():
                    found = [class_il(network, self.part, t) for t in range(trainer.n_tasks)]
                    self.readings[decay].append(round(sum(found) / len(found), 2))
                trainer.network.train()
        self.seconds += time.process_time() - began

    def task(self) -> None:
        """Note the accuracies after a task."""
        began = time.process_time()
        for decay, network in self.networks():
            seen = range(len(self.trainer.results))
            self.after_task[decay].append([class_il(network, self.trainer.stream, t) for t in seen])
        self.seconds += time.process_time() - began


def class_il(network: ResNet, stream: Stream, task: int) -> float:
    """Accuracy of a network on the evaluation images of a task, in percent."""
    network.eval()
    found = evaluate(
        lambda pixels, white: network(as_input(pixels, white)), stream, task, network.temperature
    )
    return float("nan") if found is None else round(found.class_il, 2)


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read a table: (settings, runs)."""
    settings, *runs = map(json.loads, lzma.decompress(path.read_bytes()).decode().splitlines())
    return settings, runs


def write(path: Path, settings: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    """Write a table whole, its runs in order."""
    in_order = sorted(runs, key=lambda run: (run["seed"], run["configuration"]))
    text = "".join(json.dumps(line) + "\n" for line in (settings, *in_order))
    write_whole(path, lzma.compress(text.encode()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
