"""Gaussian processes over a search space: points and conditional distributions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.space import Parameter, SearchSpace

Array = NDArray[np.float64]


def coordinates(space: SearchSpace, config: Mapping[str, Any]) -> list[float]:
    """Return a configuration as numbers from 0 to 1.

    A value of a range is its place in the range, on a logarithmic scale if the range is
    logarithmic. A number among choices is its rank, from 0 to 1. Other choices are one-hot.
    """
    return [x for p in space.parameters for x in place(p, config[p.name])]


def place(parameter: Parameter, value: Any) -> list[float]:
    """Return the coordinates of one parameter's value."""
    if parameter.choices is not None:
        if all(type(choice) in (int, float) for choice in parameter.choices):
            return [sorted(parameter.choices).index(value) / max(len(parameter.choices) - 1, 1)]
        return [float(choice == value) for choice in parameter.choices]
    assert parameter.low is not None and parameter.high is not None
    low, high, at = map(parameter.stored, (parameter.low, parameter.high, value))
    if parameter.log:
        low, high, at = np.log([low, high, at])
    return [0.0 if high == low else float((at - low) / (high - low))]


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
