"""A sampler that knows that values are noisy: expected improvement over what is known, not seen.

A Gaussian process models the values. The next configuration has the largest expected improvement
over the best of the configurations tried, whose values, without noise, are drawn from the posterior
(noisy expected improvement, Letham et al. 2019, Constrained Bayesian Optimization with Noisy
Experiments, section 4). So a lucky value draws the search only as far as its neighbours confirm it,
and several values at a configuration weigh as many. Running trials are drawn, too, so that the next
ones go elsewhere.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy  # imports its parts at their first use
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from results.gaussian_process import (
    JITTER,
    PRIORS,
    Array,
    GaussianProcess,
    Noise,
    Prior,
    conditional,
    coordinates,
    winsorised,
)
from results.strategy.cube import config_of, configs_of, coordinates_of, point_of
from results.strategy.samplers import NOISY_TRIALS
from search_spaces.space import SearchSpace

MOST_TRIALS = 400  # in the model: the best and the newest
NOISE = Noise(mean=-4.0, least=1e-3)  # small a priori, as in BoTorch
DRAWS = 32  # from the posterior of the configurations tried
# Nearer to a configuration tried, in every coordinate, a trial would be no more than a replicate of
# it, which is not for the sampler to decide. Such a one is taken only if no other is left. With N
# trials the step is the first number, or the second divided by N if that is less.
LEAST_STEPS = (0.05, 0.6)
REPEATED = 1e6  # taken from the logarithm of a repetition's expected improvement
# The search for the largest improvement: random points, moves around the best configurations, then
# ever smaller moves from the most promising points.
POINTS, AROUND, PROMISING, MOVES, ROUNDS = 1024, 200, 8, 24, 24


class NoisySampler(BaseSampler):
    """Suggests the configuration with the largest expected improvement."""

    def __init__(self, space: SearchSpace, seed: int, number: int, mixed: int) -> None:
        """A sampler for one suggestion.

        Args:
            space: the sweep's.
            seed: of the scrambled Sobol sequence, whose points the first trials take.
            number: of the trial, whose point of the sequence it may take.
            mixed: seed of everything else.
        """
        self._space, self._seed, self._number, self._mixed = space, seed, number, mixed
        self._independent = RandomSampler(seed=mixed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the whole space."""
        return self._space.distributions()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next configuration, as it is stored."""
        known = [
            t
            for t in study.get_trials(deepcopy=False)
            if t.number != trial.number
            and t.params
            and self._space.fits(self._space.real(t.params))
        ]
        complete = [t for t in known if t.state == TrialState.COMPLETE]
        if len(complete) < NOISY_TRIALS:
            point = self._sobol(max(self._number, 1))
        else:
            running = [t for t in known if t.state == TrialState.RUNNING]
            sign = -1 if study.direction == StudyDirection.MINIMIZE else 1
            point = self._suggested(complete, running, sign)
        return self._space.stored(config_of(self._space, point))

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a random value of one parameter."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _sobol(self, number: int) -> Array:
        """The point of this number, from 1, of the sequence; forbidden points do not count."""
        points = 1 << (number - 1).bit_length()
        while True:
            sequence = scipy.stats.qmc.Sobol(
                len(self._space.parameters), scramble=True, seed=self._seed
            )
            allowed = np.asarray(sequence.random(points))
            allowed = allowed[~self._forbidden(allowed)]
            if len(allowed) >= number:
                return np.asarray(allowed[number - 1])
            points *= 2

    def _forbidden(self, cube: Array) -> NDArray[np.bool_]:
        """(N,), True for a point of the cube (N, P) that the space forbids."""
        if not self._space.forbid:
            return np.zeros(len(cube), bool)
        configs = configs_of(self._space, cube)
        return np.array([self._space.forbids(config) is not None for config in configs])

    def _suggested(
        self, complete: Sequence[FrozenTrial], running: Sequence[FrozenTrial], sign: int
    ) -> Array:
        """The point of the cube with the largest expected improvement."""
        values = np.array([sign * t.values[0] for t in complete])
        if len(complete) > MOST_TRIALS:
            best = np.argsort(-values, kind="stable")[: MOST_TRIALS // 2]
            newest = np.arange(len(complete) - MOST_TRIALS // 2, len(complete))
            kept = np.union1d(best, newest)
            complete, values = [complete[i] for i in kept], values[kept]
        draws = np.random.default_rng(self._mixed)
        configs = [self._space.real(t.params) for t in (*complete, *running)]
        points = np.array([coordinates(self._space, config) for config in configs])
        score = improvement(
            points,
            winsorised(values),
            [
                np.array([t.constraints.get(name, np.nan) for t in complete])
                for name in sorted({name for t in complete for name in t.constraints})
            ],
            draws,
            PRIORS[self._number % len(PRIORS)],  # in turn
        )

        step = min(LEAST_STEPS[0], LEAST_STEPS[1] / len(points))

        def elsewhere(cube: Array) -> Array:
            at = coordinates_of(self._space, cube)
            away = np.abs(at[:, None] - points[None]).max(2).min(1)
            no = (away < 1e-9) | self._forbidden(cube)
            return np.where(no, -np.inf, score(at) - REPEATED * (away < step))

        leaders = np.argsort(-values, kind="stable")[: PROMISING // 2]
        around = np.array([point_of(self._space, configs[i]) for i in leaders])
        chosen = [p.choices is not None for p in self._space.parameters]
        return largest(elsewhere, around, np.array(chosen), draws)


def improvement(
    points: Array,
    values: Array,
    violations: Sequence[Array],
    draws: np.random.Generator,
    prior: Prior,
) -> Callable[[Array], Array]:
    """Return the logarithm of the expected improvement as a function of points (M, D) -> (M,).

    It is in the unit of the values' standard deviation. With constraints it is multiplied by the
    probability that all are kept; while no point keeps them, it is this probability.

    Args:
        points: (N, D) coordinates, of which the first R have values and the others run.
        values: (R,), larger is better.
        violations: of each constraint (R,); positive if the point breaks it, NaN if unknown.
        draws: source of random numbers.
        prior: of the models.
    """
    size = len(values)
    feasible = np.all([v <= 0 for v in violations], axis=0) if violations else np.ones(size, bool)
    model = GaussianProcess(points[:size], values, prior, NOISE)
    limits = [
        GaussianProcess(points[:size][known], v[known], prior, NOISE)
        for v in violations
        if (known := ~np.isnan(v)).any()
    ]
    there, at = np.unique(points, axis=0, return_inverse=True)
    at = at.reshape(-1)
    mean, covariance = conditional(model.signal(there), at[:size], model.y, model.noise)
    drawn = draws.multivariate_normal(mean, covariance, DRAWS, method="eigh")
    # A running trial may turn out to be the best. One that breaks a constraint may not.
    counts = np.unique(np.concatenate([at[:size][feasible], at[size:]]))
    covered = model.signal(there) + JITTER * model.variance * np.eye(len(there))
    weights = np.linalg.solve(covered, drawn.T)

    def score(candidates: Array) -> Array:
        kept = np.zeros(len(candidates))
        for limit in limits:
            expected, sd = limit.at(candidates)
            kept += scipy.special.log_ndtr((limit.standardised(0.0) - expected) / sd)
        if not feasible.any():
            return kept
        cross = model.signal(candidates, there)
        explained = (cross * np.linalg.solve(covered, cross.T).T).sum(1)
        sd = np.sqrt(np.maximum(model.variance - explained, JITTER * model.variance))
        best = drawn[:, counts].max(1)
        each = log_expected_improvement(cross @ weights, sd[:, None], best[None, :])
        return np.asarray(np.logaddexp.reduce(each, axis=1)) - math.log(DRAWS) + kept

    return score


def log_expected_improvement(mean: Array, sd: Array, best: Array) -> Array:
    """Return the logarithm of the expectation of max(f - best, 0), f normal.

    Exact where the improvement is too small for a floating-point number (Ament et al. 2023,
    Unexpected Improvements to Expected Improvement for Bayesian Optimization, section 4.1).
    """
    u = (mean - best) / sd
    density = -0.5 * u**2 - 0.5 * math.log(2 * math.pi)
    near = np.maximum(u, -1.0)
    far = np.minimum(u, -1.0)
    direct = np.log(
        np.exp(-0.5 * near**2) / math.sqrt(2 * math.pi) + near * scipy.special.ndtr(near)
    )
    # 1 + u Phi(u) / phi(u), which loses its digits far out, where it is 1 / u^2 - 3 / u^4 + ...
    rest = np.maximum(
        1 + far * math.sqrt(math.pi / 2) * scipy.special.erfcx(-far / math.sqrt(2)), 1e-300
    )
    rest = np.where(far < -1e3, 1 / (far**2 + 3), rest)
    return np.asarray(np.where(u > -1, direct, density + np.log(rest)) + np.log(sd))


def largest(
    score: Callable[[Array], Array],
    around: Array,
    choices: NDArray[np.bool_],
    draws: np.random.Generator,
) -> Array:
    """Return the point of the unit cube (P,) at which a score is largest, as far as it is found.

    Args:
        score: of points (M, P) -> (M,).
        around: (K, P), points near which it may be large.
        choices: (P,), True for a parameter whose values have no order.
        draws: source of random numbers.
    """
    size = len(choices)

    def moved(points: Array, step: float, share: float) -> Array:
        by = draws.normal(0, step, points.shape) * (draws.random(points.shape) < share)
        new = np.clip(points + np.where(choices, 0.0, by), 0, 1)
        other = choices & (draws.random(points.shape) < 0.15)
        return np.where(other, draws.random(points.shape), new)

    near = moved(np.repeat(around, AROUND // len(around), axis=0), 0.1, 1.0)
    points = np.concatenate([scipy.stats.qmc.Sobol(size, seed=draws).random(POINTS), near])
    scores = score(points)
    best = np.argsort(-scores, kind="stable")[:PROMISING]
    points, scores = points[best], scores[best]
    for turn in range(ROUNDS):
        tried = moved(np.repeat(points, MOVES, axis=0), 0.25 * 0.8**turn, max(1.5 / size, 0.3))
        found = score(tried).reshape(len(points), MOVES)
        place = found.argmax(1)
        better = found.max(1) > scores
        moves = tried.reshape(len(points), MOVES, size)[np.arange(len(points)), place]
        points = np.where(better[:, None], moves, points)
        scores = np.where(better, found.max(1), scores)
    return np.asarray(points[scores.argmax()])
