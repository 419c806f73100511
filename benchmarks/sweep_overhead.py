"""Overhead of a sweep: seconds and CPU seconds per trial, compared with stock Ray Tune.

    python -m benchmarks.sweep_overhead [--trials 300] [--turns 3] [--sides ours memory sqlite]

All sides train the same trivial configuration on all CPUs, in turn. `ours` runs through the command
line, with ledger, checkpoints and MLflow. The others are Ray Tune as an expert uses it: a class
trainable, `reuse_actors=True`, OptunaSearch with its study in `memory` or in `sqlite`, and
MLflowLoggerCallback. They write no checkpoints, and a crash loses the study in memory. `fresh` is
Ray Tune as its guides show it: a function, for which Ray starts a process per trial.

Overhead per trial is the time from the first trial's start to the last one's end, multiplied by the
number of slots and divided by the number of trials, minus the mean time of a trial's training and
evaluation. CPU seconds are those of all processes between the same two moments. Other work on the
machine changes both; so compare sides of one turn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
SIDES = ("ours", "memory", "sqlite", "fresh")
SAMPLE_SECONDS = 0.2
# What each process is for, by a part of its command line; the first that fits counts.
PARTS = {
    "ray::": "workers",
    "gcs_server": "Ray's servers",
    "raylet": "Ray's servers",
    "ray/_private": "Ray's servers",
    "ray/dashboard": "Ray's servers",
    "multiprocessing": "mirror",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A run of one side.

    Attributes:
        trials: number of trials.
        wall: seconds from the first trial's start to the last one's end.
        own: seconds of training and evaluation per trial.
        cpu: CPU seconds in that time, by the part of the sweep that used them.
        peak: largest resident memory of the driver, MB.
    """

    trials: int
    wall: float
    own: float
    cpu: Mapping[str, float]
    peak: float

    def overhead(self, slots: int) -> float:
        """Seconds of a slot per trial that are not training or evaluation."""
        return self.wall * slots / self.trials - self.own

    @property
    def cpu_per_trial(self) -> float:
        """CPU seconds per trial, of all processes."""
        return sum(self.cpu.values()) / self.trials


def main() -> None:
    """Print a line per run, and at the end the medians and their ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES[:3])
    parser.add_argument(
        "--with",
        dest="other",
        metavar="FOLDER",
        help="a checkout of another version, whose side `other` runs in every turn too",
    )
    # this process is a stock driver
    parser.add_argument("--stock-side", nargs=2, metavar=("SIDE", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stock_side:
        side, file = given.stock_side
        Path(file).write_text(json.dumps(stock_run(given.trials, side)))
        return
    runs: dict[str, list[Measured]] = {}
    for turn in range(1, given.turns + 1):
        for side in [*given.sides, *(["other"] if given.other else [])]:
            with tempfile.TemporaryDirectory() as folder:
                if side in ("ours", "other"):
                    code = Path(given.other if side == "other" else Path(__file__).parents[1])
                    measured = ours(Path(folder), given.trials, code.resolve())
                else:
                    measured = stock(Path(folder), given.trials, side)
            runs.setdefault(side, []).append(measured)
            print(f"turn {turn}  {line(side, [measured])}", flush=True)
    for side, measures in runs.items():
        print(f"median  {line(side, measures)}")
    for side in list(runs)[1:]:
        print(f"{next(iter(runs))} / {side}: {ratios(next(iter(runs.values())), runs[side])}")


def line(side: str, runs: Sequence[Measured]) -> str:
    """The medians of a side's runs, in a line."""

    def median(values: Sequence[float]) -> float:
        return statistics.median(values)

    slots = joblib.cpu_count()
    parts = sorted({part for run in runs for part in run.cpu})
    each = ", ".join(
        f"{part} {1000 * median([run.cpu.get(part, 0.0) / run.trials for run in runs]):.0f}"
        for part in parts
    )
    return (
        f"{side:7} {runs[0].trials:5d} trials, {slots} at a time; per trial: "
        f"overhead {median([run.overhead(slots) for run in runs]):.3f} s, CPU "
        f"{1000 * median([run.cpu_per_trial for run in runs]):.0f} ms ({each}), own "
        f"{median([run.own for run in runs]):.3f} s; driver's peak "
        f"{median([run.peak for run in runs]):.0f} MB"
    )


