"""Error of several tests: of several configurations, and of several looks at one confirmation."""

from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.05  # error of all tests of a confirmation together, the usual one


def level_of(look: int | None) -> float:
    """Return the error that a look at the results of a confirmation may make.

    Half of the error that is left: LEVEL / 2**look for the looks 1, 2, ... Fixed parts of the error
    are spent by the number of the look (Slud and Wei 1982, JASA 77, pp. 862-868; a spending
    function of Lan and DeMets, 1983, Biometrika 70, pp. 659-663, would need the largest number of
    seeds in advance). The tests use each part as it is, by Bonferroni's inequality, so the error
    over all looks is at most LEVEL with few seeds, too. That holds if the numbers of seeds do not
    depend on the results; if they do, in the way that makes most errors, simulations find 4.7 %.

    Args:
        look: its number, from 1; None for a confirmation that cannot be extended.
    """
    return LEVEL if look is None else LEVEL / 2**look


@dataclass(frozen=True, slots=True)
class Corrected:
    """A p-value among several, after Holm's correction."""

    p_value: float  # adjusted; below the level of the whole family where Holm's test rejects
    # the test of this one alone rejects at the family's level over this number
    divisor: int


def holm(p_values: Sequence[float | None], level: float) -> list[Corrected]:
    """Return Holm's adjusted p-values, in the same order (Holm 1979, Scand. J. Stat. 6, 65-70).

    With probability 1 - level no true hypothesis is rejected, however the tests depend on each
    other. The smallest of m p-values is multiplied by m, the next by m - 1, ...; none is smaller
    than one before it. None, a test that could not be made, counts as 1.

    The divisors are m, m - 1, ... up to the first p-value that is not significant, and stay the
    same from there on, because Holm's procedure ends there. So an interval of confidence
    1 - level / divisor excludes zero exactly if the adjusted p-value is below the level.
    """
    known = [1.0 if p is None else p for p in p_values]
    found: dict[int, Corrected] = {}
    adjusted, divisor, rejects = 0.0, len(known), True
    for place, index in enumerate(sorted(range(len(known)), key=known.__getitem__)):
        if rejects:
            divisor = len(known) - place
        rejects = rejects and known[index] < level / divisor
        adjusted = max(adjusted, min((len(known) - place) * known[index], 1.0))
        found[index] = Corrected(adjusted, divisor)
    return [found[index] for index in range(len(known))]
