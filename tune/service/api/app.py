"""The application and its routes. It reads its answers from ledgers; drivers carry out its changes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from fastapi import APIRouter, Body, FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool

from dynamos.errors import UserError
from results.analysis.comparison import BUDGETS, compared
from results.analysis.comparison import sentences as compared_sentences
from results.analysis.comparison import table as compared_table
from results.analysis.importance import shares
from results.choice import RULES, Choice, chosen, pareto, reported_config
from results.pages.best_config import best_args, exported
from results.pages.html import PALETTE
from results.pages.report import report
from results.sweep import Sweep
from tune.service.api.guard import Guard
from tune.service.api.measures import Measures
from tune.service.api.table_answers import sorted_rows
from tune.service.state.changes import Changes
from tune.service.state.events import Watcher
from tune.service.state.options import options
from tune.service.state.sweeps import Sweeps
from tune.service.state.views import View, encoded, row, whole_trial
from tune.service.wire.answers import (
    Best,
    Comparison,
    DryRun,
    Importance,
    Options,
    ParetoSet,
    SweepPage,
    SweepState,
    Trial,
    TrialPage,
    TrialState,
)
from tune.service.wire.answers import Sweep as Whole
from tune.service.wire.bodies import (
    Confirmation,
    Extension,
    Labels,
    Limits,
    SweepName,
    SweepRequest,
    among,
    sweep_config,
)
from tune.service.wire.problems import MEDIA_TYPE, Problem, ProblemDocument, add_handlers

STATIC = Path(__file__).parents[1] / "static"
# For a report, a page with its scripts inside: it may run them, and reach nothing.
REPORT_POLICY = ("default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
                 "font-src data:; frame-ancestors 'none'; sandbox allow-scripts allow-downloads")
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}, "description": text}
    for status, text in ((400, "unreadable"), (401, "no token"), (403, "from elsewhere"), (404, "not found"),
                         (409, "not as things stand"), (413, "too large"), (415, "unknown content"),
                         (421, "another host"), (422, "not allowed"), (503, "a ledger or cluster is out of reach"))}
Name = Annotated[SweepName, InPath(description="the sweep's name")]
Number = Annotated[int, InPath(ge=0, le=10**9, description="the trial's number")]
Text = Annotated[str, Query(max_length=200)]
Rule = Annotated[Literal[*RULES], among("rule", list(RULES)), Query(  # type: ignore[valid-type]
    description="how one is chosen")]
OfSweep = Annotated[SweepState | Literal[""], among("state", [*get_args(SweepState), ""])]
OfTrial = Annotated[TrialState | Literal[""], among("state", [*get_args(TrialState), ""])]
MaxCompute = Annotated[float | None, Query(gt=0, le=1e9, allow_inf_nan=False)]


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


def create_app(sweeps: Sweeps, changes: Changes, token: str | None, stopping: Callable[[], bool]) -> FastAPI:
    """The application over the sweeps of a storage; it demands the token, if any. `stopping` ends streams."""
    measures, watcher = Measures(sweeps), Watcher(sweeps, stopping)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(watcher.watch())
        yield
        watching.cancel()

    app = FastAPI(title="Dynamos sweeps", version=version("dynamos"), lifespan=lifespan, docs_url=None, redoc_url=None,
                  description="Submit, watch, steer and fetch hyperparameter sweeps.",
                  separate_input_output_schemas=False)
    add_handlers(app)
    app.add_middleware(Guard, token=token, observe=measures.observe)
    app.include_router(_pages(sweeps, measures))
    app.include_router(_api(sweeps, changes, watcher))
    app.add_api_route("/static/palette.css", lambda: Response(PALETTE, media_type="text/css"), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        """The API's description, with additions to FastAPI's: problem documents, YAML bodies, the token."""
        if app.openapi_schema is None:
            found = describe()
            found["components"]["schemas"]["ProblemDocument"] = ProblemDocument.model_json_schema()
            for name in ("HTTPValidationError", "ValidationError"):
                found["components"]["schemas"].pop(name, None)
            body = found["paths"]["/api/v1/sweeps"]["post"]["requestBody"]["content"]
            body["application/yaml"] = body["application/json"]
            if token is not None:
                found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
                for path, methods in found["paths"].items():
                    if path.startswith("/api/") or path in ("/metrics", "/readyz"):
                        for operation in methods.values():
                            operation["security"] = [{"token": []}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _pages(sweeps: Sweeps, measures: Measures) -> APIRouter:
    router = APIRouter(responses={401: PROBLEMS[401], 421: PROBLEMS[421]})

    @router.get("/", include_in_schema=False)
    def index() -> Response:
        return FileResponse(STATIC / "index.html", media_type="text/html")

    @router.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return FileResponse(STATIC / "docs.html", media_type="text/html")

    @router.get("/healthz", tags=["service"], response_class=PlainTextResponse)
    async def healthz() -> str:
        """Whether the service answers."""
        return "ok\n"

    @router.get("/readyz", tags=["service"], response_class=PlainTextResponse, responses={503: PROBLEMS[503]})
    def readyz() -> str:
        """Whether the service is ready: its storage exists and can be read."""
        try:
            there, names = sweeps.storage.exists(), sweeps.names()
        except Exception as error:  # whatever the storage's package raises
            raise Problem(503, f"the storage cannot be read: {error}") from error
        if not there:
            raise Problem(503, f"the storage {sweeps.storage} is not there.")
        return f"ready: {len(names)} sweeps\n"

    @router.get("/metrics", tags=["service"], response_class=PlainTextResponse)
    def metrics() -> Response:
        """Measures of the service and of its sweeps, for Prometheus."""
        return Response(measures.exposed(), media_type=CONTENT_TYPE_LATEST)

    return router


def _api(sweeps: Sweeps, changes: Changes, watcher: Watcher) -> APIRouter:
    router = APIRouter(prefix="/api/v1", responses=PROBLEMS)

    tasks: set[asyncio.Task[bytes]] = set()  # the loop itself keeps no hold of them

    def over(task: asyncio.Task[bytes]) -> None:
        tasks.discard(task)
        task.exception()  # the next request, which waits, gets the error

    async def whole(name: str) -> bytes:
        # Reading a large ledger takes a while: until then the last reading is the answer, so that no poll waits.
        content, again = sweeps.told(name)
        if content is None:
            return await run_in_threadpool(sweeps.read, name)
        if again:
            tasks.add(task := asyncio.create_task(run_in_threadpool(sweeps.read, name)))
            task.add_done_callback(over)
        return content

    @router.get("/sweeps", tags=["sweeps"], response_model=SweepPage)
    def list_sweeps(state: OfSweep = "", q: Text = "", limit: Annotated[int, Query(ge=1, le=1000)] = 50,
                    offset: Annotated[int, Query(ge=0, le=10**6)] = 0) -> Response:
        """Sweeps, the newest first, of a state and with a text in their name, stream or space where one is given."""
        found = [v.summary for v in sweeps.all() if state in ("", v.summary["state"]) and q.lower() in " ".join(
            str(v.summary[field]) for field in ("name", "stream", "space", "model")).lower()]
        return _json({"total": len(found), "sweeps": found[offset:offset + limit]})

    @router.post("/sweeps", tags=["sweeps"], status_code=201, response_model=Whole, responses={200: {
        "model": Whole | DryRun, "description": "the very same sweep is there already, or it was a dry run"}})
    def post_sweep(request: Request, body: Annotated[SweepRequest, Body()], dry_run: bool = False) -> Response:
        """Starts a sweep. Its name is the idempotency key: the same request again finds the sweep that it made."""
        request.scope["sweep"] = body.name
        config = sweep_config(body, changes.of_the_service)
        if dry_run:
            trials, first = changes.tried(config)
            return _json({"config": config.to_dict(), "trials": trials, "suggestions": first})
        made = changes.create(config, body.tags, body.note)
        return Response(sweeps.get(body.name).whole_json, 201 if made else 200, media_type="application/json")

    @router.get("/sweeps/{name}", tags=["sweeps"], response_model=Whole)
    async def get_sweep(name: Name) -> Response:
        """A sweep: state, counts, best, settings, cautions; not its trials."""
        return Response(await whole(name), media_type="application/json")

    @router.patch("/sweeps/{name}", tags=["sweeps"], response_model=Whole)
    def patch_sweep(name: Name, body: Annotated[Labels, Body()]) -> Response:
        """Sets the note and tags of a sweep; the value "" removes a tag."""
        view = sweeps.newest(name)
        with closing(view.ledger):
            view.ledger.label(body.tags, body.note)
        return Response(sweeps.newest(name).whole_json, media_type="application/json")

    @router.delete("/sweeps/{name}", tags=["sweeps"], status_code=204)
    def delete_sweep(name: Name) -> Response:
        """Removes a sweep that does not run, with its MLflow runs."""
        changes.delete(name)
        return Response(status_code=204)

    @router.get("/sweeps/{name}/trials", tags=["trials"], response_model=TrialPage, responses={
        200: {"content": {"text/csv": {}}}})
    def get_trials(name: Name, state: OfTrial = "", q: Text = "", sort: Text = "number",
                   order: Literal["asc", "desc"] = "asc", limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
                   offset: Annotated[int, Query(ge=0, le=10**6)] = 0,
                   format: Literal["json", "csv"] = "json") -> Response:
        """Trials from an offset on; as CSV all that match, with every column of trials.csv."""
        view = sweeps.get(name)
        rows = sorted_rows(view.rows, state, q, sort, order == "desc")
        if format == "csv":
            wanted = [view.by_number[row["number"]] for row in rows]
            frame = Sweep(view.ledger.config, view.ledger.record, wanted).trials
            return Response(frame.to_csv(index=False), media_type="text/csv", headers={
                "content-disposition": f'attachment; filename="{name}.csv"'})
        return _json({"total": len(rows), "trials": rows[offset:offset + limit]})

    @router.get("/sweeps/{name}/trials/{number}", tags=["trials"], response_model=Trial)
    def get_trial(name: Name, number: Number) -> Response:
        """A trial: parameters, results by task and seed, the end of its log, why it failed."""
        view = sweeps.get(name)
        return _json(whole_trial(view.ledger, _trial(view, number)))

    @router.post("/sweeps/{name}/trials/{number}/stop", tags=["trials"], status_code=202, response_model=Whole)
    def stop_trial(name: Name, number: Number) -> Response:
        """Asks a running trial to end; what it has reported is kept."""
        view = sweeps.newest(name)
        trial = _trial(view, number)
        _runs(view)
        if trial.state != "RUNNING" or trial.held:
            raise Problem(409, f"trial {number} of {name} does not run: it is {trial.state.lower()}.")
        view.ledger.request_trial_stop(number)
        return _changed(view)

    @router.post("/sweeps/{name}/stop", tags=["sweeps"], status_code=202, response_model=Whole)
    def stop(name: Name) -> Response:
        """Asks a running sweep to put back its running trials and end."""
        view = sweeps.newest(name)
        _runs(view)
        view.ledger.request_stop()
        return _changed(view)

    @router.post("/sweeps/{name}/resume", tags=["sweeps"], status_code=202, response_model=Whole)
    def resume(name: Name, body: Annotated[Limits | None, Body()] = None) -> Response:
        """Goes on with a sweep that was stopped or killed."""
        view = sweeps.newest(name)
        changes.go_on("resume", view, body or Limits())
        return _changed(view)

    @router.post("/sweeps/{name}/extend", tags=["sweeps"], status_code=202, response_model=Whole)
    def extend(name: Name, body: Annotated[Extension, Body()]) -> Response:
        """Adds trials to a sweep that does not run, and goes on with it."""
        view = sweeps.newest(name)
        changes.go_on("extend", view, body)
        return _changed(view)

    @router.post("/sweeps/{name}/confirm", tags=["sweeps"], status_code=202, response_model=Whole)
    def confirm(name: Name, body: Annotated[Confirmation | None, Body()] = None) -> Response:
        """Starts a confirmation: retrains the sweep's choice and a baseline on fresh seeds, and tests them."""
        return _changed(sweeps.newest(changes.confirm(sweeps.newest(name), body or Confirmation())))

    @router.get("/sweeps/{name}/best", tags=["sweeps"], response_model=Best, responses={
        200: {"content": {"text/plain": {}}}})
    def best(name: Name, choose: Rule = "best", max_compute: MaxCompute = None,
             format: Literal["json", "yaml", "args", "command"] = "json") -> Response:
        """The configuration that the sweep chooses; 409 if no trial can be chosen."""
        view = sweeps.get(name)
        ledger, choice = view.ledger, Choice(choose, max_compute)
        try:
            trial = chosen(list(view.trials), ledger.config, choice)[0]
        except UserError as error:
            raise Problem(409, str(error)) from None
        content = exported(ledger, trial, choice)
        if format == "json":
            return _json({"trial": row(trial, ledger.config), **content})
        return PlainTextResponse({
            "yaml": yaml.safe_dump(content, sort_keys=False, width=120),
            "args": best_args(reported_config(ledger.config, trial), content["provenance"]),
            "command": content["commands"]["dynamos"] + "\n"}[format])

    @router.get("/sweeps/{name}/pareto", tags=["sweeps"], response_model=ParetoSet)
    def get_pareto(name: Name) -> Response:
        """The trials that no other one equals or beats in every objective and beats in one."""
        view = sweeps.get(name)
        config = view.ledger.config
        return _json({"objectives": [str(o) for o in config.objectives],
                      "trials": [row(t, config) for t in pareto(list(view.trials), config)]})

    @router.get("/sweeps/{name}/importance", tags=["sweeps"], response_model=Importance)
    def importance(name: Name) -> Response:
        """The share of the first objective's variance that each field explains; no shares if none can be computed."""
        view = sweeps.get(name)
        complete = sum(t.state == "COMPLETE" and not t.imported for t in view.trials)
        found = shares(Sweep(view.ledger.config, {}, list(view.trials))) or {}
        return _json({"metric": view.ledger.config.objectives[0].metric, "trials": complete, "shares": [
            {"name": field, "share": share, "spread": spread} for field, (share, spread) in reversed(found.items())]})

    @router.get("/sweeps/{name}/report", tags=["sweeps"], response_class=HTMLResponse)
    def get_report(name: Name) -> Response:
        """The sweep's report, one self-contained page, as things stand."""
        ledger = sweeps.get(name).ledger
        if ledger.config.confirms is not None:
            raise Problem(409, f"{name} is a confirmation; it is in the report of {ledger.config.confirms!r}.")
        with closing(ledger):
            page = report(ledger)
        return HTMLResponse(page, headers={"content-security-policy": REPORT_POLICY})

    @router.get("/compare", tags=["sweeps"], response_model=Comparison)
    def compare(sweeps_: Annotated[str, Query(alias="sweeps", max_length=2000, description="names, with commas")]
                ) -> Response:
        """Sweeps side by side: settings, results, shifts, and the best so far over the budget spent."""
        names = sweeps_.split(",")
        if len(names) < 2 or len(set(names)) < len(names):
            raise Problem(422, "name two or more sweeps, each once.", "sweeps")
        views = [sweeps.get(name) for name in names]
        side = compared([Sweep(v.ledger.config, v.ledger.record, list(v.trials)) for v in views])
        settings, found, shifted = compared_table(side)
        curves = {kind: {s.name: [(step.spent(kind), step.best.value) for step in s.steps if step.best is not None]
                         for s in side} for kind in BUDGETS}
        return _json({"names": names, "settings": settings, "found": found, "shifted": shifted,
                      "sentences": compared_sentences(side), "curves": curves})

    @router.get("/options", tags=["service"], response_model=Options)
    def get_options() -> Response:
        """Options of a request: streams, spaces, fields and their ranges, presets, samplers, pruners, metrics."""
        return _json(options())

    @router.get("/events", tags=["events"], response_class=EventStream)
    async def events(sweep: Annotated[SweepName | None, Query()] = None) -> Response:
        """Server-sent events: a snapshot of all sweeps, or of one with its trials, then each change."""
        if sweep is not None:
            await run_in_threadpool(sweeps.get, sweep)  # 404 before the stream begins
        return EventStream(watcher.stream(sweep))

    def _changed(view: View) -> Response:
        return Response(sweeps.newest(view.summary["name"]).whole_json, 202, media_type="application/json")

    return router


def _runs(view: View) -> None:
    """Raises Problem 409 if the sweep does not run."""
    if view.summary["state"] not in ("running", "stopping"):
        raise Problem(409, f"{view.summary['name']} does not run: it is {view.summary['state']}.")


def _trial(view: View, number: int) -> Any:
    if number not in view.by_number:
        raise Problem(404, f"{view.summary['name']} has trials 0 to {max(view.by_number, default=0)}, not {number}.")
    return view.by_number[number]


def _json(content: Any) -> Response:
    return Response(encoded(content), media_type="application/json")
