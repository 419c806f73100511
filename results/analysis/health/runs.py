"""Health checks of a sweep's runs: collapse, jumping accuracies, lagging averages, failures."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from dynamos.metrics import LAG, TaskResult
from dynamos.streams.classes import count_shown_classes
from results.analysis.health.finding import Finding
from results.choice import choice_of
from results.names import NON_FINITE
from results.sweep import Sweep
from results.trial import TrialRecord
from results.wording import count, number
from search_spaces.parameter import Parameter

JUMP = 10.0  # points of class-il by which two readings of a jumping network differ, at least
JUMPING = 0.25  # fraction of the trials whose readings must jump for a finding
NEAR_CHANCE = 1.5  # a class-il of at most so many times that of a guess is at chance
COLLAPSED = 0.25  # fraction of the trials that must collapse for a finding
LEAST_COLLAPSED = 3  # trials
# Probability that a collapsed trial has the larger value of a field than another one: a field
# beyond it explains the collapse.
SEPARATED = 0.8


def jumps(sweep: Sweep) -> Iterator[Finding]:
    """Yield a finding if accuracies jump between readings, and nothing averages the networks."""
    config, trials = sweep.config, sweep.complete
    if config.base.average_decay or "average_decay" in [p.name for p in config.space.parameters]:
        return
    jumping = sum(any(map(_jump, t.results.values())) for t in trials)
    if trials and jumping >= JUMPING * len(trials):
        yield Finding(
            f"In {count(jumping, 'trial')} of {len(trials)} class-il jumped by more than {JUMP:g} "
            "points between two readings, so that a single reading is partly luck. An average "
            "over steps is steadier.",
            "Search the `space` averaged, or set average_decay, for instance to 0.9.",
        )


def _jump(results: Sequence[TaskResult]) -> bool:
    """True if class-il rose much from a task to the next, or if the readings are far apart.

    More classes make class-il smaller, so a rise means that the earlier reading was low by chance.
    """
    rises = [b.class_il - a.class_il for a, b in pairwise(results)]
    readings = results[-1].readings
    return max([*rises, max(readings) - min(readings) if readings else 0.0]) > JUMP


def collapse(sweep: Sweep) -> Iterator[Finding]:
    """Yield a finding if many trials diverged or learned no more than to guess."""
    config = sweep.config
    trials = [t for t in sweep.own if t.state == "COMPLETE" or _diverged(t)]
    bar = NEAR_CHANCE * chance(sweep)
    bad = [t for t in trials if _diverged(t) or t.final(f"{config.accuracy_prefix}class_il") <= bar]
    if len(bad) < max(LEAST_COLLAPSED, COLLAPSED * len(trials)):
        return
    diverged = sum(map(_diverged, bad))
    yield Finding(
        f"{count(len(bad), 'trial')} of {len(trials)} collapsed: {diverged} diverged, "
        f"{len(bad) - diverged} ended near chance (class-il of at most {bar:g}).",
        _away(sweep, bad, [t for t in trials if t not in bad]),
    )


def chance(sweep: Sweep) -> float:
    """Return the class-il of a guess, in percent: the classes of the stream are equally likely."""
    # the record of a user's stream has it, so that reading a sweep runs no code of a user
    return 100 / (sweep.record.get("classes") or count_shown_classes(sweep.config.base))


def _diverged(trial: TrialRecord) -> bool:
    return (trial.reason or "").startswith(NON_FINITE)


def _away(sweep: Sweep, bad: Sequence[TrialRecord], good: Sequence[TrialRecord]) -> str:
    """The next step after a collapse: the field that separates the trials, if one does."""
    found = list[tuple[float, Parameter]]()
    for parameter in sweep.config.space.parameters:
        here, there = (
            np.array([float(t.config[parameter.name]) for t in of if parameter.name in t.config])
            for of in ((bad, good) if parameter.choices is None else ((), ()))
        )
        if len(here) and len(there):
            larger = here[:, None] - there[None, :]
            found.append((float((larger > 0).mean() + (larger == 0).mean() / 2), parameter))
    clear = [f for f in found if max(f[0], 1 - f[0]) >= SEPARATED]
    if not clear:
        return "Read the log of one of them (logs), and search a narrower `space`."
    share, parameter = max(clear, key=lambda f: abs(f[0] - 0.5))
    values = sorted(float(t.config[parameter.name]) for t in bad if parameter.name in t.config)
    where, middle, side = "smaller", values[len(values) // 2], "more"
    if share < 0.5:
        where, middle, side = "larger", values[(len(values) - 1) // 2], "less"
    return (
        f"Search {where} values of {parameter.name}: half of the collapsed trials have "
        f"{number(middle)} or {side}."
    )


def collapsed_gates(sweep: Sweep) -> Iterator[Finding]:
    """Yield a finding on trials whose gates collapsed."""
    trials, chosen = sweep.own, choice_of(sweep)
    collapsed = [t.number for t in trials if t.warnings]
    if collapsed:
        which = (
            f", including the best, trial {chosen.number}"
            if chosen and chosen.number in collapsed
            else ""
        )
        yield Finding(
            f"Gates collapsed in {count(len(collapsed), 'trial')} of {len(trials)}{which}: "
            "at least one gate keeps nearly all or nearly none of its channels.",
            "Compare the channels kept in the report before you use such a trial.",
        )


def lagging_averages(sweep: Sweep) -> Iterator[Finding]:
    """Yield a finding on averaged networks that are worse than those of the last step."""
    lags = sum(any(results[-1].lags for results in t.results.values()) for t in sweep.complete)
    if lags:
        yield Finding(
            f"The averaged network lags in {count(lags, 'trial')} of {len(sweep.complete)}: its "
            f"class-il is more than {LAG:g} points below that of the last step's network.",
            "Take a smaller average_decay.",
        )


def failures(sweep: Sweep) -> Iterator[Finding]:
    """Yield a finding on trials that failed."""
    failed = [t.number for t in sweep.own if t.state == "FAIL"]
    if failed:
        yield Finding(
            f"{count(len(failed), 'trial')} of {len(sweep.own)} failed.",
            f"Read the log of trial {failed[0]} (logs), then run it again (rerun).",
        )
