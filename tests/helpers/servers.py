"""A real MLflow server for tests."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Self


class Server:
    """A real `mlflow server` over HTTP that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._folder, self.uri = folder, f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        with (self._folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "mlflow",
                    "server",
                    "--backend-store-uri",
                    f"sqlite:///{self._folder}/server.db",
                    "--artifacts-destination",
                    str(self._folder / "served"),
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(self._port),
                    "--workers",
                    "1",
                ],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        deadline = time.monotonic() + 300
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=10) as answer:
                    assert answer.status == 200
                    return
            except OSError:
                log = (self._folder / "server.log").read_text()
                assert self._process.poll() is None and time.monotonic() < deadline, log
                time.sleep(0.2)

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
