"""Parameters of routes, and the parts of the application that a route works on."""

from typing import Annotated, Any, Literal, get_args

from fastapi import Depends, Query, Request, Response
from fastapi import Path as InPath

from results.choice import RULES
from results.ledger.attributes import StateName
from tune.service.state.changes import Changes
from tune.service.state.events import Watcher
from tune.service.state.sweeps import Sweeps
from tune.service.state.views import View, encoded
from tune.service.wire.answers import TrialState
from tune.service.wire.bodies import SweepName, among
from tune.service.wire.problems import MEDIA_TYPE, Problem

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        "description": text,
    }
    for status, text in (
        (400, "unreadable"),
        (401, "no token"),
        (403, "request from another page"),
        (404, "not found"),
        (409, "conflict with the present state"),
        (413, "too large"),
        (415, "unsupported content type"),
        (421, "another host"),
        (422, "not allowed"),
        (503, "a ledger or cluster cannot be reached"),
    )
}
Name = Annotated[SweepName, InPath(description="the sweep's name")]
Number = Annotated[int, InPath(ge=0, le=10**9, description="the trial's number")]
Text = Annotated[str, Query(max_length=200)]
ChoiceRule = Annotated[
    Literal[*RULES],  # type: ignore[valid-type]
    among("rule", list(RULES)),
    Query(description="rule of choice"),
]
OfSweep = Annotated[StateName | Literal[""], among("state", [*get_args(StateName), ""])]
OfTrial = Annotated[TrialState | Literal[""], among("state", [*get_args(TrialState), ""])]
MaxCompute = Annotated[float | None, Query(gt=0, le=1e9, allow_inf_nan=False)]


async def _sweeps(request: Request) -> Sweeps:
    sweeps: Sweeps = request.app.state.sweeps
    return sweeps


async def _changes(request: Request) -> Changes:
    changes: Changes = request.app.state.changes
    return changes


async def _watcher(request: Request) -> Watcher:
    watcher: Watcher = request.app.state.watcher
    return watcher


TheSweeps = Annotated[Sweeps, Depends(_sweeps)]
TheChanges = Annotated[Changes, Depends(_changes)]
TheWatcher = Annotated[Watcher, Depends(_watcher)]


def changed(sweeps: Sweeps, view: View) -> Response:
    """The answer to a change that a driver will carry out: the sweep as it is now."""
    return Response(
        sweeps.newest(view.summary["name"]).whole_json, 202, media_type="application/json"
    )


def refuse_unless_running(view: View) -> None:
    """Raise Problem 409 if the sweep is not running."""
    if view.summary["state"] not in ("running", "stopping"):
        raise Problem(409, f"{view.summary['name']} is not running: it is {view.summary['state']}.")


def json_of(content: Any) -> Response:
    """An answer in JSON."""
    return Response(encoded(content), media_type="application/json")
