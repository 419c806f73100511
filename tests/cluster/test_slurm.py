"""The SLURM job, on a real SLURM of one node, and on two loopback addresses with stand-ins for
SLURM's commands."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.cluster_files import CLUSTER, ROOT
from tests.helpers.crashes import LONG, Watched, endless
from tests.helpers.processes import Session, wait_for
from tests.helpers.slurm import needs_slurm, slurm
from tests.helpers.sweeps import SMALL

BESIDE = Path(sys.executable).parent
# A stand-in for srun: the step runs on this machine, for any node. When its first process ends, all
# processes of the step end.
SRUN = f"""#!{sys.executable}
import ctypes, itertools, os, signal, subprocess, sys
from pathlib import Path
# PR_SET_CHILD_SUBREAPER: processes whose parents have ended become its own
ctypes.CDLL(None).prctl(36, 1)
command = itertools.dropwhile(lambda argument: argument.startswith("--"), sys.argv[1:])
step = subprocess.Popen([*command])
signal.signal(signal.SIGUSR1, lambda kind, _: step.send_signal(kind))
status = step.wait()
while children := Path(f"/proc/self/task/{{os.getpid()}}/children").read_text().split():
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    os.wait()
sys.exit(status if status >= 0 else 128 - status)
"""
SCONTROL = '#!/usr/bin/env bash\n[[ "$1 $2" == "show hostnames" ]] && tr , "\\n" <<< "$3"\n'


class Job:
    """A SLURM job of two nodes with one CPU each, which may be submitted more than once."""

    def __init__(self, folder: Path, number: str) -> None:
        """Set the job's working folder and number."""
        self.folder, self.number = folder, number
        self.seen = Watched(folder / "runs", f"slurm-{number}")
        self.ray_folder = Path(f"/tmp/dynamos-{number}")
        self.stubs = folder / "bin"
        self.stubs.mkdir()
        self.stub("srun", SRUN)
        self.stub("scontrol", SCONTROL)

    def stub(self, name: str, text: str) -> None:
        """Replace a command by a script that is found first."""
        path = self.stubs / name
        path.write_text(text)
        path.chmod(0o755)

    def submit(self, *flags: str, **environment: str) -> Session:
        """Start the job without a token in its environment."""
        return Session(
            [str(CLUSTER / "slurm.sh"), *flags],
            self.folder,
            {
                "SLURM_JOB_ID": self.number,
                "SLURM_JOB_NODELIST": "127.0.0.2,127.0.0.3",
                "SLURM_CPUS_PER_TASK": "1",
                "PATH": f"{self.stubs}:{BESIDE}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "RAY_AUTH_TOKEN_PATH": "",
                "RAY_ADDRESS": "",
                **environment,
            },
        )

    @property
    def token_files(self) -> list[Path]:
        """Token files that the job has made and not removed."""
        return [*(self.folder / "runs").glob(".ray-token-*")]


@contextmanager
def made(folder: Path) -> Iterator[Job]:
    """Yields a job; its processes and files are removed after the test."""
    job = Job(folder, str(10**6 + os.getpid()))
    try:
        yield job
    finally:
        shutil.rmtree(job.ray_folder, ignore_errors=True)


def told(folder: Path, secret: str) -> str:
    """Names of the files in a folder that hold a secret. A separate process reads them: a process
    that has a SQLite file open and closes it a second time loses its locks."""
    found = subprocess.run(
        ["grep", "-rlF", "-f", "-", folder], input=secret, capture_output=True, text=True
    )
    assert found.returncode in (0, 1), found.stderr
    return found.stdout