def ratios(one: Sequence[Measured], other: Sequence[Measured]) -> str:
    """Medians over the turns of the ratios of two sides."""
    slots, pairs = joblib.cpu_count(), list(zip(one, other, strict=True))
    wall = statistics.median(a.overhead(slots) / b.overhead(slots) for a, b in pairs)
    cpu = statistics.median(a.cpu_per_trial / b.cpu_per_trial for a, b in pairs)
    return f"overhead {wall:.2f}, CPU {cpu:.2f}"


def ours(folder: Path, trials: int, code: Path) -> Measured:
    """Run a sweep through the command line of the version in `code`."""
    from results.ledger.ledger import Ledger

    (folder / "space.yaml").write_text(SPACE)
    watched = Watched(
        [
            *("-m", "tune.cli", "run", "--name", "overhead"),
            *("--sampler", "tpe"),  # as stock's
            *("--trials", str(trials), "--space", "space.yaml", "--set"),
            *(f"{name}={value}" for name, value in TRIVIAL.items()),
        ],
        folder,
        code,
    )
    records = Ledger.open(folder / "runs", "overhead").trials()
    assert len(records) == trials and all(r.state == "COMPLETE" for r in records), (
        "every trial completes"
    )
    began = min(r.started_at for r in records if r.started_at).timestamp()
    ended = max(r.ended_at for r in records if r.ended_at).timestamp()
    own = [
        result.train_seconds + result.eval_seconds
        for r in records
        for of_seed in r.results.values()
        for result in of_seed
    ]
    return Measured(
        trials, ended - began, sum(own) / trials, watched.between(began, ended), watched.peak
    )


def stock(folder: Path, trials: int, side: str) -> Measured:
    """Run stock Ray Tune in a separate process."""
    file = folder / "stock.json"
    arguments = ["--trials", str(trials), "--stock-side", side, str(file)]
    watched = Watched(
        ["-m", "benchmarks.sweep_overhead", *arguments], folder, Path(__file__).parents[1]
    )
    told = json.loads(file.read_text())
    began, ended = told["began"], told["ended"]
    return Measured(trials, ended - began, told["own"], watched.between(began, ended), watched.peak)


