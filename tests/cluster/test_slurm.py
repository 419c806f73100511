"""The SLURM job, run for real: two Ray nodes on two loopback addresses, SLURM's commands run on this machine."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.files import CLUSTER, ROOT
from tests.tune.crashes import LONG, Watched
from tests.tune.processes import Session
from tests.tune.sweeps import SMALL

BESIDE = Path(sys.executable).parent
STUBS = {
    # A step that runs on this machine, whatever node it is for.
    "srun": 'while [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
    "scontrol": '[[ "$1 $2" == "show hostnames" ]] && tr , "\\n" <<< "$3"\n',
}


class Job:
    """A SLURM job of two nodes with one CPU each, which may be submitted more than once."""

    def __init__(self, folder: Path, number: str) -> None:
        """Its working directory and its number."""
        self.folder, self.number = folder, number
        self.seen = Watched(folder / "runs", f"slurm-{number}")
        self.ray_folder = Path(f"/tmp/dynamos-{number}")
        self.stubs = folder / "bin"
        self.stubs.mkdir()
        for name, text in STUBS.items():
            self.stub(name, text)

    def stub(self, name: str, text: str) -> None:
        """Puts a command before those of this machine."""
        path = self.stubs / name
        path.write_text(f"#!/usr/bin/env bash\n{text}")
        path.chmod(0o755)

    def submit(self, *flags: str) -> Session:
        """Starts it, without a token of its own."""
        return Session([str(CLUSTER / "slurm.sh"), *flags], self.folder, {
            "SLURM_JOB_ID": self.number, "SLURM_JOB_NODELIST": "127.0.0.2,127.0.0.3", "SLURM_CPUS_PER_TASK": "1",
            "PATH": f"{self.stubs}:{BESIDE}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
            "RAY_AUTH_TOKEN_PATH": "", "RAY_ADDRESS": ""})

    @property
    def token_files(self) -> list[Path]:
        """Those that the job has made and not removed."""
        return [*(self.folder / "runs").glob(".ray-token-*")]


@contextmanager
def made(folder: Path) -> Iterator[Job]:
    """A job, of which nothing is left."""
    job = Job(folder, str(10**6 + os.getpid()))
    try:
        yield job
    finally:
        shutil.rmtree(job.ray_folder, ignore_errors=True)


def told(folder: Path, secret: str) -> str:
    """Names of the files below a folder that hold a secret.

    Another process reads them: one that has a SQLite file open and closes it a second time loses its locks.
    """
    found = subprocess.run(["grep", "-rlF", "-f", "-", folder], input=secret, capture_output=True, text=True)
    assert found.returncode in (0, 1), found.stderr
    return found.stdout


def test_it_is_clean_shell() -> None:
    done = subprocess.run([BESIDE / "shellcheck", CLUSTER / "slurm.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_ray_that_does_not_start_ends_it_and_leaves_no_token(tmp_path: Path) -> None:
    with made(tmp_path) as job:
        job.stub("ray", "exit 3\n")
        with job.submit("--trials=1") as session:
            ended = session.end()
        assert ended.status == 1 and "Ray did not start on all nodes" in ended.err, ended
        assert (tmp_path / "runs").is_dir() and not job.token_files and not job.seen.there


@pytest.mark.slow
def test_a_sweep_runs_on_all_nodes_and_is_found_finished_when_submitted_again(tmp_path: Path) -> None:
    with made(tmp_path) as job:
        with job.submit("--dataset=seq-digits", "--trials=3", "--set", *SMALL) as session:
            session.until(lambda: any(path.stat().st_size for path in job.token_files))
            (file,) = job.token_files
            token = file.read_text().strip()
            assert len(token) == 64 and file.stat().st_mode & 0o777 == 0o600
            session.until(lambda: len(job.seen.trials()) == 3)
            lines = subprocess.run(["ps", "-wweo", "args"], capture_output=True, text=True, check=True).stdout
            assert "gcs_server" in lines and token not in lines
            ended = session.end()  # and everything with it
        assert ended.status == 0, ended
        assert "3 trials, 2 at a time" in ended.err, "one on each node"
        assert [t.state for t in job.seen.trials()] == ["COMPLETE"] * 3
        assert token not in ended.out + ended.err and not told(tmp_path, token)
        assert not job.token_files and not job.ray_folder.exists()
        with job.submit("--dataset=seq-digits", "--trials=3", "--set", *SMALL) as session:
            again = session.end()
        assert again.status == 0, again
        assert [(t.state, t.attempt) for t in job.seen.trials()] == [("COMPLETE", 1)] * 3


@pytest.mark.slow
def test_a_sweep_whose_job_is_terminated_is_put_back_and_goes_on_in_the_next(tmp_path: Path) -> None:
    with made(tmp_path) as job:
        with job.submit("--trials=2", "--set", *LONG) as session:
            session.until(lambda: any(path.stat().st_size for path in job.token_files))
            token = job.token_files[0].read_text().strip()
            session.until(lambda: len(job.seen.running(tasks=1)) == 2)
            session.send(signal.SIGTERM)
            ended = session.end()
        assert ended.status == 130, ended
        assert {t.state for t in job.seen.trials()} == {"INTERRUPTED"} and job.seen.ledger.driver is None
        assert job.ray_folder.stat().st_mode & 0o777 == 0o700
        assert any(job.ray_folder.rglob("raylet.out")), "Ray's logs are kept where a sweep did not end well"
        assert not told(job.ray_folder, token) and not told(tmp_path, token) and not job.token_files
        with job.submit("--trials=2", "--set", *LONG) as session:
            ended = session.end()
        assert ended.status == 0, ended
        assert [(t.state, t.attempt) for t in job.seen.trials()] == [("COMPLETE", 2)] * 2
        assert job.seen.tasks_saved() == 2 * 5, "no task was trained twice"
