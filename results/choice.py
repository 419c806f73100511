"""Choice among the trials of a sweep. Only trials that saw every task count."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from dynamos.config import TrainConfig
from dynamos.errors import UserError, unknown
from results.definition.objectives import Constraint
from results.definition.sweep_config import SweepConfig
from results.posterior import posterior, settled
from results.sweep import Sweep
from results.trial import TrialRecord

# Rules of choice among the trials that keep every constraint. Without a useful model, `model` is
# `best`.
RULES = {
    "model": "the best value expected by a Gaussian process over the space",
    "best": "the best mean of the first objective",
    "one-se": "the least compute within one standard error of the best mean",
}
DEFAULT = "model"


@dataclass(frozen=True, slots=True)
class Choice:
    """The rule that chooses a configuration, one of RULES, and the most compute allowed."""

    rule: str = DEFAULT
    max_compute: float | None = None

    def __post_init__(self) -> None:
        """Check the values; raise UserError for one that is not allowed."""
        if self.rule not in RULES:
            raise unknown("rule", self.rule, RULES).within("`choose`")
        if self.max_compute is not None and not (
            math.isfinite(self.max_compute) and self.max_compute > 0
        ):
            raise UserError(
                f"`max_compute` {self.max_compute:g} is out of range; it must be greater than 0."
            )

    def __str__(self) -> str:
        within = (
            "" if self.max_compute is None else f", with compute of at most {self.max_compute:g}"
        )
        return RULES[self.rule] + within


def broken(config: SweepConfig, trial: TrialRecord) -> list[str]:
    """Return the constraints that a COMPLETE trial breaks, in words."""
    return broken_by(
        config.constraints, {c.metric: trial.final(c.metric) for c in config.constraints}
    )


def broken_by(constraints: Iterable[Constraint], metrics: Mapping[str, float]) -> list[str]:
    """Return the constraints that final metrics break, in words."""
    return [str(c) for c in constraints if c.violation(metrics[c.metric]) > 0]


def and_keeps(config: SweepConfig) -> str:
    """The constraints on a trial that may be chosen, as the end of a clause.

    Returns "" without constraints.
    """
    return " and keeps " + " and ".join(map(str, config.constraints)) if config.constraints else ""


def train_config(config: SweepConfig, trial: TrialRecord) -> TrainConfig:
    """Return the whole TrainConfig of the trial's first seed."""
    return config.base.replace(**trial.changes)


def reported_config(config: SweepConfig, trial: TrialRecord) -> TrainConfig:
    """Return the trial's TrainConfig on the reported stream.

    Under some protocols the reported stream is not the searched one.
    """
    return config.reported_base.replace(**trial.changes)


def chosen(sweep: Sweep, choice: Choice) -> list[TrialRecord]:
    """Return the ranked trials that the choice allows, the chosen one first, then by rank.

    Raises UserError if no trial can be chosen. "one-se" is the rule of Breiman et al. 1984, section
    3.4.3, with the expected multiply-accumulates as the size of a model; the standard error is
    of the best mean, over its seeds.
    """
    config = sweep.config
    if config.confirms is not None:
        raise UserError(
            f"{config.name!r} is a confirmation, and choosing from it would be a choice on test "
            f"images; choose from the sweep that it confirms, {config.confirms!r}."
        )
    allowed = sweep.ranked
    if not allowed:
        raise UserError(
            f"no trial of {config.name!r} has completed{and_keeps(config)}, so none can be chosen."
        )
    if choice.max_compute is not None:
        least = min(t.final("compute") for t in allowed)
        allowed = [t for t in allowed if t.final("compute") <= choice.max_compute]
        if not allowed:
            raise UserError(
                f"`max_compute` {choice.max_compute:g}: no trial of {config.name!r} has so "
                f"little compute; the least is {least:.4g}."
            )
    if choice.rule == "model":
        model = posterior(sweep)
        if model is not None and model.useful:
            rank = {n: place for place, e in enumerate(model.estimates) for n in e.trials}
            allowed = sorted(allowed, key=lambda t: rank.get(t.number, len(rank)))
    if choice.rule == "one-se":
        if config.seeds < 2:
            raise UserError(
                f"`choose` one-se needs the spread over seeds, and {config.name!r} has one seed "
                "per trial; start a sweep with `seeds` 3 or more."
            )
        objective = config.objectives[0]
        lead = allowed[0]
        error = (lead.spread(objective.metric) or 0.0) / math.sqrt(len(lead.results))
        near = [
            t
            for t in allowed
            if objective.sign * (lead.final(objective.metric) - t.final(objective.metric)) <= error
        ]
        first = min(near, key=lambda t: t.final("compute"))  # of equals, the first in rank
        allowed = [first, *(t for t in allowed if t is not first)]
    return allowed


def chosen_by(sweep: Sweep, choice: Choice) -> str:
    """Describe the rule that `chosen` follows: without a useful model, "model" is "best"."""
    model = posterior(sweep) if choice.rule == "model" else None
    if choice.rule != "model" or (model is not None and model.useful):
        return str(choice)
    why = "too few trials for a model" if model is None else "no model predicts the trials"
    return f"{replace(choice, rule='best')}; {why}"


def choice_of(sweep: Sweep) -> TrialRecord | None:
    """Return the trial that a sweep chooses by the default rule.

    While trials run it is the leader (`settled`). Returns None if no trial can be chosen, and for a
    confirmation.
    """
    return sweep.leader if settled(sweep) is None else chosen(sweep, Choice())[0]


def roles(sweep: Sweep) -> dict[str, TrialRecord]:
    """Return trials by role: best (`choice_of`), luckiest (`leader`), preset or base (trial 0).

    A trial has the first role that fits it. Returns {} if no trial can be chosen.
    """
    chosen = choice_of(sweep)
    if chosen is None:
        return {}
    found: dict[str, TrialRecord] = {}
    for name, trial in (
        ("best", chosen),
        ("luckiest", sweep.leader),
        (sweep.baseline_name, sweep.baseline),
    ):
        if trial is not None and trial.number not in [t.number for t in found.values()]:
            found[name] = trial
    return found


def ties(sweep: Sweep) -> list[TrialRecord]:
    """Return the ranked trials whose mean +- standard deviation overlaps with that of `choice_of`.

    Returns [] with one seed per trial, because the spread is then unknown.
    """
    order, metric, lead = sweep.ranked, sweep.config.objectives[0].metric, choice_of(sweep)
    if lead is None or sweep.config.seeds < 2:
        return []
    spread = {t.number: t.spread(metric) or 0.0 for t in order}
    return [
        t
        for t in order
        if t.number != lead.number
        and abs(lead.final(metric) - t.final(metric)) <= spread[lead.number] + spread[t.number]
    ]


def tie_sentence(sweep: Sweep) -> str:
    """Describe the ties of the best trial with others."""
    if sweep.config.seeds < 2:
        if any(t.replicates is not None for t in sweep.complete):
            return (
                "With few seeds each, configurations with values near the best may be equally good."
            )
        return "With one seed per trial, trials with values near the best may be equally good."
    if len(sweep.ranked) < 2:
        keeps = and_keeps(sweep.config)
        return f"No other trial has completed{keeps}, so ties are unknown."
    found = ties(sweep)
    if not found:
        return "No other trial's spread over seeds overlaps with the best trial's."
    many = "this trial ties" if len(found) == 1 else f"{len(found)} trials tie"
    return (
        f"Within their spread over seeds {many} with the best: "
        f"{', '.join(str(t.number) for t in found[:10])}{', ...' if len(found) > 10 else ''}."
    )
