"""The Ray that this process starts on this machine, for itself alone."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from dynamos.errors import RunError, UserError
from tune.machines import ray_names
from tune.machines.slots import Node

_LONG_PATH = "AF_UNIX path length"  # part of Ray's error for a socket path that is too long
_early = list[Future[None]]()  # the start in another thread, as Ray one for each process


@dataclass(frozen=True, slots=True)
class Workers:
    """Worker processes that start with Ray, before they are asked for."""

    number: int
    module: str  # each of them imports it
    threads: int  # of OpenMP, which reads it when it is loaded


@contextmanager
def early(
    here: Callable[[], tuple[Node, Workers | None]], then: Callable[[], None]
) -> Iterator[None]:
    """Let Ray start in another thread while a `with` block prepares its use.

    `start` in the block takes this Ray over. If nothing does, it ends with the block.

    Args:
        here: returns this machine, and the workers that start with it, if any.
        then: is called in the other thread once Ray runs.
    """
    started = Future[None]()

    def run() -> None:
        try:
            _start(*here())
            then()
            started.set_result(None)
        except BaseException as error:
            started.set_exception(error)
        threading.Event().wait()  # the kernel ends Ray's processes with the thread that made them

    threading.Thread(target=run, daemon=True).start()
    _early.append(started)
    try:
        yield
    finally:
        if _early:
            _early.clear()
            if started.exception() is None:  # waits
                ray_names.end_without_sigterm()
            ray.shutdown()


def start(here: Node) -> None:
    """Start Ray with the resources of `here`, or take over the one that was started early.

    Raises RunError if it does not start, UserError if the environment prevents it.
    """
    if not _early:
        return _start(here)
    return _early.pop().result()


def quiet() -> dict[str, Any]:
    """Arguments of ray.init, of a driver that shows nothing of Ray."""
    return {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "job_config": ray_names.OwnJob(),
    }


def _start(here: Node, workers: Workers | None = None) -> None:
    check_token()
    try:
        with (
            ray_names.own_sigterm(),
            ray_names.on_loopback(),
            ray_names.deaf_to_sigterm(),
            ray_names.without_helpers(),
            nullcontext()
            if workers is None
            else ray_names.prestarted(workers.number, workers.threads),
        ):
            ray.init(
                address="local",
                num_cpus=int(here.cpus),
                num_gpus=int(here.gpus),
                include_dashboard=False,
                _system_config=None
                if workers is None
                else {"preload_python_modules": [workers.module]},
                **quiet(),
            )
    except OSError as error:
        if _LONG_PATH not in str(error):
            raise
        # without these variables Ray uses /tmp, which is short
        name = next(name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ)
        raise UserError(
            f"{name} {os.environ[name]}: Ray puts sockets into this folder, and their paths "
            "would be too long. Use a shorter path, for instance RAY_TMPDIR=/tmp."
        ) from None
    except Exception as error:  # on a busy machine Ray raises a plain Exception
        raise RunError(
            f"Ray could not be started here: {str(error).strip().splitlines()[0]} Nothing was "
            "started. If the machine is busy, try again."
        ) from error
    token = Path.home() / ".ray" / "auth_token"
    if "RAY_AUTH_TOKEN_PATH" not in os.environ and token.exists():  # Ray makes it readable by all
        token.chmod(0o600)


def check_token() -> None:
    """Raise UserError if the environment names a file with Ray's token that cannot be read."""
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    try:
        ray_names.check_token()
    except ray.exceptions.AuthenticationError:
        raise UserError(
            f"RAY_AUTH_TOKEN_PATH {os.environ.get('RAY_AUTH_TOKEN_PATH')}: the file is missing, "
            "unreadable or empty. Name the file with the token, or unset the variable: without it "
            "Ray uses ~/.ray/auth_token, and creates it when it starts."
        ) from None
