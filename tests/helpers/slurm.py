"""A real SLURM of one node on loopback: munged, slurmctld and slurmd as processes of this user."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.helpers.processes import Session, wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
needs_slurm = pytest.mark.skipif(
    bool(missing),
    reason=f"there is no {', '.join(missing)} here (Debian: apt install slurm-wlm munge)",
)
# A cancelled job, and one whose time is over, have much longer than by default (30 s, and no time)
# until they are killed, because machines may be busy.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
KillWait=300
OverTimeLimit=5
FirstJobId={first}
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
SchedulerParameters=bf_interval=2
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=all Nodes=ALL Default=YES State=UP GraceTime=6
PartitionName=urgent Nodes=ALL State=UP PriorityTier=2
"""


class Slurm:
    """Commands of a running SLURM."""

    def __init__(self, folder: Path) -> None:
        """Use the configuration in a folder."""
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}

    def say(self, *arguments: str, cwd: Path | None = None) -> str:
        """Return the output of a command."""
        done = subprocess.run(
            arguments, cwd=cwd, env=os.environ | self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout.strip()

    def submit(self, script: Path, *flags: str, cwd: Path, options: tuple[str, ...] = ()) -> str:
        """Submit a job that runs in `cwd` and writes JOB.out there; return its number."""
        return self.say(
            "sbatch",
            "--parsable",
            "--output=%j.out",
            "--open-mode=append",
            *options,
            str(script),
            *flags,
            cwd=cwd,
        )

    def job(self, number: str) -> dict[str, str]:
        """Return the properties of a job, by SLURM's names."""
        return dict(
            word.split("=", 1)
            for word in self.say("scontrol", "show", "job", "-o", number).split()
            if "=" in word
        )

    def until(self, number: str, *states: str) -> dict[str, str]:
        """Wait until a job is in one of the states, and return its properties."""
        wait_for(lambda: self.job(number)["JobState"] in states, 0.5)
        return self.job(number)

    def until_empty(self) -> None:
        """Wait until no job waits, runs or is ending."""
        wait_for(lambda: not self.say("squeue", "--noheader"), 0.5)


@contextmanager
def slurm() -> Iterator[Slurm]:
    """Start SLURM and yield it; its jobs end with it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # a socket's path must be short
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        host = socket.gethostname().partition(".")[0]
        with socket.create_server(("", 0)) as first, socket.create_server(("", 0)) as second:
            ports = (first.getsockname()[1], second.getsockname()[1])
        user = subprocess.run(
            ["id", "-un"], capture_output=True, text=True, check=True
        ).stdout.strip()
        (folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=host, ports=ports, folder=folder, user=user, first=10**6 + os.getpid()
            )
        )
        made = Slurm(folder)
        places = [
            f"--{name}={folder}/munge.{ending}"
            for name, ending in (
                ("key-file", "key"),
                ("socket", "socket"),
                ("pid-file", "pid"),
                ("log-file", "log"),
                ("seed-file", "seed"),
            )
        ]
        for command in (
            ["munged", "--foreground", "--force", *places],
            ["slurmctld", "-D", "-i"],
            ["slurmd", "-D"],
        ):
            program = shutil.which(command[0], path=PATH)
            assert program is not None
            stack.enter_context(Session([program, *command[1:]], folder, made.environment))
            if command[0] == "munged":
                wait_for((folder / "munge.socket").exists)
        wait_for(
            lambda: (
                subprocess.run(
                    ["sinfo", "-h", "-o", "%t"],
                    env=os.environ | made.environment,
                    capture_output=True,
                    text=True,
                ).stdout.strip()
                == "idle"
            ),
            0.5,
        )

        def over() -> None:
            for number in made.say("squeue", "-h", "-o", "%A").split():
                subprocess.run(  # one that is ending has no process to signal
                    ["scancel", "--full", "--signal=KILL", number],
                    env=os.environ | made.environment,
                    capture_output=True,
                )
            made.until_empty()

        stack.callback(over)
        yield made
