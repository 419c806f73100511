"""Limits that outlast a session: a sweep that has reached one continues only with another value."""

from collections.abc import Callable

from results.definition.sweep_config import SweepConfig
from results.ledger.ledger import Ledger
from results.strategy.race import last_race
from results.strategy.stopping import gain, judged_at, sentence
from results.sweep import Sweep


def reached(ledger: Ledger) -> dict[str, str]:
    """The limits that a sweep has reached, in words, by the field that changes them."""
    return spent(ledger.config, ledger.spent) | on_target(Sweep.of(ledger))


def spent(config: SweepConfig, seconds: Callable[[str], float]) -> dict[str, str]:
    """The budgets that are spent, by field.

    `seconds` gives the seconds of "cpu" and "gpu" held so far.
    """
    budgets = {"cpu": config.cpu_budget_seconds, "gpu": config.gpu_budget_seconds}
    return {
        f"{kind}_budget_seconds": f"the {kind.upper()} budget is spent"
        for kind, budget in budgets.items()
        if budget is not None and seconds(kind) >= budget
    }


def finished(sweep: Sweep) -> str | None:
    """The reason why little is left to gain, if the number of complete trials is one to judge it.

    A race is no search, so it is not judged.
    """
    trials = len(sweep.complete)
    if (
        trials != judged_at(trials, len(sweep.config.space.parameters))
        or last_race(sweep.records).first is not None
    ):
        return None
    found = gain(sweep)
    return f"the search ended: {sentence(sweep, found)}" if found and found.negligible else None


def on_target(sweep: Sweep) -> dict[str, str]:
    """The target, by its field, if the best trial has reached it."""
    config, chosen = sweep.config, sweep.leader
    objective = config.objectives[0]
    if config.target is None or chosen is None:
        return {}
    value = chosen.final(objective.metric)
    if objective.sign * (value - config.target) < 0:
        return {}
    return {"target": f"trial {chosen.number} reached the target with {objective.metric} {value:g}"}
