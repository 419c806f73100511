"""Gaussian processes over a search space: points, priors, fits and conditional distributions."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from search_spaces.parameter import Parameter
from search_spaces.space import SearchSpace

Array = NDArray[np.float64]

MOST_FITTED = 150  # values from which a process's parameters are estimated
JITTER = 1e-4  # relative variance that keeps covariances of near points invertible


@dataclass(frozen=True, slots=True)
class Prior:
    """Normal distribution of the logarithm of each length scale of D coordinates from 0 to 1."""

    mean: Callable[[int], float]  # by D
    variance: float


@dataclass(frozen=True, slots=True)
class Noise:
    """Normal distribution of the logarithm of the noise's share of the variance of all values."""

    mean: float
    least: float  # lower bound of the share
    variance: float = 1.0


# The first grows with D. With it, a search finds the good region in few trials, but may then take a
# corner for the optimum (Hvarfner et al. 2024, Vanilla Bayesian Optimization Performs Great in High
# Dimensions; BoTorch's default). With the second, around 1, it finds what lies between. Measured:
# benchmarks/RESULTS.md.
PRIORS = (
    Prior(lambda size: math.sqrt(2) + math.log(size) / 2, 3.0),
    Prior(lambda size: 0.0, 1.0),
)


def coordinates(space: SearchSpace, config: Mapping[str, Any]) -> list[float]:
    """Return a configuration as numbers from 0 to 1.

    A value of a range is its place in the range, on a logarithmic scale if the range is
    logarithmic. A prior does not move it: it says where good values are, not how fast they change.
    A number among choices is its rank, from 0 to 1. Other choices are one-hot. An inactive field
    lies in the middle.
    """
    active = {p.name for p in space.active(config)}
    return [
        x
        for p in space.parameters
        for x in (place(p, config[p.name]) if p.name in active else middle(p))
    ]


def middle(parameter: Parameter) -> list[float]:
    """Return the coordinates of an inactive field, as far from all of its values as possible."""
    if parameter.choices is None or _ordered(parameter.choices):
        return [0.5]
    return [1 / len(parameter.choices)] * len(parameter.choices)


def place(parameter: Parameter, value: Any) -> list[float]:
    """Return the coordinates of one parameter's value."""
    if parameter.choices is not None:
        if _ordered(parameter.choices):
            return [sorted(parameter.choices).index(value) / max(len(parameter.choices) - 1, 1)]
        return [float(choice == value) for choice in parameter.choices]
    return [float(parameter.fraction(parameter.stored(value)))]


def _ordered(choices: Sequence[Any]) -> bool:
    return all(type(choice) in (int, float) for choice in choices)


def winsorised(values: Array) -> Array:
    """Return the values, each raised to at least the lower quartile minus 1.5 interquartile ranges.

    So a few collapsed runs do not decide the model (Tukey 1977, Exploratory Data Analysis).
    """
    low, high = np.quantile(values, (0.25, 0.75))
    floor: Array = np.maximum(values, low - 1.5 * (high - low))
    return floor


def conditional(
    signal: Array, at: NDArray[np.intp], values: Array, noise: float
) -> tuple[Array, Array]:
    """Return the posterior (mean (N,), covariance (N, N)) at N points, given noisy values at some.

    Equations 2.23 and 2.24 of Rasmussen and Williams 2006.

    Args:
        signal: (N, N), prior covariance of the points.
        at: (R,), the point of each value; several values at a point weigh accordingly.
        values: (R,), their prior mean is 0.
        noise: variance of a value around its point.
    """
    cross = signal[:, at]
    weights = np.linalg.solve(signal[np.ix_(at, at)] + noise * np.eye(len(at)), cross.T).T
    return weights @ values, signal - weights @ cross.T


