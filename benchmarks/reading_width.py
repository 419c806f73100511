"""Dependence of a final accuracy on the step at which it is measured.

    python -m benchmarks.reading_width --data-path DIR --dataset mnist-360 --buffer-size 500
        --seeds 42 1 2

Batch norm's running statistics follow the last twenty passes, so the readings of nearly equal
networks can differ much.

With --slips the run repeats differences between the original program and its method (method.md
sections 3 and 7). A rotating stream's images are drawn with replacement. The reservoir counts
wrongly classified images too, and slots that they leave empty are replayed as black images of class
0.
"""

import argparse
import dataclasses
from statistics import mean, quantiles

import numpy as np
import torch
from torch import Tensor

from dynamos.buffer import Buffer
from dynamos.config import TrainConfig, preset
from dynamos.data import Images, as_input
from dynamos.evaluation import BATCH
from dynamos.metrics import TaskResult
from dynamos.streams import Batch
from dynamos.trainer import Trainer


class SlippedBuffer(Buffer):
    """The original program's reservoir."""

    @torch.no_grad()
    def offer(
        self,
        images: Tensor,
        labels: Tensor,
        logits: Tensor,
        policy_logits: Tensor,
        correct: Tensor,
        drawn: Tensor,
    ) -> None:
        """Draw a slot for every image, and store the image if it was classified correctly."""
        for i, right in enumerate(correct.tolist()):
            seen = int(self.seen)
            slot = seen if seen < self.capacity else int(drawn[i] * (seen + 1))
            self.seen += 1
            if right and slot < self.capacity:
                self.images[slot], self.labels[slot] = images[i], labels[i]
                self.logits[slot], self.policy_logits[slot] = logits[i], policy_logits[i]


def drawn_with_replacement(
    images: Images, batches: list[Batch], draws: np.random.Generator
) -> list[Batch]:
    """Return the batches of a rotating stream with images drawn again, with replacement.

    A visit is a sequence of batches of the same two digits. It keeps its number of images of each
    digit; they are drawn with replacement from the visit's images of that digit.
    """
    index = torch.cat([batch.index for batch in batches]).numpy()
    digit = images.labels[torch.from_numpy(index)].numpy()
    pairs = [
        frozenset(part.tolist())
        for part in np.split(digit, np.cumsum([len(b.index) for b in batches])[:-1])
    ]
    visits = np.cumsum(
        [a != b and len(b) > 1 for a, b in zip([pairs[0], *pairs], pairs, strict=False)]
    )
    visit = np.repeat(visits, [len(batch.index) for batch in batches])
    for v in range(visit.max() + 1):
        for j in np.unique(digit[visit == v]):
            places = np.flatnonzero((visit == v) & (digit == j))
            index[places] = draws.choice(index[places], len(places))
    parts = torch.from_numpy(index).split([len(batch.index) for batch in batches])
    return [Batch(part, batch.degrees) for part, batch in zip(parts, batches, strict=True)]


def slipped(trainer: Trainer) -> Trainer:
    """The trainer with the original program's slips in place of the method's rules."""
    b, order = trainer.buffer, trainer.stream.order
    trainer.buffer = SlippedBuffer(
        b.capacity,
        tuple(b.images.shape[1:]),
        b.logits.shape[1],
        b.policy_logits.shape[1],
        trainer.device,
    )
    if trainer.stream.rotating:
        trainer.stream = dataclasses.replace(
            trainer.stream,
            order=lambda images, size, draws: drawn_with_replacement(
                images, order(images, size, draws), draws
            ),
        )
    return trainer


def readings(
    trainer: Trainer, last: int, every: int, images: int
) -> tuple[TaskResult, list[float]]:
    """(the run's result, percent accuracies on a fixed sample of all tasks over the last steps)."""
    found: list[float] = []
    config = trainer.config
    steps = len(trainer.stream.batches(trainer.n_tasks - 1, 0, config))

    def read(trainer: Trainer) -> None:
        if (
            trainer.task == trainer.n_tasks - 1
            and trainer.epoch == config.n_epochs - 1
            and (trainer.step >= steps - last and trainer.step % every == 0)
        ):
            found.append(_accuracy(trainer, images))

    trainer.on_step = read
    return [*trainer][-1], found


def _accuracy(trainer: Trainer, images: int) -> float:
    tasks = trainer.stream.evaluation
    pixels, labels = torch.cat([t.pixels for t in tasks]), torch.cat([t.labels for t in tasks])
    chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:images]
    trainer.network.eval()
    hits = 0
    with torch.inference_mode():
        for part in chosen.split(BATCH):
            logits = trainer.network(as_input(pixels[part], tasks[0].white)).logits
            hits += int((logits.argmax(1) == labels[part]).sum())
    trainer.network.train()
    return 100 * hits / len(chosen)


def main() -> None:
    """Print each run's reported accuracy, and the range, mean and last of its readings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-path")
    parser.add_argument("--model", default="dynamos")
    parser.add_argument("--dataset", default="seq-mnist")
    parser.add_argument("--buffer-size", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--slips", action="store_true", help="as the original program trained")
    parser.add_argument("--last", type=int, default=400, help="steps before the end to read in")
    parser.add_argument("--every", type=int, default=20, help="steps from one reading to the next")
    parser.add_argument("--images", type=int, default=1000, help="test images of a reading")
    given = parser.parse_args()
    for seed in given.seeds:
        # The preset's warm-up has no effect on a dense network.
        config = TrainConfig.from_dict(
            preset(given.dataset, given.buffer_size)
            | {
                "model": given.model,
                "seed": seed,
                "data_path": given.data_path,
                "evaluate_on": "test",
                "device": "cpu",
            }
        )
        trainer = Trainer(config)
        result, found = readings(
            slipped(trainer) if given.slips else trainer, given.last, given.every, given.images
        )
        task_il = "" if result.task_il is None else f", task-il {result.task_il:.2f}"
        low, middle, high = quantiles(found)
        print(
            f"seed {seed}: reported {result.class_il:.2f}{task_il}; {len(found)} readings of "
            f"{given.images} test images: least {min(found):.2f}, quartiles {low:.2f} {middle:.2f} "
            f"{high:.2f}, greatest {max(found):.2f}, mean {mean(found):.2f}, last {found[-1]:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
