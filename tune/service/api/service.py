"""Routes of the service itself: its page, health, measures, options and events."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool

from tune.service.api.measures import Measures
from tune.service.api.parameters import PROBLEMS, TheSweeps, TheWatcher, json_of
from tune.service.state.options import options
from tune.service.wire.answers import Options
from tune.service.wire.bodies import SweepName
from tune.service.wire.problems import Problem

STATIC = Path(__file__).parents[1] / "static"
pages = APIRouter(responses={401: PROBLEMS[401], 421: PROBLEMS[421]})
router = APIRouter(prefix="/api/v1", responses=PROBLEMS)


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


@pages.get("/", include_in_schema=False)
def index() -> Response:
    """The page of sweeps."""
    return FileResponse(STATIC / "index.html", media_type="text/html")


@pages.get("/docs", include_in_schema=False)
def docs() -> Response:
    """The page that describes the API."""
    return FileResponse(STATIC / "docs.html", media_type="text/html")


@pages.get("/healthz", tags=["service"], response_class=PlainTextResponse)
async def healthz() -> str:
    """Report that the service answers."""
    return "ok\n"


@pages.get(
    "/readyz", tags=["service"], response_class=PlainTextResponse, responses={503: PROBLEMS[503]}
)
def readyz(sweeps: TheSweeps) -> str:
    """Report whether the service is ready: its storage exists and can be read."""
    try:
        there, names = sweeps.storage.exists(), sweeps.names()
    except Exception as error:  # whatever the storage's package raises
        raise Problem(503, f"the storage cannot be read: {error}") from error
    if not there:
        raise Problem(503, f"the storage {sweeps.storage} does not exist.")
    return f"ready: {len(names)} sweeps\n"


@pages.get("/metrics", tags=["service"], response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """Measures of the service and of its sweeps, for Prometheus."""
    measures: Measures = request.app.state.measures
    return Response(measures.exposed(), media_type=CONTENT_TYPE_LATEST)


@router.get("/options", tags=["service"], response_model=Options)
def get_options() -> Response:
    """Options of a request: streams, spaces, fields, presets, samplers, pruners, metrics."""
    return json_of(options())


@router.get("/events", tags=["events"], response_class=EventStream)
async def events(
    sweeps: TheSweeps, watcher: TheWatcher, sweep: Annotated[SweepName | None, Query()] = None
) -> Response:
    """Server-sent events: a snapshot of all sweeps, or of one with its trials, then each change."""
    if sweep is not None:
        await run_in_threadpool(sweeps.get, sweep)  # 404 before the stream begins
    return EventStream(watcher.stream(sweep))
