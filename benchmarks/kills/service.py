"""A `dynamos-sweep serve` process that is watched and killed."""

import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.kills.processes import Session, command, wait_for
from tune.client import Client


class Service(Session):
    """A `dynamos-sweep serve` process."""

    def __init__(
        self,
        storage: Path,
        *flags: str,
        port: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the service and wait until it says its address."""
        super().__init__(
            command("serve", "--storage", str(storage), "--port", str(port), *flags),
            storage.parent,
            environment,
        )
        self.until(lambda: self._url() is not None)
        self.url = str(self._url())
        self.client = Client(self.url)

    def over(self) -> None:
        """Wait until the service itself has ended; its drivers go on."""
        wait_for(lambda: not self.alive)

    def _url(self) -> str | None:
        found = re.search(r" at (http://\S+) ", self._said().out)
        return found and found[1]
