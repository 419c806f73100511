"""A sweep's trials as a DataFrame and as trials.csv."""

from statistics import stdev
from typing import Any

import pandas as pd

from dynamos.files import write_whole
from results.best import pareto
from results.ledger import Ledger
from results.sweep_config import OBJECTIVES
from results.trial import TrialRecord

COLUMNS = {
    "number": "the trial's number, from 0; 0 is the stream's preset, or what the sweep's base makes of it",
    "state": "WAITING, RUNNING, INTERRUPTED (to be resumed), COMPLETE, PRUNED or FAIL",
    "source": "preset, base (the preset, altered with --set), points:N, warm-start:SWEEP/N, imported:SWEEP/N (another "
              "sweep's result), grid:N or sampler",
    "val_class_il": "validation class-il after the last task, percent; like every metric a mean over seeds, and only "
                    "of a COMPLETE trial, because class-il falls as tasks arrive and a trial cut short looks better "
                    "than it is",
    "val_task_il": "validation task-il after the last task, percent",
    "forgetting": "percentage points lost since each task's best, mean",
    "keep_fraction": "gated channels kept at evaluation",
    "compute": "expected multiply-accumulates over the dense network's",
    "spread": "standard deviation over seeds of the first objective; empty with one seed",
    "feasible": "whether every constraint is kept; only of a COMPLETE trial",
    "tasks_done": "tasks learned and evaluated",
    "attempts": "times the trial was started",
    "seconds": "wall time of all attempts",
    "started_at": "UTC",
    "ended_at": "UTC",
    "reason": "why a trial ended without completing",
}


def trials_frame(ledger: Ledger) -> pd.DataFrame:
    """One row per trial: COLUMNS, then one column per searched field with its real value."""
    return _frame(ledger, ledger.trials())


def write_trials(ledger: Ledger) -> None:
    """Writes trials.csv and, with several objectives, pareto.csv; numbers in full, so that they read back exactly."""
    trials = ledger.trials()
    write_whole(ledger.folder / "trials.csv", _frame(ledger, trials).to_csv(index=False))
    if len(ledger.config.objectives) > 1:
        best = _frame(ledger, pareto(trials, ledger.config))
        write_whole(ledger.folder / "pareto.csv", best.to_csv(index=False))


def _frame(ledger: Ledger, trials: list[TrialRecord]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    first = ledger.config.objectives[0].metric
    for trial in trials:
        complete = trial.state == "COMPLETE"
        finals = {metric: trial.last(metric) if complete else None for metric in OBJECTIVES}
        values = trial.by_seed(first) if complete else []
        rows.append({"number": trial.number, "state": trial.state, "source": trial.source, **finals,
                     "spread": stdev(values) if len(values) > 1 else None, "feasible": trial.feasible if complete
                     else None, "tasks_done": trial.tasks_done, "attempts": trial.attempt, "seconds": trial.seconds,
                     "started_at": trial.started_at, "ended_at": trial.ended_at, "reason": trial.reason,
                     **trial.config})
    return pd.DataFrame(rows, columns=[*COLUMNS, *(p.name for p in ledger.config.space.parameters)])
