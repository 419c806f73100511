"""Power of a confirmation's paired t-test: the differences that its seeds can tell apart."""

import math
from statistics import fmean

import scipy  # imports its parts at their first use

from dynamos.metrics import PREFIXES
from results.analysis.multiplicity import LEVEL
from results.posterior import posterior
from results.sweep import Sweep
from results.wording import count, measured

POWER = 0.8  # probability of finding a difference, the usual one (Cohen 1988, section 2.4)
LIKE_THE_BEST = 10  # trials at the top of the ranking; their spread stands for the choice's
MOST_SEEDS = 1000


def power(effect: float, seeds: int, level: float = LEVEL) -> float:
    """Return the probability that a two-sided paired t-test finds a difference.

    By the noncentral t distribution (Cohen 1988, Statistical Power Analysis, chapter 2).

    Args:
        effect: the mean difference, divided by the standard deviation of the differences.
        seeds: number of pairs, at least 2.
        level: error of the test.
    """
    critical = float(scipy.stats.t.isf(level / 2, seeds - 1))
    shift = effect * math.sqrt(seeds)
    # a difference of the other sign
    wrong = float(scipy.stats.nct.cdf(-critical, seeds - 1, shift))
    if math.isnan(wrong):  # scipy's answer at some points far in the tail
        wrong = 0.0
    return float(scipy.stats.nct.sf(critical, seeds - 1, shift)) + wrong


def detectable(spread: float, seeds: int, level: float = LEVEL) -> float:
    """Return the difference that a test finds with probability POWER.

    `spread` is the standard deviation of the differences, in the unit of the result.
    """
    enough = 1.0
    while power(enough, seeds, level) < POWER:
        enough *= 2
    effect = scipy.optimize.brentq(lambda e: power(e, seeds, level) - POWER, 0.0, enough)
    return float(effect) * spread


def seeds_for(difference: float, spread: float, level: float = LEVEL) -> int | None:
    """Return the fewest seeds that find a difference with probability POWER.

    Returns None if they are more than MOST_SEEDS.
    """
    return next(
        (n for n in range(2, MOST_SEEDS + 1) if power(difference / spread, n, level) >= POWER), None
    )


def plan(sweep: Sweep, seeds: int, level: float = LEVEL) -> str:
    """Describe the differences that a confirmation with so many seeds can tell apart.

    `level` is the error of its strictest test.

    The spread over seeds is that of the best trials, in the metric that the confirmation tests,
    which may differ from the first objective. With one seed per trial it is the noise that the
    model of the first objective finds (results/posterior.py). "" if neither is known. The
    differences of two configurations are taken as independent, so their variance is twice that of
    one.
    """
    config, sought = sweep.config, sweep.config.objectives[0]
    metric = sought.confirmed.metric.replace(PREFIXES["test"], config.accuracy_prefix)
    if metric != sought.metric and config.protocol == "val-current":
        return ""  # this protocol does not look at earlier tasks
    known = [
        (s * s, len(t.results) - 1)  # with replicates, trials differ in their number of seeds
        for t in sweep.ranked[:LIKE_THE_BEST]
        if (s := t.spread(metric)) is not None
    ]
    one, source = 0.0, "of the best trials"
    if known:
        variances, freedoms = zip(*known, strict=True)
        one = math.sqrt(fmean(variances, freedoms))
    if not known and metric == sought.metric:
        model = posterior(sweep)
        if model is not None and model.useful:
            one, source = model.noise or 0.0, "that a model of all trials finds"
    if not one:
        return ""
    about = f"The standard deviation over seeds {source} is {measured(metric, one)}."
    if seeds < 2:
        return f"{about} One seed can tell no difference from chance."
    found = detectable(math.sqrt(2) * one, seeds, level)
    half = seeds_for(found / 2, math.sqrt(2) * one, level)
    more = "" if half is None else f" For half of that, take {count(half, 'seed')}."
    return (
        f"{about} With it, {count(seeds, 'seed')} find a difference of {measured(metric, found)} "
        f"with a probability of {POWER:.0%} at an error of {100 * level:.3g}%.{more}"
    )
