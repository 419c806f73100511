"""Training speed per method, compared with a plain version of it (benchmarks/plain.py).

Run: python -m benchmarks.train_speed --data-path DIR [--steps 200] [--methods ...]
         [--streams seq-mnist mnist-360]
     python -m benchmarks.train_speed --data-path DIR --full     our whole runs, with evaluations

The two take turns, a few steps each, because a shared machine's speed drifts: trust the ratios, not
the absolute times. The plain variant has 1x1-convolution agents, contiguous memory, batch norm that
is not folded at evaluation and an optimizer that is not fused. It draws a rotating stream's images
one at a time with PIL. Presets at buffer 500, fp32, one thread.

`kernels` is the share of a step's wall time inside forward and backward kernels. `passes` is the
share inside the two passes, with the Python code between their operations (see kernel_share).
`of peak` is the rate of multiply-accumulates of a whole step, divided by the rate of one large
matrix product, which is the machine's peak.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain import PlainResNet, rotate_singly
from dynamos.config import TrainConfig, preset
from dynamos.data import Images, as_input
from dynamos.evaluation import BATCH
from dynamos.methods import METHODS
from dynamos.network import original_state_dict
from dynamos.streams import Batch, Stream, load_stream
from dynamos.trainer import Trainer

TURN = 10  # steps of one variant before the other's turn
PEAK_SIZE = 1024  # rows of the square matrices whose product gives the peak rate of a machine
PASS = "forward or backward pass"  # the profiler's name for either
# Operations that compute nothing themselves: they allocate or describe memory, or call others.
NO_KERNELS = frozenset(
    """
    empty empty_strided empty_like as_strided as_strided_ view reshape expand transpose t numpy_T
    permute slice select detach unsqueeze squeeze squeeze_ resize_ alias flatten unflatten split
    narrow item _local_scalar_dense to _to_copy contiguous clone resolve_conj result_type conv2d
    convolution _convolution batch_norm _batch_norm_impl_index linear
    """.split()
)


class PlainStream(Stream):
    """The same stream, drawn one image at a time."""

    def images(self, task: int, batch: Batch) -> Images:
        """The images of a batch."""
        taken = self.train[task].take(batch.index)
        if batch.degrees is None:
            return taken
        return Images(rotate_singly(taken.pixels, batch.degrees), taken.labels, taken.white)


class Pause(Exception):
    """Ends a turn between two steps; the run continues from there."""


class Racer:
    """A run that trains N steps at a time and times them."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.wanted = trainer, 0
        # A whole run orders its images once per epoch. Here every turn would do so, and a rotating
        # stream's order takes 30 ms.
        order = trainer.stream.batches(0, 0, trainer.config)
        trainer.stream = dataclasses.replace(trainer.stream, order=lambda *_: order)
        self.trainer.untrained = {
            "class_il": [0.0] * trainer.n_tasks,
            "task_il": [0.0] * trainer.n_tasks,
        }
        self.trainer.on_step = self._on_step

    def _on_step(self, trainer: Trainer) -> None:
        if trainer.steps >= self.wanted:
            raise Pause

    def run(self, steps: int, clock: Callable[[], float] = time.process_time) -> float:
        """Train the next steps and return their seconds, by default CPU seconds."""
        self.wanted = self.trainer.steps + steps
        started = clock()
        try:
            self.trainer.run_task()
        except Pause:
            return clock() - started
        raise SystemExit("the first task is shorter than --steps")

    def evaluation(self, images: int) -> float:
        """CPU seconds of evaluating N images."""
        data = self.trainer.stream.evaluation[0]
        network = self.trainer.network.eval()
        started = time.process_time()
        with torch.inference_mode():
            for pixels in data.pixels[:images].split(BATCH):
                network(as_input(pixels, data.white))
        return time.process_time() - started


def plain(config: TrainConfig, stream: Stream) -> Trainer:
    """A Trainer of the plain variant, with the initial weights of ours."""
    values = {spec.name: getattr(stream, spec.name) for spec in dataclasses.fields(stream)}
    trainer = Trainer(config, PlainStream(**values))
    network = PlainResNet(config, stream.num_classes)
    network.load_state_dict(original_state_dict(trainer.network))
    network.to(trainer.device)
    trainer.network = network  # type: ignore[assignment]
    plain_sgd: Any = torch.optim.SGD(network.parameters(), lr=config.lr)
    trainer.optimizer = plain_sgd
    return trainer


@contextmanager
def passes(trainer: Trainer) -> Iterator[list[float]]:
    """Yield a list that collects the seconds of each forward and backward pass.

    Both passes are marked for the profiler. The forward pass is from the images to the loss, the
    buffer's images included. The backward pass is that of autograd. Neither includes the rest of a
    step: drawing images and noise, the buffer, the optimizer, the means of an epoch.
    """
    took: list[float] = []
    forward, backward = trainer._loss, torch.Tensor.backward

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with record_function(PASS):
                started = time.perf_counter()
                result = function(*arguments)
                took.append(time.perf_counter() - started)
            return result

        return call

    trainer._loss = timed(forward)
    try:
        with patch.object(torch.Tensor, "backward", timed(backward)):
            yield took
    finally:
        trainer._loss = forward


def kernel_seconds(events: Iterable[FunctionEvent]) -> float:
    """Seconds of the operations inside forward and backward passes, without their callers."""

    def in_pass(event: FunctionEvent) -> bool:
        parent = event.cpu_parent
        return parent is not None and (parent.name == PASS or in_pass(parent))

    microseconds: float = sum(
        event.self_cpu_time_total
        for event in events
        if event.name.startswith("aten::") and event.name[6:] not in NO_KERNELS and in_pass(event)
    )
    return 1e-6 * microseconds


