"""Submission of a sweep as a SLURM job array."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dynamos.errors import RunError, UserError
from tune.machines.slurm.task import NOTICE_SECONDS


def submit(
    name: str, storage: str, flags: Sequence[str], workers: int, options: Sequence[str]
) -> str:
    """Submit a job array that runs a sweep; return its number.

    Args:
        name: the sweep's name; a sweep that exists is resumed.
        storage: its storage, which all nodes see.
        flags: flags of `dynamos-sweep run`.
        workers: number of tasks, each a Ray node.
        options: options of sbatch for each task: partition, time, CPUs, GPUs.

    Raises RunError if SLURM refuses, UserError if there is no SLURM here.
    """
    if shutil.which("sbatch") is None:
        raise UserError("--slurm needs SLURM's command sbatch, which is not on this machine.")
    shared = Path.home() if "://" in storage else Path(storage).resolve()
    shared.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "tune.machines.slurm.task"]
    # the folder's name has the array's number, which is not known yet
    folder = f"{shlex.quote(str(shared))}/.slurm-$SLURM_ARRAY_JOB_ID"
    script = f"exec {shlex.join(command)} {folder} {shlex.join([name, storage, *flags])}"
    done = subprocess.run(
        [
            "sbatch",
            "--parsable",
            f"--job-name={name}",
            f"--array=0-{workers - 1}",
            "--requeue",
            "--open-mode=append",
            f"--output={name}-%a.out",
            # to the batch shell only, which the task replaces
            f"--signal=B:USR1@{NOTICE_SECONDS}",
            *options,
            f"--wrap={script}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RunError(f"SLURM refused the job: {' '.join(done.stderr.split())}")
    found = re.match(r"\d+", done.stdout)
    assert found is not None, done.stdout
    return found[0]
