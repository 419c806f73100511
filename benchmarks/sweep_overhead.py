"""Overhead of a sweep: seconds per trial and driver memory, compared with stock Ray Tune.

    python -m benchmarks.sweep_overhead [--trials 1000] [--stock-trials 1000]

Both sides train the same trivial configuration on all CPUs. Ours runs through the command line,
with ledger, checkpoints and MLflow. Stock runs through Tuner, OptunaSearch and
MLflowLoggerCallback, as their guides show them. Overhead per trial is the time from the first
trial's start to the last one's end, multiplied by the number of slots and divided by the number of
trials, minus the mean time of a trial's training and evaluation.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import joblib

SPACE = """parameters:
  lr: {low: 0.005, high: 0.2, log: true}
  alpha: {low: 0.05, high: 3.0, log: true}
  beta: {low: 0.5, high: 4.0}
"""
TRIVIAL = {
    "model": "multi_scale",
    "nf": 4,
    "hidden_dim_ratio": 4,
    "max_train_images_per_task": 20,
    "n_epochs": 1,
    "n_tasks": 1,
    "warmup": False,
    "batch_size": 10,
}


def main() -> None:
    """Print a line per side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--stock-trials", type=int, default=None, help="default: --trials")
    # this process is the stock driver
    parser.add_argument("--stock-side", metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    stock_trials = arguments.stock_trials or arguments.trials
    if arguments.stock_side:
        Path(arguments.stock_side).write_text(json.dumps(stock_run(stock_trials)))
        return
    slots = joblib.cpu_count()
    with tempfile.TemporaryDirectory() as folder:
        show("dynamos-sweep", *ours(Path(folder), arguments.trials), slots)
        show("stock Ray Tune", *stock(Path(folder), stock_trials), slots)


def show(name: str, trials: int, wall: float, own: float, peak: float, slots: int) -> None:
    """Print one side's overhead per trial and its driver's memory."""
    print(
        f"{name:15} {trials:5d} trials, {slots} at a time: {wall:7.1f} s; per trial {own:.3f} s "
        f"training and {wall * slots / trials - own:.3f} s overhead; driver's peak {peak:.0f} MB",
        flush=True,
    )


def ours(folder: Path, trials: int) -> tuple[int, float, float, float]:
    """(trials, seconds from first start to last end, training seconds per trial, peak MB), ours."""
    from results.ledger.ledger import Ledger

    (folder / "space.yaml").write_text(SPACE)
    peak = peak_of(
        [
            sys.executable,
            "-m",
            "tune.cli",
            "run",
            "--name",
            "overhead",
            "--sampler",
            "tpe",  # as stock's
            "--trials",
            str(trials),
            "--space",
            "space.yaml",
            "--set",
            *(f"{name}={value}" for name, value in TRIVIAL.items()),
        ],
        folder,
    )
    records = Ledger.open(folder / "runs", "overhead").trials()
    assert len(records) == trials and all(r.state == "COMPLETE" for r in records), (
        "every trial completes"
    )
    began = min(r.started_at for r in records if r.started_at)
    ended = max(r.ended_at for r in records if r.ended_at)
    own = [
        result.train_seconds + result.eval_seconds
        for r in records
        for of_seed in r.results.values()
        for result in of_seed
    ]
    return trials, (ended - began).total_seconds(), sum(own) / trials, peak


def stock(folder: Path, trials: int) -> tuple[int, float, float, float]:
    """The numbers of `ours` for stock Ray Tune, in a separate process."""
    peak = peak_of(
        [
            sys.executable,
            "-m",
            "benchmarks.sweep_overhead",
            "--stock-trials",
            str(trials),
            "--stock-side",
            str(folder / "stock.json"),
        ],
        folder,
    )
    told = json.loads((folder / "stock.json").read_text())
    return trials, told["wall"], told["own"], peak


def peak_of(command: list[str], folder: Path) -> float:
    """The peak resident memory of a command's process in MB; the command must succeed."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    peak = 0
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(
                peak,
                *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")),
                0,
            )
            time.sleep(0.2)
    assert process.returncode == 0, (folder / "output.txt").read_text()[-2000:]
    return peak / 1024


def stock_run(trials: int) -> dict[str, float]:
    """{"wall", "own"}: seconds from first start to last end, and training seconds per trial."""
    import ray
    import ray.tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    ray.init(include_dashboard=False, log_to_driver=False)
    search = ConcurrencyLimiter(
        OptunaSearch(metric="class_il", mode="max"), max_concurrent=joblib.cpu_count()
    )
    callback = MLflowLoggerCallback(
        tracking_uri=f"sqlite:///{Path('mlflow.db').resolve()}", experiment_name="stock"
    )
    tuner = ray.tune.Tuner(
        train,
        param_space={
            "lr": ray.tune.loguniform(0.005, 0.2),
            "alpha": ray.tune.loguniform(0.05, 3.0),
            "beta": ray.tune.uniform(0.5, 4.0),
        },
        tune_config=ray.tune.TuneConfig(search_alg=search, num_samples=trials),
        run_config=ray.tune.RunConfig(
            storage_path=str(Path("stock").resolve()), callbacks=[callback]
        ),
    )
    grid = tuner.fit()
    results = [grid[number].metrics or {} for number in range(len(grid))]
    assert len(results) == trials
    return {
        "wall": max(r["ended"] for r in results) - min(r["began"] for r in results),
        "own": sum(r["own"] for r in results) / trials,
    }


def train(config: dict[str, Any]) -> None:
    """A stock function trainable of the same training."""
    began = time.time()
    import ray.tune

    from dynamos.config import TrainConfig, preset
    from dynamos.trainer import Trainer

    fields = (
        preset("seq-digits", 200)
        | {"evaluate_on": "validation", "threads": 1, "device": "cpu"}
        | TRIVIAL
        | config
    )
    result = next(iter(Trainer(TrainConfig.from_dict(fields))))
    ray.tune.report(
        {
            "class_il": result.class_il,
            "own": result.train_seconds + result.eval_seconds,
            "began": began,
            "ended": time.time(),
        }
    )


if __name__ == "__main__":
    main()
