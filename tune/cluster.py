"""The Ray that a sweep runs on: one of this machine's own, or a cluster that is there."""

import importlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import ray_constants
from ray._private.state import state

from dynamos.errors import RunError, UserError
from tune.places import Node

PACKAGES = ("dynamos", "search_spaces", "results", "tune")  # what workers need of ours
REFRESH_SECONDS = 1.0  # how old the list of nodes may be
_IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set in a driver that Ray Jobs started, whose packages came with the job


def cluster_address(given: str | None) -> str | None:
    """The address of the cluster to use: as given, else RAY_ADDRESS; None for a Ray of this machine's own."""
    address = given or os.environ.get("RAY_ADDRESS") or None
    if address is not None and "://" in address:
        raise UserError(f"--address {address}: a driver connects to auto or HOST:PORT, from a machine of the cluster. "
                        "From any other: dynamos-sweep submit --address http://HOST:8265.")
    if address is not None and address != "auto" and not address.rpartition(":")[2].isdigit():
        raise UserError(f"--address {address!r} is neither auto nor HOST:PORT.")
    return address


@contextmanager
def connected(address: str | None, cpus: float, gpus: float) -> Iterator[Callable[[], list[Node]]]:
    """While it lasts, Ray is there; gives what lists the nodes that take trials.

    Without an address it is a Ray of this machine's own with so many CPUs and GPUs, which listens on loopback only.
    Token authentication is on, by Ray's default; it reads the token from RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token.
    RunError where no cluster answers.
    """
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        _start(cpus, gpus, quiet)
    else:
        _join(address, quiet)
    try:
        yield _Nodes()
    finally:
        ray.shutdown()


def _start(cpus: float, gpus: float, quiet: dict[str, Any]) -> None:
    # Where Ray takes the machine for one that is never part of a cluster, its processes listen on 127.0.0.1 alone; by
    # itself it takes only Windows and macOS for such.
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        ray.init(address="local", num_cpus=int(cpus), num_gpus=int(gpus), include_dashboard=False, **quiet)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _join(address: str, quiet: dict[str, Any]) -> None:
    # Ray merges what a job brought with what its driver asks for, and refuses to where both name packages.
    ours = {} if _IN_A_JOB in os.environ else {"py_modules": [importlib.import_module(name) for name in PACKAGES]}
    try:
        ray.init(address=address, runtime_env=ours, **quiet)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        said = str(error).strip().splitlines()[0]
        raise RunError(f"no Ray cluster could be joined at {address}: {said} The driver has to run on a machine of the "
                       "cluster, with the cluster's token (RAY_AUTH_TOKEN_PATH).") from None


class _Nodes:
    """Lists the nodes that take trials: those that live and are not about to leave."""

    def __init__(self) -> None:
        self._asked, self._nodes = -REFRESH_SECONDS, list[Node]()

    def __call__(self) -> list[Node]:
        if time.monotonic() - self._asked >= REFRESH_SECONDS:
            leaving = state.get_draining_nodes()
            entries = ray.nodes()  # type: ignore[no-untyped-call]
            self._nodes = [_node(entry) for entry in entries if entry["Alive"] and entry["NodeID"] not in leaving]
            self._asked = time.monotonic()
        return self._nodes


def _node(entry: dict[str, Any]) -> Node:
    resources = entry["Resources"]
    kind = next((name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")), None)
    return Node(entry["NodeID"], entry["NodeManagerHostname"], resources.get("CPU", 0.0), resources.get("GPU", 0.0),
                kind)
