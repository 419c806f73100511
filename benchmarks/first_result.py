"""Time from a command to what it shows, of this checkout and of an earlier one in turn.

    python -m benchmarks.first_result [--before DIR] [--repeats 3] [--commands run resume ...]

- run, resume, confirm: until the first trial trains, as the live picture of a terminal shows it;
- report: the page of 100 trials;
- list: 200 sweeps of 20 trials each.

For each it prints the wall time and the CPU time of all processes until then; medians. On a machine
with other work, the CPU time says more. DIR is a checkout with its own .venv.
"""

import argparse
import os
import pty
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import yaml

from benchmarks.definitions import entered_sweep
from dynamos.metrics import TaskResult
from results.ledger.ledger import Ledger

TRAINS = r"trial \d+ +\d+ +[\d.]* +\d+ "  # a row of the live picture; "starting" before it trains
COMMANDS = {
    "run": (["run", "--name", "new"], TRAINS),
    "resume": (["resume", "begun"], TRAINS),
    "confirm": (["confirm", "report", "--seeds", "2"], TRAINS),
    "report": (["report", "report"], None),
    "list": (["list", "--storage", "many"], None),
}
REPORTED, LISTED, OF_LISTED = 100, 200, 20
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print a line per command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, help="an earlier checkout")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    given = parser.parse_args()
    programs = {"now": Path(sys.executable).with_name("dynamos-sweep")}
    if given.before is not None:
        programs["before"] = given.before.resolve() / ".venv" / "bin" / "dynamos-sweep"
    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder, "made")
        _fill(storage / "runs", "report", REPORTED)
        _fill(storage / "runs", "begun", 2)
        if "list" in given.commands:
            _copies(storage / "many")
        for command in given.commands:
            texts, until = COMMANDS[command]
            took: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
            for _ in range(given.repeats):
                for name, program in programs.items():
                    place = Path(folder, "place")
                    shutil.copytree(storage, place)
                    took[name].append(_timed([str(program), *texts], place, until))
                    shutil.rmtree(place, ignore_errors=True)
            wall, cpu = (
                {name: statistics.median(t[part] for t in took[name]) for name in took}
                for part in (0, 1)
            )
            line = f"{command:8} {wall['now']:6.2f} s, {cpu['now']:6.2f} s of CPU"
            if given.before is not None:
                line += (
                    f"; before {wall['before']:6.2f} and {cpu['before']:6.2f}; ratios "
                    f"{wall['now'] / wall['before']:.2f} and {cpu['now'] / cpu['before']:.2f}"
                )
            print(line, flush=True)


def _fill(storage: Path, name: str, trials: int) -> None:
    """Make a sweep with so many complete trials of five tasks, and room for more."""
    config = entered_sweep(name, trials if name == "report" else trials + 20)
    with closing(Ledger.create(storage, config, {})) as ledger, ledger.driving():
        for number in range(trials):
            trial = ledger.ask()
            ledger.start(trial.number, trial.attempt)
            assert trial.seed is not None
            for task in range(5):
                accuracy = 90.0 - 10 * task + number % 7 + task * (number % 3)
                ledger.add_result(number, trial.attempt, trial.seed, _result(task, accuracy))
            ledger.finish(number, "COMPLETE")


def _result(task: int, accuracy: float) -> TaskResult:
    rows = [[value] * min(task + 2, 5) for value in (accuracy, 99.0)]
    means = ("forgetting", "backward_transfer", "forward_transfer", "policy_entropy")
    return TaskResult.from_dict(
        {
            "task": task,
            "n_tasks": 5,
            "evaluated_on": "validation",
            "class_il": accuracy,
            "task_il": 99.0,
            "class_il_row": rows[0],
            "task_il_row": rows[1],
            "keep_fraction": 0.7,
            "keep_per_gate": [0.7] * 4,
            "keep_per_task": [[0.7] * 4] * (task + 1),
            "macs": 1e6,
            "compute": 0.8,
            "train_loss": 1.0,
            "train_accuracy": 90.0,
            "steps": 51,
            "train_seconds": 1.0,
            "eval_seconds": 0.1,
            "learning_accuracy": accuracy,
        }
        | dict.fromkeys(means, 0.0)
    )


def _copies(storage: Path) -> None:
    """Fill a storage with many sweeps: one, and copies of it under other names."""
    _fill(storage, "report", OF_LISTED)
    first = storage / "report"
    values = yaml.safe_load((first / "sweep.yaml").read_text())
    for number in range(LISTED - 1):
        folder = storage / f"sweep-{number}"
        shutil.copytree(first, folder)
        values["name"] = folder.name
        (folder / "sweep.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        name = f"{folder.name}-{values['record']['id'][:8]}"  # as study_name has it
        with closing(sqlite3.connect(folder / "ledger.db")) as database, database:
            database.execute("UPDATE studies SET study_name = ?", (name,))


def _timed(command: Sequence[str], place: Path, until: str | None) -> tuple[float, float]:
    """(wall seconds, CPU seconds of all processes) until the output has a pattern, or the end."""
    ours, its = pty.openpty()
    shown, over = list[str](), threading.Event()

    def read() -> None:
        with suppress(OSError):
            while text := os.read(ours, 1 << 16):
                shown.append(text.decode(errors="replace"))
                # reads on to the end, because a full terminal would block the command
                if until is not None and re.search(until, "".join(shown)):
                    over.set()

    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "200", "LINES": "50"}
    began = time.monotonic()
    process = subprocess.Popen(
        list(command), cwd=place, stdin=its, stdout=its, stderr=its, env=environment
    )
    threading.Thread(target=read, daemon=True).start()
    used: dict[int, float] = {}
    while process.poll() is None and not over.wait(0.02):
        used |= _cpu_seconds(process.pid)
    took = time.monotonic() - began
    if until is None:
        assert process.wait() == 0, "".join(shown)[-2000:]
    else:
        assert over.is_set(), "".join(shown)[-2000:]
        used |= _cpu_seconds(process.pid)
        process.send_signal(signal.SIGINT)
        process.wait()
    os.close(its)
    return took, sum(used.values())


def _cpu_seconds(root: int) -> dict[int, float]:
    """CPU seconds of a process and of all its descendants that live, by process id."""
    parents, seconds = dict[int, int](), dict[int, float]()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(fields[1])
                seconds[int(folder.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    found, front = set[int](), {root}
    while front:
        found |= front
        front = {child for child, parent in parents.items() if parent in front} - found
    return {process: seconds[process] for process in found if process in seconds}


if __name__ == "__main__":
    main()