def test_it_is_clean_shell() -> None:
    done = subprocess.run(
        [BESIDE / "shellcheck", CLUSTER / "slurm.sh"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_ray_that_does_not_start_ends_it_and_leaves_no_token(tmp_path: Path) -> None:
    with made(tmp_path) as job:
        job.stub("ray", "#!/bin/sh\nexit 3\n")
        with job.submit("--trials=1") as session:
            ended = session.end()
        assert ended.status == 1 and "Ray did not start on all nodes" in ended.err, ended
        assert (tmp_path / "runs").is_dir() and not job.token_files and not job.seen.there


def test_what_ends_it_before_the_sweep_is_said(tmp_path: Path) -> None:
    with made(tmp_path) as job:
        job.stub("ray", "#!/bin/sh\nexec sleep 1000\n")
        job.stub(
            "squeue",
            "#!/usr/bin/env bash\nnow=$(date +%s)\n"
            '[[ $SLURM_TIME_FORMAT == %s ]] && echo "$((now - 60)) $((now + LEFT))"\n',
        )
        for left, kinds, status, words in (
            (240, ["USR1", "TERM"], 143, "asked to end"),
            (12, ["USR1"], 1, "the time of the job is nearly over"),
        ):
            with job.submit("--trials=1", LEFT=str(left)) as session:
                session.until(
                    lambda: (
                        any(path.stat().st_size for path in job.token_files)
                        and job.ray_folder.exists()
                    )
                )
                for kind in kinds:
                    session.send(signal.Signals[f"SIG{kind}"])
                ended = session.end()
            assert ended.status == status and words in ended.err, ended
            assert not job.token_files and job.ray_folder.exists() == (status == 1)


@pytest.mark.slow
def test_a_sweep_runs_on_all_nodes_and_is_found_finished_when_submitted_again(
    tmp_path: Path,
) -> None:
    with made(tmp_path) as job:
        with job.submit("--dataset=seq-digits", "--trials=3", "--set", *SMALL) as session:
            session.until(lambda: any(path.stat().st_size for path in job.token_files))
            (file,) = job.token_files
            token = file.read_text().strip()
            assert len(token) == 64 and file.stat().st_mode & 0o777 == 0o600
            session.until(lambda: len(job.seen.trials()) == 3)
            lines = subprocess.run(
                ["ps", "-wweo", "args"], capture_output=True, text=True, check=True
            ).stdout
            assert "gcs_server" in lines and token not in lines
            ended = session.end()  # with all its processes
        assert ended.status == 0, ended
        assert "3 trials, 2 at a time" in ended.err, "one on each node"
        assert [t.state for t in job.seen.trials()] == ["COMPLETE"] * 3
        assert token not in ended.out + ended.err and not told(tmp_path, token)
        assert not job.token_files and not job.ray_folder.exists()
        with job.submit("--dataset=seq-digits", "--trials=3", "--set", *SMALL) as session:
            again = session.end()
        assert again.status == 0, again
        assert [(t.state, t.attempt) for t in job.seen.trials()] == [("COMPLETE", 1)] * 3


@needs_slurm
@pytest.mark.slow
def test_a_chain_of_jobs_goes_on_with_one_sweep_and_a_requeued_one_leaves_it_in_order(
    tmp_path: Path,
) -> None:
    seen = Watched(tmp_path / "runs", "chain")
    with slurm() as there:

        def submitted(*options: str) -> str:
            return there.submit(
                CLUSTER / "slurm.sh",
                "--name=chain",
                *endless(tmp_path, others=1),
                cwd=tmp_path,
                options=("--nodes=1", "--cpus-per-task=2", "--time=60", *options),
            )

        def until_at_work(number: str, attempt: int) -> None:
            wait_for(
                lambda: (
                    seen.at_work(0, attempt)
                    or there.job(number)["JobState"] in ("COMPLETED", "FAILED")
                ),
                0.5,
            )
            assert there.job(number)["JobState"] == "RUNNING", said(number)

        def said(number: str) -> str:
            return (tmp_path / f"{number}.out").read_text()

        def is_put_back(number: str) -> bool:
            rows = (seen.folder / "trials.csv").read_text().splitlines()[1:]
            return (
                seen.state(0) == "INTERRUPTED"
                and rows[0].startswith("0,INTERRUPTED,")
                and seen.ledger.driver is None
                and not [*seen.storage.glob(".ray-token-*")]
                and not Path(f"/tmp/dynamos-{number}").exists()
            )

        first = submitted()
        # until the first job has been checked
        second = submitted(f"--dependency=afterok:{first}", "--hold")
        until_at_work(first, 1)
        there.say("scontrol", "update", f"JobId={first}", "TimeLimit=1")
        ended = there.until(first, "COMPLETED", "FAILED", "TIMEOUT")
        assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0"), said(first)
        assert "submit it again with --name chain to continue it" in said(first) and is_put_back(
            first
        ), said(first)

        there.say("scontrol", "release", second)
        until_at_work(second, 2)
        there.say("scontrol", "requeue", second)
        there.until(second, "PENDING")
        assert is_put_back(second), said(second)
        there.say("scancel", second)
        there.until_empty()


@pytest.mark.slow
def test_a_sweep_whose_job_is_terminated_is_put_back_and_goes_on_in_the_next(
    tmp_path: Path,
) -> None:
    with made(tmp_path) as job:
        with job.submit("--trials=2", "--set", *LONG) as session:
            session.until(lambda: any(path.stat().st_size for path in job.token_files))
            token = job.token_files[0].read_text().strip()
            session.until(lambda: len(job.seen.running(tasks=1)) == 2)
            assert job.ray_folder.stat().st_mode & 0o777 == 0o700
            assert any(job.ray_folder.rglob("raylet.out")) and not told(job.ray_folder, token)
            session.send(signal.SIGTERM)
            ended = session.end()
        assert ended.status == 130, ended
        assert {t.state for t in job.seen.trials()} == {
            "INTERRUPTED"
        } and job.seen.ledger.driver is None
        assert not job.ray_folder.exists() and not told(tmp_path, token) and not job.token_files
        with job.submit("--trials=2", "--set", *LONG) as session:
            ended = session.end()
        assert ended.status == 0, ended
        assert [(t.state, t.attempt) for t in job.seen.trials()] == [("COMPLETE", 2)] * 2
        assert job.seen.tasks_saved() == 2 * 5, "no task was trained twice"
