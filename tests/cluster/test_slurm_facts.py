"""Jobs, signals and arrays of SLURM behave as docs/reference/slurm.md describes."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.processes import wait_for
from tests.helpers.slurm import Slurm, needs_slurm, slurm
from tune.machines.slurm import queue

pytestmark = needs_slurm

# Writes its signals; SIGTERM ends it with a status.
PROBE = """
import os, signal, sys, time
name, status = sys.argv[1], int(sys.argv[2])
def say(text): os.write(1, f"{name} {text}\\n".encode())
def end(*_): say("TERM"); os._exit(status)
signal.signal(signal.SIGUSR1, lambda *_: say("USR1"))
signal.signal(signal.SIGTERM, end)
say("start " + os.environ.get("SLURM_RESTART_COUNT", "0"))
while True: time.sleep(60)
"""


class Jobs:
    """Jobs whose scripts are one line, in a folder."""

    def __init__(self, there: Slurm, folder: Path) -> None:
        """Use a SLURM."""
        self.there, self._folder = there, folder
        (folder / "probe.py").write_text(PROBE)

    def submit(self, script: str, *options: str) -> str:
        """Submit a job; return its number."""
        return self.there.say(
            "sbatch", "--parsable", "--output=%A.out", "--open-mode=append", "--time=60",
            *options, f"--wrap={script}", cwd=self._folder,
        )  # fmt: skip

    def probe(self, name: str, status: int = 3) -> str:
        """The command line of a process that writes its signals."""
        return f"{sys.executable} {self._folder}/probe.py {name} {status}"

    def lines(self, number: str) -> list[str]:
        """Return the lines that a job has written, without SLURM's own."""
        path = self._folder / f"{number}.out"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if not line.startswith(("slurm", "srun"))]

    def until(self, number: str, line: str, times: int = 1) -> None:
        """Wait until a job has written a line so many times."""
        wait_for(lambda: self.lines(number).count(line) >= times, 0.2)

    def until_requeued(self, number: str) -> None:
        """Wait until a job has come back once and waits."""
        wait_for(lambda: self.there.job(number)["Restarts"] == "1", 0.2)
        self.there.until(number, "PENDING")

    def restarted(self, number: str) -> None:
        """Wait until the shell of a requeued job runs; SLURM would start it after two minutes."""
        self.there.until(number, "PENDING")
        assert self.there.job(number)["Reason"] in ("BeginTime", "None")
        self.there.say("scontrol", "update", f"JobId={number}", "StartTime=now")
        # Not always 1: a busy node that answers late makes SLURM start the job once more.
        started = re.compile(r"shell start [1-9]")
        wait_for(lambda: any(map(started.match, self.lines(number))), 0.2)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    with slurm() as there:
        for name, value in there.environment.items():
            monkeypatch.setenv(name, value)
        yield Jobs(there, tmp_path)


@pytest.mark.slow
def test_the_notice_is_for_the_shell_and_the_end_for_all_processes(jobs: Jobs) -> None:
    there = jobs.there
    three = f"{jobs.probe('child')} & srun --overlap {jobs.probe('step')} & exec "
    job = jobs.submit(three + jobs.probe("shell"), "--signal=B:USR1@120", "--requeue")
    for name in ("child", "step", "shell"):
        jobs.until(job, f"{name} start 0")
    assert queue.is_running(job) and queue.seconds_allowed(job) == 3600
    assert not queue.is_running("999")
    there.say("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    jobs.until(job, "shell USR1")
    assert not {"child USR1", "step USR1"} & {*jobs.lines(job)}

    queue.requeue(job)
    for name in ("child", "step", "shell"):
        jobs.until(job, f"{name} TERM")
    jobs.restarted(job)
    there.say("scancel", job)
    for name in ("child", "step", "shell"):
        jobs.until(job, f"{name} TERM", 2)
    there.until_empty()
    ended = there.job(job)
    assert (ended["JobState"], ended["ExitCode"]) == ("CANCELLED", "3:0")


@pytest.mark.slow
def test_a_job_that_requeues_itself_comes_back_however_it_ends(jobs: Jobs) -> None:
    itself = "scontrol requeue $SLURM_JOB_ID; "
    for end in ("exit 1", "exit 0", "sleep 100"):
        job = jobs.submit(itself + end, "--requeue")
        jobs.until_requeued(job)
        jobs.there.say("scancel", job)
    for end, code in (("exit 7", "7:0"), ("kill -9 $$", "0:9")):
        ended = jobs.there.until(jobs.submit(end), "FAILED", "COMPLETED")
        assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", code)
    job = jobs.submit("echo begins; exec sleep 100", "--time=UNLIMITED")
    jobs.there.until(job, "RUNNING")
    assert queue.seconds_allowed(job) == float("inf")
    wait_for(lambda: jobs.lines(job) == ["begins"], 0.2)
    jobs.there.say("scancel", job)
    assert jobs.there.until(job, "CANCELLED")["ExitCode"] == "0:15"


@pytest.mark.slow
def test_the_tasks_of_an_array_are_jobs_of_their_own(jobs: Jobs) -> None:
    there = jobs.there
    array = jobs.submit("exec " + jobs.probe("task"), "--array=0-3", "--requeue")
    jobs.until(array, "task start 0", 2)  # the node has two CPUs
    after = jobs.submit("true", f"--dependency=afterok:{array}")

    def states() -> dict[str, str]:
        lines = there.say("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    assert states() == {after: "PENDING"} | {
        f"{array}_{task}": "RUNNING" if task < 2 else "PENDING" for task in range(4)
    }
    there.say("scancel", f"{array}_0")
    jobs.until(array, "task start 0", 3)
    queue.requeue(f"{array}_1")
    jobs.until(array, "task start 0", 4)
    there.until(f"{array}_1", "PENDING")
    queue.cancel_waiting(f"{array}_2")
    wait_for(lambda: f"{array}_1" not in states(), 0.2)
    assert states() == {f"{array}_{n}": "RUNNING" for n in (2, 3)} | {after: "PENDING"}
    assert queue.is_running(f"{array}_2") and not queue.is_running(f"{array}_1")
    there.say("scancel", array)
    wait_for(lambda: [*states()] == [after], 0.2)
    wait_for(lambda: there.job(after)["Reason"] == "DependencyNeverSatisfied", 0.2)


@pytest.mark.slow
def test_preemption_and_a_node_that_fails_requeue_a_job(jobs: Jobs) -> None:
    there = jobs.there
    job = jobs.submit(
        f"srun --overlap {jobs.probe('step')} & exec " + jobs.probe("shell", 143),
        "--signal=B:USR1@120", "--requeue", "--cpus-per-task=2",
    )  # fmt: skip
    for name in ("step", "shell"):
        jobs.until(job, f"{name} start 0")
    urgent = jobs.submit("true", "--partition=urgent", "--cpus-per-task=2")
    jobs.until(job, "shell TERM")
    assert jobs.lines(job)[2] == "shell USR1", jobs.lines(job)
    there.until(urgent, "COMPLETED")
    jobs.restarted(job)
    restarts = int(there.job(job)["Restarts"])
    node = there.say("sinfo", "--noheader", "--format=%n")
    there.say("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    jobs.until(job, "shell TERM", 2)
    assert int(there.until(job, "PENDING")["Restarts"]) == restarts + 1
