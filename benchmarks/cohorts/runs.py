"""CPU seconds of whole runs as one program, divided by those of the same runs one after the other.

    python -m benchmarks.cohorts.runs --dataset seq-mnist --data-path DIR \
      --set max_train_images_per_task=1000 buffer_size=500

Both take turns in one process, on one thread; trust the ratios, not the absolute times. Runs
include the steps in which buffers fill, warm-up and evaluation on validation images.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from dynamos.cohort import Cohort
from dynamos.config import TrainConfig, parsed_settings, start
from dynamos.streams import Stream, load_stream
from dynamos.trainer import Trainer


def one_after_the_other(configs: Sequence[TrainConfig], stream: Stream) -> None:
    """Train the runs alone."""
    for config in configs:
        list(Trainer(config, stream))


def as_one_program(configs: Sequence[TrainConfig], stream: Stream) -> None:
    """Train the runs as a cohort."""
    list(Cohort([Trainer(config, stream) for config in configs]))


def seconds(train: Callable[[], None]) -> float:
    """Return the CPU seconds of a call."""
    began = time.process_time()
    train()
    return time.process_time() - began


def main() -> None:
    """Print a row for each number of runs."""
    parser = argparse.ArgumentParser(description="Whole runs as one program, and alone.")
    parser.add_argument("--dataset", default="seq-digits")
    parser.add_argument("--data-path")
    parser.add_argument("--runs", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    changes = parsed_settings(given.set)
    fixed = {"device": "cpu", "evaluate_on": "validation", "data_path": given.data_path}
    base = TrainConfig.from_dict(start(given.dataset, changes.get("buffer_size")) | fixed | changes)
    stream = load_stream(base, torch.device("cpu"))
    # imports and caches
    list(Trainer(base.replace(max_train_images_per_task=20, n_epochs=1, warmup=False)))
    print(f"{'runs':>4}  {'alone, s a run':>14}  {'in cohort':>9}  ratio", flush=True)
    for count in given.runs:
        configs = [base.replace(seed=seed) for seed in range(count)]
        alone, together = [], []
        for _ in range(given.turns):
            alone.append(seconds(partial(one_after_the_other, configs, stream)) / count)
            together.append(seconds(partial(as_one_program, configs, stream)) / count)
        ratio = statistics.median(b / a for a, b in zip(alone, together, strict=True))
        print(
            f"{count:4d}  {statistics.median(alone):14.2f}  {statistics.median(together):9.2f}  "
            f"{ratio:5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
