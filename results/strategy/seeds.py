"""Training seeds of a sweep's trials: the same for all, or fresh ones for each."""

from collections.abc import Iterable

POLICIES = ("auto", "fresh", "shared")
# Number of seeds from the base's on that belong to the search. A confirmation takes seeds beyond
# them, so an extended sweep never trains with a seed that a confirmation used.
POOL = 1_000_000
RACE_SHARE = 4  # the final race has one of so many parts of the trials, the last one


def race_size(trials: int) -> int:
    """Return the number of trials of the final race in a budget."""
    return trials // RACE_SHARE


def resolved(policy: str, paired: bool) -> str:
    """Return the policy that "auto" stands for: shared if trials are paired by seed, else fresh."""
    return policy if policy != "auto" else "shared" if paired else "fresh"


def fresh_seed(base: int, seeds: int, number: int, imported: Iterable[int] = ()) -> int:
    """Return the first of a trial's fresh seeds.

    Trial 0 begins with the base's seed, and each later one takes the next seeds. So a trial's seeds
    follow from its number alone: no crash changes them, and no two trials have the same.

    Args:
        base: the seed of the sweep's base.
        seeds: number of seeds of each trial.
        number: the trial's number.
        imported: seeds of the results that another sweep gave; trials of this one come after them.
    """
    taken = [seed - base for seed in imported if 0 <= seed - base < POOL]
    return base + seeds * (number + max((place // seeds + 1 for place in taken), default=0))
