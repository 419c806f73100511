"""Health checks of a search's answer: is it the best, and can it be told from the others?"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dynamos.config import FIELDS
from dynamos.fields import Range
from results.analysis.health.finding import Finding
from results.choice import choice_of, tie_sentence, ties
from results.gaussian_process import winsorised
from results.posterior import LEAST_CONFIGURATIONS, settled
from results.strategy.stopping import TRIALS_PER_FIELD, advice
from results.sweep import Sweep
from results.wording import count, measured, number
from search_spaces.parameter import Parameter

EDGE = 0.02  # fraction of a range's width within which a value is at the range's end
LEAST_FREEDOM = 8  # degrees of freedom from which a standard deviation over seeds is used


def little_left(sweep: Sweep) -> Iterator[Finding]:
    """Yield a finding if a model expects next to nothing from the rest of the space."""
    text = advice(sweep)
    if text is not None:
        yield Finding(
            f"Little is left to gain: {text}.",
            "Stop the sweep if it runs (stop), and confirm the best (confirm).",
        )


def few_trials(sweep: Sweep) -> Iterator[Finding]:
    """Yield a finding if fewer trials than ten per searched field are complete."""
    done, fields = len(sweep.complete), len(sweep.config.space.parameters)
    wanted = TRIALS_PER_FIELD * fields
    if done < wanted and sweep.config.sampler != "grid":
        yield Finding(
            f"{count(done, 'completed trial')} for {count(fields, 'searched field')} "
            f"{'is' if done == 1 else 'are'} few; a rule of thumb is {wanted}, ten per field.",
            f"Extend the sweep with `trials` +{wanted - done}.",
        )


def ties_with_the_best(sweep: Sweep) -> Iterator[Finding]:
    """Yield a finding if other trials may be as good as the best."""
    if choice_of(sweep) is not None and (sweep.config.seeds < 2 or ties(sweep)):
        yield Finding(tie_sentence(sweep), "Confirm several of them on fresh seeds, `top` 3.")


def unexplained(sweep: Sweep) -> Iterator[Finding]:
    """Yield a finding if the model of the space predicts nothing."""
    model = settled(sweep)
    if model is not None and not model.useful:
        yield Finding(
            "A model of the space does not predict the trials (it explains "
            f"{max(model.explained, 0):.0%} of their variance), so values near the best cannot be "
            "told apart.",
            "Run the best again on more seeds (`replicates`, `race`), or search a wider `space`.",
        )


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviations of an objective: of a run, and between configurations without noise."""

    noise: float
    between: float


def noisy(sweep: Sweep) -> Iterator[Finding]:
    """Yield a finding if a run's noise is larger than the differences between configurations."""
    metric, found = sweep.config.objectives[0].metric, spread_of(sweep)
    if found is not None and found.noise > found.between:
        yield Finding(
            f"Noise is larger than the differences: the standard deviation of {metric} is "
            f"{measured(metric, found.noise)} between runs of a configuration and "
            f"{measured(metric, found.between)} between configurations.",
            "Give each trial more `seeds`, search average_decay, or search a wider `space`.",
        )


def spread_of(sweep: Sweep) -> Spread | None:
    """Return the spread over runs and over configurations; None if one of them is unknown.

    If configurations have several runs it is that of `components`, else that of a useful model.
    """
    objective = sweep.config.objectives[0]
    runs = [
        [objective.sign * value for value in t.by_seed(objective.metric)]
        for t in sweep.configurations
        if not t.outside
    ]
    if len(runs) < LEAST_CONFIGURATIONS:
        return None
    if sum(map(len, runs)) - len(runs) >= LEAST_FREEDOM:
        return components(runs)
    model = settled(sweep)
    if model is None or not model.useful or model.noise is None:
        return None
    return Spread(model.noise, float(np.std([e.expected for e in model.estimates])))


def components(runs: Sequence[Sequence[float]]) -> Spread:
    """Return the components of variance of values by configuration, some with several.

    One-way analysis of variance, by moments: with K configurations of n_i values, N in total, the
    noise's variance is MSW, and that between configurations is (MSB - MSW) / n0 or 0, n0 = (N - sum
    of n_i^2 / N) / (K - 1) (Searle, Casella and McCulloch 1992, Variance Components, section 3.6).
    Values far below the others are raised (`winsorised`), so that a few collapsed runs do not
    decide.
    """
    sizes = np.array([len(values) for values in runs])
    at = np.repeat(np.arange(len(runs)), sizes)
    values = winsorised(np.concatenate([np.asarray(of, float) for of in runs]))
    total, means = len(values), np.bincount(at, values) / sizes
    within = float(((values - means[at]) ** 2).sum() / (total - len(runs)))
    across = float((sizes * (means - values.mean()) ** 2).sum() / (len(runs) - 1))
    each = float((total - (sizes**2).sum() / total) / (len(runs) - 1))
    return Spread(math.sqrt(within), math.sqrt(max(across - within, 0.0) / each))


def range_ends(sweep: Sweep) -> Iterator[Finding]:
    """Yield a finding for each field of the best trial at the end of its range."""
    chosen = choice_of(sweep)
    for parameter in () if chosen is None else sweep.config.space.active(chosen.config):
        assert chosen is not None
        side = _edge(parameter, chosen.config[parameter.name])
        if side is not None:
            yield Finding(
                f"The best, trial {chosen.number}, has {parameter.name} "
                f"{number(chosen.config[parameter.name])} at the {side} end of its range "
                f"({parameter}): a wider range may contain a better value.",
                "Extend the sweep with a wider `space`.",
            )


def outside(sweep: Sweep) -> Iterator[Finding]:
    """Yield a finding on trials that a changed space excludes, and on the best of them."""
    objective, chosen = sweep.config.objectives[0], choice_of(sweep)
    out = [t for t in sweep.complete if t.outside and t.value is not None]
    if not out:
        return
    best = max(out, key=lambda t: objective.sign * (t.value or 0.0))
    text = (
        f"{count(len(out), 'trial')} {'lies' if len(out) == 1 else 'lie'} outside the space, which "
        f"was changed before trial {sweep.config.space.since}, and cannot be chosen."
    )
    assert best.value is not None
    if (
        chosen is not None
        and chosen.value is not None
        and objective.sign * (best.value - chosen.value) > 0
    ):
        yield Finding(
            f"{text} The best of them, trial {best.number}, has {objective.metric} "
            f"{measured(objective.metric, best.value)}, better than the best, trial "
            f"{chosen.number}: a wider range may be better.",
            "Extend the sweep with a wider `space`.",
        )
    else:
        yield Finding(text, "Nothing: none of them is better than the best.")


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
    about = FIELDS.get(parameter.name)  # a hyperparameter of a method has no range
    allowed = None if about is None else about.allowed
    widest = allowed if isinstance(allowed, Range) else Range()
    place = (at - low) / (high - low)
    if parameter.negated:
        place = 1 - place
    if place <= EDGE and parameter.low > widest.low:
        return "lower"
    return "upper" if place >= 1 - EDGE and parameter.high < widest.high else None
