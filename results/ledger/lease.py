"""Lease of a sweep: one process at a time may drive it; others are refused while it lives."""

import json
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from dynamos.errors import RunError, UserError
from results.ledger import holder
from results.ledger.holder import LEASE

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0
LAPSE_SECONDS = 30.0  # time without a heartbeat after which another driver may take over
# time without renewing its heartbeat after which a driver checks the lease before it writes
TRUST_SECONDS = 20.0
_OUT_OF_REACH = (SQLAlchemyError, StorageInternalError)  # Optuna turns the former into the latter

_ATTRIBUTES = sqlalchemy.table(
    "study_user_attributes",
    sqlalchemy.column("study_id"),
    sqlalchemy.column("key"),
    sqlalchemy.column("value_json"),
)


class LeaseLost(RunError):
    """This process no longer holds the lease of the sweep that it was driving."""


class Lease:
    """One driver's claim on a study; a separate thread renews it.

    Taking and renewing are compare-and-set on one row, so only one of two drivers gets the lease.
    The heartbeat is a counter that others watch, so clocks need not agree. A driver that was paused
    for longer than others wait finds out before it writes again.
    """

    def __init__(
        self, storage: RDBStorage, study_id: int, sweep: str, command: Callable[[str], str]
    ) -> None:
        """Prepare a lease, which `take` acquires.

        `command` returns the command line of a verb for the sweep.
        """
        self._storage, self._study_id, self._sweep, self._command = (
            storage,
            study_id,
            sweep,
            command,
        )
        self._value: dict[str, Any] = {}
        self._renewed = -math.inf
        self._renewing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    @property
    def epoch(self) -> int:
        """Number of drivers that the sweep has had, this one included."""
        return int(self._value["epoch"])

    def take(self) -> None:
        """Take the lease; raise UserError while another driver lives.

        The lease of a driver on this host whose process is gone is free at once; others are watched
        for LAPSE_SECONDS.
        """
        before = read(self._storage, self._study_id)
        if before["owner"] is not None and not holder.gone(before):
            before = self._watched(before)
        owner = f"{socket.gethostname()}:{os.getpid()}"
        self._value = {
            "owner": owner,
            "processes": holder.processes(),
            "epoch": before["epoch"] + 1,
            "heartbeat": 0,
        }
        if not self._swap(before, self._value):
            raise self._refusal(read(self._storage, self._study_id))
        self._renewed = time.monotonic()
        self._thread.start()

    def check(self) -> None:
        """Raise LeaseLost once another driver has the lease."""
        if time.monotonic() - self._renewed > TRUST_SECONDS and not self._renew():
            raise LeaseLost(
                f"another process has taken over the sweep {self._sweep!r} while this process was "
                "suspended; this process writes nothing more. See: " + self._command("show")
            )

    def release(self) -> None:
        """Release the lease, if it is still held."""
        self.end()
        try:
            self._change({"owner": None})
        except _OUT_OF_REACH as error:  # it lapses by itself
            why = str(error.__cause__ or error).strip().splitlines()[0]
            log.warning("the lease of %s could not be released: %s", self._sweep, why)

    def end(self) -> None:
        """Stop renewing the lease; without `release`, others wait until it lapses."""
        self._ended.set()
        self._thread.join()

    def _watched(self, before: dict[str, Any]) -> dict[str, Any]:
        """Wait until the lease is released or unchanged for LAPSE_SECONDS, and return it.

        Raises UserError if it changes, because then its driver lives.
        """
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
        return UserError(
            f"another process is running the sweep {self._sweep!r} ({lease['owner']}); wait for "
            f"it, or stop it: {self._command('stop')}"
        )

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                if not self._renew():
                    # so that the next check() notices it at once, not only after TRUST_SECONDS
                    self._renewed = -math.inf
            except _OUT_OF_REACH as error:  # locked or out of reach: check() raises if it lasts
                log.warning("the lease of %s could not be renewed: %s", self._sweep, error)

    def _renew(self) -> bool:
        """Renew the lease; return whether it is still held."""
        with self._renewing:
            asked = time.monotonic()
            if not self._change({"heartbeat": self._value["heartbeat"] + 1}):
                return False
            self._renewed = asked
            return True

    def _change(self, changes: Mapping[str, Any]) -> bool:
        """Change the lease; return whether it is still held."""
        if not self._swap(self._value, {**self._value, **changes}):
            # The change may have been made although its answer was lost.
            now = read(self._storage, self._study_id)
            if any(now[name] != self._value[name] for name in ("owner", "processes", "epoch")):
                return False
            if not self._swap(now, {**now, **changes}):
                return False
        self._value = {**self._value, **changes}
        return True

    def _swap(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
        """Replace the lease `old` by `new` in one step; return whether it was `old`."""
        columns = _ATTRIBUTES.c
        change = (
            sqlalchemy.update(_ATTRIBUTES)
            .values(value_json=json.dumps(new))
            .where(
                columns.study_id == self._study_id,
                columns.key == LEASE,
                columns.value_json == json.dumps(old),
            )
        )
        with self._storage.engine.begin() as connection:
            return connection.execute(change).rowcount == 1


def free(storage: BaseStorage, study_id: int) -> None:
    """Give a new study a lease that no driver holds."""
    storage.set_study_user_attr(
        study_id, LEASE, {"owner": None, "processes": None, "epoch": 0, "heartbeat": 0}
    )


def read(storage: BaseStorage, study_id: int) -> dict[str, Any]:
    """Read the current lease."""
    lease: dict[str, Any] = storage.get_study_user_attrs(study_id)[LEASE]
    return lease
