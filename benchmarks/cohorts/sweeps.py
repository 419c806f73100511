"""CPU seconds of a whole sweep with several trials in each worker, beside one with one trial.

Run: python -m benchmarks.cohorts.sweeps [--cohorts 1 8] [--trials 16] [--turns 1] [--set nf=8 ...]

Each sweep is a process of its own with the same trials (random search, seq-digits), one worker per
CPU. The sweeps take turns. CPU seconds are those of all processes of the sweep, and of the workers
that train among them. A process is looked at twice a second: its last half second may be missing.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAINS = re.compile(r"ray::(SweepTrial|_Inner|CohortHost)")
POLL_SECONDS = 0.5
TICKS = 100  # of /proc, in a second


def processes(root: int) -> dict[int, tuple[str, float]]:
    """(command line, CPU seconds) of a process and its descendants, by id."""
    found, parents = dict[int, tuple[str, float]](), dict[int, int]()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_text().replace("\0", " ")
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(folder.name)] = int(fields[1])
        found[int(folder.name)] = command, (int(fields[11]) + int(fields[12])) / TICKS
    inside = {root}
    while more := {pid for pid, parent in parents.items() if parent in inside} - inside:
        inside |= more
    return {pid: found[pid] for pid in inside if pid in found}


def swept(folder: Path, cohort: int, trials: int, settings: list[str]) -> tuple[float, float]:
    """(CPU seconds of all processes, of those that train) of a sweep."""
    command = [sys.executable, "-m", "tune.cli", "run", "--name", "s", "--storage", str(folder)]
    command += ["--trials", str(trials), "--cohort", str(cohort), "--sampler", "random", "--set"]
    running = subprocess.Popen(
        [*command, *settings], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    seen = dict[int, tuple[str, float]]()
    while running.poll() is None:
        for pid, (name, seconds) in processes(running.pid).items():
            trains = TRAINS.match(name) or TRAINS.match(seen.get(pid, ("", 0))[0])
            seen[pid] = (trains[0] if trains else name), seconds
        time.sleep(POLL_SECONDS)
    assert running.stderr is not None
    if running.returncode:
        raise SystemExit(running.stderr.read())
    own = sum(seconds for name, seconds in seen.values() if TRAINS.match(name))
    return sum(seconds for _, seconds in seen.values()), own


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cohorts", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--set", nargs="+", default=["threads=1"], metavar="FIELD=VALUE")
    given = parser.parse_args()
    print("cohort  trials  CPU s  CPU s of workers  trials per CPU hour  ratio to the first")
    for _ in range(given.turns):
        first = 0.0
        for cohort in given.cohorts:
            with tempfile.TemporaryDirectory() as folder:
                whole, own = swept(Path(folder), cohort, given.trials, given.set)
            first = first or whole
            print(
                f"{cohort:6d}  {given.trials:6d}  {whole:5.0f}  {own:16.0f}  "
                f"{3600 * given.trials / whole:19.0f}  {whole / first:18.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
