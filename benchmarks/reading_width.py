"""How far a final accuracy depends on the step it is read at: the accuracy after every few of a run's last steps.

    python -m benchmarks.reading_width --data-path DIR --dataset mnist-360 --buffer-size 500

Batch norm's running statistics follow the last twenty passes, so near-equal networks can read far apart.
"""

import argparse
from statistics import mean, quantiles

import torch

from dynamos.config import TrainConfig, preset
from dynamos.data import as_input
from dynamos.trainer import Trainer

BATCH = 250


def readings(config: TrainConfig, last: int, every: int, images: int) -> list[float]:
    """Accuracies in percent on a fixed random choice of all tasks' evaluation images, over the last training steps."""
    found: list[float] = []

    def read(trainer: Trainer) -> None:
        steps = len(trainer.stream.batches(trainer.task, trainer.epoch, config))
        if trainer.task == trainer.n_tasks - 1 and trainer.epoch == config.n_epochs - 1 and (
                trainer.step >= steps - last and trainer.step % every == 0):
            found.append(_accuracy(trainer, images))

    for result in Trainer(config, on_step=read):
        print(f"task {result.task + 1}: class-il {result.class_il:.2f}", flush=True)
    return found


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
    """Prints the readings' least, quartiles, greatest and mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-path")
    parser.add_argument("--model", default="dynamos")
    parser.add_argument("--dataset", default="seq-mnist")
    parser.add_argument("--buffer-size", type=int, default=500)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--last", type=int, default=400, help="steps before the end to read in")
    parser.add_argument("--every", type=int, default=2, help="steps from one reading to the next")
    parser.add_argument("--images", type=int, default=1500, help="test images of a reading")
    given = parser.parse_args()
    settings = preset(given.dataset, given.buffer_size) | {
        "model": given.model, "seed": given.seed, "data_path": given.data_path, "evaluate_on": "test", "device": "cpu"}
    if given.model not in ("dynamos", "dynamos_sgd"):
        settings["warmup"] = False
    found = readings(TrainConfig.from_dict(settings), given.last, given.every, given.images)
    low, middle, high = quantiles(found)
    print(f"{len(found)} readings of {given.images} test images: least {min(found):.2f}, quartiles {low:.2f} "
          f"{middle:.2f} {high:.2f}, greatest {max(found):.2f}, mean {mean(found):.2f}")


if __name__ == "__main__":
    main()
