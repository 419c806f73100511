"""Routes of sweeps: list, create, mark, steer and delete."""

import asyncio
from contextlib import closing
from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from results.checkpoints import cleanable
from tune.service.api.parameters import (
    PROBLEMS,
    Name,
    OfSweep,
    Text,
    TheChanges,
    TheSweeps,
    changed,
    json_of,
    refuse_unless_running,
)
from tune.service.state.sweeps import Sweeps
from tune.service.wire.answers import Cleaned, DryRun, SweepPage, WholeSweep
from tune.service.wire.bodies import (
    Confirmation,
    Extension,
    Labels,
    Limits,
    SweepRequest,
    requested_config,
)

router = APIRouter(prefix="/api/v1", responses=PROBLEMS)


class Reader:
    """Reads whole sweeps again in the background; meanwhile requests get the earlier content."""

    def __init__(self, sweeps: Sweeps) -> None:
        """Start without a reading."""
        self._sweeps = sweeps
        self._tasks: set[asyncio.Task[bytes]] = set()  # asyncio itself does not keep tasks alive

    async def whole(self, name: str) -> bytes:
        """A sweep as JSON."""
        content, again = self._sweeps.told(name)
        if content is None:
            return await run_in_threadpool(self._sweeps.read, name)
        if again:
            self._tasks.add(task := asyncio.create_task(run_in_threadpool(self._sweeps.read, name)))
            task.add_done_callback(self._over)
        return content

    def _over(self, task: asyncio.Task[bytes]) -> None:
        self._tasks.discard(task)
        task.exception()  # the next request waits for a new read, and gets its error


@router.get("/sweeps", tags=["sweeps"], response_model=SweepPage)
def list_sweeps(
    sweeps: TheSweeps,
    state: OfSweep = "",
    q: Text = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    offset: Annotated[int, Query(ge=0, le=10**6)] = 0,
) -> Response:
    """Sweeps, the newest first, filtered by state and by a text in name, stream or space."""
    found = [
        v.summary
        for v in sweeps.all()
        if state in ("", v.summary["state"])
        and q.lower()
        in " ".join(str(v.summary[field]) for field in ("name", "stream", "space", "model")).lower()
    ]
    return json_of({"total": len(found), "sweeps": found[offset : offset + limit]})


@router.post(
    "/sweeps",
    tags=["sweeps"],
    status_code=201,
    response_model=WholeSweep,
    responses={
        200: {
            "model": WholeSweep | DryRun,
            "description": "the identical sweep exists already, or dry run",
        }
    },
)
def post_sweep(
    sweeps: TheSweeps,
    changes: TheChanges,
    request: Request,
    body: Annotated[SweepRequest, Body()],
    dry_run: bool = False,
) -> Response:
    """Start a sweep.

    Its name is the idempotency key: the same request again finds the sweep that it made.
    """
    request.scope["sweep"] = body.name
    config = requested_config(body, changes.of_the_service, changes.refuse_code)
    if dry_run:
        return json_of({"config": config.to_dict(), **changes.tried(config)._asdict()})
    made = changes.create(config, body.tags, body.note)
    return Response(
        sweeps.get(body.name).whole_json, 201 if made else 200, media_type="application/json"
    )


@router.get("/sweeps/{name}", tags=["sweeps"], response_model=WholeSweep)
async def get_sweep(request: Request, name: Name) -> Response:
    """A sweep: state, counts, best, settings, health; not its trials."""
    reader: Reader = request.app.state.reader
    return Response(await reader.whole(name), media_type="application/json")


@router.patch("/sweeps/{name}", tags=["sweeps"], response_model=WholeSweep)
def patch_sweep(sweeps: TheSweeps, name: Name, body: Annotated[Labels, Body()]) -> Response:
    """Set the note and tags of a sweep; the value "" removes a tag."""
    view = sweeps.newest(name)
    with closing(view.ledger):
        view.ledger.label(body.tags, body.note)
    return Response(sweeps.newest(name).whole_json, media_type="application/json")


@router.delete("/sweeps/{name}", tags=["sweeps"], status_code=204)
def delete_sweep(changes: TheChanges, name: Name) -> Response:
    """Delete a sweep that is not running, with its MLflow runs."""
    changes.delete(name)
    return Response(status_code=204)


@router.post("/sweeps/{name}/clean", tags=["sweeps"], response_model=Cleaned)
def clean(sweeps: TheSweeps, name: Name, dry_run: bool = False) -> Response:
    """Remove the checkpoints of a sweep that nothing needs any more."""
    view = sweeps.newest(name)
    with closing(view.ledger):
        found = cleanable(view.ledger)
        if not dry_run:
            found.remove()
    text = f"{'would free' if dry_run else 'freed'} {found}"
    return json_of(
        {"trials": found.trials, "files": len(found.files), "bytes": found.size, "text": text}
    )


@router.post("/sweeps/{name}/stop", tags=["sweeps"], status_code=202, response_model=WholeSweep)
def stop(sweeps: TheSweeps, name: Name) -> Response:
    """Ask a running sweep to interrupt its trials and end."""
    view = sweeps.newest(name)
    refuse_unless_running(view)
    view.ledger.request_stop()
    return changed(sweeps, view)


@router.post("/sweeps/{name}/resume", tags=["sweeps"], status_code=202, response_model=WholeSweep)
def resume(
    sweeps: TheSweeps,
    changes: TheChanges,
    name: Name,
    body: Annotated[Limits | None, Body()] = None,
) -> Response:
    """Continue a sweep that was stopped or killed."""
    view = sweeps.newest(name)
    changes.go_on("resume", view, body or Limits())
    return changed(sweeps, view)


@router.post("/sweeps/{name}/extend", tags=["sweeps"], status_code=202, response_model=WholeSweep)
def extend(
    sweeps: TheSweeps, changes: TheChanges, name: Name, body: Annotated[Extension, Body()]
) -> Response:
    """Add trials to a sweep that is not running, and continue it."""
    view = sweeps.newest(name)
    changes.go_on("extend", view, body)
    return changed(sweeps, view)


@router.post("/sweeps/{name}/confirm", tags=["sweeps"], status_code=202, response_model=WholeSweep)
def confirm(
    sweeps: TheSweeps,
    changes: TheChanges,
    name: Name,
    body: Annotated[Confirmation | None, Body()] = None,
) -> Response:
    """Start a confirmation: train the choice and a baseline on fresh seeds and test them."""
    return changed(
        sweeps, sweeps.newest(changes.confirm(sweeps.newest(name), body or Confirmation()))
    )
