"""Real Ray clusters on one machine: a head and further nodes, each with separate processes. Every
node is in a separate network namespace; the namespaces are joined by a bridge. If this user may not
make namespaces, all nodes share the machine's. Token authentication is on. A test stops its
processes by their ids."""

import itertools
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ray.util import get_node_ip_address

from tests.helpers.processes import Session, wait_for

_CLUSTERS = itertools.count()


@dataclass
class Cluster:
    """A head and the nodes that have joined it."""

    folder: Path
    token: Path
    networks: "Networks"
    nodes: list[Session] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which a driver or a client is admitted."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_ADDRESS": "",
            # As in the image of a node, `python` is the one with all packages.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    @property
    def address(self) -> str:
        """HOST:PORT for drivers."""
        return f"{self.networks.address(0)}:{self.networks.ports[0]}"

    @property
    def jobs(self) -> str:
        """The URL of the job server."""
        return f"http://{self.networks.address(0)}:{self.networks.ports[1]}"

    def inside(self, *arguments: str, node: int = 0) -> list[str]:
        """Return a command line that runs a command on a node."""
        return [*self.networks.inside(node), *arguments]

    def add(
        self,
        cpus: int,
        gpus: int = 0,
        kind: str | None = None,
        jobs: bool = False,
        blind_to: Path | None = None,
    ) -> Session:
        """Add a node, which joins some seconds later, and return it. The first one is the head, on
        request with a job server. `kind` is the name of its GPUs. The folder `blind_to` is hidden
        from it, as from a machine that does not share the disk."""
        number = len(self.nodes)
        own = self.networks.address(number)
        self.networks.add(number)
        port, jobs_port, client_port = self.networks.ports
        head = (
            [
                "--head",
                f"--port={port}",
                f"--include-dashboard={jobs}",
                f"--dashboard-host={own}",
                f"--dashboard-port={jobs_port}",
                f"--ray-client-server-port={client_port}",
            ]
            if number == 0
            else [f"--address={self.address}"]
        )
        places = [] if number else [f"--temp-dir={self.folder}"]
        if kind is not None:
            places.append("--resources=" + json.dumps({f"accelerator_type:{kind}": 1}))
        hidden = (
            []
            if blind_to is None
            else [
                "unshare",
                "--mount",
                "sh",
                "-c",
                'mount -t tmpfs none "$0" && exec "$@"',
                str(blind_to),
            ]
        )
        started = Session(
            self.inside(
                *hidden,
                _beside("ray"),
                "start",
                *head,
                *places,
                f"--node-ip-address={own}",
                f"--num-cpus={cpus}",
                f"--num-gpus={gpus}",
                "--disable-usage-stats",
                "--block",
                "--dashboard-agent-listen-port=0",
                node=number,
            ),
            self.folder,
            self.environment,
        )
        self.nodes.append(started)
        return started

    def drain(self, number: int) -> None:
        """Announce that a node will leave, as an autoscaler does."""
        script = (
            f"import ray; ray.init('{self.address}', log_to_driver=False, logging_level=40); "
            "print(*(n['NodeID'] for n in ray.nodes() if n['NodeManagerAddress'] == "
            f"'{self.networks.address(number)}'))"
        )
        node = subprocess.run(
            self.inside(_beside("python"), "-c", script),
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | self.environment,
        ).stdout.strip()
        subprocess.run(
            self.inside(
                _beside("ray"),
                "drain-node",
                f"--address={self.address}",
                f"--node-id={node}",
                "--reason",
                "DRAIN_NODE_REASON_PREEMPTION",
                "--reason-message",
                "a test",
            ),
            check=True,
            capture_output=True,
            env=os.environ | self.environment,
        )


class Networks:
    """One network namespace for each node, on a bridge; none if this user may not make them."""

    def __init__(self) -> None:
        self._name = f"ray{os.getpid() % 10000}{next(_CLUSTERS)}"
        self._subnet = f"10.{os.getpid() % 200 + 20}.{next(_CLUSTERS) % 250}"
        self.there = os.getuid() == 0 and self._try("link", "add", self._name, "type", "bridge")
        # Ports of the head, its job server and its server of clients. On a shared network, other
        # processes may use Ray's default ports.
        self.ports = (6379, 8265, 10001) if self.there else _free_ports()

    def __enter__(self) -> Self:
        if self.there:
            _ip("addr", "add", f"{self._subnet}.254/24", "dev", self._name)
            _ip("link", "set", self._name, "up")
        return self

    def __exit__(self, *_: object) -> None:
        if self.there:
            for line in subprocess.run(
                ["ip", "netns", "list"], capture_output=True, text=True
            ).stdout.splitlines():
                if line.startswith(f"{self._name}-"):
                    _ip("netns", "delete", line.split()[0])
            _ip("link", "delete", self._name)

    def address(self, number: int) -> str:
        """Return the IP address of a node."""
        return f"{self._subnet}.{number + 1}" if self.there else get_node_ip_address()

    def add(self, number: int) -> None:
        """Make the namespace of a node."""
        if not self.there:
            return
        space, outer, inner = (
            f"{self._name}-{number}",
            f"{self._name}o{number}",
            f"{self._name}i{number}",
        )
        _ip("netns", "add", space)
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        _ip("link", "set", inner, "netns", space)
        _ip("link", "set", outer, "master", self._name, "up")
        _ip("-n", space, "addr", "add", f"{self.address(number)}/24", "dev", inner)
        for device in (inner, "lo"):
            _ip("-n", space, "link", "set", device, "up")

    def inside(self, number: int) -> list[str]:
        """Return the beginning of a command line that runs in a node's namespace."""
        return ["ip", "netns", "exec", f"{self._name}-{number}"] if self.there else []

    @staticmethod
    def _try(*arguments: str) -> bool:
        if shutil.which("ip") is None:
            return False
        return subprocess.run(["ip", *arguments], capture_output=True).returncode == 0


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Yields a cluster without nodes; nodes that the test adds end with it."""
    # Ray's sockets lie in it, and their paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        made = Cluster(folder, token, stack.enter_context(Networks()))

        def over() -> None:
            for node in reversed(made.nodes):
                node.__exit__(None, None, None)

        stack.callback(over)
        yield made


def until_there(made: Cluster, count: int) -> None:
    """Wait until N nodes are alive."""
    script = (
        f"import ray; ray.init('{made.address}', log_to_driver=False, logging_level=40); "
        "print(sum(n['Alive'] for n in ray.nodes()))"
    )

    def there() -> bool:
        said = subprocess.run(
            made.inside(_beside("python"), "-c", script),
            capture_output=True,
            text=True,
            env=os.environ | made.environment,
        )
        return said.stdout.strip() == str(count)

    wait_for(there, 1.0)


def until_jobs(made: Cluster) -> None:
    """Wait until the job server answers."""
    request = urllib.request.Request(
        f"{made.jobs}/api/version", headers={"Authorization": f"Bearer {made.token.read_text()}"}
    )

    def answers() -> bool:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    wait_for(answers, 0.5)


def _free_ports() -> tuple[int, int, int]:
    with ExitStack() as stack:
        first, second, third = (
            stack.enter_context(socket.create_server(("", 0))) for _ in range(3)
        )
        return first.getsockname()[1], second.getsockname()[1], third.getsockname()[1]


def _beside(program: str) -> str:
    """Path of a program in the environment of this Python."""
    return str(Path(sys.executable).with_name(program))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
