"""The Ray cluster that a sweep runs on: a private one on this machine, or an existing one."""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import joblib
import ray

from dynamos.errors import RunError, UserError
from results.definition.sweep_config import SweepConfig
from tune.machines import private, ray_names
from tune.machines.private import check_token
from tune.machines.probe import apart, gpu_count
from tune.machines.slots import Departures, Node

PACKAGES = ("dynamos", "search_spaces", "results", "tune")  # our packages that workers import
CONNECT_SECONDS = 10.0
REFRESH_SECONDS = 1.0  # largest age of the list of nodes
log = logging.getLogger(__name__)


def cluster_address(given: str | None) -> str | None:
    """The address of the cluster to use.

    It is `given`, else RAY_ADDRESS, else None for a private Ray on this machine.
    """
    address = given or os.environ.get("RAY_ADDRESS") or None
    name = "--address" if given else "RAY_ADDRESS"
    hint = "" if given else " Unset the variable to run only on this machine."
    if address is not None and "://" in address:
        raise UserError(
            f"{name} {address}: a driver connects to auto or HOST:PORT, from a machine of the "
            f"cluster. From any other: dynamos-sweep submit --address http://HOST:8265.{hint}"
        )
    if address is not None and address != "auto" and not address.rpartition(":")[2].isdigit():
        raise UserError(f"{name} {address!r} is neither auto nor HOST:PORT.{hint}")
    return address


@contextmanager
def connected(address: str | None, here: Node) -> Iterator["Nodes"]:
    """Keep Ray running in a `with` block; yields the nodes that take trials.

    Without an address it starts a Ray on this machine, with the resources of `here`, that listens
    on loopback only. Token authentication is on, Ray's default; Ray reads the token from
    RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token. Raises RunError if no cluster answers.
    """
    if address is None:
        private.start(here)
    else:
        with ray_names.own_sigterm():
            _join(address, private.quiet())
    nodes = Nodes()
    try:
        yield nodes
    finally:
        nodes.over = True
        if address is None:
            ray_names.end_without_sigterm()
        ray.shutdown()


def this_machine(config: SweepConfig) -> Node:
    """This machine as a node: the CPUs it may use and, if the sweep uses GPUs, its GPUs."""
    return Node(
        "",
        socket.gethostname(),
        joblib.cpu_count(),
        apart(gpu_count) if config.gpus_per_trial else 0,
    )


def _join(address: str, quiet: dict[str, Any]) -> None:
    # Ray merges the runtime environments of a job and its driver, and refuses if both name
    # packages.
    ours = {} if ray_names.IN_A_JOB in os.environ else {"py_modules": package_folders()}
    try:
        found = ray_names.head_address() if address == "auto" else address
        if wants_a_token(found):
            let_in()
        else:  # such a cluster would count a driver that demands a token, and its actors, as dead
            ray_names.send_no_token()
        ray.init(address=found, runtime_env=ours, **quiet)
    except (
        ConnectionError,
        RuntimeError,
        ValueError,
        grpc.RpcError,
        ray.exceptions.RayError,
    ) as error:
        said = (
            error.details()
            if isinstance(error, grpc.RpcError)
            else str(error).strip().splitlines()[0]
        )
        where = address if os.environ.get("RAY_ADDRESS") != address else f"{address} (RAY_ADDRESS)"
        raise RunError(
            f"no Ray cluster could be joined at {where}: {str(said).rstrip('.')}. The driver has "
            "to run on a machine of the cluster, with the cluster's token (RAY_AUTH_TOKEN_PATH), "
            "and connect to the port that `ray start --head` prints, by default 6379."
        ) from None


def wants_a_token(address: str) -> bool:
    """True if a cluster demands its token; raises RpcError if no cluster answers."""
    # no request is sent: it would need the cluster's certificates
    if os.environ.get("RAY_USE_TLS") == "1":
        return True
    with grpc.insecure_channel(address, options=ray_names.GRPC_OPTIONS) as channel:
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")(
                b"", timeout=CONNECT_SECONDS
            )
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAUTHENTICATED:
                raise
            return True
    return False


def package_folders() -> list[str]:
    """The folders of our packages, which Ray carries to other machines."""
    specs = [find_spec(name) for name in PACKAGES]
    return [
        str(Path(spec.origin).parent)
        for spec in specs
        if spec is not None and spec.origin is not None
    ]


def let_in() -> None:
    """Make this process send the cluster's token if it has one.

    By itself Ray does so only in the process that starts the cluster. Afterwards Ray logs only
    errors.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    check_token()
    ray_names.send_token()


class Nodes:
    """Lists the nodes that take trials: those that are alive and not about to leave.

    Attributes:
        departures: the nodes that were seen to be about to leave.
    """

    def __init__(self) -> None:
        self._asked, self._nodes = -REFRESH_SECONDS, list[Node]()
        self.departures = Departures()
        self.over = False  # True if Ray is shutting down

    def __call__(self) -> list[Node]:
        """The nodes now; Ray is asked every REFRESH_SECONDS."""
        if not self.over and time.monotonic() - self._asked >= REFRESH_SECONDS:
            self._asked = time.monotonic()
            try:
                entries, leaving = ray_names.node_entries()
            except ray.exceptions.RayError as error:
                # the head is unreachable: the last list is used until it answers
                log.warning("the nodes of the cluster cannot be listed: %s", error)
                return self._nodes
            self.departures.now = leaving
            self.departures.ever |= leaving
            self._nodes = [_node(e) for e in entries if e["NodeID"] not in leaving]
        return self._nodes


def _node(entry: dict[str, Any]) -> Node:
    resources = entry["Resources"]
    kind = next(
        (name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")), None
    )
    host = f"{entry['NodeManagerHostname']} {entry['NodeManagerAddress']}"
    return Node(entry["NodeID"], host, resources.get("CPU", 0.0), resources.get("GPU", 0.0), kind)
