"""The service for tests, either in a thread with drivers that only record their commands, or as a
separate process."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import requests
import uvicorn

from benchmarks.kills.service import Service as Service
from tune.client import Client
from tune.service.api.app import create_app
from tune.service.serve import listening_on
from tune.service.state.changes import Changes
from tune.service.state.drivers import Drivers
from tune.service.state.sweeps import Sweeps

BASE = {
    "nf": 4,
    "hidden_dim_ratio": 4,
    "max_train_images_per_task": 60,
    "n_epochs": 1,
    "n_tasks": 3,
    "warmup_steps": 2,
}


class NotedDrivers(Drivers):
    """Drivers that record their commands and start nothing."""

    def __init__(self, storage: Path) -> None:
        super().__init__(storage, None)
        self.started: list[tuple[str, str, list[str]]] = []

    def start(self, command: str, name: str, flags: Sequence[str], sessions: int) -> None:
        self.started.append((command, name, list(flags)))


class Served:
    """A running service."""

    def __init__(self, url: str, drivers: NotedDrivers) -> None:
        self.url, self.drivers, self.client = url, drivers, Client(url)

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        """Return the answer to a request under /api/v1."""
        return requests.request(method, f"{self.url}/api/v1{path}", timeout=60, **more)


@contextmanager
def served(
    storage: Path, token: str | None = None, allowed: Sequence[str] = ()
) -> Iterator[Served]:
    drivers = NotedDrivers(storage)
    sweeps = Sweeps(storage, drivers)
    changes = Changes(
        sweeps, drivers, {"data_path": None, "ledger_url": None, "tracking_uri": None}, allowed
    )
    listening = listening_on("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(sweeps, changes, token, lambda: server.should_exit),
            log_config=None,
            timeout_graceful_shutdown=5,
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        # This process, which has torch already, reads the data; a new process would take seconds.
        with patch("tune.engine.creation.apart", lambda function, *arguments: function(*arguments)):
            yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", drivers)
    finally:
        server.should_exit = True
        thread.join(30)
