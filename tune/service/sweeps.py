"""The sweeps of a storage folder as the service shows them, each read again only once its ledger has changed."""

import gc
import json
import logging
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dynamos.errors import nearest, unknown
from dynamos.files import AnyPath
from results.agreement import ranking
from results.best import best, pareto, reported_config, tie_sentence
from results.cautions import cautions
from results.export import commands
from results.ledger import Ledger, sweep_names
from results.report import answer
from results.sweep_config import SweepConfig
from results.trial import TrialRecord
from search_spaces.space import Parameter
from tune.logs import tail
from tune.service.bodies import NAME
from tune.service.drivers import Drivers
from tune.service.problems import Problem

FRESH_SECONDS = 0.5  # how old a view of a ledger that has changed may be
STALE_SECONDS = 2.0  # how old one that is told while a newer one is read
ELSEWHERE_SECONDS = 2.0  # the same where only reading a ledger tells whether it has changed
log = logging.getLogger(__name__)
_ENDED = ("COMPLETE", "PRUNED", "FAIL")


@dataclass(frozen=True)
class View:
    """A sweep as it stood when it was read."""

    revision: int  # rises with every change; of this process only
    ledger: Ledger
    trials: tuple[TrialRecord, ...]
    summary: dict[str, Any]
    changed: tuple[int, ...]  # of each trial, the revision in which it last changed
    dashboard: str | None  # Ray's
    identity: Any  # of sweep.yaml, which is written once

    @cached_property
    def summary_json(self) -> bytes:
        """The summary."""
        return encoded(self.summary)

    @cached_property
    def whole_json(self) -> bytes:
        """Everything but the trials."""
        return encoded(self.whole)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """A row per trial."""
        return [row(trial, self.ledger.config) for trial in self.trials]

    @property
    def rows_json(self) -> bytes:
        """The rows."""
        return encoded(self.rows)

    def row_json(self, number: int) -> bytes:
        """A row."""
        return encoded(row(self.trials[number], self.ledger.config))

    @cached_property
    def whole(self) -> dict[str, Any]:
        """Everything but the trials."""
        ledger, trials = self.ledger, list(self.trials)
        config = ledger.config
        own = [t for t in trials if not t.imported]
        return self.summary | {
            "parameters": [parameter(p) for p in config.space.parameters], "metrics": config.metrics,
            "answer": answer(trials, config), "ties": tie_sentence(trials, config) if best(trials, config) else "",
            "ranking": ranking(own, config), "cautions": cautions(trials, config),
            "cpu_seconds": sum(t.cpu_seconds for t in own), "gpu_seconds": sum(t.gpu_seconds for t in own),
            "pareto": [t.number for t in pareto(trials, config)], "config": config.to_dict(),
            "record": ledger.record, "looks": ledger.looks,
            "links": {"mlflow": _link(config.tracking_uri), "ray": _link(self.dashboard)}}


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
        return sorted(views, key=lambda v: v.summary["started_at"] or "9", reverse=True)

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
        same = before is not None and summary == {k: v for k, v in before.summary.items() if k != "revision"}
        fresh = [i >= len(known) or (t is not known[i] and (t.state in _ENDED or _told(t) != _told(known[i])))
                 for i, t in enumerate(trials)]
        if before is not None and same and not any(fresh):
            return before
        with self._lock:
            self._revision += 1
            revision = self._revision
        changed = tuple(revision if new else before.changed[i]  # type: ignore[union-attr]
                        for i, new in enumerate(fresh))
        return View(revision, ledger, trials, summary | {"revision": revision}, changed, self._drivers.cluster,
                    identity)

    def _summary(self, ledger: Ledger, trials: Sequence[TrialRecord]) -> dict[str, Any]:
        config, name = ledger.config, ledger.config.name
        own = [t for t in trials if not t.imported]
        counts = Counter(t.state.lower() for t in own)
        found = best(list(trials), config)
        state, driver = self._state(ledger, own), ledger.driver
        starts = [t.started_at for t in own if t.started_at is not None]
        ends = [t.ended_at for t in own if t.ended_at is not None]
        return {
            "name": name, "stream": config.base.dataset, "model": config.base.model,
            "buffer_size": config.base.buffer_size, "space": config.space.name, "protocol": config.protocol,
            "publishable": config.publishable, "sampler": config.sampler, "pruner": config.pruner,
            "seeds": config.seeds, "objectives": [str(o) for o in config.objectives],
            "constraints": [str(c) for c in config.constraints], "state": state,
            "driver": driver if state in ("running", "stopping", "killed") else None, "budget": ledger.budget,
            "counts": {s: counts[s] for s in ("waiting", "running", "interrupted", "complete", "pruned", "fail")},
            "best": None if found is None else {
                "number": found.number, "value": found.value, "spread": found.spread(config.objectives[0].metric),
                "config": found.config},
            "confirms": config.confirms, "error": self._drivers.error(name) if state in ("stopped", "killed") else None,
            "started_at": min(starts).isoformat() if starts else None,
            "ended_at": max(ends).isoformat() if ends and state == "finished" else None}

    def _state(self, ledger: Ledger, own: Sequence[TrialRecord]) -> str:
        if ledger.driver is not None:
            return "killed" if ledger.driver_gone else "stopping" if ledger.stopping else "running"
        if self._drivers.starting(ledger.config.name, ledger.sessions):
            return "starting"
        return "stopped" if ledger.budget > sum(t.ended_at is not None for t in own) else "finished"


