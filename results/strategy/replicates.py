"""Replicates: which configuration gets another run."""

import math
from collections.abc import Sequence

from results.posterior import LEAST_CONFIGURATIONS, posterior
from results.strategy.seeds import fresh_seed
from results.sweep import Sweep, in_order
from results.trial import TrialRecord, newest


def quota(share: float, trials: int) -> int:
    """Return the number of replicates among so many trials."""
    return math.floor(share * trials + 1e-9)  # 0.29 * 100 is a little less than 29


def due(share: float, begun: int, replicates: int, half: int, configurations: int) -> bool:
    """True if the next trial is a replicate, so that replicates keep their share of the trials.

    None is due before LEAST_CONFIGURATIONS are complete or half of the budget has begun: until
    then, nothing tells which configurations are worth another run.

    Args:
        share: of all trials that are replicates.
        begun: number of trials so far.
        replicates: number of replicates among them.
        half: half of the budget.
        configurations: number of complete configurations.
    """
    early = configurations < LEAST_CONFIGURATIONS and begun < half
    return not early and replicates < quota(share, begun + 1)


def candidates(sweep: Sweep) -> list[TrialRecord]:
    """Return the configurations that may get further runs, the one expected to be best first.

    Each is the record of `Sweep.configurations`. Those that break a constraint are left out, and
    those of which a run was pruned or failed. The expectation is that of the model (`posterior`)
    if it is useful, else the mean over all runs.
    """
    space, places = sweep.config.space, {}
    failed = {
        space.key(t.config)
        for t in newest(sweep.records).values()
        if t.state in ("PRUNED", "FAIL") and space.whole(t.config)
    }
    open_ = [t for t in sweep.ranked if space.key(t.config) not in failed]
    found = in_order(open_, sweep.config.objectives)
    model = posterior(sweep)
    if model is not None and model.useful:
        places = {n: place for place, e in enumerate(model.estimates) for n in e.trials}
    return sorted(found, key=lambda t: places.get(t.number, len(places)))


def replicated(sweep: Sweep) -> TrialRecord | None:
    """Return the configuration that gets the next replicate; None if there is no candidate.

    It is the leader or its likeliest challenger, whichever has fewer runs, those in training
    included. The challenger has the largest probability of being the best of all others (top-two
    probability sampling, Russo 2020, Simple Bayesian Algorithms for Best-Arm Identification,
    without the coin). Without a useful model it is the second in rank.
    """
    found = candidates(sweep)
    if not found:
        return None
    leader, *others = found
    model, chances = posterior(sweep), dict[int, float]()
    if model is not None and model.useful:
        chances = {n: e.p_best for e in model.estimates for n in e.trials}
    pair = [leader, *sorted(others, key=lambda t: -chances.get(t.number, 0.0))[:1]]
    return min(pair, key=lambda t: len(seeds_of(sweep, t)))


def seeds_of(sweep: Sweep, configuration: TrialRecord) -> set[int]:
    """Return the seeds with which a configuration was or is being trained."""
    space = sweep.config.space
    key = space.key(configuration.config)
    own = [t for t in sweep.records if space.whole(t.config)]
    return {seed for t in own if space.key(t.config) == key for seed in t.results}


def next_seed(sweep: Sweep, configuration: TrialRecord, number: int) -> int:
    """Return the first seed of trial `number`, a replicate of a configuration.

    Under the policy shared, replicates of different configurations have the same seeds, too.
    """
    config = sweep.config
    if config.seed_policy == "fresh":
        return fresh_seed(config.base.seed, config.seeds, number, imported_seeds(sweep))
    used, first = seeds_of(sweep, configuration), config.base.seed
    while used & set(config.seeds_from(first)):
        first += config.seeds
    return first


def imported_seeds(sweep: Sweep) -> Sequence[int]:
    """Return the seeds of the results that another sweep gave."""
    return [seed for t in sweep.records if t.imported for seed in t.results]
