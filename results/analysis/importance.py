"""Importance of the searched fields: the share of an objective's variance that each explains."""

from collections.abc import Sequence

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from results.analysis.fanova import Array, explained
from results.definition.objectives import Objective
from results.strategy.sampled_space import SampledSpace
from results.sweep import Sweep

RESAMPLES = 10  # of the trials, for the uncertainty of importances
TREES, RESAMPLED_TREES = 64, 16  # trees in the forest of all trials, and of a resample
MOST_TRIALS = 200  # trials in a forest, whose time grows faster than their number
LEAST_VALUES = 10  # different values; with fewer, one more trial could reverse the shares' order


def shares(sweep: Sweep) -> dict[str, tuple[float, float]] | None:
    """Return each field's share of the first objective's variance (fANOVA, Hutter et al. 2014).

    The result is {field: (share, uncertainty)}, the smallest share first. It uses the sweep's
    complete trials without imported ones, or MOST_TRIALS of them drawn at random; the uncertainty
    is the standard deviation over resamples of these with replacement. Returns None for a
    confirmation, which searches nothing, and if the objective has fewer than LEAST_VALUES values,
    if no field varies, or if fewer than two resamples have shares.
    """
    objective = sweep.config.objectives[0]
    trials = _trials(sweep, objective)
    if sweep.config.confirms is not None or len({trial.value for trial in trials}) < LEAST_VALUES:
        return None
    generator = np.random.default_rng(0)
    if len(trials) > MOST_TRIALS:
        trials = [trials[i] for i in generator.choice(len(trials), MOST_TRIALS, replace=False)]
    whole = _importances(trials, TREES)
    resamples = [
        [trials[i] for i in generator.integers(len(trials), size=len(trials))]
        for _ in range(RESAMPLES)
    ]
    found = [
        of for resample in resamples if (of := _importances(resample, RESAMPLED_TREES)) is not None
    ]
    if whole is None or len(found) < 2:
        return None
    names = {p.stored_name: p.name for p in sweep.config.space.parameters}
    return {
        names[name]: (share, float(np.std([of[name] for of in found], ddof=1)))
        for name, share in sorted(whole.items(), key=lambda item: item[1])
    }


def _trials(sweep: Sweep, objective: Objective) -> list[optuna.trial.FrozenTrial]:
    """The sweep's complete trials, without imported ones, for Optuna.

    With priors the shares are those of values drawn from them. Inactive fields have one value.
    """
    space = sweep.config.space
    sampled = SampledSpace(space, "random")
    found = []
    for trial in (t for t in sweep.own_complete if not t.outside):
        params = space.stored(trial.config)
        distributions = {n: d for n, d in space.distributions().items() if n in params}
        found.append(
            optuna.trial.create_trial(
                params=params, distributions=distributions, value=trial.final(objective.metric)
            )
        )
    return [sampled.seen(trial) for trial in found]


def _importances(trials: Sequence[optuna.trial.FrozenTrial], trees: int) -> dict[str, float] | None:
    """The importance of each field over trials; they sum to 1.

    Returns None if no field varies or no tree finds any variance.
    """
    known = {name: d for name, d in sorted(trials[0].distributions.items()) if not d.single()}
    if all(len({t.params[name] for t in trials}) == 1 for name in trials[0].params):
        return None
    columns, bounds, fields = list[Array](), list[tuple[float, float]](), list[list[int]]()
    for name, distribution in known.items():
        values = [t.params[name] for t in trials]
        first = len(columns)
        if isinstance(distribution, CategoricalDistribution):
            at = np.array([distribution.to_internal_repr(value) for value in values])
            columns += [(at == i).astype(float) for i in range(len(distribution.choices))]
            bounds += [(0.0, 1.0)] * len(distribution.choices)
        else:
            assert isinstance(distribution, FloatDistribution | IntDistribution)
            columns.append(np.array(values, dtype=float))
            bounds.append((distribution.low, distribution.high))
        fields.append([*range(first, len(columns))])
    found = explained(
        np.stack(columns, axis=1),
        np.array([t.value for t in trials]),
        np.array(bounds),
        fields,
        trees,
    )
    if found is None or not (total := found.sum()):
        return None
    alone = dict(zip(known, (found / total).tolist(), strict=True))
    return {name: alone.get(name, 0.0) for name in trials[0].params}
