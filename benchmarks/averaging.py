"""Accuracy of averaged networks by decay: each training is evaluated with all decays.

    python -m benchmarks.averaging --dataset seq-digits --buffer-size 200 --seeds 1 2 3

Prints, for every method, the class-il accuracy after the last task on validation images, mean over
seeds, of the last step's network and of its averages. The decays are given as their reach,
1 / (1 - decay) steps, divided by the steps of a task. No average is limited here
(dynamos/averaging.py), so that the table shows where a limit belongs. The last column is the cost
of one average.
"""

import argparse
import dataclasses
import time
from statistics import mean

from dynamos.averaging import Average
from dynamos.config import TrainConfig, parsed_settings, preset
from dynamos.data import as_input
from dynamos.evaluation import evaluate
from dynamos.methods import METHODS
from dynamos.network import ResNet
from dynamos.streams import Stream
from dynamos.trainer import Trainer

REACHES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 2.0)


def readings(config: TrainConfig) -> list[float]:
    """Class-il accuracies after the last task, and the cost of an average.

    The accuracies are that of the last step's network, then those of its averages by reach. The
    cost is the CPU time of one average, in percent of that of the run without averages.
    """
    trainer = Trainer(config)
    averages = [Average(trainer.network) for _ in REACHES]
    seconds = 0.0

    def update(trainer: Trainer) -> None:
        nonlocal seconds
        steps = len(trainer.stream.batches(trainer.task, trainer.epoch, config)) * config.n_epochs
        began = time.process_time()
        for average, reach in zip(averages, REACHES, strict=True):
            average.update(max(0.0, 1 - 1 / (reach * steps)))
        seconds += time.process_time() - began

    trainer.on_step = update
    began = time.process_time()
    last = list(trainer)[-1]
    run = time.process_time() - began - seconds
    accuracies = [class_il(average.network, trainer.stream) for average in averages]
    return [last.class_il, *accuracies, 100 * seconds / len(averages) / run]


def class_il(network: ResNet, stream: Stream) -> float:
    """Mean accuracy of a network on all tasks of a stream, in percent."""
    found = [
        evaluate(lambda pixels, white: network(as_input(pixels, white)), stream, task, 1.0)
        for task in range(len(stream.tasks))
    ]
    return mean(evaluation.class_il for evaluation in found if evaluation is not None)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", default="seq-digits", help="stream")
    parser.add_argument("--buffer-size", type=int, default=200, help="buffer of its preset")
    parser.add_argument("--data-path", help="folder of the images")
    parser.add_argument("--models", nargs="+", default=list(METHODS), help="methods")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds")
    parser.add_argument("--set", nargs="+", default=[], help="further fields, field=value")
    given = parser.parse_args()
    base = TrainConfig.from_dict(
        {
            **preset(given.dataset, given.buffer_size),
            "data_path": given.data_path,
            "evaluate_on": "validation",
            **parsed_settings(given.set),
        }
    )
    heads = ["last step", *(f"{reach:g}" for reach in REACHES), "cost, % of CPU time"]
    print("| method | " + " | ".join(heads) + " |")
    print("|---" * (len(heads) + 1) + "|")
    for model in given.models:
        config = dataclasses.replace(base, model=model)
        rows = [readings(dataclasses.replace(config, seed=seed)) for seed in given.seeds]
        means = [mean(column) for column in zip(*rows, strict=True)]
        print(f"| {model} | " + " | ".join(f"{value:.1f}" for value in means) + " |", flush=True)


if __name__ == "__main__":
    main()
