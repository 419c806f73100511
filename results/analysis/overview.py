"""A trial as plain values, for terminal, service and page."""

from collections.abc import Iterable
from typing import Any

from results.definition.sweep_config import SweepConfig
from results.trial import TrialRecord


def row(trial: TrialRecord, config: SweepConfig) -> dict[str, Any]:
    """Return a trial's row of a table.

    Metrics are means over seeds after the last task that all have reported.
    """
    complete = trial.state == "COMPLETE"
    return {
        "number": trial.number,
        "state": trial.state,
        "source": trial.source,
        "attempt": trial.attempt,
        "tasks_done": trial.tasks_done,
        "n_tasks": trial.n_tasks,
        "curve": trial.by_task(config.objectives[0].metric),
        "held": trial.held,
        "seconds": trial.seconds,
        "cpu_seconds": trial.cpu_seconds,
        "gpu_seconds": trial.gpu_seconds,
        "started_at": trial.started_at,
        "ended_at": trial.ended_at,
        "reason": trial.reason,
        "feasible": trial.feasible if complete else None,
        "value": trial.value,
        "metrics": {metric: trial.last(metric) for metric in config.metrics},
        "spread": trial.spread(config.objectives[0].metric) if complete else None,
        "imported": trial.imported,
        "config": trial.config,
    }


def by_reason(trials: Iterable[TrialRecord]) -> dict[str, list[int]]:
    """Return the numbers of the trials that ended early, by reason, the most frequent first."""
    found: dict[str, list[int]] = {}
    for trial in trials:
        if trial.reason:
            found.setdefault(trial.reason, []).append(trial.number)
    return dict(sorted(found.items(), key=lambda entry: -len(entry[1])))
