"""Agreement on the device: graph and eager steps, cohort and Trainer."""

import copy
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench, run, warnings_of_steps
from benchmarks.gpu.rows import Row
from dynamos.cohort import Cohort
from dynamos.config import TrainConfig
from dynamos.trainer import Trainer

SIZE, RUNS, STEPS = 8, 3, 12
ROUNDING = 1e-3  # median relative difference of two updates in fp32


def part_check(bench: Bench) -> None:
    """Does this device compute the same by graph and by eager steps, and in a cohort and alone?

    Raises RuntimeError if it does not.
    """
    agree = [
        _graph_and_eager(bench, runs, deterministic)
        for deterministic in (True, False)
        for runs in (1, RUNS)
    ]
    agree += [_cohort_and_trainer(bench, exact) for exact in (True, False)]
    if not all(agree):
        raise RuntimeError("the device does not compute the same both ways, see the rows")


def _configs(bench: Bench, runs: int, **changes: object) -> list[TrainConfig]:
    """Runs that differ in seed, learning rate and weights."""
    return [
        bench.config(seed, lr=0.01 * (1 + seed), alpha=0.1 + 0.2 * seed, **changes)
        for seed in range(runs)
    ]


def _graph_and_eager(bench: Bench, runs: int, deterministic: bool) -> bool:
    """Compare the parameters after some steps by graph with those after as many eager steps.

    True if they are equal, or if eager steps do not repeat either.
    """
    ends, images = [], bench.stream(SIZE)
    with warnings_of_steps() as warnings:
        for step_mode in ("graph", "eager", "eager"):
            configs = _configs(bench, runs, step_mode=step_mode, deterministic=deterministic)
            ends.append(_trained([run(config, images) for config in configs]))
    torch.use_deterministic_algorithms(False)
    by_graph, eager, again = ends
    kind = "deterministic" if deterministic else "default"
    bench.add(
        Row(
            what=f"check: graph and eager, runs: {runs}, {kind}",
            size=SIZE,
            note="; ".join(
                [
                    f"after {STEPS} steps: {_difference(by_graph, eager)}",
                    f"eager and eager: {_difference(eager, again)}",
                    *dict.fromkeys(warnings),
                ]
            ),
        )
    )
    return torch.equal(by_graph, eager) or not torch.equal(eager, again)


def _trained(trainers: Sequence[Trainer]) -> Tensor:
    """All parameters after some steps, flat."""
    cohort, walks = Cohort(trainers), [trainer.steps_of_task() for trainer in trainers]
    for _ in range(STEPS):
        cohort.step({slot: next(walk) for slot, walk in enumerate(walks)})
    return torch.cat([_parameters(trainer) for trainer in trainers])


def _difference(a: Tensor, b: Tensor) -> str:
    """Words for the largest difference of two vectors."""
    return "equal in every bit" if torch.equal(a, b) else f"up to {float((a - b).abs().max()):.1e}"


def _cohort_and_trainer(bench: Bench, exact: bool) -> bool:
    """Compare each step of a cohort with that of its runs alone, from the same states.

    Without TF32 (`exact`), False if an update differs by more than rounding.
    """
    images = bench.stream(SIZE)
    trainers = [run(config, images) for config in _configs(bench, RUNS)]
    cohort = Cohort([Trainer(trainer.config, images) for trainer in trainers])
    walks, errors, buffers = [t.steps_of_task() for t in trainers], list[float](), list[bool]()
    with tf32(convolutions=not exact, products=False):
        for steps in islice(zip(*walks, strict=True), STEPS):
            for slot, trainer in enumerate(trainers):
                cohort.runs[slot].load_state_dict(copy.deepcopy(trainer.state_dict()))
            before = [_parameters(trainer) for trainer in trainers]
            cohort.step(dict(enumerate(steps)))
            for slot, trainer in enumerate(trainers):
                trainer._train_step(*steps[slot])
                pair = (_parameters(t) - before[slot] for t in (cohort.runs[slot], trainer))
                moved, wanted = pair
                errors.append(float((moved - wanted).norm() / wanted.norm()))
                stored = cohort.runs[slot].buffer.images[:-1]
                buffers.append(torch.equal(stored, trainer.buffer.images[:-1]))
    median = statistics.median(errors)
    bench.add(
        Row(
            what=f"check: cohort and Trainer, {'no TF32' if exact else 'TF32 in convolutions'}",
            size=SIZE,
            note=f"relative difference of an update: median {median:.1e}, largest "
            f"{max(errors):.1e}; buffers equal in {sum(buffers)} of {len(buffers)}",
        )
    )
    return median < ROUNDING or not exact


def _parameters(trainer: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.network.parameters()])


@contextmanager
def tf32(convolutions: bool, products: bool) -> Iterator[None]:
    """Allow TF32, single precision with a mantissa of 10 bits, in convolutions or products."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32, matmul.allow_tf32 = convolutions, products
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before
