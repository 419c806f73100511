"""Asynchronous successive halving by several metrics."""

from bisect import insort

import numpy as np
from numpy.typing import NDArray

from results.strategy.pruning.halving import reached
from results.strategy.pruning.measure import Measure, number
from results.strategy.rungs import REDUCTION
from results.trial import TrialRecord


class Pareto:
    """Prunes a trial if half of the trials so far are in better Pareto fronts at a rung.

    Trials are ranked by non-dominated sorting (Deb et al. 2002, NSGA-II, section III A), as in
    asynchronous successive halving with several objectives (Schmucker et al. 2021, Multi-objective
    Asynchronous Successive Halving). Those of one front are not ranked, so a front passes a rung as
    a whole. With one metric it is `Halving`, whose rungs it has. Like there, a trial is compared
    with all trials whose values were recorded earlier, in any state.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        # by task count: (recorded_at, trial number, scores of which more is better), sorted
        self._rungs: dict[int, list[tuple[float, int, tuple[float, ...]]]] = {}

    def learn(self, trial: TrialRecord) -> None:
        """Enter a trial of any state into the rungs that it has reached."""
        for tasks in reached(self._measure, trial):
            scores = self._measure.scores(trial, tasks)
            entries = self._rungs.setdefault(tasks, [])
            if scores is not None:
                entry = (trial.reported_at(tasks), trial.number, scores)
                if entry not in entries:
                    insort(entries, entry)

    def objection(self, trial: TrialRecord, tasks: int) -> str | None:
        """Return the reason to prune the trial, or None."""
        self.learn(trial)
        scores, entries = self._measure.scores(trial, tasks), self._rungs.get(tasks)
        if scores is None or entries is None:  # this task count has no rung
            return None
        entry = (trial.reported_at(tasks), trial.number, scores)
        until = [one for one in entries if one <= entry]
        fronts = front_numbers(np.array([one[2] for one in until]))
        better = int((fronts < fronts[-1]).sum())
        if better < max(len(until) // REDUCTION, 1):
            return None
        shown = ", ".join(
            f"{name} {number(value if maximize else -value)}"
            for (name, maximize), value in zip(self._measure.all, scores, strict=True)
        )
        return (
            f"pareto: {better} of the {len(until)} trials so far are in better Pareto fronts after "
            f"task {tasks} ({shown})"
        )


def front_numbers(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the Pareto front (N,), from 0, of each of N scores (N, M).

    More is better. A score dominates another if it is at least equal everywhere and better
    somewhere. Front 0 is dominated by none; front k by scores of the fronts before it only.
    """
    at_least = np.all(scores[:, None] >= scores[None], axis=2)
    dominates = at_least & ~at_least.T
    fronts = np.full(len(scores), -1)
    front = 0
    while len(left := np.flatnonzero(fronts < 0)):
        fronts[left[~dominates[np.ix_(left, left)].any(0)]] = front
        front += 1
    return fronts
