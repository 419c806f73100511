"""Probability of improvement: how often a run of a configuration beats one of the baseline."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import scipy  # imports its parts at their first use

TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Improvement:
    """P(X > Y) of a run X of a configuration and a run Y of the baseline, each with any seed."""

    value: float
    low: float  # ends of its confidence interval
    high: float
    level: float  # error of the interval

    @property
    def interval(self) -> str:
        """The interval, as text."""
        return f"{self.low:.2f} to {self.high:.2f}"

    def __str__(self) -> str:
        """The value, the interval and its confidence, as text."""
        return f"{self.value:.2f} ({100 * (1 - self.level):.4g}% interval {self.interval})"


def improvement(
    values: Sequence[float], baseline: Sequence[float], sign: int, level: float
) -> Improvement | None:
    """Return the probability of improvement over all pairs of runs, and its interval.

    The fraction of the pairs in which the value is better; equal pairs count half (Agarwal et al.
    2021, "Deep reinforcement learning at the edge of the statistical precipice", section 4.3). A
    bootstrap of few runs gives intervals that are too short, of width 0 if every run is better; so
    the interval is Newcombe's for this Mann-Whitney statistic (2006, Statistics in Medicine 25,
    pp. 559-573, method 5), which takes the runs as independent.

    Args:
        values: results of the configuration, one for each run.
        baseline: results of the baseline.
        sign: 1 if more is better, -1 if less is.
        level: error of the interval, between 0 and 1.

    Returns None if one of them has no finite result.
    """
    ours, theirs = ([sign * v for v in vs if math.isfinite(v)] for vs in (values, baseline))
    if not ours or not theirs:
        return None
    pairs = len(ours) * len(theirs)
    won = sum((a > b) + 0.5 * (a == b) for a in ours for b in theirs) / pairs
    more = (len(ours) + len(theirs)) / 2 - 1
    z = float(scipy.stats.norm.isf(level / 2))

    def outside(p: float) -> float:
        """Positive if p lies outside the interval."""
        variance = p * (1 - p) * (1 + more * ((1 - p) / (2 - p) + p / (1 + p))) / pairs
        return (won - p) ** 2 - z * z * variance

    low = scipy.optimize.brentq(outside, 0.0, won - TINY) if won > TINY else 0.0
    high = scipy.optimize.brentq(outside, won + TINY, 1.0) if won < 1 - TINY else 1.0
    return Improvement(won, float(low), float(high), level)
