"""Expected value of each configuration of a sweep, by a Gaussian process over the search space.

A sweep's best value is the luckiest of many readings. The posterior mean of a Gaussian process
shares each reading among similar configurations, so a single lucky one counts less (Rasmussen and
Williams 2006, Gaussian Processes for Machine Learning, section 2.2).
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.gaussian_process import Array, conditional, coordinates, winsorised
from results.sweep import Sweep
from results.trial import TrialRecord

LEAST_CONFIGURATIONS = 8  # a model of fewer says nothing
MOST_RUNS = 150  # the time of a model grows with the cube of their number
DRAWS = 4000  # from the posterior, each of all configurations together, to estimate p_best
LEAST_EXPLAINED = 0.3  # of the variance; of pure noise, models seem to explain up to this much
# Lower bound of the noise's variance, as a fraction of the variance of all runs. Without it, a
# model of few trials takes noise for signal. Measured between seeds, the fraction was 0.05 or more.
LEAST_NOISE = 0.05
RESTARTS = 2  # of the search for the model's parameters


@dataclass(frozen=True, slots=True)
class Estimate:
    """A model's expectation for one configuration."""

    trials: tuple[int, ...]  # numbers of its COMPLETE trials
    observed: float  # mean over its runs
    runs: int  # seeds, over all its trials
    expected: float  # posterior mean
    sd: float  # standard deviation of the posterior
    p_best: float  # probability that it is the best of the configurations that may be chosen


@dataclass(frozen=True, slots=True)
class Fit:
    """A model at its points: lists by point, in the unit of the values."""

    means: list[float]
    sds: list[float]
    shares: list[float]  # of joint draws, in which the point is the best
    explained: float  # as in Posterior
    noise: float | None


@dataclass(frozen=True, slots=True)
class Posterior:
    """A model of a sweep's first objective.

    Attributes:
        estimates: of every configuration that may be chosen, the best expectation first.
        explained: share of the variance between configurations that the model predicts when it
            does not see the configuration itself (leave-one-out).
        noise: standard deviation of a run around its configuration; None if the runs show no more
            than the least that the model takes for granted.
    """

    estimates: Sequence[Estimate]
    explained: float
    noise: float | None

    @property
    def useful(self) -> bool:
        """True if the model predicts configurations that it does not see."""
        return self.explained >= LEAST_EXPLAINED

    def of(self, trial: TrialRecord) -> Estimate | None:
        """Return the estimate of a trial's configuration; None if it may not be chosen."""
        return next((e for e in self.estimates if trial.number in e.trials), None)


def posterior(sweep: Sweep) -> Posterior | None:
    """Return the model of a sweep's first objective.

    Returns None with fewer than LEAST_CONFIGURATIONS complete configurations, or if all have the
    same value. Trials that break a constraint are used but have no estimate. Of more than
    MOST_RUNS runs, the model uses those of the best configurations, first of those that may be
    chosen.
    """
    space, objective = sweep.config.space, sweep.config.objectives[0]
    groups: dict[tuple[Any, ...], list[TrialRecord]] = {}
    for trial in sweep.complete:
        groups.setdefault(space.key(trial.config), []).append(trial)
    runs = [
        [objective.sign * v for trial in trials for v in trial.by_seed(objective.metric)]
        for trials in groups.values()
    ]
    configurations = [
        (np.mean(values), trials, tuple(values))
        for trials, values in zip(groups.values(), runs, strict=True)
    ]
    ranked = {trial.number for trial in sweep.ranked}

    def may_be_chosen(trials: Sequence[TrialRecord]) -> bool:
        return any(trial.number in ranked for trial in trials)

    configurations.sort(key=lambda c: (not may_be_chosen(c[1]), -c[0], c[1][0].number))
    used = int(np.searchsorted(np.cumsum([len(c[2]) for c in configurations]), MOST_RUNS, "right"))
    configurations = configurations[:used]
    if used < LEAST_CONFIGURATIONS or len({v for c in configurations for v in c[2]}) == 1:
        return None
    points = tuple(tuple(coordinates(space, c[1][0].config)) for c in configurations)
    eligible = tuple(may_be_chosen(c[1]) for c in configurations)
    model = fitted(points, tuple(c[2] for c in configurations), eligible)
    found = [
        Estimate(
            tuple(trial.number for trial in trials),
            objective.sign * float(observed),
            len(values),
            objective.sign * model.means[i],
            model.sds[i],
            model.shares[i],
        )
        for i, (observed, trials, values) in enumerate(configurations)
        if eligible[i]
    ]
    found.sort(key=lambda e: (-objective.sign * e.expected, e.trials[0]))
    return Posterior(found, model.explained, model.noise)


