"""Routes of trials: listed, shown and stopped."""

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from dynamos.errors import UserError
from results.trial import TrialRecord
from tune.service.api.parameters import (
    PROBLEMS,
    Name,
    Number,
    OfTrial,
    Text,
    TheSweeps,
    changed,
    json_of,
    refuse_unless_running,
)
from tune.service.api.table_answers import sorted_rows
from tune.service.state.views import View, whole_trial
from tune.service.wire.answers import Trial, TrialPage, WholeSweep
from tune.service.wire.problems import Problem

router = APIRouter(prefix="/api/v1", responses=PROBLEMS)


@router.get(
    "/sweeps/{name}/trials",
    tags=["trials"],
    response_model=TrialPage,
    responses={200: {"content": {"text/csv": {}}}},
)
def get_trials(
    sweeps: TheSweeps,
    name: Name,
    state: OfTrial = "",
    q: Text = "",
    sort: Text = "number",
    order: Literal["asc", "desc"] = "asc",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**6)] = 0,
    format: Literal["json", "csv"] = "json",
) -> Response:
    """Trials from an offset on; as CSV all that match, with every column of trials.csv."""
    view = sweeps.get(name)
    rows = sorted_rows(view.rows, state, q, sort, order == "desc")
    if format == "csv":
        wanted = [view.by_number[row["number"]] for row in rows]
        frame = replace(view.sweep, records=wanted).trials
        return Response(
            frame.to_csv(index=False),
            media_type="text/csv",
            headers={"content-disposition": f'attachment; filename="{name}.csv"'},
        )
    return json_of({"total": len(rows), "trials": rows[offset : offset + limit]})


@router.get("/sweeps/{name}/trials/{number}", tags=["trials"], response_model=Trial)
def get_trial(sweeps: TheSweeps, name: Name, number: Number) -> Response:
    """A trial: parameters, results by task and seed, end of its log, reason of its failure."""
    view = sweeps.get(name)
    return json_of(whole_trial(view.ledger, _trial(view, number)))


@router.post(
    "/sweeps/{name}/trials/{number}/stop",
    tags=["trials"],
    status_code=202,
    response_model=WholeSweep,
)
def stop_trial(sweeps: TheSweeps, name: Name, number: Number) -> Response:
    """Ask a running trial to end; its reported results are kept."""
    view = sweeps.newest(name)
    _trial(view, number)
    refuse_unless_running(view)
    try:
        view.ledger.request_trial_stop(number)
    except UserError as error:
        raise Problem(409, str(error)) from None
    return changed(sweeps, view)


def _trial(view: View, number: int) -> TrialRecord:
    if number not in view.by_number:
        raise Problem(
            404,
            f"{view.summary['name']} has trials 0 to {max(view.by_number, default=0)}, not "
            f"{number}.",
        )
    return view.by_number[number]
