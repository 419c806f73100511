"""Cautions about a sweep's answer, in sentences."""

import math
from collections.abc import Sequence
from itertools import pairwise

from dynamos.config import FIELDS
from dynamos.fields import Range
from dynamos.metrics import LAG, TaskResult
from results.choice import choice_of, tie_sentence, ties
from results.sweep import Sweep
from results.wording import count, measured, number
from search_spaces.parameter import Parameter

EDGE = 0.02  # fraction of a range's width within which a value is at the range's end
# Loeppky, Sacks, Welch 2009, "Choosing the sample size of a computer experiment": n = 10 d
TRIALS_PER_FIELD = 10
JUMP = 10.0  # points of class-il by which two readings of a jumping network differ, at least
JUMPING = 0.25  # fraction of the trials whose readings must jump for a caution


def cautions(sweep: Sweep) -> list[str]:
    """Return cautions: few trials, ties, a range's end, jumps, lag, collapse, failures."""
    config, complete = sweep.config, sweep.complete
    found = []
    fields, wanted = len(config.space.parameters), TRIALS_PER_FIELD * len(config.space.parameters)
    if len(complete) < wanted and config.sampler != "grid":
        found.append(
            f"{count(len(complete), 'completed trial')} for {count(fields, 'searched field')} "
            f"{'is' if len(complete) == 1 else 'are'} few; a rule of thumb is {wanted}, ten per "
            "field."
        )
    chosen = choice_of(sweep)
    if chosen is not None:
        if config.seeds < 2 or ties(sweep):
            found.append(tie_sentence(sweep))
        for parameter in config.space.active(chosen.config):
            side = _edge(parameter, chosen.config[parameter.name])
            if side is not None:
                found.append(
                    f"The best, trial {chosen.number}, has {parameter.name} "
                    f"{number(chosen.config[parameter.name])} at the {side} end of its range "
                    f"({parameter}): a wider range may contain a better value."
                )
    return found + _outside(sweep) + _jumps(sweep) + troubles(sweep)


def _outside(sweep: Sweep) -> list[str]:
    """Return a sentence on trials that a changed space excludes, and on the best of them."""
    objective, chosen = sweep.config.objectives[0], choice_of(sweep)
    out = [t for t in sweep.complete if t.outside and t.value is not None]
    if not out:
        return []
    best = max(out, key=lambda t: objective.sign * (t.value or 0.0))
    text = (
        f"{count(len(out), 'trial')} {'lies' if len(out) == 1 else 'lie'} outside the space, which "
        f"was changed before trial {sweep.config.space.since}, and cannot be chosen."
    )
    assert best.value is not None
    if chosen is None or chosen.value is None:
        return [text]
    if objective.sign * (best.value - chosen.value) > 0:
        text += (
            f" The best of them, trial {best.number}, has {objective.metric} "
            f"{measured(objective.metric, best.value)}, better than the best, trial "
            f"{chosen.number}: a wider range may be better."
        )
    return [text]


def troubles(sweep: Sweep) -> list[str]:
    """Return sentences on collapsed gates, lagging averages and failures."""
    found, trials, chosen = list[str](), sweep.own, choice_of(sweep)
    collapsed = [t.number for t in trials if t.warnings]
    if collapsed:
        which = (
            f", including the best, trial {chosen.number}"
            if chosen and chosen.number in collapsed
            else ""
        )
        found.append(
            f"Gates collapsed in {count(len(collapsed), 'trial')} of {len(trials)}{which}: "
            "at least one gate keeps nearly all or nearly none of its channels."
        )
    lags = sum(any(results[-1].lags for results in t.results.values()) for t in sweep.complete)
    if lags:
        found.append(
            f"The averaged network lags in {count(lags, 'trial')} of {len(sweep.complete)}: its "
            f"class-il is more than {LAG:g} points below that of the last step's network. A "
            "smaller average_decay may be better."
        )
    failed = sum(t.state == "FAIL" for t in trials)
    if failed:
        found.append(f"{count(failed, 'trial')} of {len(trials)} failed.")
    return found


def _jumps(sweep: Sweep) -> list[str]:
    """Return a caution if a network's accuracy jumps between readings, and nothing averages it."""
    config, trials = sweep.config, sweep.complete
    if config.base.average_decay or "average_decay" in [p.name for p in config.space.parameters]:
        return []
    jumping = sum(any(map(_jump, t.results.values())) for t in trials)
    if not trials or jumping < JUMPING * len(trials):
        return []
    return [
        f"In {count(jumping, 'trial')} of {len(trials)} class-il jumped by more than {JUMP:g} "
        "points between two readings, so that a single reading is partly luck. An average over "
        "steps is steadier: search the space averaged, or set average_decay, for instance to 0.9."
    ]


def _jump(results: Sequence[TaskResult]) -> bool:
    """True if class-il rose much from a task to the next, or if the readings are far apart.

    More classes make class-il smaller, so a rise means that the earlier reading was low by chance.
    """
    rises = [b.class_il - a.class_il for a, b in pairwise(results)]
    readings = results[-1].readings
    return max([*rises, max(readings) - min(readings) if readings else 0.0]) > JUMP


def _edge(parameter: Parameter, value: float) -> str | None:
    """The end of a parameter's range at which a value lies, "lower" or "upper"; else None.

    None also for choices, and if the range ends where the field ends, so that no range could be
    wider.
    """
    if parameter.choices is not None or parameter.low == parameter.high:
        return None
    assert parameter.low is not None and parameter.high is not None
    low, high, at = float(parameter.low), float(parameter.high), float(value)
    if parameter.negated:
        low, high, at = -high, -low, -at
    if parameter.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    allowed = FIELDS[parameter.name].allowed
    widest = allowed if isinstance(allowed, Range) else Range()
    place = (at - low) / (high - low)
    if parameter.negated:
        place = 1 - place
    if place <= EDGE and parameter.low > widest.low:
        return "lower"
    return "upper" if place >= 1 - EDGE and parameter.high < widest.high else None
