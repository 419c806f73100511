"""Difference of two configurations over common seeds: mean, confidence interval, p-value."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

import scipy  # imports its parts at their first use

from dynamos.metrics import DECIMALS, mean
from results.analysis.multiplicity import LEVEL
from results.wording import measured

# with fewer, a t-test rests on normal differences, an assumption that the data cannot support
SEEDS_WANTED = 5
# range of a metric; the others are percents
_ALLOWED = {"keep_fraction": (0.0, 1.0), "compute": (0.0, math.inf)}


@dataclass(frozen=True, slots=True)
class Difference:
    """Paired differences of two configurations over the seeds that both trained."""

    mean: float
    spread: float | None  # their standard deviation; None with one seed
    # half the width of the confidence interval; None if no test is defined
    half_width: float | None
    # two-sided, of Student's paired t-test; None with one seed and if all differences are equal
    p_value: float | None
    n: int
    baseline: float  # mean of the baseline
    level: float = LEVEL  # error of the test and of the interval
    # the p-value after a correction for several tests, and their number
    adjusted: float | None = None
    tests: int = 1

    @property
    def could_be_chance(self) -> bool:
        """True if the interval holds zero, or no test is defined."""
        return self.p_value is None or not self.p_value < self.level

    @property
    def after_correction(self) -> float | None:
        """The p-value after the correction for several tests, if there are several."""
        return self.p_value if self.adjusted is None else self.adjusted

    @property
    def confidence(self) -> str:
        """The confidence of the interval, as text."""
        return f"{100 * (1 - self.level):.4g}%"

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Return the confidence interval, cut at the metric's range: an accuracy is at most 100 %.

        Returns None if no test is defined.
        """
        if self.half_width is None:
            return None
        least, most = _ALLOWED.get(metric, (0.0, 100.0))
        return (
            max(self.mean - self.half_width, least - self.baseline),
            min(self.mean + self.half_width, most - self.baseline),
        )

    def shown_mean(self, metric: str) -> str:
        """The signed mean, as text."""
        return _signed(metric, self.mean)

    def shown(self, metric: str) -> str:
        """The signed mean and, with several seeds, ± the standard deviation, as text."""
        return self.shown_mean(metric) + (
            "" if self.spread is None else f" ± {measured(metric, self.spread)}"
        )

    def shown_interval(self, metric: str) -> str:
        """The confidence interval, and whether it was cut, as text; "" if no test is defined."""
        if (ends := self.interval(metric)) is None or self.half_width is None:
            return ""
        cut = (
            " (limited to the range of the metric)"
            if ends[1] - ends[0] < 2 * self.half_width - 1e-9
            else ""
        )
        return " to ".join(_signed(metric, end) for end in ends) + cut

    def chance(self, metric: str) -> str:
        """Return a sentence or two that say if the difference could be chance."""
        if self.n < 2:
            return "One seed is not enough to rule out chance."
        if self.half_width is None or self.p_value is None:
            return f"All {self.n} seeds have the same difference, so no test is possible."
        corrected = (
            ""
            if self.adjusted is None
            else f"{self.adjusted:.2g} by Holm's correction for {self.tests} comparisons, "
        )
        test = (
            f"paired t-test p = {self.p_value:.2g}, {corrected}{self.confidence} interval "
            f"{self.shown_interval(metric)}, standard deviation of the differences "
            f"{measured(metric, self.spread or 0.0)}"
        )
        if self.could_be_chance:
            return f"With {self.n} seeds this could be chance ({test})."
        few = (
            f" But {self.n} seeds are few: use {SEEDS_WANTED} or more."
            if self.n < SEEDS_WANTED
            else ""
        )
        return f"This is more than chance ({test}).{few}"


def difference(
    values: Sequence[float], baseline: Sequence[float], *, level: float = LEVEL
) -> Difference | None:
    """Return the paired mean of values - baseline, with Student's confidence interval (n - 1).

    The interval holds the mean difference with probability 1 - level.

    Pairs with a number that is not finite are left out; None if no pair is left.
    """
    pairs = [
        (a, b)
        for a, b in zip(values, baseline, strict=True)
        if math.isfinite(a) and math.isfinite(b)
    ]
    if not pairs:
        return None
    # rounded, so that differences that are equal in exact arithmetic compare equal
    gains = [round(a - b, DECIMALS) for a, b in pairs]
    n, gain, with_what = len(gains), mean(gains), mean(b for _, b in pairs)
    spread = stdev(gains) if n > 1 else None
    if not spread:
        return Difference(gain, spread, None, None, n, with_what, level)
    found = scipy.stats.ttest_1samp(gains, 0)
    ends = found.confidence_interval(1 - level)
    half_width = float(ends.high - ends.low) / 2
    return Difference(gain, spread, half_width, float(found.pvalue), n, with_what, level)


def _signed(metric: str, value: float) -> str:
    return f"{'-' if value < 0 else '+'}{measured(metric, abs(value))}"