def _told(trial: TrialRecord) -> tuple[Any, ...]:
    """What of a trial changes while it has not ended, time itself left out."""
    return (trial.state, trial.attempt, trial.held, trial.reason, tuple(trial.config.items()),
            tuple(len(results) for results in trial.results.values()))


def row(trial: TrialRecord, config: SweepConfig) -> dict[str, Any]:
    """A trial in a table."""
    complete = trial.state == "COMPLETE"
    return {
        "number": trial.number, "state": trial.state, "source": trial.source, "attempt": trial.attempt,
        "tasks_done": trial.tasks_done, "held": trial.held, "seconds": trial.seconds,
        "cpu_seconds": trial.cpu_seconds, "gpu_seconds": trial.gpu_seconds, "started_at": trial.started_at,
        "ended_at": trial.ended_at, "reason": trial.reason, "feasible": trial.feasible if complete else None,
        "value": trial.value, "metrics": {metric: trial.last(metric) for metric in config.metrics},
        "spread": trial.spread(config.objectives[0].metric) if complete else None, "imported": trial.imported,
        "config": trial.config}


def whole_trial(ledger: Ledger, trial: TrialRecord) -> dict[str, Any]:
    """Everything about a trial."""
    config = ledger.config
    by_task = {metric: [_mean([results[task]["metrics"].get(metric) for results in trial.results.values()])
                        for task in range(trial.tasks_done)] for metric in config.metrics}
    warnings = [warning for results in trial.results.values() for result in results
                for warning in result.get("warnings", ())]
    attempt = ledger.trial_folder(trial.number) / f"attempt-{trial.attempt}"
    whole = len(trial.config) == len(config.space.parameters)
    return row(trial, config) | {
        "by_task": by_task, "results": trial.results, "warnings": list(dict.fromkeys(warnings)),
        "log": tail(attempt / "log.txt"), "traceback": tail(attempt / "traceback.txt") or None,
        "command": commands(reported_config(config, trial))["dynamos"] if whole else None}


def parameter(p: Parameter) -> dict[str, Any]:
    """A searched field and what it may be."""
    return {"name": p.name, "low": p.low, "high": p.high, "log": p.log,
            "choices": None if p.choices is None else list(p.choices)}


def encoded(content: Any) -> bytes:
    """JSON, with null for what is no number."""
    return json.dumps(_plain(content), allow_nan=False, separators=(",", ":"), default=_text).encode()


def _identity(file: AnyPath) -> Any:
    """What tells a file from another of its name; None in an object store, where nothing does."""
    if not isinstance(file, Path):
        return None
    status = file.stat()
    return status.st_ino, status.st_mtime_ns


def _link(uri: str | None) -> str | None:
    """What a browser can open of it."""
    return uri if uri is not None and uri.startswith(("http://", "https://")) else None


def _text(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value.item() if isinstance(
        value, np.generic) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
