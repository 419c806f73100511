"""A search space as a unit cube, in which a sampler can move: one number per parameter."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dynamos.config import field_type
from results.gaussian_process import Array, place
from search_spaces.space import Parameter, SearchSpace


def coordinates_of(space: SearchSpace, cube: Array) -> Array:
    """Return the coordinates (results/gaussian_process.py), (N, D), of points of the cube (N, P).

    They are those of the configurations that `config_of` returns.
    """
    return np.concatenate([_places(p, cube[:, i]) for i, p in enumerate(space.parameters)], axis=1)


def config_of(space: SearchSpace, point: Array) -> dict[str, Any]:
    """Return the configuration, in real values, at a point of the cube (P,)."""
    return {p.name: _value(p, x) for p, x in zip(space.parameters, point, strict=True)}


def point_of(space: SearchSpace, config: Mapping[str, Any]) -> Array:
    """Return a point of the cube (P,) at which a configuration lies."""
    return np.array([_point(p, config[p.name]) for p in space.parameters])


def _places(parameter: Parameter, at: Array) -> Array:
    """(N, width): coordinates of a parameter's values at places in the cube (N,)."""
    if parameter.choices is not None:
        rows = np.array([place(parameter, choice) for choice in parameter.choices])
        return np.asarray(rows[_choices(parameter, at)])
    if _whole(parameter):
        low, high, there = map(
            _scaled(parameter), (*_ends(parameter), np.rint(_stored(parameter, at)))
        )
        return np.asarray((there - low) / (high - low))[:, None]
    return at[:, None]


def _value(parameter: Parameter, at: float) -> Any:
    if parameter.choices is not None:
        return parameter.choices[int(_choices(parameter, np.array([at]))[0])]
    assert parameter.low is not None and parameter.high is not None
    ends = {0.0: parameter.low, 1.0: parameter.high}
    value = ends.get(at, parameter.stored(float(_stored(parameter, np.array([at]))[0])))
    value = min(max(value, parameter.low), parameter.high)  # rounding must not leave the range
    return round(value) if _whole(parameter) else value


def _point(parameter: Parameter, value: Any) -> float:
    if parameter.choices is not None:
        return (parameter.choices.index(value) + 0.5) / len(parameter.choices)
    return place(parameter, value)[0]


def _stored(parameter: Parameter, at: Array) -> Array:
    """Values of a range, as the sampler stores them, at places in the cube."""
    low, high = map(_scaled(parameter), _ends(parameter))
    there = low + at * (high - low)
    return np.asarray(np.exp(there) if parameter.log else there)


def _ends(parameter: Parameter) -> tuple[float, float]:
    """The ends of a range, as the sampler stores them; the one at place 0 comes first."""
    return float(parameter.stored(parameter.low)), float(parameter.stored(parameter.high))


def _scaled(parameter: Parameter) -> Any:
    return np.log if parameter.log else np.asarray


def _choices(parameter: Parameter, at: Array) -> Any:
    """Numbers of the choices at places in the cube."""
    assert parameter.choices is not None
    size = len(parameter.choices)
    return np.minimum((at * size).astype(int), size - 1)


def _whole(parameter: Parameter) -> bool:
    return parameter.choices is None and field_type(parameter.name)[0] is int
