"""A task of a job array: a Ray node that comes and goes. One of the tasks also drives the sweep.

Run by the job that `submit` makes: python -m tune.machines.slurm.task FOLDER NAME STORAGE FLAG...

Any task may end at any time. If the leader ends, another task leads: it starts a new Ray cluster,
which the others join, and resumes the sweep. Before its time limit a task leaves in order and
requeues itself.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dynamos.errors import RunError
from dynamos.files import any_path
from results import sweep_names
from tune.machines.slurm import queue
from tune.machines.slurm.meeting import Cluster, Meeting
from tune.machines.slurm.ray_node import (
    RayNode,
    end_with_parent,
    head_flags,
    host,
    listens,
    python,
    ray_node,
    with_token,
)

NOTICE_SECONDS = 120  # before its time limit, a task gets SIGUSR1
LEAST_SECONDS = 300  # a shorter time limit would leave no time for trials
TIME, ASKED = "the time of this task is nearly over", "asked to end"
# Time for the trials of a task that leaves. SLURM kills a task that was asked to end 30 s later, or
# after KillWait if that is configured.
MOVE_SECONDS = {TIME: NOTICE_SECONDS - 20, ASKED: 20}
# The driver lists the nodes every second. When it knows that a node leaves, no trial starts there.
SETTLE_SECONDS = 3
POLL_SECONDS = 0.5
# Time between two questions to SLURM: by a task that waits for a leader, and by one that has one.
ASK_SECONDS, LOOK_SECONDS = 10, 30
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


class Leave(Exception):
    """Raised in a task that has to leave, with the reason: TIME or ASKED."""


class Task:
    """This task."""

    def __init__(self, meeting: Meeting, name: str, storage: str, flags: Sequence[str]) -> None:
        """Prepare the task of a sweep; `flags` are those of `dynamos-sweep run`."""
        self._meeting, self._name, self._storage, self._flags = meeting, name, storage, flags
        self._job = queue.own_job()
        self._reason: str | None = None
        self._until = 0.0  # latest time at which this task ends
        self._asked = -float(ASK_SECONDS)  # time of the last question to SLURM
        self._gone: int | None = None  # number of the last cluster whose leader was killed
        # only this user may read Ray's files; a path of a socket must be short
        self._temporary = Path(tempfile.mkdtemp(prefix="dynamos-", dir="/tmp"))
        os.environ.pop("RAY_AUTH_TOKEN", None)  # it would take precedence over the file
        for kind, reason in ((signal.SIGUSR1, TIME), (signal.SIGTERM, ASKED)):
            signal.signal(kind, lambda *_, reason=reason: self._ask(reason))

    def run(self) -> int:
        """Take part until the sweep is over; return the exit status.

        It is the driver's status in the last leader, else 0; 143 in a task that was asked to end.
        """
        try:
            return self._take_part()
        except Leave as leave:
            say(str(leave))
            if str(leave) == ASKED:
                return TERMINATED
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)
        # SLURM ends this process and starts the task again when there is room. If the process ended
        # by itself before, that would be the end of the task.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        queue.requeue(self._job)
        time.sleep(NOTICE_SECONDS)
        return 1

    def _take_part(self) -> int:
        seconds = queue.seconds_allowed(self._job)
        if seconds < LEAST_SECONDS:
            say(
                f"its time limit of {seconds:.0f} s is too short, because it leaves "
                f"{NOTICE_SECONDS} s before: set --time to {LEAST_SECONDS // 60} minutes or more"
            )
            return 2
        while not self._meeting.over:
            self._leave_if_asked()
            last = self._meeting.last()
            if last is None or last.ended or self._is_gone(last, ASK_SECONDS):
                mine = self._meeting.lead(self._job, last)
                if mine is not None and (status := self._lead(mine)) is not None:
                    return status
            elif last.address is not None:
                self._join(last, last.address)
            else:
                time.sleep(POLL_SECONDS)
        return 0

    def _ask(self, reason: str) -> None:
        if self._reason == ASKED:
            return
        self._reason = reason
        self._until = time.monotonic() + MOVE_SECONDS[reason]

    def _leave_if_asked(self) -> None:
        if self._reason is not None:
            raise Leave(self._reason)

    def _is_gone(self, cluster: Cluster, seconds: float) -> bool:
        """True if a cluster's leader runs no more; SLURM is asked every so many seconds."""
        if cluster.leader == self._job:  # in an earlier life of this job
            return True
        if cluster.number != self._gone and time.monotonic() >= self._asked + seconds:
            self._asked = time.monotonic()
            if not queue.is_running(cluster.leader):
                self._gone = cluster.number
        return cluster.number == self._gone

    def _lead(self, cluster: Cluster) -> int | None:
        """Start Ray's head and drive the sweep; return the exit status.

        None if another task leads now.
        """
        say("leads")
        port, flags = head_flags()
        try:
            cluster.make_token()
            with ray_node(self._temporary, cluster.token, *flags) as head:
                while not listens(port):
                    self._leave_if_asked()
                    if head.status is not None:
                        raise RunError("Ray did not start; see the lines above")
                    time.sleep(POLL_SECONDS)
                address = f"{host()}:{port}"
                cluster.announce(address)
                status = self._drive(cluster, address)
                if self._meeting.last() != cluster:  # this task was suspended
                    return None
                if status == INTERRUPTED:
                    self._leave_if_asked()
                if status < 0:
                    raise RunError(f"the driver was killed by signal {-status}")
                if status and head.status is not None:
                    raise RunError("Ray's head was lost")
                self._meeting.end()
                queue.cancel_waiting(self._job)
                return status
        finally:
            cluster.end()

    def _drive(self, cluster: Cluster, address: str) -> int:
        """Drive the sweep, and return the driver's exit status."""
        where, there = ["--storage", self._storage], ["--address", address]
        command = (
            sweep("resume", self._name, *where, *there)
            if self._name in sweep_names(any_path(self._storage))
            else sweep("run", *self._flags, *there)
        )
        # Some SLURMs let the children of a killed task live. This driver would then keep the lease.
        with subprocess.Popen(
            command, env=with_token(cluster.token), preexec_fn=end_with_parent
        ) as driver:
            while driver.poll() is None:
                if self._reason is not None:
                    driver.terminate()  # it puts the trials back
                    break
                time.sleep(POLL_SECONDS)
        return driver.returncode

    def _join(self, cluster: Cluster, address: str) -> None:
        """Be a node of a cluster, until it ends or this task has to leave."""
        say(f"joins the cluster at {address}")
        with ray_node(self._temporary, cluster.token, f"--address={address}") as node:
            while node.status is None and not self._ended(cluster):
                if self._reason is not None:
                    self._move_trials(cluster, address, node)
                    raise Leave(self._reason)
                time.sleep(POLL_SECONDS)
            if node.status is not None and not self._ended(cluster):
                say(f"Ray has ended here with status {node.status}")
                time.sleep(ASK_SECONDS)

    def _ended(self, cluster: Cluster) -> bool:
        return cluster.ended or self._meeting.over or self._is_gone(cluster, LOOK_SECONDS)

    def _move_trials(self, cluster: Cluster, address: str, node: RayNode) -> None:
        """Let the trials of this node finish their tasks and move, as long as there is time."""
        left = max(round(self._until - time.monotonic()), 1)
        say(f"leaves within {left} seconds; its trials move")
        if not node.announce_departure(address, left):
            say("the cluster could not be told")
            return
        worked = time.monotonic()
        while time.monotonic() < min(self._until, worked + SETTLE_SECONDS):
            if self._ended(cluster):
                return
            if node.has_workers:
                worked = time.monotonic()
            time.sleep(POLL_SECONDS)


def sweep(*arguments: str) -> list[str]:
    """The command line of `dynamos-sweep`."""
    return [*python(), "-m", "tune.cli", *arguments]


def say(text: str) -> None:
    """Write a line to the task's log."""
    print(f"task {queue.own_job()}: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Run the task."""
    folder, name, storage, *flags = sys.argv[1:]
    try:
        return Task(Meeting(Path(folder)), name, storage, flags).run()
    except RunError as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
