"""The sweeps of a storage folder as the service shows them, each read again only once its ledger has changed."""

import datetime as dt
import gc
import logging
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dynamos.errors import nearest, unknown
from dynamos.files import AnyPath
from results.best import best
from results.ledger import Ledger, sweep_names
from results.trial import TrialRecord
from tune.service.answers import Summary, SweepState
from tune.service.bodies import NAME
from tune.service.drivers import Drivers
from tune.service.problems import Problem
from tune.service.views import View

FRESH_SECONDS = 0.5  # how old a view of a ledger that has changed may be
STALE_SECONDS = 2.0  # how old one that is told while a newer one is read
ELSEWHERE_SECONDS = 2.0  # the same where only reading a ledger tells whether it has changed
log = logging.getLogger(__name__)
_NOT_YET = dt.datetime.max.replace(tzinfo=dt.UTC)
_ENDED = ("COMPLETE", "PRUNED", "FAIL")


class Sweeps:
    """Every sweep under a storage folder, as last read. Threads may share it."""

    def __init__(self, storage: AnyPath, drivers: Drivers) -> None:
        """Reads nothing yet."""
        self.storage, self._drivers = storage, drivers
        self._views: dict[str, View] = {}
        self._stamps: dict[str, tuple[Any, float]] = {}  # by name: what the files were like, when it was read
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._told: dict[str, tuple[View, float]] = {}  # whose whole_json is there, and when it was current
        self._reading: set[str] = set()
        self._said: dict[str, str] = {}  # why a sweep cannot be read
        self._revision = time.time_ns() // 1_000_000

    def names(self) -> list[str]:
        """Names of the sweeps."""
        return [name for name in sweep_names(self.storage) if re.fullmatch(NAME, name)]

    def newest(self, name: str) -> View:
        """The same as things are now, not a moment ago."""
        self._stamps.pop(name, None)
        self._told.pop(name, None)
        return self.get(name)

    def told(self, name: str) -> tuple[bytes | None, bool]:
        """(all of a sweep but its trials, where it was current lately; whether it is time to `read` it again)."""
        view, current = self._told.get(name, (None, -math.inf))
        now = time.monotonic()
        if view is not None and self.held(name) is view:
            self._told[name] = view, now
            return view.whole_json, False
        if view is None or now - current > STALE_SECONDS:
            return None, True
        return view.whole_json, name not in self._reading

    def read(self, name: str) -> bytes:
        """All of a sweep but its trials, as new as may be; one thread at a time reads it, the others wait."""
        self._reading.add(name)
        try:
            began, view = time.monotonic(), self.get(name)
            with self._locks[name]:
                content = view.whole_json
            self._told[name] = view, began
            return content
        finally:
            self._reading.discard(name)

    def held(self, name: str) -> View | None:
        """The view of a sweep where it is as new as may be, without reading a ledger; else None."""
        view, (stamp, read) = self._views.get(name), self._stamps.get(name, (None, -math.inf))
        age = time.monotonic() - read
        if view is None:
            return None
        return view if age < FRESH_SECONDS or (stamp is not None and stamp == self._stamp(view.ledger)) or (
            stamp is None and age < ELSEWHERE_SECONDS) else None

    def get(self, name: str) -> View:
        """A sweep; Problem 404 if there is none."""
        if (view := self.held(name)) is not None:
            return view
        if not re.fullmatch(NAME, name) or not (self.storage / name / "sweep.yaml").is_file():
            self._forget(name)
            raise self._missing(name)
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if (view := self.held(name)) is not None:  # another thread has just read it
                return view
            before, identity = self._views.get(name), _identity(self.storage / name / "sweep.yaml")
            if before is not None and before.identity != identity:  # it was removed, and another one made
                before = None
            ledger = Ledger.open(self.storage, name) if before is None else before.ledger
            read = time.monotonic()
            stamp = self._stamp(ledger)  # before it is read: what is written meanwhile is read the next time
            view = self._read(ledger, before, identity)
            self._views[name], self._stamps[name] = view, (stamp, read)
            if before is None:
                gc.collect()  # what stays for long is looked through now, not again and again while requests wait
                gc.freeze()
            return view

    def all(self) -> list[View]:
        """Every sweep that can be read, the newest first."""
        views, names = [], self.names()
        for gone in set(self._views) - set(names):
            self._forget(gone)
        for name in names:
            try:
                views.append(self.get(name))
            except Exception as error:  # one damaged sweep does not hide the others; asked for itself, it says why
                if str(error) != self._said.get(name):
                    self._said[name] = str(error)
                    log.warning("the sweep %s cannot be read: %s", name, error)
        return sorted(views, key=lambda v: v.summary["started_at"] or _NOT_YET, reverse=True)

    def _forget(self, name: str) -> None:
        if self._views.pop(name, None) is not None:
            gc.unfreeze()
        self._stamps.pop(name, None)
        self._told.pop(name, None)

    def _missing(self, name: str) -> Problem:
        names = self.names()
        near = nearest(name, names)
        return Problem(404, unknown("sweep", name, names[:20]), None, near)

    def _stamp(self, ledger: Ledger) -> Any:
        """What changes whenever the ledger does; None where nothing tells but reading it."""
        if ledger.config.ledger_url is not None or not isinstance(ledger.folder, Path):
            return None
        found: list[Any] = [_identity(ledger.folder / "sweep.yaml"), self._drivers.alive(ledger.config.name)]
        for name in ("ledger.db", "ledger.db-wal"):
            try:
                status = (ledger.folder / name).stat()
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
            except FileNotFoundError:
                found.append(None)
        return found

    def _read(self, ledger: Ledger, before: View | None, identity: Any) -> View:
        trials = tuple(ledger.trials())
        summary = self._summary(ledger, trials)
        known = before.trials if before is not None else ()
        same = before is not None and summary == {**before.summary, "revision": 0}
        fresh = [i >= len(known) or (t is not known[i] and (t.state in _ENDED or _told(t) != _told(known[i])))
                 for i, t in enumerate(trials)]
        if before is not None and same and not any(fresh):
            return before
        with self._lock:
            self._revision += 1
            revision = self._revision
        changed = tuple(revision if new else before.changed[i]  # type: ignore[union-attr]
                        for i, new in enumerate(fresh))
        return View(revision, ledger, trials, {**summary, "revision": revision}, changed, self._drivers.cluster,
                    identity)

    def _summary(self, ledger: Ledger, trials: Sequence[TrialRecord]) -> Summary:
        config, name = ledger.config, ledger.config.name
        own = [t for t in trials if not t.imported]
        counts = Counter(t.state for t in own)
        found = best(list(trials), config)
        state, driver = self._state(ledger, own), ledger.driver
        starts = [t.started_at for t in own if t.started_at is not None]
        ends = [t.ended_at for t in own if t.ended_at is not None]
        return {
            "revision": 0, "name": name, "stream": config.base.dataset, "model": config.base.model,
            "buffer_size": config.base.buffer_size, "space": config.space.name, "protocol": config.protocol,
            "publishable": config.publishable, "sampler": config.sampler, "pruner": config.pruner,
            "seeds": config.seeds, "objectives": [str(o) for o in config.objectives],
            "constraints": [str(c) for c in config.constraints], "state": state,
            "driver": driver if state in ("running", "stopping", "killed") else None, "budget": ledger.budget,
            "counts": {"waiting": counts["WAITING"], "running": counts["RUNNING"], "interrupted": counts["INTERRUPTED"],
                       "complete": counts["COMPLETE"], "pruned": counts["PRUNED"], "fail": counts["FAIL"]},
            "best": None if found is None else {
                "number": found.number, "value": found.final(config.objectives[0].metric),
                "spread": found.spread(config.objectives[0].metric), "config": found.config},
            "confirms": config.confirms, "error": self._drivers.error(name) if state in ("stopped", "killed") else None,
            "started_at": min(starts, default=None),
            "ended_at": max(ends) if ends and state == "finished" else None}

    def _state(self, ledger: Ledger, own: Sequence[TrialRecord]) -> SweepState:
        if ledger.driver is not None:
            return "killed" if ledger.driver_gone else "stopping" if ledger.stopping else "running"
        if self._drivers.starting(ledger.config.name, ledger.sessions):
            return "starting"
        return "stopped" if ledger.budget > sum(t.ended_at is not None for t in own) else "finished"


def _told(trial: TrialRecord) -> tuple[Any, ...]:
    """What of a trial changes while it has not ended, time itself left out."""
    return (trial.state, trial.attempt, trial.held, trial.reason, tuple(trial.config.items()),
            tuple(len(results) for results in trial.results.values()))


def _identity(file: AnyPath) -> Any:
    """What tells a file from another of its name; None in an object store, where nothing does."""
    if not isinstance(file, Path):
        return None
    status = file.stat()
    return status.st_ino, status.st_mtime_ns


