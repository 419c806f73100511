"""A search space as a unit cube, in which a sampler can move: one number per parameter."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from results.gaussian_process import Array, coordinates, place
from search_spaces.parameter import Parameter
from search_spaces.space import SearchSpace


def coordinates_of(space: SearchSpace, cube: Array) -> Array:
    """Return the coordinates (results/gaussian_process.py), (N, D), of points of the cube (N, P).

    They are those of the configurations that `config_of` returns.
    """
    if space.conditional:
        return np.array([coordinates(space, config) for config in configs_of(space, cube)])
    return np.concatenate([_places(p, cube[:, i]) for i, p in enumerate(space.parameters)], axis=1)


def config_of(space: SearchSpace, point: Array) -> dict[str, Any]:
    """Return the configuration, in real values, at a point of the cube (P,).

    Uniform points are drawn from the priors of the space.
    """
    config = {p.name: p.at(float(x)) for p, x in zip(space.parameters, point, strict=True)}
    return space.trimmed(config)


def configs_of(space: SearchSpace, cube: Array) -> list[dict[str, Any]]:
    """Return the configurations, in real values, at points of the cube (N, P)."""
    columns = {p.name: p.all_at(cube[:, i]) for i, p in enumerate(space.parameters)}
    rows = zip(*columns.values(), strict=True)
    return [space.trimmed(dict(zip(columns, row, strict=True))) for row in rows]


def point_of(space: SearchSpace, config: Mapping[str, Any]) -> Array:
    """Return a point of the cube (P,) at which a configuration lies."""
    active = {p.name for p in space.active(config)}
    return np.array(
        [p.place(config[p.name]) if p.name in active else 0.5 for p in space.parameters]
    )


def _places(parameter: Parameter, at: Array) -> Array:
    """(N, width): coordinates of a parameter's values at places in the cube (N,)."""
    if parameter.choices is not None or parameter.step is not None:
        rows = np.array([place(parameter, value) for value in parameter.values or ()])
        return np.asarray(rows[parameter.indices(at)])
    if parameter.whole or parameter.prior is not None:
        return parameter.fraction(parameter.stored_at(at))[:, None]
    return at[:, None]
