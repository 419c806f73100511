"""A sweep's trials as a DataFrame and as trials.csv."""

from typing import Any

import pandas as pd

from dynamos.files import write_whole
from results.ledger import OBJECTIVE, Ledger

COLUMNS = {
    "number": "the trial's number, from 0; 0 is the stream's preset, or what the sweep's base makes of it",
    "state": "WAITING, RUNNING, INTERRUPTED (to be resumed), COMPLETE, PRUNED or FAIL",
    "source": "preset, base (the preset, altered with --set) or sampler",
    OBJECTIVE: "the objective: validation class-il after the last task, percent; only of a COMPLETE trial, because "
               "class-il falls as tasks arrive and a trial cut short looks better than it is",
    "val_task_il": "validation task-il after the last task, percent; only of a COMPLETE trial",
    "forgetting": "percentage points lost since each task's best, mean; only of a COMPLETE trial",
    "keep_fraction": "gated channels kept at evaluation; only of a COMPLETE trial",
    "compute": "expected multiply-accumulates over the dense network's; only of a COMPLETE trial",
    "tasks_done": "tasks learned and evaluated",
    "attempts": "times the trial was started",
    "seconds": "wall time of all attempts",
    "started_at": "UTC",
    "ended_at": "UTC",
    "reason": "why a trial ended without completing",
}


def trials_frame(ledger: Ledger) -> pd.DataFrame:
    """One row per trial: COLUMNS, then one column per searched field with its real value."""
    rows: list[dict[str, Any]] = []
    for trial in ledger.trials():
        complete = trial.state == "COMPLETE"
        finals = {m: trial.last(m) if complete else None for m in ("val_task_il", "forgetting", "keep_fraction",
                                                                   "compute")}
        rows.append({"number": trial.number, "state": trial.state, "source": trial.source, OBJECTIVE: trial.value,
                     **finals, "tasks_done": trial.tasks_done, "attempts": trial.attempt, "seconds": trial.seconds,
                     "started_at": trial.started_at, "ended_at": trial.ended_at, "reason": trial.reason,
                     **trial.config})
    return pd.DataFrame(rows, columns=[*COLUMNS, *(p.name for p in ledger.config.space.parameters)])


def write_trials(ledger: Ledger) -> None:
    """Writes trials.csv into the sweep's folder; numbers in full, so that they read back exactly."""
    write_whole(ledger.folder / "trials.csv", trials_frame(ledger).to_csv(index=False))
