"""Choosing among the trials of a sweep, and exporting the choice."""

from typing import Any

import yaml

from dynamos.config import TrainConfig
from dynamos.files import write_whole
from results.ledger import OBJECTIVE, PROTOCOL, Ledger, TrialRecord


def best(trials: list[TrialRecord]) -> TrialRecord | None:
    """The COMPLETE trial with the highest objective, the earliest of equals; None where none is complete."""
    complete = [t for t in trials if t.state == "COMPLETE" and t.value is not None]
    return max(complete, key=lambda t: (t.value, -t.number), default=None)


def baseline(trials: list[TrialRecord]) -> TrialRecord | None:
    """Trial 0, the stream's preset or what the sweep's base makes of it; None before it is there."""
    return next((t for t in trials if t.source != "sampler"), None)


def train_config(ledger: Ledger, trial: TrialRecord) -> TrainConfig:
    """What the trial trained, whole."""
    return ledger.config.base.replace(**trial.config)


def export(ledger: Ledger, trial: TrialRecord) -> None:
    """Writes best_config.yaml: the trial's configuration, which `dynamos --config` trains, and where it is from."""
    content: dict[str, Any] = {
        "config": train_config(ledger, trial).to_dict(),
        "provenance": {
            "sweep": ledger.config.name, "trial": trial.number, "source": trial.source, "seeds": list(trial.results),
            "protocol": PROTOCOL, "metric": OBJECTIVE, "value": trial.value, **ledger.record}}
    write_whole(ledger.folder / "best_config.yaml", yaml.safe_dump(content, sort_keys=False))
