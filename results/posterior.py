"""Expected value of each configuration of a sweep, by a Gaussian process over the search space.

A sweep's best value is the luckiest of many readings. The posterior mean of a Gaussian process
shares each reading among similar configurations, so a single lucky one counts less (Rasmussen and
Williams 2006, Gaussian Processes for Machine Learning, section 2.2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.gaussian_process import (
    PRIORS,
    Array,
    GaussianProcess,
    Noise,
    conditional,
    coordinates,
    left_out,
    one_thread,
    winsorised,
)
from results.sweep import Sweep
from results.trial import TrialRecord

LEAST_CONFIGURATIONS = 8  # a model of fewer says nothing
MOST_RUNS = 150  # the time of a model grows with the cube of their number
DRAWS = 2000  # of all configurations together, from each process, to estimate p_best
LEAST_EXPLAINED = 0.3  # of the variance; of pure noise, models seem to explain up to this much
# Without the lower bound, a model of few trials takes noise for signal. Measured between seeds, the
# share was 0.05 or more.
NOISE = Noise(mean=-2.0, least=0.05)


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


@dataclass(frozen=True, slots=True)
class Data:
    """Configurations and values to which the model of a sweep is fitted.

    Attributes:
        trials: the COMPLETE trials of each.
        points: coordinates of each.
        runs: values of each; larger is better.
        eligible: for each, True if it may be chosen.
    """

    trials: list[list[TrialRecord]]
    points: tuple[tuple[float, ...], ...]
    runs: tuple[tuple[float, ...], ...]
    eligible: tuple[bool, ...]


def posterior(sweep: Sweep) -> Posterior | None:
    """Return the model of a sweep's first objective.

    Returns None with fewer than LEAST_CONFIGURATIONS complete configurations, or if all have the
    same value. Trials that break a constraint are used but have no estimate. Of more than
    MOST_RUNS runs, the model uses those of the best configurations, first of those that may be
    chosen.
    """
    sign, data = sweep.config.objectives[0].sign, data_of(sweep)
    if data is None:
        return None
    model = fitted(data.points, data.runs, data.eligible)
    found = [
        Estimate(
            tuple(trial.number for trial in data.trials[i]),
            sign * float(np.mean(values)),
            len(values),
            sign * model.means[i],
            model.sds[i],
            model.shares[i],
        )
        for i, values in enumerate(data.runs)
        if data.eligible[i]
    ]
    found.sort(key=lambda e: (-sign * e.expected, e.trials[0]))
    return Posterior(found, model.explained, model.noise)


def data_of(sweep: Sweep) -> Data | None:
    """Return the configurations and runs that `posterior` models; None if they are too few."""
    space, objective = sweep.config.space, sweep.config.objectives[0]
    groups: dict[tuple[Any, ...], list[TrialRecord]] = {}
    for trial in (t for t in sweep.complete if not t.outside):
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
    return Data(
        [c[1] for c in configurations],
        tuple(tuple(coordinates(space, c[1][0].config)) for c in configurations),
        tuple(c[2] for c in configurations),
        tuple(may_be_chosen(c[1]) for c in configurations),
    )


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
def processes(
    points: tuple[tuple[float, ...], ...],
    runs: tuple[tuple[float, ...], ...],
    noise: Noise = NOISE,
) -> list[GaussianProcess]:
    """Return the Gaussian processes that `fitted` mixes, one for each prior."""
    at = np.repeat(np.arange(len(points)), [len(values) for values in runs])
    x, y = np.array(points), winsorised(np.concatenate([np.array(v) for v in runs]))
    # One alone is surer than it should be, and chooses worse: benchmarks/RESULTS.md.
    return [GaussianProcess(x[at], y, prior, noise) for prior in PRIORS]


@lru_cache(maxsize=32)
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
    at = np.repeat(np.arange(len(points)), [len(values) for values in runs])
    x, models = np.array(points), processes(points, runs)
    draws = np.random.default_rng(0)
    means, variances, drawn, unseen = [], [], [], []
    with one_thread():
        for model in models:
            signal = model.signal(x)
            mean, covariance = conditional(signal, at, model.y, model.noise)
            means.append(mean)
            variances.append(np.maximum(np.diag(covariance), 0))
            drawn.append(draws.multivariate_normal(mean, covariance, DRAWS, method="eigh"))
            unseen.append(left_out(signal, at, model.y, model.noise))
    # The draws are from the mixture of the models; so are its mean and its variance.
    every = np.concatenate(drawn)
    every[:, ~np.array(eligible)] = -np.inf
    best = np.bincount(every.argmax(1), minlength=len(points)) / len(every)
    variance = np.mean(variances, axis=0) + np.var(means, axis=0)
    unit = models[0]  # all have the same
    return Fit(
        unit.restored(np.mean(means, axis=0)).tolist(),
        (unit.scale * np.sqrt(variance)).tolist(),
        best.tolist(),
        _explained(np.mean(unseen, axis=0), at, unit.y),
        noise_of(models, NOISE),
    )


def noise_of(models: Sequence[GaussianProcess], prior: Noise) -> float | None:
    """Return the standard deviation of a run by a mixture; None if it is at its lower bound."""
    noise = np.array([model.noise for model in models])
    if noise.min() <= 1.01 * prior.least:
        return None
    return float(models[0].scale * math.sqrt(noise.mean()))


def _explained(predicted: Array, at: NDArray[np.intp], values: Array) -> float:
    """Share of the variance between points that predictions (N,) explain."""
    each = np.bincount(at)
    observed = np.bincount(at, values) / each
    error, spread = each @ (observed - predicted) ** 2, each @ observed**2
    return 1 - float(error / spread) if spread else 0.0
