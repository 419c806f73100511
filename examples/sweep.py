"""A sweep of four short trials, started from Python.

python examples/sweep.py
"""

from pathlib import Path

from dynamos import TrainConfig, preset
from results import SweepConfig
from search_spaces import read_space
from tune import create_sweep, run_sweep


def main() -> None:
    base = TrainConfig.from_dict(preset("seq-digits", 200) | {"evaluate_on": "validation"})
    config = SweepConfig(
        name="from-python",
        space=read_space("averaged"),
        base=base.replace(max_train_images_per_task=60, nf=8),  # short, for a first look
        trials=4,
    )
    run_sweep(create_sweep(Path("runs"), config))


if __name__ == "__main__":  # workers of Ray import this file
    main()
