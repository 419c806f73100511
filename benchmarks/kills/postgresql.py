"""A PostgreSQL server for one purpose, which may be killed and started again."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

START_SECONDS = 60.0  # limit for the server to answer
# PostgreSQL refuses to be root.
ITSELF = (
    ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    if os.getuid() == 0
    else []
)


def programs() -> Path | None:
    """The folder of the newest installed PostgreSQL's programs; None without one."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


class Server:
    """A server that listens only on a socket in its own folder, with named databases."""

    def __init__(self, *databases: str) -> None:
        """Make the server's files and start it. The database "postgres" exists in any case."""
        found = programs()
        assert found is not None, "PostgreSQL is not installed"
        self._programs = found
        self._folder = Path(tempfile.mkdtemp(dir="/tmp"))  # a socket's path must be short
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if ITSELF:
                shutil.chown(self._folder, "postgres", "postgres")
            self._run(
                "initdb", "--auth=trust", "--username=postgres", "-D", str(self._folder / "data")
            )
            self.start()
            for name in databases:
                self._run("createdb", "-h", str(self._folder), "-U", "postgres", name)
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def url(self, database: str = "postgres") -> str:
        """URL of a database."""
        return f"postgresql+psycopg://postgres@/{database}?host={self._folder}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *ITSELF,
                    str(self._programs / "postgres"),
                    *("-D", str(self._folder / "data"), "-k", str(self._folder)),
                    *("-c", "listen_addresses="),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ready = [str(self._programs / "pg_isready"), "-q", "-h", str(self._folder)]
        until = time.monotonic() + START_SECONDS
        while subprocess.run(ready, check=False).returncode != 0:
            assert time.monotonic() < until, (self._folder / "log").read_text()[-2000:]
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill the server with all its processes, as a power failure would."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        (self._folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def remove(self) -> None:
        """Kill the server and remove its files."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*ITSELF, str(self._programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True)
