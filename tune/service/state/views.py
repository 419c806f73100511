"""Views of a sweep and of its trials, as they were when the ledger was read."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from pydantic_core import to_json

from dynamos.errors import UserError
from results.analysis import overview
from results.choice import reported_config
from results.definition.sweep_config import SweepConfig
from results.ledger.ledger import Ledger
from results.pages.best_config import commands
from results.sweep import Sweep
from results.trial import TrialRecord
from search_spaces.parameter import Parameter
from tune.engine.logs import tail
from tune.service.wire.answers import SearchedField, Summary, Trial, TrialRow, WholeSweep

OVER = ("finished", "stopped", "killed")


@dataclass(frozen=True)
class View:
    """A sweep as it was when its ledger was read."""

    revision: int  # rises with every change; of this process only
    ledger: Ledger
    sweep: Sweep
    summary: Summary
    changed: tuple[int, ...]  # of each trial, the revision in which it last changed
    dashboard: str | None  # Ray's
    identity: Any  # of sweep.yaml, which is written once

    @property
    def over(self) -> bool:
        """True if no driver runs the sweep."""
        return self.summary["state"] in OVER

    @cached_property
    def summary_json(self) -> bytes:
        """The summary as JSON."""
        return encoded(self.summary)

    @cached_property
    def whole_json(self) -> bytes:
        """Everything but the trials, as JSON."""
        return encoded(self.whole)

    @cached_property
    def rows(self) -> list[TrialRow]:
        """A row per trial."""
        return [row(trial, self.ledger.config) for trial in self.sweep.records]

    @cached_property
    def rows_json(self) -> bytes:
        """The rows as JSON."""
        return encoded(self.rows)

    @cached_property
    def by_number(self) -> dict[int, TrialRecord]:
        """The trials by number; numbers that another program used are missing."""
        return {trial.number: trial for trial in self.sweep.records}

    def row_json(self, place: int) -> bytes:
        """The row of the trial at an index, as JSON."""
        return encoded(row(self.sweep.records[place], self.ledger.config))

    @cached_property
    def whole(self) -> WholeSweep:
        """Everything but the trials."""
        sweep, config = self.sweep, self.sweep.config
        whole = {
            **self.summary,
            **overview.details(self.ledger, sweep),
            "parameters": [parameter(p) for p in config.space.parameters],
            "config": config.to_dict(),
            "record": dict(sweep.record),
            "looks": dict(sweep.looks),
            "links": {"mlflow": _link(config.tracking_uri), "ray": _link(self.dashboard)},
        }
        return cast(WholeSweep, whole)


def row(trial: TrialRecord, config: SweepConfig) -> TrialRow:
    """The row of a trial in a table."""
    return cast(TrialRow, overview.row(trial, config))


def whole_trial(ledger: Ledger, trial: TrialRecord) -> Trial:
    """Everything about a trial."""
    config = ledger.config
    by_task = {metric: trial.by_task(metric) for metric in config.metrics}
    attempt = ledger.trial_folder(trial.number) / f"attempt-{trial.attempt}"
    return {
        **row(trial, config),
        "by_task": by_task,
        "warnings": trial.warnings,
        "results": trial.entries(),
        "epoch_readings": trial.reading_entries(),
        "log": tail(attempt / "log.txt"),
        "traceback": tail(attempt / "traceback.txt") or None,
        "command": _command(config, trial),
    }


def _command(config: SweepConfig, trial: TrialRecord) -> str | None:
    """The command that trains a trial's configuration.

    Returns None if values are missing or contradict each other.
    """
    if not config.space.whole(trial.config):
        return None
    try:
        return commands(reported_config(config, trial))["dynamos"]
    except UserError:
        return None


def parameter(p: Parameter) -> SearchedField:
    """A searched field, with its range or choices, and where good values are likely."""
    return {
        "name": p.name,
        "low": p.low,
        "high": p.high,
        "log": p.log,
        "choices": None if p.choices is None else list(p.choices),
        "step": p.step,
        "mean": p.mean,
        "sd": p.sd,
        "weights": None if p.weights is None else list(p.weights),
        "when": {name: list(values) for name, values in p.when} if p.when else None,
    }


def encoded(content: Any) -> bytes:
    """The content as JSON, with null for NaN and infinity."""
    return to_json(content, inf_nan_mode="null", fallback=_text)


def _link(uri: str | None) -> str | None:
    """The URI if a browser can open it, else None."""
    return uri if uri is not None and uri.startswith(("http://", "https://")) else None


def _text(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
