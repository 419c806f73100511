"""The application: routes, guard and description."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Response
from fastapi.staticfiles import StaticFiles

from results.pages.html import PALETTE
from tune.service.api import findings, service, trials
from tune.service.api.guard import Guard
from tune.service.api.measures import Measures
from tune.service.api.sweeps import Reader
from tune.service.api.sweeps import router as of_sweeps
from tune.service.state.changes import Changes
from tune.service.state.events import Watcher
from tune.service.state.sweeps import Sweeps
from tune.service.wire.problems import ProblemDocument, add_handlers


def create_app(
    sweeps: Sweeps, changes: Changes, token: str | None, stopping: Callable[[], bool]
) -> FastAPI:
    """The application over the sweeps of a storage; it demands the token, if any.

    `stopping` returns True if streams must end.
    """
    measures, watcher = Measures(sweeps), Watcher(sweeps, stopping)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(watcher.watch())
        yield
        watching.cancel()

    app = FastAPI(
        title="Dynamos sweeps",
        version=version("dynamos"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        description="Submit, watch, steer and fetch hyperparameter sweeps.",
        separate_input_output_schemas=False,
    )
    add_handlers(app)
    app.add_middleware(Guard, token=token, observe=measures.observe)
    app.state.sweeps, app.state.changes, app.state.watcher = sweeps, changes, watcher
    app.state.measures, app.state.reader = measures, Reader(sweeps)
    for router in (service.pages, of_sweeps, trials.router, findings.router, service.router):
        app.include_router(router)
    app.add_api_route(
        "/static/palette.css",
        lambda: Response(PALETTE, media_type="text/css"),
        include_in_schema=False,
    )
    app.mount("/static", StaticFiles(directory=service.STATIC), name="static")
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        """The API's description: FastAPI's, problem documents, YAML bodies, the token."""
        if app.openapi_schema is None:
            found = describe()
            found["components"]["schemas"]["ProblemDocument"] = ProblemDocument.model_json_schema()
            for name in ("HTTPValidationError", "ValidationError"):
                found["components"]["schemas"].pop(name, None)
            body = found["paths"]["/api/v1/sweeps"]["post"]["requestBody"]["content"]
            body["application/yaml"] = body["application/json"]
            if token is not None:
                found["components"]["securitySchemes"] = {
                    "token": {"type": "http", "scheme": "bearer"}
                }
                for path, methods in found["paths"].items():
                    if path.startswith("/api/") or path in ("/metrics", "/readyz"):
                        for operation in methods.values():
                            operation["security"] = [{"token": []}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app