def settled(sweep: Sweep) -> Posterior | None:
    """Return the model of a sweep in which no trial runs, useful or not.

    Returns None while trials run, because a new model after each result would take too long.
    """
    if sweep.leader is None or any(trial.state == "RUNNING" for trial in sweep.own):
        return None
    return posterior(sweep)


def estimate(sweep: Sweep, trial: TrialRecord) -> Estimate | None:
    """Return the expectation for a trial by `settled`; None without a useful model."""
    model = settled(sweep)
    return model.of(trial) if model is not None and model.useful else None


@lru_cache(maxsize=32)  # a page asks again and again
def fitted(
    points: tuple[tuple[float, ...], ...],
    runs: tuple[tuple[float, ...], ...],
    eligible: tuple[bool, ...],
) -> Fit:
    """Return the model of points, of which larger values are better.

    Args:
        points: coordinates of each point.
        runs: values at each point.
        eligible: whether a point may be the best.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    at = np.repeat(np.arange(len(points)), [len(values) for values in runs])
    x, y = np.array(points), winsorised(np.concatenate([np.array(v) for v in runs]))
    centre, scale = y.mean(), y.std() or 1.0
    size = x.shape[1]
    kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern(
        np.ones(size), [(0.1, 10.0)] * size, nu=2.5
    ) + WhiteKernel(0.1, (LEAST_NOISE, 2.0))
    model = GaussianProcessRegressor(kernel, n_restarts_optimizer=RESTARTS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is no fault
        model.fit(x[at], (y - centre) / scale)
    signal, noise = model.kernel_.k1, model.kernel_.k2.noise_level
    means, covariance = conditional(signal(x), at, (y - centre) / scale, noise)
    explained = _explained(signal(x), at, (y - centre) / scale, noise)
    draws = np.random.default_rng(0).multivariate_normal(means, covariance, DRAWS, method="eigh")
    draws[:, ~np.array(eligible)] = -np.inf
    best = np.bincount(draws.argmax(1), minlength=len(points)) / DRAWS
    sds = scale * np.sqrt(np.maximum(np.diag(covariance), 0))
    return Fit(
        (centre + scale * means).tolist(),
        sds.tolist(),
        best.tolist(),
        explained,
        float(scale * math.sqrt(noise)) if noise > 1.01 * LEAST_NOISE else None,
    )


def _explained(signal: Array, at: NDArray[np.intp], values: Array, noise: float) -> float:
    """Share of the variance between points that the model predicts without the point's values.

    Leave-one-out by equation 5.12 of Rasmussen and Williams 2006, for all values of a point
    together.
    """
    inverse = np.linalg.inv(signal[np.ix_(at, at)] + noise * np.eye(len(at)))
    pull = inverse @ values
    error = spread = 0.0
    for point in range(len(signal)):
        own = np.flatnonzero(at == point)
        predicted = values[own] - np.linalg.solve(inverse[np.ix_(own, own)], pull[own])
        observed = values[own].mean()
        error += len(own) * (observed - predicted[0]) ** 2
        spread += len(own) * observed**2
    return 1 - error / spread if spread else 0.0
