"""Milliseconds per image of a gated network that skips or masks dropped channels.

Run: python -m benchmarks.sparse_inference [--keep 0.7] [--repeat 40]

Both fold batch normalisation beforehand and take turns on the same images, so that the ratio is
valid on a machine whose speed drifts. The agents are untrained; their threshold is set so that
the wanted fraction is kept.
"""

import argparse
import statistics
import time

import torch

from dynamos.config import TrainConfig
from dynamos.network import ResNet, build_network
from dynamos.sparse import Predictor, skipping_pays

SIZES = (
    (8, 8),
    (16, 8),
    (32, 8),
    (8, 28),
    (16, 28),
    (32, 28),
    (48, 28),
    (64, 28),
    (128, 28),
    (32, 32),
    (64, 32),
)


def network_that_keeps(keep: float, nf: int, images: torch.Tensor) -> ResNet:
    """A gated network whose gates keep about the fraction `keep` on `images`."""
    low, high = 0.0, 1.0
    for _ in range(12):
        threshold = (low + high) / 2
        config = TrainConfig(nf=nf, hidden_dim_ratio=min(16, 2 * nf), inf_thresh=threshold)
        network = build_network(config, 10).eval()
        with torch.inference_mode():
            kept = network(images).actions.mean().item()
        low, high = (threshold, high) if kept > keep else (low, threshold)
    return network


def main() -> None:
    """Print one line per width and image size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=float, default=0.7)
    parser.add_argument("--repeat", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'nf':>4} {'size':>5} {'kept':>5} {'masked ms':>10} {'skipped ms':>11} "
        f"{'skipped/masked':>15}  used"
    )
    for nf, size in SIZES:
        images = torch.rand(20, 3, size, size)
        network = network_that_keeps(arguments.keep, nf, images)
        masked, skipping = (Predictor(network, (size, size), skip) for skip in (False, True))
        for predictor in (masked, skipping):
            predictor(images[0])
        times: dict[bool, list[float]] = {False: [], True: []}
        kept = []
        for i in range(arguments.repeat):
            image = images[i % len(images)]
            for skip, predictor in ((False, masked), (True, skipping)):
                started = time.perf_counter()
                prediction = predictor(image)
                times[skip].append(1000 * (time.perf_counter() - started))
            kept.append(prediction.actions.float().mean().item())
        # The median of the ratios of single turns: a disturbance affects both halves of a turn.
        ratio = statistics.median(b / a for a, b in zip(times[False], times[True], strict=True))
        used = "skipping" if skipping_pays(2 * nf, (size, size)) else "masking"
        print(
            f"{nf:4d} {size:5d} {statistics.mean(kept):5.2f} "
            f"{statistics.median(times[False]):10.3f} {statistics.median(times[True]):11.3f} "
            f"{ratio:15.2f}  {used}",
            flush=True,
        )


if __name__ == "__main__":
    main()
