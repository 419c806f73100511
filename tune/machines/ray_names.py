"""Names of Ray that are not public.

If an upgrade removes one, the test of this module fails and says what the name was used for.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray._private.utils
import ray._private.worker
import ray.exceptions
from ray._private import ray_constants, services
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.node import Node
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray._private.state import state
from ray._raylet import AuthenticationTokenLoader, Config, persist_port  # type: ignore[attr-defined]
from ray.core.generated import autoscaler_pb2
from ray.job_config import JobConfig

# set in a driver that Ray Jobs started; its packages came with the job
IN_A_JOB = RAY_JOB_CONFIG_JSON_ENV_VAR
GRPC_OPTIONS = ray_constants.GLOBAL_GRPC_OPTIONS
END_SECONDS = 5.0  # for a raylet to end by itself
_THREADS = "OMP_NUM_THREADS"
# Methods of Node that start processes in Python.
_HELPERS = ("start_monitor", "start_log_monitor", "start_api_server")
# Arguments of a raylet with the commands of its agents, and the ports that these have.
_AGENTS = ("--dashboard_agent_command", "--runtime_env_agent_command")
_AGENT_PORTS = (
    "dashboard_agent_listen_port",
    "metrics_agent_port",
    "metrics_export_port",
    "runtime_env_agent_port",
)
# A raylet ends if an agent ends. This one ends if the raylet does, and by no signal to all
# processes of a sweep.
_NOBODY = subprocess.list2cmdline(
    ["/bin/sh", "-c", "trap '' TERM INT HUP; while kill -0 $PPID 2> /dev/null; do sleep 1; done"]
)


class OwnJob(JobConfig):
    """Job whose workers ignore the driver's working folder, which may hold a user's tune.py."""

    def __init__(self) -> None:
        # Workers need that folder if our packages lie in it and nowhere else.
        ours = str(Path(__file__).resolve().parents[2])
        super().__init__(_py_driver_sys_path=[ours] * (ours == str(Path.cwd())))

    def _runtime_env_has_working_dir(self) -> bool:
        return True  # else Ray puts the folders of the driver and of its script before all others


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Keep Ray from replacing the handler of SIGTERM.

    Ray's handler would end the process at any point.
    """
    before = ray._private.utils.set_sigterm_handler
    ray._private.utils.set_sigterm_handler = lambda _: None
    try:
        yield
    finally:
        ray._private.utils.set_sigterm_handler = before


@contextmanager
def on_loopback() -> Iterator[None]:
    """Make a Ray that starts in this context listen on 127.0.0.1 only.

    Ray does so if its clusters are disabled, which by default they are only on Windows and macOS.
    """
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def deaf_to_sigterm() -> Iterator[None]:
    """Make the processes that Ray starts in this context block SIGTERM; this process still gets it.

    `timeout`, systemd and scancel send it to all processes of a sweep. If Ray's processes ended,
    the driver could not end the sweep cleanly.
    """
    start = services.start_ray_process

    def start_deaf(*arguments: Any, **named: Any) -> Any:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            return start(*arguments, **named)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    services.start_ray_process = start_deaf
    try:
        yield
    finally:
        services.start_ray_process = start