def left_out(signal: Array, at: NDArray[np.intp], values: Array, noise: float) -> Array:
    """Return the posterior mean (N,) of each point, given all values but its own.

    Leave-one-out by equation 5.12 of Rasmussen and Williams 2006, for all values of a point
    together. The arguments are those of `conditional`; every point has a value.
    """
    inverse = np.linalg.inv(signal[np.ix_(at, at)] + noise * np.eye(len(at)))
    pull = inverse @ values
    predicted = np.empty(len(signal))
    for point in range(len(signal)):
        own = np.flatnonzero(at == point)
        there = values[own] - np.linalg.solve(inverse[np.ix_(own, own)], pull[own])
        predicted[point] = there[0]
    return predicted


def one_thread() -> AbstractContextManager[Any]:
    """Make linear algebra use one thread: further ones only wait, with matrices of this size.

    Their waiting is CPU time that trials need.
    """
    limit: AbstractContextManager[Any] = _threads().limit(limits=1, user_api="blas")
    return limit


@cache
def _threads() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401 - the controller knows the libraries that are loaded now

    return ThreadpoolController()


class GaussianProcess:
    """A Gaussian process of noisy values, its parameters at their most probable values.

    Attributes:
        y: (R,) the values, standardised.
        signal: covariance function of the values without noise.
        variance: signal(x, x).
        noise: variance of the noise.
        scale: standard deviation of the values; it is the unit of the others.
    """

    def __init__(self, points: Array, values: Array, prior: Prior, noise: Noise) -> None:
        """Fit values (R,) at points (R, D). The signal's variance is near the values' a priori."""
        from scipy.optimize import minimize
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        self._points, self._centre, self.scale = points, values.mean(), values.std() or 1.0
        self.y = self.standardised(values)
        size = points.shape[1]
        kernel = ConstantKernel(1.0, (0.05, 20.0)) * Matern(
            np.ones(size), [(0.05, 50.0)] * size, nu=2.5
        ) + WhiteKernel(0.1, (noise.least, 2.0))
        length = prior.mean(size)
        means = np.array([0.0, *[length] * size, noise.mean])
        variances = np.array([1.0, *[prior.variance] * size, noise.variance])

        def optimum(loss: Any, start: Array, bounds: Array) -> tuple[Array, float]:
            def total(theta: Array) -> tuple[float, Array]:
                value, slope = loss(theta)
                away = theta - means
                return value + (away**2 / variances).sum() / 2, slope + away / variances

            starts = [start.copy(), start.copy()]
            starts[0][1:-1], starts[1][1:-1] = math.log(0.5), length - 0.5
            found = [minimize(total, s, jac=True, method="L-BFGS-B", bounds=bounds) for s in starts]
            best = min(found, key=lambda f: f.fun)
            return best.x, best.fun

        some = np.linspace(0, len(values) - 1, min(len(values), MOST_FITTED)).astype(int)
        regressor = GaussianProcessRegressor(kernel, optimizer=optimum)
        with one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            regressor.fit(points[some], self.y[some])
        self.signal = regressor.kernel_.k1
        self.variance = float(self.signal.k1.constant_value)
        self.noise = float(regressor.kernel_.k2.noise_level)
        noisy = self.signal(points) + self.noise * np.eye(len(points))
        self._inverse = np.linalg.inv(noisy)

    def standardised(self, values: Any) -> Any:
        """Values in the unit of the process."""
        return (values - self._centre) / self.scale

    def restored(self, values: Any) -> Any:
        """Standardised values in their own unit."""
        return self._centre + self.scale * values

    def at(self, candidates: Array) -> tuple[Array, Array]:
        """Posterior (mean (M,), standard deviation (M,)) at points (M, D), standardised."""
        cross = self.signal(candidates, self._points)
        weights = cross @ self._inverse
        left = self.variance - (weights * cross).sum(1)
        return weights @ self.y, np.sqrt(np.maximum(left, JITTER * self.variance))

    def jointly(self, candidates: Array) -> tuple[Array, Array]:
        """Posterior (mean (M,), covariance (M, M)) at points (M, D), standardised."""
        cross = self.signal(candidates, self._points)
        weights = cross @ self._inverse
        return weights @ self.y, self.signal(candidates) - weights @ cross.T
