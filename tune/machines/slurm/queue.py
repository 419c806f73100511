"""SLURM's commands, for a task of a job array."""

import math
import os
import subprocess

from dynamos.errors import RunError

_THERE = ("RUNNING", "COMPLETING", "CONFIGURING")


def own_job() -> str:
    """ARRAY_TASK, the number of this job; SLURM_JOB_ID may be that of the whole array."""
    return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def is_running(job: str) -> bool:
    """True if a job runs; also if SLURM does not answer."""
    done = _run("squeue", "--noheader", f"--jobs={job}", "--format=%T")
    if done.returncode:  # it forgets a job minutes after its end
        return "Invalid job id" not in done.stderr
    return done.stdout.strip() in _THERE


def seconds_allowed(job: str) -> float:
    """Time limit of a running job; infinite if it has none or SLURM does not answer."""
    done = _run("squeue", "--noheader", f"--jobs={job}", "--format=%S %e")
    times = done.stdout.split()
    if len(times) != 2 or not all(time.isdigit() for time in times):
        return math.inf
    return int(times[1]) - int(times[0])


def requeue(job: str) -> None:
    """Make SLURM end a job, which may be this one, and start it again when there is room."""
    done = _run("scontrol", "requeue", job)
    if done.returncode:
        raise RunError(f"SLURM did not requeue {job}: {' '.join(done.stderr.split())}")


def cancel_waiting(job: str) -> None:
    """Cancel those tasks of the same array that have not started."""
    _run("scancel", "--state=PENDING", job.partition("_")[0])


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    # times as seconds since 1970
    environment = os.environ | {"SLURM_TIME_FORMAT": "%s"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
