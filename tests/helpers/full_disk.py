"""A sweep on full disks, which are mounted in a mount namespace (`unshare -m`) that other processes
do not see. Run: unshare -m python -m tests.helpers.full_disk KIND FOLDER. The files of trials are
on one disk; the other files, with the ledger, are on another. KIND names the full one: "trials",
"ledger" or both."""

import errno
import subprocess
import sys
from pathlib import Path

from tests.helpers.crashes import LONG, Watched, check_whole
from tests.helpers.processes import Driver, sweep

TRIALS = 2


def main(kind: str, folder: Path) -> None:
    """Fill a disk while a sweep runs, free space, and resume. Raises AssertionError if anything is
    lost."""
    seen = Watched(folder / "runs", "hit")
    trials = folder / "runs" / "hit" / "trials"
    mount(folder / "runs", 64)
    with Driver("run", "--name=hit", f"--trials={TRIALS}", "--set", *LONG, cwd=folder) as driver:
        driver.until(lambda: seen.there)
        # Ray is still starting, so no trial has made its folder yet
        mount(trials, 16)
        driver.until(lambda: bool(seen.running(tasks=1)))
        full = [
            disk
            for disk, wanted in ((trials, "trials"), (folder / "runs", "ledger"))
            if kind in (wanted, "both")
        ]
        filled = [fill(disk) for disk in full]
        known = {t.number: t.results for t in seen.trials()}
        ended = driver.end()
    assert ended.status == 1, ended
    assert len([line for line in ended.errors if "error" in line]) == 1, ended
    assert ended.errors[-1].startswith("dynamos-sweep: error: "), ended
    assert "dynamos-sweep resume hit" in ended.errors[-1], ended
    assert "Traceback" not in ended.err + ended.out, ended

    for disk in full:
        fill(disk)  # the end of the driver has freed some space
    ended = sweep("resume", "hit", cwd=folder)
    assert ended.status == 1 and len(ended.errors) == 1 and "Traceback" not in ended.err, ended
    for file in filled:
        file.unlink()
    ended = sweep("resume", "hit", cwd=folder)
    assert ended.status == 0 and not ended.errors, ended
    for trial in seen.trials():
        for seed, results in known.get(trial.number, {}).items():
            assert trial.results[seed][: len(results)] == results, "what was in the ledger stands"
    check_whole(seen, TRIALS)


def mount(folder: Path, megabytes: int) -> None:
    """Mount a disk of a size in megabytes at a new folder."""
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True
    )


def fill(disk: Path) -> Path:
    """Fill the free space of a disk with a file and return the file."""
    path = disk / "filled"
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
    return path


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
