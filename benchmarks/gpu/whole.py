"""Whole uses: sweeps of 64 trials, and a full run on seq-mnist."""

import subprocess
import sys
import time

from benchmarks.gpu.bench import Bench, warnings_of_steps
from benchmarks.gpu.rows import Row
from dynamos.config import TrainConfig, preset
from dynamos.errors import UserError
from dynamos.streams import load_stream
from dynamos.trainer import Trainer

TRIALS = 64
# Class-il of seed 42 on a CPU (benchmarks/RESULTS.md, "Full runs at the paper's settings").
CPU_CLASS_IL = 95.80
TINY = {
    "nf": 4,
    "hidden_dim_ratio": 4,
    "max_train_images_per_task": 60,
    "n_epochs": 1,
    "warmup": False,
}


def part_sweep(bench: Bench) -> None:
    """A sweep of seq-digits as a user starts it, eight processes on a GPU."""
    _sweep(bench, "8 processes", [] if bench.dry else ["--gpus-per-trial", "0.125"])


def part_sweep_cohort(bench: Bench) -> None:
    """The same with 32 trials as one program."""
    runs = "2" if bench.dry else "32"
    flags = ["--cohort", runs, *([] if bench.dry else ["--gpus-per-trial", "1"])]
    _sweep(bench, f"--cohort {runs}", flags)


def _sweep(bench: Bench, how: str, flags: list[str]) -> None:
    from results import load_sweep

    trials, storage = 2 if bench.dry else TRIALS, bench.folder / "sweeps"
    name = f"gpu-{time.time():.0f}"
    command = [sys.executable, "-m", "tune.cli", "run", "--name", name]
    command += ["--storage", str(storage), "--trials", str(trials), "--set", "step_mode=auto"]
    tiny = [f"{field}={value}" for field, value in TINY.items()]
    command += [*(tiny if bench.dry else []), *flags]
    began = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - began
    sweep = load_sweep(storage / name)
    states = sweep.trials["state"].value_counts().to_dict()
    bench.add(
        Row(
            what=f"sweep of {trials} trials, seq-digits, {how}",
            size=8,
            note=f"{seconds:.0f} s with its start, {3600 * trials / seconds:.0f} trials an hour; "
            f"{', '.join(f'{n} {state}' for state, n in states.items())}; "
            f"class-il of the choice {sweep.best()['val_class_il']:.2f}",
        )
    )


def part_mnist(bench: Bench) -> None:
    """The full run of the paper on seq-mnist, seed 42, by graph."""
    what = "seq-mnist, full run, graph"
    if bench.data_path is None:
        bench.add(Row(what=what, note="skipped: no --data-path"))
        return
    own = {"data_path": str(bench.data_path), "device": bench.device.type, "step_mode": "graph"}
    tiny = TINY | {"n_tasks": 2, "seed": 42} if bench.dry else {"seed": 42}
    config = TrainConfig.from_dict(preset("seq-mnist", 500) | own | tiny)
    try:
        images = load_stream(config, bench.device)
    except UserError as error:
        bench.add(Row(what=what, note=f"skipped: {error}"))
        return
    with warnings_of_steps() as warnings:
        results = list(Trainer(config, images))
    last, seconds = results[-1], sum(r.train_seconds for r in results)
    evaluation = sum(r.eval_seconds for r in results)
    notes = [
        f"class-il {last.class_il:.2f} (CPU: {CPU_CLASS_IL:.2f}), task-il {last.task_il:.2f}",
        f"{seconds:.0f} s of training and {evaluation:.1f} s of evaluation",
    ]
    bench.add(
        Row(
            what=what,
            size=28,
            seconds=seconds / last.steps,
            mib=bench.mib,
            note="; ".join([*notes, *dict.fromkeys(warnings)]),
        )
    )
