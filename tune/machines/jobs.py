"""Commands that run on a cluster through Ray Jobs; the sending machine is not needed afterwards."""

import asyncio
import logging
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray.exceptions
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from dynamos.errors import RunError, UserError
from tune.machines.cluster import let_in, package_folders
from tune.machines.screen import SCREEN, width
from tune.machines.status import ASKED_FOR, began, error, for_people

SWEEP = "sweep"  # metadata of a job: the name of the sweep that it drives
START_SECONDS = 180.0  # time for which a submission is watched for a failure
POLL_SECONDS = 0.5
# Ray's lines before the first line of a command.
_RAYS_OWN = re.compile(r"\d{4}-\d\d-\d\d \S+\s+INFO job_manager\.py|Running entrypoint for job ")


class Jobs:
    """A cluster's job server."""

    def __init__(self, address: str) -> None:
        """Connect; raise RunError if no server answers or the server refuses this user."""
        let_in()
        # these loggers set their levels themselves, and log every upload
        for name in ("dashboard_sdk", "job.sdk"):
            logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.ERROR)
        self._address = address
        with self._told():
            self._client = JobSubmissionClient(address)

    def submit(
        self, arguments: Sequence[str], sweep: str | None, files: Iterable[Path] = ()
    ) -> str:
        """The id of a new job that runs `dynamos-sweep ARGUMENTS` with copies of `files`."""
        with self._told(), tempfile.TemporaryDirectory() as folder:
            for file in files:
                shutil.copy(file, folder)
            sent = {"working_dir": folder} if any(Path(folder).iterdir()) else {}
            return str(
                self._client.submit_job(
                    entrypoint=shlex.join(["python", "-m", "tune.cli", *arguments]),
                    metadata={} if sweep is None else {SWEEP: sweep},
                    # The job's tables must fit the screen of this machine.
                    runtime_env={
                        "py_modules": package_folders(),
                        **sent,
                        "env_vars": {ASKED_FOR: "1"}
                        | ({} if (columns := width()) is None else {SCREEN: str(columns)}),
                    },
                )
            )

    def started(self, arguments: Sequence[str], sweep: str, files: Sequence[Path] = ()) -> str:
        """The id of a job whose sweep has started, or is about to.

        A submission that fails at its start is repeated once, because loading its packages may fail
        once. Raises RunError if the second one fails too, or if the command reports an error.
        """
        for last in (False, True):
            job = self.submit(arguments, sweep, files)
            status, said = self._watched(job)
            if status != JobStatus.FAILED or began(said):
                return job
            refused = error(said)
            if refused is not None or last:
                why = refused or " ".join(said.splitlines()[-1:])
                raise RunError(f"{why} (job {job} at {self._address})")
        raise AssertionError

    def run(self, arguments: Sequence[str], files: Iterable[Path] = ()) -> int:
        """Run a command on the cluster, print its output and return its exit status."""
        job = self.submit(arguments, None, files)
        self.follow(job)
        while not (details := self._details(job)).status.is_terminal():
            time.sleep(POLL_SECONDS)
        code = details.driver_exit_code
        return int(code) if code is not None else 0 if details.status == JobStatus.SUCCEEDED else 1

    def follow(self, job: str) -> None:
        """Print a job's output until its end."""

        async def tail() -> None:
            async for lines in self._client.tail_job_logs(job):
                _print(lines)

        with self._told():
            asyncio.run(tail())

    def show(self, job: str) -> None:
        """Print a job's output so far."""
        with self._told():
            _print(self._client.get_job_logs(job))

    def of(self, name: str) -> str:
        """The id of a job, given its id or the sweep whose newest driver it is.

        Raises UserError if no job matches.
        """
        with self._told():
            jobs = [job for job in self._client.list_jobs() if job.submission_id is not None]
        if any(job.submission_id == name for job in jobs):
            return name
        drivers = [job for job in jobs if (job.metadata or {}).get(SWEEP) == name]
        if not drivers:
            known = sorted(
                {(job.metadata or {}).get(SWEEP) or str(job.submission_id) for job in jobs}
            )
            raise UserError(
                f"no job of {name!r} at {self._address}. Jobs: {', '.join(known) or 'none'}."
            )
        return str(max(drivers, key=lambda job: job.start_time or 0).submission_id)

    def _watched(self, job: str) -> tuple[JobStatus, str]:
        """(status, output) of a job once its trials start, it ends, or START_SECONDS pass."""
        until = time.monotonic() + START_SECONDS
        while True:
            status = self._details(job).status
            with self._told():
                said = self._client.get_job_logs(job)
            if status.is_terminal() or began(said) or time.monotonic() > until:
                return status, said
            time.sleep(POLL_SECONDS)

    def _details(self, job: str) -> JobDetails:
        with self._told():
            return self._client.get_job_info(job)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn an error of the server into a RunError of one line."""
        try:
            yield
        except ray.exceptions.AuthenticationError:
            raise RunError(
                f"the job server at {self._address} refused access: it needs the cluster's "
                "token. Set RAY_AUTH_TOKEN_PATH to the token's file."
            ) from None
        except (ConnectionError, RuntimeError, ValueError, OSError) as failure:
            said = str(failure).strip().splitlines() or [type(failure).__name__]
            raise RunError(f"the job server at {self._address} cannot be used: {said[0]}") from None


def _print(text: str) -> None:
    for line in for_people(text).splitlines():
        if not _RAYS_OWN.match(line):
            print(line, flush=True)
