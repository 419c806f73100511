"""The sweeps of a storage folder as the service shows them, read again after changes."""

import datetime as dt
import gc
import logging
import math
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from dynamos.errors import unknown
from dynamos.files import AnyPath
from results import sweep_names
from results.analysis import overview
from results.ledger.attributes import StateName
from results.ledger.lease import LAPSE_SECONDS
from results.ledger.ledger import Ledger
from results.ledger.sweep_file import known_sweep
from results.names import ENDED, is_name
from results.sweep import Sweep
from results.trial import TrialRecord
from tune.service.state.drivers import Drivers
from tune.service.state.views import View
from tune.service.wire.answers import Summary
from tune.service.wire.problems import Problem

FRESH_SECONDS = 0.5  # largest age of a view whose ledger has changed
STALE_SECONDS = 2.0  # the same of a view that is served while a newer one is read
UNSEEN_SECONDS = 2.0  # the same if a change shows only when the ledger is read
TICK_SECONDS = 10.0  # largest lag of the time of a running trial
_NOT_YET = dt.datetime.max.replace(tzinfo=dt.UTC)
_DRIVEN = ("running", "stopping")
log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Kept:
    """Cached state of a sweep.

    Times are of the monotonic clock; `lock` is held while its ledger is read.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    view: View | None = None
    stamp: Any = None  # the state of its files before it was read
    read_at: float = -math.inf  # when that read started
    wanted_at: float = -math.inf  # reads that started before this are too old
    told: View | None = None  # the last view whose whole_json was made
    current_at: float = -math.inf  # when `told` was last known to be the newest view
    reading: bool = False  # True while a newer view is being made
    beat: tuple[int, int] | None = None  # the last heartbeat of the sweep's driver
    beat_at: float = -math.inf  # when this heartbeat was first seen


class Sweeps:
    """Every sweep under a storage folder, as last read. Threads may share it."""

    def __init__(self, storage: AnyPath, drivers: Drivers) -> None:
        """Read nothing yet."""
        self.storage, self._drivers = storage, drivers
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()
        self._said: dict[str, str] = {}  # errors of sweeps that cannot be read
        self._revision = time.time_ns() // 1_000_000

    def names(self) -> list[str]:
        """Names of the sweeps."""
        return [name for name in sweep_names(self.storage) if is_name(name)]

    def newest(self, name: str) -> View:
        """The view of a sweep as it is now; a cached view is not used."""
        kept = self._of(name)
        kept.wanted_at, kept.told = time.monotonic(), None
        return self.get(name)

    def told(self, name: str) -> tuple[bytes | None, bool]:
        """Return (content, again).

        `content` is the sweep as JSON without its trials, or None if it is too old. `again` is True
        if it should be `read` again.
        """
        kept = self._kept.get(name)
        if kept is None or (view := kept.told) is None:
            return None, True
        now = time.monotonic()
        if self._current(kept) is view:
            kept.current_at = now
            return view.whole_json, False
        if now - kept.current_at > STALE_SECONDS:
            return None, True
        return view.whole_json, not kept.reading

    def read(self, name: str) -> bytes:
        """Return the newest state of a sweep, as JSON without its trials.

        One thread at a time makes it; the others wait.
        """
        kept = self._of(name)
        kept.reading = True
        try:
            view = self.get(name)
            with kept.lock:
                content = view.whole_json
                if kept.view is view and kept.read_at >= kept.wanted_at:
                    kept.told, kept.current_at = view, kept.read_at
            return content
        finally:
            kept.reading = False

    def get(self, name: str) -> View:
        """The view of a sweep; Problem 404 if it does not exist."""
        kept = self._of(name)
        if (view := self._current(kept)) is not None:
            return view
        if not is_name(name) or not (self.storage / name / "sweep.yaml").is_file():
            self._forget(name)
            if is_name(name) and name in self.names():
                known_sweep(self.storage / name)  # raises an error that explains the damage
            raise self._missing(name)
        with kept.lock:
            if (view := self._current(kept)) is not None:  # another thread has just read it
                return view
            before, identity = kept.view, _identity(self.storage / name / "sweep.yaml")
            # the sweep was removed, and another one of its name was made
            if before is not None and before.identity != identity:
                before = None
            ledger = Ledger.open(self.storage, name) if before is None else before.ledger
            # changes during the read are seen at the next one
            began, stamp = time.monotonic(), self._stamp(ledger)
            # no file and no connection is held for each sweep that was ever read
            with closing(ledger):
                kept.view = view = self._read(kept, ledger, before, identity)
            kept.stamp, kept.read_at = stamp, began
            if before is None:
                # long-lived objects are scanned now, not again and again while requests wait
                gc.collect()
                gc.freeze()
            return view

    def all(self) -> list[View]:
        """Every sweep that can be read, the newest first."""
        views, names = [], self.names()
        for gone in set(self._kept) - set(names):
            self._forget(gone)
        for name in names:
            try:
                views.append(self.get(name))
            except Exception as error:
                # one damaged sweep does not hide the others; a request for it gets the reason
                if str(error) != self._said.get(name):
                    self._said[name] = str(error)
                    log.warning("the sweep %s cannot be read: %s", name, error)
        return sorted(views, key=lambda v: v.summary["started_at"] or _NOT_YET, reverse=True)

    def _of(self, name: str) -> _Kept:
        with self._lock:
            return self._kept.setdefault(name, _Kept())

    def _forget(self, name: str) -> None:
        with self._lock:
            kept = self._kept.pop(name, None)
        if kept is not None and kept.view is not None:
            gc.unfreeze()

    def _current(self, kept: _Kept) -> View | None:
        """The cached view of a sweep if it is new enough, without reading a ledger; else None."""
        view, age = kept.view, time.monotonic() - kept.read_at
        if view is None or kept.read_at < kept.wanted_at:
            return None
        if age < FRESH_SECONDS:
            return view
        if age >= UNSEEN_SECONDS and (kept.stamp is None or view.summary["state"] in _DRIVEN):
            return None  # neither a killed driver nor the passing of time changes a file
        return view if kept.stamp is None or kept.stamp == self._stamp(view.ledger) else None

    def _missing(self, name: str) -> Problem:
        return Problem.of(unknown("sweep", name, self.names()), status=404)

    def _stamp(self, ledger: Ledger) -> Any:
        """A value that changes whenever the ledger does; None if only a reading shows changes."""
        if ledger.config.ledger_url is not None or not isinstance(ledger.folder, Path):
            return None
        found: list[Any] = [
            _identity(ledger.folder / "sweep.yaml"),
            self._drivers.alive(ledger.config.name),
        ]
        for name in ("ledger.db", "ledger.db-wal"):
            try:
                status = (ledger.folder / name).stat()
            except FileNotFoundError:
                continue
            if status.st_size:  # readers create and remove an empty log
                found.append((name, status.st_mtime_ns, status.st_size, status.st_ino))
        return found

    def _read(self, kept: _Kept, ledger: Ledger, before: View | None, identity: Any) -> View:
        sweep = Sweep.of(ledger)
        summary = self._summary(kept, ledger, sweep)
        known = before.sweep.records if before is not None else ()
        same = (
            before is not None
            and summary == {**before.summary, "revision": 0}
            and sweep.looks == before.sweep.looks
        )
        fresh = [
            i >= len(known)
            or (t is not known[i] and (t.state in ENDED or _told(t) != _told(known[i])))
            for i, t in enumerate(sweep.records)
        ]
        if before is not None and same and not any(fresh):
            return before
        with self._lock:
            self._revision += 1
            revision = self._revision
        changed = tuple(
            revision if new else before.changed[i]  # type: ignore[union-attr]
            for i, new in enumerate(fresh)
        )
        return View(
            revision,
            ledger,
            sweep,
            {**summary, "revision": revision},
            changed,
            self._drivers.cluster,
            identity,
        )

    def _summary(self, kept: _Kept, ledger: Ledger, sweep: Sweep) -> Summary:
        state = self._state(kept, ledger)
        found = {
            "revision": 0,
            **overview.summary(ledger, sweep, state),
            "error": self._drivers.error(ledger.config.name, ledger.sessions)
            if state in ("stopped", "killed")
            else None,
        }
        return cast(Summary, found)

    def _state(self, kept: _Kept, ledger: Ledger) -> StateName:
        if (beat := ledger.heartbeat) is not None:
            if beat != kept.beat:
                kept.beat, kept.beat_at = beat, time.monotonic()
            # Only silence shows that a driver on another machine has ended.
            silent = time.monotonic() - kept.beat_at > LAPSE_SECONDS
            return "killed" if silent else ledger.state.name
        if self._drivers.starting(ledger.config.name, ledger.sessions):
            return "starting"
        return ledger.state.name


def _told(trial: TrialRecord) -> tuple[Any, ...]:
    """The parts of a trial that change until its end; its time in units of TICK_SECONDS."""
    return (
        trial.state,
        trial.attempt,
        trial.held,
        trial.reason,
        tuple(trial.config.items()),
        tuple(len(results) for results in trial.results.values()),
        (trial.seconds or 0) // TICK_SECONDS,
    )


def _identity(file: AnyPath) -> Any:
    """A value that distinguishes a file from another of the same name.

    Returns None in an object store or if the file is gone.
    """
    if not isinstance(file, Path):
        return None
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
