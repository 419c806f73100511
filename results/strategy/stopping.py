"""Advice to stop a search: whether its space may still give more than a confirmation can tell."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import scipy  # imports its parts at their first use

from results.definition.defaults import CONFIRMATION_SEEDS
from results.gaussian_process import JITTER, Array, Noise, coordinates
from results.posterior import data_of, noise_of, posterior, processes
from results.strategy.cube import configs_of, coordinates_of, point_of
from results.strategy.race import last_race
from results.sweep import Sweep
from results.trial import TrialRecord
from results.wording import count, measured
from search_spaces.space import SearchSpace

# Complete trials from which a search is judged, and those per searched field: a model of fewer is
# too sure of what it has not seen (benchmarks/RESULTS.md). Loeppky, Sacks, Welch 2009, "Choosing
# the sample size of a computer experiment": n = 10 d
LEAST_TRIALS, TRIALS_PER_FIELD = 20, 10
GROWTH = 1.15  # factor between two numbers of complete trials at which a search is judged
LESS_NOISE = Noise(mean=-4.0, least=1e-3)  # as the sampler noisy has it
# The space as points: so many evenly, and so many near each of the configurations expected best.
EVENLY, NEAR, LEADERS = 512, 32, 4
STEP = 0.1  # standard deviation of the points near a configuration, in the unit cube
DRAWS = 256  # from each process


@dataclass(frozen=True, slots=True)
class Gain:
    """Expected improvement that the space may still give over the configuration expected best.

    Attributes:
        trial: number of that configuration's first trial.
        expected: the expected improvement, in the unit of the first objective.
        noise: standard error of the difference of two configurations in a confirmation.
    """

    trial: int
    expected: float
    noise: float

    @property
    def negligible(self) -> bool:
        """True if the improvement is less than the noise."""
        return self.expected < self.noise


def gain(sweep: Sweep) -> Gain | None:
    """Return what the space may still give, by the model of a sweep's first objective.

    With f the objective without noise and b the configuration expected best, it is E[max over x of
    f(x) - f(b)], the expected improvement if the search went on until it knew f: the expected value
    of perfect information (Howard 1966, Information Value Theory). The expectation is over the
    posterior of f, jointly at many points of the space, and over the processes of the model. The
    expected improvement of a single further trial is smaller, and would stop a search that has
    many steps to go.

    It is compared with the noise of what decides in the end, as Makarova et al. 2022, Automatic
    Termination for Hyperparameter Optimization, compare a bound on the regret with the noise of
    cross-validation. In a confirmation of K = CONFIRMATION_SEEDS seeds, a difference has the
    standard error sigma sqrt(2 / K), with sigma the model's noise of a run. If that is at its lower
    bound, because configurations differ much more than runs, it is the noise of a model with a
    lower bound, LESS_NOISE, which tends to be too small.

    Returns None if it is unknown: with several objectives, without a useful model, and if the runs
    show no noise. Constraints are ignored, so with them the gain is an upper bound.
    """
    config, model, data = sweep.config, posterior(sweep), data_of(sweep)
    if len(config.objectives) > 1 or model is None or data is None or not model.useful:
        return None
    noise = model.noise
    if noise is None:
        noise = noise_of(processes(data.points, data.runs, LESS_NOISE), LESS_NOISE)
    if noise is None:
        return None
    by_number = {t.number: t for t in sweep.complete}
    leaders = [by_number[e.trials[0]].config for e in model.estimates[:LEADERS]]
    cube = _points(config.space, leaders)
    best = np.array([coordinates(config.space, leaders[0])])
    at = np.concatenate([best, coordinates_of(config.space, cube)])
    return Gain(
        model.estimates[0].trials[0],
        _left(data.points, data.runs, at.tobytes()),
        noise * math.sqrt(2 / CONFIRMATION_SEEDS),
    )


@lru_cache(maxsize=32)  # a page asks again and again
def _left(
    points: tuple[tuple[float, ...], ...], runs: tuple[tuple[float, ...], ...], at: bytes
) -> float:
    """The mean of `regret` over the processes of points and runs.

    `at` has the coordinates of the space's points, the best configuration first.
    """
    mixed, draws = processes(points, runs), np.random.default_rng(0)
    there = np.frombuffer(at).reshape(-1, len(points[0]))
    return float(np.mean([regret(*one.jointly(there), draws) for one in mixed]) * mixed[0].scale)


def sentence(sweep: Sweep, found: Gain) -> str:
    """Describe a negligible gain, without a stop at the end."""
    metric, trials = sweep.config.objectives[0].metric, len(sweep.complete)
    return (
        f"after {count(trials, 'complete trial')}, a model expects at most "
        f"{measured(metric, found.expected)} of {metric} more than trial {found.trial} has, from "
        f"the whole space; a confirmation with {CONFIRMATION_SEEDS} seeds cannot tell such a "
        f"difference from its noise, {measured(metric, found.noise)}"
    )


def _points(space: SearchSpace, leaders: Sequence[Mapping[str, Any]]) -> Array:
    """Points of the cube (N, P): evenly, and near the leaders. None is forbidden."""
    draws = np.random.default_rng(0)
    choices = np.array([p.choices is not None for p in space.parameters])
    centres = np.repeat([point_of(space, config) for config in leaders], NEAR, axis=0)
    near = centres + np.where(choices, 0.0, draws.normal(0, STEP, centres.shape))
    evenly = np.asarray(scipy.stats.qmc.Sobol(len(choices), seed=draws).random(EVENLY))
    cube = np.concatenate([evenly, np.clip(near, 0, 1)])
    if not space.forbid:
        return cube
    return cube[[space.forbids(config) is None for config in configs_of(space, cube)]]


def regret(mean: Array, covariance: Array, draws: np.random.Generator) -> float:
    """Return E[max over i of f_i - f_0] of normal f with a mean (N,) and a covariance (N, N)."""
    root = np.linalg.cholesky(covariance + JITTER * covariance.max() * np.eye(len(mean)))
    drawn = mean + draws.normal(size=(DRAWS, len(mean))) @ root.T
    return float((drawn.max(1) - drawn[:, 0]).mean())


def judged_at(trials: int, fields: int) -> int | None:
    """Return the largest number, up to `trials`, at which a search is judged; None before that.

    The numbers grow geometrically, so that the time for models stays a small part of a search. The
    first depends on the number of searched fields.
    """
    at, found = max(LEAST_TRIALS, TRIALS_PER_FIELD * fields), None
    while at <= trials:
        found, at = at, math.ceil(at * GROWTH)
    return found


def advice(sweep: Sweep) -> str | None:
    """Return `sentence` if little is left to gain, else None.

    A search that runs is judged by the first of its trials, up to a number of `judged_at`, so that
    a page does not need a new model after each result. None during a race and after it, which are
    no search, and for a confirmation.
    """
    if sweep.config.confirms is not None or last_race(sweep.records).first is not None:
        return None
    if judged_at(len(sweep.complete), len(sweep.config.space.parameters)) is None:
        return None
    if any(trial.state == "RUNNING" for trial in sweep.own):
        sweep = as_judged(sweep)
    found = gain(sweep)
    return sentence(sweep, found) if found is not None and found.negligible else None


def as_judged(sweep: Sweep) -> Sweep:
    """Return a sweep with its first complete trials only, as many as `judged_at` says."""

    def end(trial: TrialRecord) -> tuple[float, int]:
        ended = trial.ended_at
        return (0.0 if trial.imported or ended is None else ended.timestamp(), trial.number)

    number = judged_at(len(sweep.complete), len(sweep.config.space.parameters))
    first = sorted(sweep.complete, key=end)[: number or 0]
    kept = {t.number for t in first}
    return replace(sweep, records=[t for t in sweep.records if t.number in kept])
