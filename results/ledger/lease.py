"""The right to drive a sweep: one process holds it, the rest are refused while it lives."""

import json
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from dynamos.errors import RunError, UserError

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0
LAPSE_SECONDS = 30.0  # without a heartbeat, after which another driver may take over
TRUST_SECONDS = 20.0  # without a heartbeat of its own, after which a driver no longer writes
# Study attribute: {"owner": "HOST:PID" or None, "processes": what tells whether that PID can be looked up from here,
# "epoch": drivers so far, "heartbeat": a counter}
LEASE = "lease"
_OUT_OF_REACH = (SQLAlchemyError, StorageInternalError)  # the latter is what Optuna makes of the former

_ATTRIBUTES = sqlalchemy.table("study_user_attributes", sqlalchemy.column("study_id"), sqlalchemy.column("key"),
                               sqlalchemy.column("value_json"))


class LeaseLost(RunError):
    """This process no longer holds the sweep it was driving."""


class Lease:
    """One driver's claim on a study, renewed from a thread of its own.

    Taking and renewing are compare-and-set on one row, so of two drivers that reach for it one gets it. A heartbeat
    is a counter that others watch, so clocks need not agree. A driver that was paused for longer than others wait
    finds its claim gone before it writes again.
    """

    def __init__(self, storage: RDBStorage, study_id: int, sweep: str, command: Callable[[str], str]) -> None:
        """Not held yet: `take` it. `command` gives the command line of a verb for the sweep."""
        self._storage, self._study_id, self._sweep, self._command = storage, study_id, sweep, command
        self._value: dict[str, Any] = {}
        self._renewed = -math.inf
        self._renewing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    @property
    def epoch(self) -> int:
        """How many drivers the sweep has had, this one included."""
        return int(self._value["epoch"])

    def take(self) -> None:
        """Takes the lease; UserError while another driver lives.

        A driver on this host whose process is gone has none. One elsewhere is watched for LAPSE_SECONDS.
        """
        before = read(self._storage, self._study_id)
        if before["owner"] is not None and not gone(before):
            before = self._watched(before)
        owner = f"{socket.gethostname()}:{os.getpid()}"
        self._value = {"owner": owner, "processes": _processes(), "epoch": before["epoch"] + 1, "heartbeat": 0}
        if not self._swap(before, self._value):
            raise self._refusal(read(self._storage, self._study_id))
        self._renewed = time.monotonic()
        self._thread.start()

    def check(self) -> None:
        """Nothing while the lease is held; LeaseLost once another has it."""
        if time.monotonic() - self._renewed > TRUST_SECONDS and not self._renew():
            raise LeaseLost(f"another process has taken over the sweep {self._sweep!r} while this one was held up; "
                            "nothing more is written from here. See: " + self._command("show"))

    def release(self) -> None:
        """Gives the lease up, where it is still held."""
        self.end()
        try:
            self._change({"owner": None})
        except _OUT_OF_REACH as error:  # it lapses by itself
            log.warning("the lease of %s could not be given up: %s", self._sweep, error)

    def end(self) -> None:
        """Renews it no more; without a release others wait until it lapses."""
        self._ended.set()
        self._thread.join()

    def _watched(self, before: dict[str, Any]) -> dict[str, Any]:
        """The lease, unchanged for LAPSE_SECONDS or given up; UserError as soon as its holder shows life."""
        until = time.monotonic() + LAPSE_SECONDS
        while time.monotonic() < until:
            time.sleep(0.2)
            now = read(self._storage, self._study_id)
            if now["owner"] is None:
                return now
            if now != before:
                raise self._refusal(now)
        return before

    def _refusal(self, lease: Mapping[str, Any]) -> UserError:
        return UserError(f"another process is running the sweep {self._sweep!r} ({lease['owner']}); wait for it, or "
                         f"stop it: {self._command('stop')}")

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                if not self._renew():
                    self._renewed = -math.inf  # so that the next check() finds out, and not only after TRUST_SECONDS
            except _OUT_OF_REACH as error:  # locked or out of reach: check() tells once it has lasted
                log.warning("the lease of %s could not be renewed: %s", self._sweep, error)

    def _renew(self) -> bool:
        """Whether the lease is still held, renewed."""
        with self._renewing:
            asked = time.monotonic()
            if not self._change({"heartbeat": self._value["heartbeat"] + 1}):
                return False
            self._renewed = asked
            return True

    def _change(self, changes: Mapping[str, Any]) -> bool:
        """Whether the lease is still held, changed."""
        if not self._swap(self._value, {**self._value, **changes}):
            # A change whose answer was lost may have been made.
            now = read(self._storage, self._study_id)
            if any(now[name] != self._value[name] for name in ("owner", "processes", "epoch")):
                return False
            if not self._swap(now, {**now, **changes}):
                return False
        self._value = {**self._value, **changes}
        return True

    def _swap(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
        """Whether the lease was `old` and now is `new`."""
        columns = _ATTRIBUTES.c
        change = (sqlalchemy.update(_ATTRIBUTES).values(value_json=json.dumps(new)).where(
            columns.study_id == self._study_id, columns.key == LEASE, columns.value_json == json.dumps(old)))
        with self._storage.engine.begin() as connection:
            return connection.execute(change).rowcount == 1


def free(storage: RDBStorage, study_id: int) -> None:
    """Gives a new study a lease that nobody holds."""
    storage.set_study_user_attr(study_id, LEASE, {"owner": None, "processes": None, "epoch": 0, "heartbeat": 0})


def read(storage: RDBStorage, study_id: int) -> dict[str, Any]:
    """The lease as it stands."""
    lease: dict[str, Any] = storage.get_study_user_attrs(study_id)[LEASE]
    return lease


def _processes() -> str:
    """What is equal for two processes that see each other: containers may share a host's name and not its processes."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: no containers that share a name
        return socket.gethostname()


def gone(lease: Mapping[str, Any]) -> bool:
    """Whether a lease's owner was a process of this host that is no more."""
    host, _, pid = lease["owner"].rpartition(":")
    if host != socket.gethostname() or lease["processes"] != _processes():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
