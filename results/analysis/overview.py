"""Sweeps and trials as plain values, for terminal, service and page."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from results.analysis.agreement import ranking
from results.analysis.confirmation import finding, latest_verdict
from results.analysis.headline import expectation, headline
from results.analysis.health.checks import findings
from results.choice import choice_of, tie_sentence
from results.definition.sweep_config import SweepConfig
from results.ledger.attributes import StateName
from results.ledger.ledger import Ledger
from results.posterior import estimate
from results.sweep import Sweep
from results.trial import TrialRecord

STATES = ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "INTERRUPTED", "WAITING")


def row(trial: TrialRecord, config: SweepConfig) -> dict[str, Any]:
    """Return a trial's row of a table.

    Metrics are means over seeds after the last task that all have reported.
    """
    complete = trial.state == "COMPLETE"
    return {
        "number": trial.number,
        "state": trial.state,
        "source": trial.source,
        "seed": trial.seed,
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
    return grouped((trial.reason, trial.number) for trial in trials)


def grouped(ends: Iterable[tuple[str | None, int]]) -> dict[str, list[int]]:
    """Return trial numbers by reason, the most frequent reason first."""
    found: dict[str, list[int]] = {}
    for reason, number in ends:
        if reason:
            found.setdefault(reason, []).append(number)
    return dict(sorted(found.items(), key=lambda entry: -len(entry[1])))


def summary(ledger: Ledger, sweep: Sweep, state: StateName) -> dict[str, Any]:
    """Return a sweep's entry in a list; `state` is its state, which a service knows best."""
    config, metric = sweep.config, sweep.config.objectives[0].metric
    # a model of every sweep of a list would take too long, so this is the luckiest trial
    counts, found = Counter(t.state for t in sweep.own), sweep.leader
    starts = [t.started_at for t in sweep.own if t.started_at is not None]
    ends = [t.ended_at for t in sweep.own if t.ended_at is not None]
    return {
        "name": config.name,
        "stream": config.base.stream_name,
        "model": config.base.model,
        "buffer_size": config.base.buffer_size,
        "space": config.space.name,
        "protocol": config.protocol,
        "publishable": config.publishable,
        "sampler": config.sampler,
        "pruner": config.pruner,
        "seeds": config.seeds,
        "objectives": [str(o) for o in config.objectives],
        "constraints": [str(c) for c in config.constraints],
        "state": state,
        "driver": ledger.driver if state in ("running", "stopping", "killed") else None,
        "budget": ledger.budget,
        "counts": {name.lower(): counts[name] for name in STATES},
        "best": None if found is None else _shown(found, metric),
        "confirms": config.confirms,
        "tags": ledger.tags,
        "note": ledger.note,
        "verdict": latest_verdict(sweep),
        "started_at": min(starts, default=None),
        "ended_at": max(ends) if ends and state == "finished" else None,
    }


def _shown(trial: TrialRecord, metric: str) -> dict[str, Any]:
    """Number, value and configuration of a COMPLETE trial."""
    return {
        "number": trial.number,
        "value": trial.final(metric),
        "spread": trial.spread(metric),
        "config": trial.config,
    }


def _chosen(sweep: Sweep) -> dict[str, Any] | None:
    """The trial that a sweep chooses, with the expectation of a useful model."""
    trial = choice_of(sweep)
    if trial is None:
        return None
    found = estimate(sweep, trial)
    return _shown(trial, sweep.config.objectives[0].metric) | {
        "expected": found and found.expected,
        "sd": found and found.sd,
        "p_best": found and found.p_best,
    }


def health(sweep: Sweep) -> list[dict[str, str]]:
    """Return the findings of the health checks as plain values."""
    return [
        {"check": name, "text": found.text, "next_step": found.next_step}
        for name, found in findings(sweep)
    ]


def notes(ledger: Ledger, sweep: Sweep) -> list[str]:
    """Return unexpected traits of a sweep's start, search and end, in sentences."""
    return [*ledger.remarks, *([] if sweep.done is None else [f"{sweep.done}."])]


def details(ledger: Ledger, sweep: Sweep) -> dict[str, Any]:
    """Return the content of a sweep's page that `summary` lacks: findings in words, cost, notes.

    A confirmation chooses nothing, so it has neither ties nor a Pareto set, and nothing to prune.
    """
    searched = sweep.config.confirms is None
    return {
        "answer": headline(sweep) if searched else finding(sweep),
        "searched": str(sweep.config.space),
        "chosen": _chosen(sweep),
        "expected": expectation(sweep),
        "ties": tie_sentence(sweep) if sweep.leader else "",
        "ranking": ranking(sweep) if searched else "",
        "health": health(sweep),
        "pareto": [t.number for t in sweep.pareto_set],
        "metrics": sweep.config.metrics,
        "cpu_seconds": sum(t.cpu_seconds for t in sweep.records),
        "gpu_seconds": sum(t.gpu_seconds for t in sweep.records),
        "notes": notes(ledger, sweep),
    }
