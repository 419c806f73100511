"""DataFrames of a sweep, and the files trials.csv and pareto.csv."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dynamos.errors import unknown
from dynamos.files import AnyPath, any_path, write_whole
from results.ledger.ledger import Ledger
from results.sweep import Sweep
from results.trial import TrialRecord

# Columns of `trials`, in order; one per searched field follows, with its real value. Under the
# protocol test, accuracies have the prefix test_ in place of val_. A sweep with readings has
# val_class_il_median, too.
COLUMNS = {
    "number": "trial number, from 0; trial 0 is the stream's preset with the changes of --set",
    "state": "WAITING, RUNNING, INTERRUPTED (to be resumed), COMPLETE, PRUNED or FAIL",
    "source": "preset, base (the preset, changed with --set), points:N, warm-start:SWEEP/N, "
    "imported:SWEEP/N (another sweep's result), grid:N, rerun:N (trial N again), replicate:N and "
    "race:N (the configuration of trial N on other seeds) or sampler",
    "seed": "the first of its training seeds; empty before the trial starts",
    "val_class_il": "validation class-il after the last task, percent. Every metric is a mean over "
    "seeds. Only COMPLETE trials have metrics: class-il falls as tasks arrive, so a trial that "
    "stopped early would look better than it is",
    "val_task_il": "validation task-il after the last task, percent",
    "val_learning_accuracy": "validation class-il accuracy on each task right after it was "
    "learned, percent, mean",
    "forgetting": "mean loss since each task's best accuracy, percentage points",
    "keep_fraction": "fraction of gated channels kept at evaluation",
    "compute": "expected multiply-accumulates divided by the dense network's",
    "spread": "standard deviation over seeds of the first objective; empty with one seed",
    "feasible": "true if every constraint is kept; only for COMPLETE trials",
    "tasks_done": "tasks learned and evaluated",
    "attempts": "times the trial was started",
    "seconds": "wall time of training, all attempts; without the start of workers",
    "cpu_seconds": "CPUs held times seconds, all attempts",
    "gpu_seconds": "GPUs held times seconds, all attempts",
    "started_at": "start of training, UTC",
    "ended_at": "UTC",
    "reason": "reason of an end without completion",
}


# Columns of `results`, in order; every number of TaskResult follows, under the same names as in
# MLflow.
RESULT_COLUMNS = {
    "number": "the trial's number",
    "state": "the trial's state",
    "seed": "the training seed",
    "task": "tasks learned, from 1",
}
FORMATS = ("csv", "parquet")
# Types of columns; the rest are float64. Columns that may lack a value have the nullable types of
# pandas.
TIME = "datetime64[us, UTC]"
_TYPES = {
    "number": "int64",
    "state": "string",
    "source": "string",
    "feasible": "boolean",
    "tasks_done": "int64",
    "attempts": "int64",
    "started_at": TIME,
    "ended_at": TIME,
    "reason": "string",
    "seed": "Int64",
    "task": "int64",
    "configuration": "string",
    "trial": "Int64",
    "n": "int64",
}
_FIELD_TYPES = {int: "Int64", float: "float64", bool: "boolean", str: "string"}


def trials_frame(sweep: Sweep, trials: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return one row per trial: COLUMNS, then one column per searched field."""
    rows: list[dict[str, Any]] = []
    first = sweep.config.objectives[0].metric
    for trial in trials:
        complete = trial.state == "COMPLETE"
        finals = {
            metric: trial.last(metric) if complete else None for metric in sweep.config.metrics
        }
        rows.append(
            {
                "number": trial.number,
                "state": trial.state,
                "source": trial.source,
                "seed": trial.seed,
                **finals,
                "spread": trial.spread(first) if complete else None,
                "feasible": trial.feasible if complete else None,
                "tasks_done": trial.tasks_done,
                "attempts": trial.attempt,
                "seconds": trial.seconds,
                "cpu_seconds": trial.cpu_seconds,
                "gpu_seconds": trial.gpu_seconds,
                "started_at": trial.started_at,
                "ended_at": trial.ended_at,
                "reason": trial.reason,
                **trial.config,
            }
        )
    fields = {p.name: p.kind for p in sweep.config.space.parameters}
    columns = [*_columns(sweep.config.metrics), *fields]
    return typed(pd.DataFrame(rows, columns=columns, dtype=object), fields)


def results_frame(sweep: Sweep) -> pd.DataFrame:
    """Return one row per trial, seed and task: RESULT_COLUMNS, then every metric."""
    rows = [
        {
            "number": trial.number,
            "state": trial.state,
            "seed": seed,
            **result.metrics(),
            "task": result.task + 1,
        }
        for trial in sweep.records
        for seed, results in trial.results.items()
        for result in results
    ]
    names = dict.fromkeys(name for row in rows for name in row) or RESULT_COLUMNS
    return typed(pd.DataFrame(rows, columns=list(names), dtype=object))


def save(sweep: Sweep, folder: str | Path, kind: str) -> list[AnyPath]:
    """Write trials, results and pareto to a folder in one of FORMATS and return the paths."""
    if kind not in FORMATS:
        raise unknown("format", kind, FORMATS)
    frames = {"trials": sweep.trials, "results": sweep.results, "pareto": sweep.pareto}
    place = any_path(str(folder))
    return [
        write_whole(place / f"{name}.{kind}", _bytes(frame, kind)) for name, frame in frames.items()
    ]


def typed(frame: pd.DataFrame, fields: Mapping[str, type] | None = None) -> pd.DataFrame:
    """Return the frame with the type of each column set.

    `fields` are the types of values by column, of columns with searched fields.
    """
    kinds = fields or {}
    return frame.astype(
        {
            name: _FIELD_TYPES[kinds[name]] if name in kinds else _TYPES.get(name, "float64")
            for name in frame.columns
        }
    )


def _columns(metrics: dict[str, str]) -> list[str]:
    """Names of COLUMNS, with the prefix of a sweep's metrics and with its other accuracies."""
    on_test = {name.replace("test_", "val_"): name for name in metrics}
    names = [on_test.get(name, name) for name in COLUMNS]
    at = names.index("forgetting")
    return names[:at] + [name for name in metrics if name not in names] + names[at:]


def write_trials(ledger: Ledger) -> None:
    """Write trials.csv and, with several objectives, pareto.csv; numbers in full.

    pandas reads them back exactly from 3.1 on; earlier versions need float_precision="round_trip".
    """
    sweep = Sweep.of(ledger)
    if len(sweep.config.objectives) > 1:
        write_whole(ledger.folder / "pareto.csv", _bytes(sweep.pareto, "csv"))
    write_whole(ledger.folder / "trials.csv", _bytes(sweep.trials, "csv"))


def stale(ledger: Ledger) -> bool:
    """True if trials.csv is missing or differs from the ledger."""
    file = ledger.folder / "trials.csv"
    return not file.is_file() or file.read_bytes() != _bytes(Sweep.of(ledger).trials, "csv")


def _bytes(frame: pd.DataFrame, kind: str) -> bytes:
    content = io.BytesIO()
    if kind == "csv":
        frame.to_csv(content, index=False)
    else:
        frame.to_parquet(content, index=False)
    return content.getvalue()
