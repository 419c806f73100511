"""A folder in which the tasks of a job array meet: who leads, and where Ray's head is."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cluster:
    """One of a sweep's Ray clusters: the first, or a later one whose leader took over.

    Its files in the meeting's folder are NUMBER-leader, a symbolic link to the leader's job, and
    the leader's: NUMBER-token, NUMBER-address and NUMBER-ended.
    """

    folder: Path
    number: int

    @property
    def leader(self) -> str:
        """The job whose task runs Ray's head and drives the sweep."""
        return str(self._file("leader").readlink())

    @property
    def address(self) -> str | None:
        """HOST:PORT of Ray's head; None until it listens."""
        try:
            return self._file("address").read_text()
        except FileNotFoundError:
            return None

    @property
    def token(self) -> Path:
        """File of Ray's token, which only this user may read."""
        return self._file("token")

    @property
    def ended(self) -> bool:
        """True if its leader has left it."""
        return self._file("ended").exists()

    def make_token(self) -> None:
        """Make the token; this is for the leader, once."""
        file = os.open(self.token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as text:
            text.write(secrets.token_hex(32))

    def announce(self, address: str) -> None:
        """Tell the other tasks where Ray's head is."""
        new = self._file("address-new")
        new.write_text(address)
        new.replace(self._file("address"))

    def end(self) -> None:
        """Tell the other tasks that this cluster has ended."""
        self._file("ended").touch()
        self.token.unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self.folder / f"{self.number}-{name}"


class Meeting:
    """The folder, which only this user may read.

    Clusters are numbered from 1, and only the last one counts. Making a symbolic link that exists
    fails, on shared file systems too, so of several tasks that want to lead one does.
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is made if it is missing."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder

    def last(self) -> Cluster | None:
        """The last cluster; None before the first."""
        numbers = [int(p.name.partition("-")[0]) for p in self._folder.glob("*-leader")]
        return Cluster(self._folder, max(numbers)) if numbers else None

    def lead(self, job: str, after: Cluster | None) -> Cluster | None:
        """Make a job the leader of the cluster that follows `after`; None if it is another's."""
        number = 1 if after is None else after.number + 1
        try:
            (self._folder / f"{number}-leader").symlink_to(job)
        except FileExistsError:
            return None
        if after is not None:
            after.end()  # its leader may have been killed
        return Cluster(self._folder, number)

    @property
    def over(self) -> bool:
        """True if the sweep is over."""
        return (self._folder / "over").exists()

    def end(self) -> None:
        """Tell all tasks, also those that start later, that the sweep is over."""
        (self._folder / "over").touch()
