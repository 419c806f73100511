"""The final race: common fresh seeds for the best configurations, until one falls behind.

Round by round, each configuration that is left gets another run, all on the same seeds. After each
round those that are behind the leader drop out: racing, Maron and Moore 1994, as F-Race (Birattari
et al. 2002, A Racing Algorithm for Configuring Metaheuristics) and irace do it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # imports its parts at their first use
from numpy.typing import NDArray

from results.definition.sweep_config import SweepConfig
from results.trial import TrialRecord, newest, pooled

LEVEL = 0.05  # of the one-sided test that drops a configuration; irace's, too


@dataclass(frozen=True, slots=True)
class Race:
    """The last race of a sweep, as far as it has come.

    Attributes:
        first: number of its first trial; None before it begins.
        rounds: its trials by round, each trial as its last rerun.
        running: True if no trial of another kind has followed.
    """

    first: int | None
    rounds: Sequence[Sequence[TrialRecord]]
    running: bool

    @property
    def trials(self) -> int:
        """Number of its trials."""
        return sum(map(len, self.rounds))


def last_race(trials: Sequence[TrialRecord]) -> Race:
    """Return the last race among a sweep's trials."""
    own = [t for t in trials if not t.imported and t.reruns is None]
    end = next((i for i in range(len(own), 0, -1) if own[i - 1].races), 0)
    start = next((i for i in range(end, 0, -1) if not own[i - 1].races), 0)
    rounds: dict[int | None, list[TrialRecord]] = {}  # by seed
    now = newest(trials)
    for trial in own[start:end]:
        rounds.setdefault(trial.seed, []).append(now[trial.number])
    first = own[start].number if end else None
    return Race(first, list(rounds.values()), bool(end) and end == len(own))


def left(config: SweepConfig, rounds: Sequence[Sequence[TrialRecord]]) -> list[TrialRecord]:
    """Return the trials of the last whole round whose configurations are left, the best first.

    A round is whole if all its trials have ended and every configuration that was left has one.
    """
    space, found, over = config.space, list[TrialRecord](), list[Sequence[TrialRecord]]()
    for members in rounds:
        ran = {space.key(t.config): t for t in members}
        keys = [space.key(t.config) for t in found] or list(ran)
        if any(key not in ran or ran[key].ended_at is None for key in keys):
            break
        over.append(members)
        found = _survivors(config, [ran[key] for key in keys], over)
    return found


def _survivors(
    config: SweepConfig, members: Sequence[TrialRecord], rounds: Sequence[Sequence[TrialRecord]]
) -> list[TrialRecord]:
    """The members of a round that stay in the race, the best first."""
    space, objective = config.space, config.objectives[0]
    found = list[tuple[TrialRecord, list[float]]]()
    for member in (t for t in members if t.state == "COMPLETE" and not t.outside):
        key = space.key(member.config)
        whole = pooled([t for of in rounds for t in of if space.key(t.config) == key])
        if all(c.violation(whole.final(c.metric)) <= 0 for c in config.constraints):
            values = [objective.sign * value for value in whole.by_seed(objective.metric)]
            found.append((member, values))
    if not found:
        return []
    out = behind(np.array([values for _, values in found]))
    stay = [one for one, is_behind in zip(found, out, strict=True) if not is_behind]
    return [t for t, _ in sorted(stay, key=lambda one: (-np.mean(one[1]), one[0].number))]


def behind(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (K,), True for each configuration that is behind the best one.

    It is if the mean of its paired differences to the best is below zero in a one-sided t-test at
    LEVEL. The differences' variance is that of the residuals of configurations and seeds together
    (a randomised complete block design; Montgomery, Design and Analysis of Experiments, section
    4.1), so that few seeds suffice. With two configurations it is the paired t-test.

    Args:
        values: (K, N), of K configurations on N common seeds, more is better.
    """
    k, n = values.shape
    means = values.mean(1)
    gaps = means.max() - means
    if k < 2 or n < 2:
        return np.zeros(k, bool)
    residuals = values - means[:, None] - values.mean(0)[None, :] + values.mean()
    freedom = (k - 1) * (n - 1)
    error = np.sqrt(2 * (residuals**2).sum() / freedom / n)
    below: NDArray[np.bool_] = gaps > scipy.special.stdtrit(freedom, 1 - LEVEL) * error
    return below