def kernel_share(racer: Racer, turns: int, steps: int = 5) -> tuple[float, float]:
    """(share of a training step spent in the kernels of both passes, share spent in both passes).

    Both are shares of the wall time of whole steps without a profiler. The second share includes
    the Python code between operations. The first share has only the operations that compute
    (kernel_seconds); it is measured in other steps, with the profiler. Steps with and without the
    profiler take turns; the results are medians over the turns.
    """
    shares = []
    for _ in range(turns):
        with passes(racer.trainer) as took:
            whole = racer.run(steps, time.perf_counter)
            with_python = sum(took) / whole
            with profile(activities=[ProfilerActivity.CPU]) as seen:
                racer.run(steps)
        shares.append((kernel_seconds(seen.events()) / whole, with_python))
    kernels, both = zip(*shares, strict=True)
    return statistics.median(kernels), statistics.median(both)


def of_peak(racer: Racer, turns: int, steps: int = 5) -> float:
    """A training step's rate of floating-point operations over the rate of one matrix product.

    The step's convolutions and matrix products are counted, forward and backward. Step and matrix
    product take turns; the result is the median over the turns.
    """
    with FlopCounterMode(display=False) as counted:
        racer.run(1)
    a = torch.rand(PEAK_SIZE, PEAK_SIZE)
    a @ a
    shares: list[float] = []
    for _ in range(turns):
        rate = steps * counted.get_total_flops() / racer.run(steps)
        started = time.process_time()
        a @ a
        shares.append(rate / (2 * PEAK_SIZE**3 / (time.process_time() - started)))
    return statistics.median(shares)


def evaluated_images(stream: Stream) -> int:
    """Number of images that a whole run evaluates.

    First those of all tasks; then, after each task, those of the tasks seen and of the next one.
    """
    sizes = [len(part) for part in stream.evaluation]
    return sum(sizes) + sum(sum(sizes[: task + 2]) for task in range(len(sizes)))


def race(config: TrainConfig, stream: Stream, steps: int) -> str:
    """One line: our times, their ratios to the plain variant, and the estimate of a whole run."""
    ours, other = Racer(Trainer(config, stream)), Racer(plain(config, stream))
    for racer in (ours, other):
        racer.run(2 * TURN)  # the buffer fills, memory is allocated
    times: dict[Racer, list[float]] = {ours: [], other: []}
    for _ in range(max(steps // TURN, 1)):
        for racer, took in times.items():
            took.append(racer.run(TURN) / TURN)
    step, plain_step = (statistics.median(took) for took in times.values())
    ratio = statistics.median(b / a for a, b in zip(*times.values(), strict=True))
    evaluation = [(ours.evaluation(500), other.evaluation(500)) for _ in range(3)]
    evaluation_ratio = statistics.median(b / a for a, b in evaluation)
    total = config.n_epochs * sum(
        len(stream.batches(t, 0, config)) for t in range(len(stream.tasks))
    )
    whole = (
        total * step + evaluated_images(stream) * statistics.median(a for a, _ in evaluation) / 500
    )
    kernels, both = kernel_share(ours, 7)
    return (
        f"{config.dataset:10s} {config.model:12s} {config.batch_size / step:9.0f} "
        f"{1000 * step:9.1f} {1000 * plain_step:9.1f} {ratio:8.2f} {evaluation_ratio:8.2f} "
        f"{100 * kernels:7.0f}% {100 * both:6.0f}% {100 * of_peak(ours, 7):7.0f}% {whole:9.0f}"
    )


def drawing_ratio(stream: Stream, config: TrainConfig) -> float:
    """Time to draw a rotating stream image by image, divided by the time to draw whole batches."""
    values = {spec.name: getattr(stream, spec.name) for spec in dataclasses.fields(stream)}
    single = PlainStream(**values)
    batches = stream.batches(0, 0, config)[:300]

    def seconds(draw: Callable[[int, Batch], Images]) -> float:
        started = time.process_time()
        for batch in batches:
            draw(0, batch)
        return time.process_time() - started

    return statistics.median(seconds(single.images) / seconds(stream.images) for _ in range(5))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-path", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--streams", nargs="+", default=["seq-mnist", "mnist-360"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, 1 thread, {torch.get_num_threads()} available")
    if not arguments.full:
        print(
            "stream     method         images/s   ms/step  plain ms    ratio evaluation kernels "
            "passes  of peak  whole run, CPU s"
        )
    for dataset in arguments.streams:
        for method in arguments.methods:
            # The plain variant knows no warm-up.
            config = TrainConfig.from_dict(
                preset(dataset, 500)
                | {
                    "model": method,
                    "data_path": str(arguments.data_path),
                    "warmup": arguments.full,
                    "device": "cpu",
                }
            )
            started = time.process_time()
            stream = load_stream(config, torch.device("cpu"))
            if arguments.full:
                results = [*Trainer(config, stream)]
                took = time.process_time() - started
                print(
                    f"{dataset:10s} {method:12s} {took:8.0f} CPU s, class-il "
                    f"{results[-1].class_il:.2f}",
                    flush=True,
                )
                continue
            print(race(config, stream, arguments.steps), flush=True)
        if stream.rotating and not arguments.full:
            print(
                f"{dataset:10s} drawing image by image takes {drawing_ratio(stream, config):.1f} "
                "times as long"
            )


if __name__ == "__main__":
    main()
