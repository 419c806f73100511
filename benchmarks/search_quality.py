"""Gain of samplers and pruning over random search, at equal CPU seconds, on seq-digits.

    python -m benchmarks.search_quality [--cpu-seconds 200] [--repeats 3] [--fresh 3]

Every method searches the space `core` from the same start: the paper's values for seq-mnist, which
were not tuned for this stream. Trials have three epochs per task and a quarter of the width, so
that a trial takes seconds. Repeats differ in the sampler's seed and in the training seed. Methods
take turns, so that a slower machine slows all of them. The configuration that a sweep chose by its
one seed is trained again on fresh seeds, on validation images as before. The result of a method is
the mean over these, and its spread over the repeats.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean, stdev

import yaml

START = {
    "nf": 8,
    "hidden_dim_ratio": 8,
    "n_epochs": 3,
    "batch_size": 16,
    "minibatch_size": 16,
    "warmup": False,
    "lr": 0.07,
    "alpha": 0.2,
    "beta": 2.0,
    "policy_penalty": -500,
    "keep_ratio": 0.7,
}
METHODS = {
    "random": ("random", "none"),
    "tpe": ("tpe", "none"),
    "gp": ("gp", "none"),
    "random + halving": ("random", "halving"),
    "tpe + halving": ("tpe", "halving"),
}


def main() -> None:
    """Print a line per sweep, then a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cpu-seconds", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--fresh", type=int, default=3, help="fresh seeds of the final training")
    arguments = parser.parse_args()
    found: dict[str, list[tuple[int, int, float, float]]] = {name: [] for name in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(arguments.repeats):
            for name in METHODS:
                one = search(Path(folder), name, repeat, arguments.cpu_seconds, arguments.fresh)
                found[name].append(one)
                print(
                    f"{name:17} repeat {repeat}: {one[0]} complete, {one[1]} pruned, chosen with "
                    f"{one[2]:.2f}, on fresh seeds {one[3]:.2f}",
                    flush=True,
                )
    print(
        f"\n| method | complete | pruned | val class-il, as chosen | on {arguments.fresh} fresh "
        "seeds | spread |"
    )
    print("|---|---|---|---|---|---|")
    for name, rows in found.items():
        complete, pruned, chosen, fresh = (list(column) for column in zip(*rows, strict=True))
        spread = f"{stdev(fresh):.2f}" if len(fresh) > 1 else ""
        print(
            f"| {name} | {fmean(complete):.0f} | {fmean(pruned):.0f} | {fmean(chosen):.2f} | "
            f"{fmean(fresh):.2f} | {spread} |"
        )


def search(
    folder: Path, method: str, repeat: int, cpu_seconds: int, fresh: int
) -> tuple[int, int, float, float]:
    """(trials complete, trials pruned, the chosen trial's objective, its mean on fresh seeds)."""
    from results.ledger.ledger import Ledger

    sampler, pruner = METHODS[method]
    name = f"{method.replace(' + ', '-')}-{repeat}"
    settings = START | {"seed": 100 + repeat}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from tune.cli.main import main; sys.exit(main())",
            "run",
            "--name",
            name,
            "--sampler",
            sampler,
            "--pruner",
            pruner,
            "--seed",
            str(repeat),
            "--trials",
            "10000",
            "--cpu-budget",
            f"{cpu_seconds}s",
            "--storage",
            str(folder),
            "--set",
            *(f"{k}={v}" for k, v in settings.items()),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    trials = Ledger.open(folder, name).trials()
    states = [trial.state for trial in trials]
    exported = yaml.safe_load((folder / name / "best_config.yaml").read_text())
    again = [trained(exported["config"] | {"seed": 1000 + 10 * repeat + n}) for n in range(fresh)]
    return (
        states.count("COMPLETE"),
        states.count("PRUNED"),
        exported["provenance"]["value"],
        fmean(again),
    )


def trained(fields: dict[str, object]) -> float:
    """Validation class-il after the last task."""
    from dynamos.config import TrainConfig
    from dynamos.trainer import Trainer

    return list(Trainer(TrainConfig.from_dict(fields)))[-1].class_il


if __name__ == "__main__":
    main()