@contextmanager
def without_helpers() -> Iterator[None]:
    """Make a Ray that starts in this context do without its processes in Python.

    They watch logs and nodes, count what is used, and set up environments of workers. A Ray of one
    machine and one driver needs none of them. They take seconds of its start and 300 MB, and the
    one for the dashboard waits 5 s for its port if another Ray on the machine has it.
    """
    start, before = services.start_ray_process, {name: getattr(Node, name) for name in _HELPERS}

    def start_alone(command: list[str], process_type: str, *more: Any, **named: Any) -> Any:
        if process_type == ray_constants.PROCESS_TYPE_RAYLET:
            _ports_of_nobody(command)
            command = [
                f"{name}={_NOBODY}" if (name := text.partition("=")[0]) in _AGENTS else text
                for text in command
            ]
        return start(command, process_type, *more, **named)

    services.start_ray_process = start_alone
    for name in _HELPERS:
        setattr(Node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        services.start_ray_process = start
        for name, method in before.items():
            setattr(Node, name, method)


def _ports_of_nobody(raylet: list[str]) -> None:
    """Write the files for which a raylet waits: each has the port of an agent, -1 for none."""
    given = dict(text.partition("=")[::2] for text in raylet)
    for agent in _AGENT_PORTS:
        persist_port(given["--session_dir"], given["--node_id"], agent, -1)


@contextmanager
def prestarted(workers: int, threads: int) -> Iterator[None]:
    """Make a Ray that starts in this context start so many workers, each with so many threads."""
    start = services.start_ray_process

    def start_with_workers(command: list[str], *more: Any, **named: Any) -> Any:
        prefix = "--num_prestart_python_workers="
        command = [f"{prefix}{workers}" if text.startswith(prefix) else text for text in command]
        return start(command, *more, **named)

    services.start_ray_process = start_with_workers
    before = os.environ.get(_THREADS)
    os.environ.setdefault(_THREADS, str(threads))  # as Ray does, but after a worker's imports
    try:
        yield
    finally:
        services.start_ray_process = start
        if before is None:
            del os.environ[_THREADS]


def workers_as_started() -> None:
    """Let Tune's trials run in the workers that Ray has started already.

    By default it gives each trial's worker variables of this process, which on this machine they
    have anyway. Ray starts a new worker for other variables.
    """
    from ray.tune.execution import class_cache  # takes long

    class_cache.DEFAULT_ENV_VARS = {}
    class_cache.ENV_VARS_TO_PROPAGATE = set()


def end_without_sigterm() -> None:
    """Make the shutdown of this process's Ray work without SIGTERM, which its processes block.

    A raylet whose node leaves the cluster ends its children and itself. Ray's own shutdown waits a
    second for each process to end at SIGTERM, and then kills it; the raylet's children stay a while
    longer.
    """
    node: Any = ray._private.worker._global_node
    kill = node.kill_all_processes

    def end(**_: Any) -> None:
        with suppress(ray.exceptions.RayError, subprocess.TimeoutExpired):
            node.get_gcs_client().drain_nodes([bytes.fromhex(node._node_id)], timeout=END_SECONDS)
            node.all_processes[ray_constants.PROCESS_TYPE_RAYLET][0].process.wait(END_SECONDS)
        kill(check_alive=False, allow_graceful=False, wait=True)

    node.kill_all_processes = end


def head_address() -> str:
    """The address of the Ray on this machine; raises ConnectionError if none runs."""
    return str(services.canonicalize_bootstrap_address_or_die("auto"))


def check_token() -> None:
    """Raise AuthenticationError if the token file that the environment names has no token."""
    AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)


def send_token() -> None:
    """Make this process send the cluster's token if it has one."""
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def send_no_token() -> None:
    """Make this process neither send a token nor demand one."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    Config.initialize("")


def node_entries() -> tuple[list[dict[str, Any]], set[str]]:
    """Return Ray's entries of the nodes that are alive, and the ids of those about to leave."""
    leaving = {*state.get_draining_nodes()}
    return [entry for entry in state.node_table() if entry["Alive"]], leaving


def announce_departure(address: str, node: str, seconds: int) -> bool:
    """Tell a cluster that a node leaves within so many seconds; return True if it knows now."""
    due = time.time_ns() // 10**6 + seconds * 1000
    client: Any = ray._raylet.GcsClient(address=address)  # type: ignore[attr-defined]
    reasons: Any = autoscaler_pb2.DrainNodeReason  # type: ignore[attr-defined]
    reason = reasons.Value("DRAIN_NODE_REASON_PREEMPTION")
    told, _ = client.drain_node(node, reason, "its job ends", due, timeout=seconds)
    return bool(told)


def end_idle_workers(tune_controller: Any) -> None:
    """End the idle workers that a running Tune keeps."""
    tune_controller._cleanup_cached_actors(force_all=True)


def keep_workers(tune_controller: Any, resources: Any, more: int) -> None:
    """Change the number of idle workers that a running Tune keeps by `more`, also if negative."""
    cache = tune_controller._actor_cache
    if more > 0:
        cache.increase_max(resources, by=more)
    else:
        cache.decrease_max(resources, by=-more)