class Watched:
    """A Python command that has run, with the CPU time of all its processes by time.

    Attributes:
        peak: largest resident memory of the command's own process, MB.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, code: Path) -> None:
        """Run the command with the modules in `code`; it must succeed."""
        self.peak = 0.0
        # By process, its part of the sweep and its CPU seconds; an id may be used twice.
        self._seconds: dict[tuple[int, str], tuple[str, float]] = {}
        # (time, sums of CPU seconds by part)
        self._samples: list[tuple[float, dict[str, float]]] = []
        with (folder / "output.txt").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": str(code)},
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    self._sample(process.pid)
                    time.sleep(SAMPLE_SECONDS)
            finally:
                process.kill()  # if this process ends early; Ray's servers follow
        assert process.returncode == 0, (folder / "output.txt").read_text()[-2000:]

    def between(self, began: float, ended: float) -> dict[str, float]:
        """CPU seconds between two times, by part."""
        first = max((s for s in self._samples if s[0] <= began), default=self._samples[0])
        last = next((s for s in self._samples if s[0] >= ended), self._samples[-1])
        return {part: last[1][part] - first[1].get(part, 0.0) for part in last[1]}

    def _sample(self, driver: int) -> None:
        """Enter the CPU time of the driver and of the processes below it."""
        processes = dict(_processes())
        for pid, (_, began, seconds) in processes.items():
            above = pid
            while above != driver and above in processes:
                above = processes[above][0]
            if above == driver:
                # the first part of a process's life may show another command line
                part = "driver" if pid == driver else _part(pid)
                self._seconds[pid, began] = part, seconds
        sums: dict[str, float] = {}
        for part, seconds in self._seconds.values():
            sums[part] = sums.get(part, 0.0) + seconds
        self._samples.append((time.time(), sums))
        with suppress(OSError):  # it has just ended
            status = Path(f"/proc/{driver}/status").read_text()
            high = [int(e.split()[1]) for e in status.splitlines() if e.startswith("VmHWM")]
            self.peak = max(self.peak, *(value / 1024 for value in high), 0.0)


def _processes() -> Iterator[tuple[int, tuple[int, str, float]]]:
    """(process id, (its parent's, time of its start, CPU seconds)) of every process."""
    tick = os.sysconf("SC_CLK_TCK")
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it has just ended
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                seconds = (int(fields[11]) + int(fields[12])) / tick
                yield int(folder.name), (int(fields[1]), fields[19], seconds)


def _part(pid: int) -> str:
    """The part of a sweep that a process belongs to."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
    except OSError:
        text = ""
    return next((part for piece, part in PARTS.items() if piece in text), "other")


def stock_run(trials: int, side: str) -> dict[str, float]:
    """{"began", "ended", "own"}: first start, last end, and training seconds per trial."""
    import optuna
    import ray
    import ray.tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    ray.init(include_dashboard=False, log_to_driver=False)
    storage = optuna.storages.RDBStorage("sqlite:///optuna.db") if side == "sqlite" else None
    search = ConcurrencyLimiter(
        OptunaSearch(metric="class_il", mode="max", storage=storage),
        max_concurrent=joblib.cpu_count(),
    )
    callback = MLflowLoggerCallback(
        tracking_uri=f"sqlite:///{Path('mlflow.db').resolve()}", experiment_name="stock"
    )
    tuner = ray.tune.Tuner(
        train if side == "fresh" else stock_trainable(),
        param_space={
            "lr": ray.tune.loguniform(0.005, 0.2),
            "alpha": ray.tune.loguniform(0.05, 3.0),
            "beta": ray.tune.uniform(0.5, 4.0),
        },
        tune_config=ray.tune.TuneConfig(
            search_alg=search, num_samples=trials, reuse_actors=side != "fresh"
        ),
        run_config=ray.tune.RunConfig(
            storage_path=str(Path("stock").resolve()),
            callbacks=[callback],
            checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    grid = tuner.fit()
    results = [grid[number].metrics or {} for number in range(len(grid))]
    assert len(results) == trials and not grid.errors, grid.errors[:1]
    return {
        "began": min(r["began"] for r in results),
        "ended": max(r["ended"] for r in results),
        "own": sum(r["own"] for r in results) / trials,
    }


def stock_trainable() -> type:
    """A stock class trainable, whose actors Ray reuses."""
    import ray.tune

    class Stock(ray.tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._config = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._config = new_config
            return True

        def step(self) -> dict[str, Any]:
            return trained(self._config) | {"done": True}

    return Stock


def train(config: dict[str, Any]) -> None:
    """A stock function trainable."""
    import ray.tune

    ray.tune.report(trained(config))


def trained(config: dict[str, Any]) -> dict[str, Any]:
    """The result of a trivial training."""
    began = time.time()
    from dynamos.config import TrainConfig, preset
    from dynamos.trainer import Trainer

    fields = (
        preset("seq-digits", 200)
        | {"evaluate_on": "validation", "threads": 1, "device": "cpu"}
        | TRIVIAL
        | config
    )
    result = next(iter(Trainer(TrainConfig.from_dict(fields))))
    return {
        "class_il": result.class_il,
        "own": result.train_seconds + result.eval_seconds,
        "began": began,
        "ended": time.time(),
    }


if __name__ == "__main__":
    main()
