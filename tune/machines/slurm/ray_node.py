"""Ray on the node of a task."""

import ctypes
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_NODE_ID = re.compile(r"/raylet .*--node_id=(\w+)")
# Ray names a worker's process after its actor; these have none of ours.
_WORKER = re.compile(r"ray::(?!IDLE|\w+Agent)")


class RayNode:
    """A running `ray start --block`."""

    def __init__(self, process: "subprocess.Popen[bytes]", environment: dict[str, str]) -> None:
        """Watch a process, with the environment of Ray's processes."""
        self._process, self._environment = process, environment

    @property
    def status(self) -> int | None:
        """Exit status; None while Ray runs."""
        return self._process.poll()

    @property
    def has_workers(self) -> bool:
        """True if trials have workers on this node."""
        return any(map(_WORKER.match, titles(self._process.pid)))

    def announce_departure(self, address: str, seconds: int) -> bool:
        """Tell the cluster at an address that this node leaves soon; its trials then move.

        Returns True if it was told.
        """
        ids = [found[1] for t in titles(self._process.pid) if (found := _NODE_ID.search(t))]
        if not ids:
            return False
        command = [*python(), "-m", "tune.machines.slurm.departure", address, ids[0], str(seconds)]
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(command, env=self._environment, timeout=seconds, check=False)
            return done.returncode == 0
        return False


@contextmanager
def ray_node(folder: Path, token: Path, *flags: str) -> Iterator[RayNode]:
    """Keep Ray running on this node in a `with` block; `folder` is for its files."""
    with subprocess.Popen(
        [
            *_ray("start"),
            "--block",
            # of this block alone
            f"--temp-dir={folder / secrets.token_hex(2)}",
            f"--node-ip-address={host()}",
            f"--num-cpus={os.environ.get('SLURM_CPUS_PER_TASK', '1')}",
            "--min-worker-port=0",
            "--max-worker-port=0",
            "--dashboard-agent-listen-port=0",
            *flags,
        ],
        env=with_token(token),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_prepare,
    ) as process:
        try:
            yield RayNode(process, with_token(token))
        finally:
            # with --block, Ray's processes end with this one
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def head_flags() -> tuple[int, list[str]]:
    """(port of a head, flags of `ray start` for it)."""
    # other jobs may run Ray on this node
    port, client_port, dashboard_port = _free_ports(3)
    return port, [
        "--head",
        f"--port={port}",
        f"--ray-client-server-port={client_port}",
        f"--dashboard-port={dashboard_port}",
        "--include-dashboard=false",
        "--no-monitor",
    ]


def with_token(token: Path) -> dict[str, str]:
    """The environment of Ray's processes and of its drivers."""
    return os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_enable_metrics_collection": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def host() -> str:
    """This machine's address for other nodes."""
    return socket.gethostbyname(os.environ.get("SLURMD_NODENAME") or socket.gethostname())


def listens(port: int) -> bool:
    """True if a process of this machine listens on a port."""
    try:
        socket.create_connection((host(), port), timeout=1).close()
    except OSError:
        return False
    return True


def titles(root: int) -> list[str]:
    """Command lines of a process and its descendants."""
    found, parents = dict[int, str](), dict[int, int]()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            parents[int(folder.name)] = int(parent)
            found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    inside = {root}
    while more := {pid for pid, parent in parents.items() if parent in inside} - inside:
        inside |= more
    return [found[pid] for pid in inside if pid in found]


def python() -> list[str]:
    """This interpreter, without the working folder in its path: that may hold a user's tune.py."""
    return [sys.executable, "-P"]


def end_with_parent() -> None:
    """Make SIGKILL follow the end of this process's parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prepare() -> None:
    end_with_parent()
    # scancel sends SIGTERM to all processes of the job; the driver needs Ray a while longer
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _ray(*arguments: str) -> list[str]:
    return [*python(), "-m", "ray.scripts.scripts", *arguments]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
