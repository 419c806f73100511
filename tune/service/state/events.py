"""Server-sent events: the changes of sweeps, for all listeners."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress

from starlette.concurrency import run_in_threadpool

from tune.service.state.sweeps import Sweeps
from tune.service.state.views import View

LOOK_SECONDS = 0.5
QUIET_SECONDS = 15.0  # after which a comment shows that the connection lives
log = logging.getLogger(__name__)
_PIECE = 65_536  # bytes sent at a time, so that a slow reader fills no buffer


class Watcher:
    """Reads all sweeps while anyone listens, once for all listeners."""

    def __init__(self, sweeps: Sweeps, stopping: Callable[[], bool]) -> None:
        """`stopping` returns True if streams must end."""
        self._sweeps, self._stopping = sweeps, stopping
        self._views: dict[str, View] = {}
        self._listeners = 0
        self._looked = asyncio.Event()
        self._looking = asyncio.Lock()
        self._looked_at = -math.inf

    async def watch(self) -> None:
        """Read the sweeps at intervals, until it is cancelled."""
        while True:
            if self._listeners:
                try:
                    await self._look()
                except Exception as error:
                    # whatever the storage's package raises; listeners wait until it is over
                    log.warning("the sweeps cannot be read: %s", error, exc_info=True)
            await asyncio.sleep(LOOK_SECONDS)

    async def stream(self, name: str | None) -> AsyncIterator[bytes]:
        """Yield the events of one sweep with its trials, or of all sweeps.

        The stream keeps only the views that it sent last.
        """
        self._listeners += 1
        try:
            await self._look()
            if (
                name is not None and name not in self._views
            ):  # the sweep is newer than the last look
                await self._look(anew=True)
            seen = dict(self._views)
            first = await run_in_threadpool(self._snapshot, name, seen)
            while first:
                yield first[:_PIECE]
                first = first[_PIECE:]
            for event in _end(name, {}, seen):
                yield event
            spoke = time.monotonic()
            while not self._stopping():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._looked.wait(), 2 * LOOK_SECONDS)
                now = dict(self._views)
                changes = (
                    self._changes(name, seen, now)
                    if name is None
                    else await run_in_threadpool(self._changes, name, seen, now)
                )
                for event in [*changes, *_end(name, seen, now)]:
                    yield event
                    spoke = time.monotonic()
                if name is not None and name not in now:
                    return
                seen = now
                if time.monotonic() - spoke > QUIET_SECONDS:
                    yield b": still here\n\n"
                    spoke = time.monotonic()
        finally:
            self._listeners -= 1

    async def _look(self, anew: bool = False) -> None:
        """Read the sweeps, unless they were just read: many listeners may come at once."""
        async with self._looking:
            if not anew and time.monotonic() - self._looked_at < LOOK_SECONDS / 2:
                return
            self._views = {v.summary["name"]: v for v in await run_in_threadpool(self._sweeps.all)}
            self._looked_at = time.monotonic()
            self._looked.set()
            self._looked = asyncio.Event()

    def _snapshot(self, name: str | None, views: dict[str, View]) -> bytes:
        if name is None:
            return _event(
                "snapshot",
                b'{"sweeps":[' + b",".join(v.summary_json for v in views.values()) + b"]}",
            )
        if name not in views:
            return _event("removed", f'{{"name":"{name}"}}'.encode())
        view = views[name]
        return _event(
            "snapshot", b'{"sweep":' + view.whole_json + b',"trials":' + view.rows_json + b"}"
        )

    def _changes(
        self, name: str | None, seen: dict[str, View], now: dict[str, View]
    ) -> list[bytes]:
        """The events that lead a listener from the views seen to the newest ones."""
        events = [
            _event("removed", f'{{"name":"{gone}"}}'.encode())
            for gone in seen
            if gone not in now and name in (None, gone)
        ]
        for known, view in now.items():
            before = seen.get(known)
            if name not in (None, known) or (
                before is not None and before.revision == view.revision
            ):
                continue
            events.append(_event("sweep", view.summary_json if name is None else view.whole_json))
            if name is not None:
                since = 0 if before is None else before.revision
                rows = [
                    view.row_json(i) for i, revision in enumerate(view.changed) if revision > since
                ]
                if rows:
                    events.append(_event("trials", b'{"trials":[' + b",".join(rows) + b"]}"))
        return events


def _end(name: str | None, seen: Mapping[str, View], now: Mapping[str, View]) -> list[bytes]:
    """The last event for a listener to one sweep that has just ended, else none.

    The sweep may be resumed.
    """
    if name is None or name not in now or not now[name].over or (name in seen and seen[name].over):
        return []
    return [_event("end", now[name].summary_json)]


def _event(kind: str, content: bytes) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + content + b"\n\n"
