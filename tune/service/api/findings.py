"""Routes of the findings of sweeps: choice, Pareto set, importance, report and comparison."""

from contextlib import closing
from typing import Annotated, Literal

import yaml
from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse, PlainTextResponse

from dynamos.errors import UserError
from results.analysis.comparison import (
    BUDGETS,
    compared,
    comparison_rows,
    comparison_sentences,
)
from results.analysis.importance import shares
from results.choice import DEFAULT, Choice, chosen, reported_config
from results.pages.best_config import best_args, exported
from results.pages.report import report
from tune.service.api.parameters import PROBLEMS, ChoiceRule, MaxCompute, Name, TheSweeps, json_of
from tune.service.state.views import row
from tune.service.wire.answers import Best, Comparison, Importance, ParetoSet
from tune.service.wire.problems import Problem

# A report has its scripts inside. It may run them, but it may load and send nothing.
REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: "
    "blob:; font-src data:; frame-ancestors 'none'; sandbox allow-scripts allow-downloads"
)

router = APIRouter(prefix="/api/v1", responses=PROBLEMS)


@router.get(
    "/sweeps/{name}/best",
    tags=["sweeps"],
    response_model=Best,
    responses={200: {"content": {"text/plain": {}}}},
)
def best(
    sweeps: TheSweeps,
    name: Name,
    choose: ChoiceRule = DEFAULT,
    max_compute: MaxCompute = None,
    format: Literal["json", "yaml", "args", "command"] = "json",
) -> Response:
    """The configuration that the sweep chooses; 409 if no trial can be chosen."""
    view = sweeps.get(name)
    ledger, choice = view.ledger, Choice(choose, max_compute)
    try:
        trial = chosen(view.sweep, choice)[0]
    except UserError as error:
        raise Problem(409, str(error)) from None
    content = exported(ledger, trial, choice)
    if format == "json":
        return json_of({"trial": row(trial, ledger.config), **content})
    return PlainTextResponse(
        {
            "yaml": yaml.safe_dump(content, sort_keys=False, width=120),
            "args": best_args(reported_config(ledger.config, trial), content["provenance"]),
            "command": content["commands"]["dynamos"] + "\n",
        }[format]
    )


@router.get("/sweeps/{name}/pareto", tags=["sweeps"], response_model=ParetoSet)
def get_pareto(sweeps: TheSweeps, name: Name) -> Response:
    """The trials that no other one equals or beats in every objective and beats in one."""
    view = sweeps.get(name)
    config = view.sweep.config
    return json_of(
        {
            "objectives": [str(o) for o in config.objectives],
            "trials": [row(t, config) for t in view.sweep.pareto_set],
        }
    )


@router.get("/sweeps/{name}/importance", tags=["sweeps"], response_model=Importance)
def importance(sweeps: TheSweeps, name: Name) -> Response:
    """The share of the first objective's variance that each field explains.

    The list is empty if no shares can be computed.
    """
    view = sweeps.get(name)
    complete = len(view.sweep.own_complete)
    found = shares(view.sweep) or {}
    return json_of(
        {
            "metric": view.sweep.config.objectives[0].metric,
            "trials": complete,
            "shares": [
                {"name": field, "share": share, "spread": spread}
                for field, (share, spread) in reversed(found.items())
            ],
        }
    )


@router.get("/sweeps/{name}/report", tags=["sweeps"], response_class=HTMLResponse)
def get_report(sweeps: TheSweeps, name: Name) -> Response:
    """The sweep's report, one self-contained page, in its present state."""
    ledger = sweeps.get(name).ledger
    try:
        with closing(ledger):
            page = report(ledger)
    except UserError as error:
        raise Problem(409, str(error)) from None
    return HTMLResponse(page, headers={"content-security-policy": REPORT_POLICY})


@router.get("/compare", tags=["sweeps"], response_model=Comparison)
def compare(
    sweeps: TheSweeps,
    asked: Annotated[str, Query(alias="sweeps", max_length=2000, description="names, with commas")],
) -> Response:
    """Sweeps side by side: settings, results, shifts, and the best so far over the budget spent."""
    names = asked.split(",")
    if len(names) < 2 or len(set(names)) < len(names):
        raise Problem(422, "name two or more different sweeps.", "sweeps")
    views = [sweeps.get(name) for name in names]
    side = compared([v.sweep for v in views])
    settings, found, shifted = comparison_rows(side)
    curves = {
        kind: {
            s.name: [
                (step.spent(kind), step.best.value) for step in s.steps if step.best is not None
            ]
            for s in side
        }
        for kind in BUDGETS
    }
    return json_of(
        {
            "names": names,
            "settings": settings,
            "found": found,
            "shifted": shifted,
            "sentences": comparison_sentences(side),
            "curves": curves,
        }
    )
