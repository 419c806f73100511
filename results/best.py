"""Choosing among the trials of a sweep, and exporting the choice. Only trials that saw every task are looked at."""

from typing import TYPE_CHECKING, Any

import yaml

from dynamos.config import TrainConfig
from dynamos.files import write_whole
from results.sweep_config import PROTOCOL, SweepConfig
from results.trial import TrialRecord

if TYPE_CHECKING:
    from results.ledger import Ledger


def ranked(trials: list[TrialRecord], config: SweepConfig) -> list[TrialRecord]:
    """The sweep's own COMPLETE trials that keep every constraint, the best first.

    The first objective decides, between equals the next one, then age: so the first is in the Pareto set.
    """
    finished = [t for t in trials if t.value is not None and t.feasible and not t.imported]
    return sorted(finished, key=lambda t: (*(-o.sign * t.final(o.metric) for o in config.objectives), t.number))


def best(trials: list[TrialRecord], config: SweepConfig) -> TrialRecord | None:
    """The first of `ranked`; None where none is."""
    return next(iter(ranked(trials, config)), None)


def pareto(trials: list[TrialRecord], config: SweepConfig) -> list[TrialRecord]:
    """The trials of `ranked` that no other one equals or beats in every objective and beats in one."""
    scored = [([o.sign * t.final(o.metric) for o in config.objectives], t) for t in ranked(trials, config)]

    def beaten(scores: list[float]) -> bool:
        return any(other != scores and all(a >= b for a, b in zip(other, scores, strict=True)) for other, _ in scored)

    return [t for scores, t in scored if not beaten(scores)]


def baseline(trials: list[TrialRecord]) -> TrialRecord | None:
    """Trial 0, the stream's preset or what the sweep's base makes of it; None before it is there."""
    return next((t for t in trials if t.source in ("preset", "base")), None)


def broken(config: SweepConfig, trial: TrialRecord) -> list[str]:
    """The constraints that a COMPLETE trial breaks."""
    return [str(c) for c in config.constraints if c.violation(trial.final(c.metric)) > 0]


def train_config(config: SweepConfig, trial: TrialRecord) -> TrainConfig:
    """What the trial trained with the first of its seeds, whole."""
    return config.base.replace(**trial.config)


def export(ledger: "Ledger", trial: TrialRecord) -> None:
    """Writes best_config.yaml: the trial's configuration, which `dynamos --config` trains, and where it is from."""
    config = ledger.config
    content: dict[str, Any] = {
        "config": train_config(config, trial).to_dict(),
        "provenance": {
            "sweep": config.name, "trial": trial.number, "source": trial.source, "seeds": list(trial.results),
            "protocol": PROTOCOL, "metric": config.objectives[0].metric, "value": trial.value,
            "constraints": [str(c) for c in config.constraints], **ledger.record}}
    write_whole(ledger.folder / "best_config.yaml", yaml.safe_dump(content, sort_keys=False))
