"""Samplers by name: what suggests the next configuration from the results so far."""

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler

from dynamos.config import field_type
from dynamos.errors import UserError
from search_spaces.space import Parameter, SearchSpace

GRID_LIMIT = 10_000  # points; a larger grid is never finished and only slow to draw from

# A sampler is made anew for every suggestion, seeded from the sweep's seed and the trial's number, so that a resumed
# sweep draws what an undisturbed one would have drawn. Each keeps what else it has to remember in the storage.
SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": lambda seed, number: TPESampler(multivariate=True, constant_liar=True, seed=_mixed(seed, number)),
    "gp": lambda seed, number: GPSampler(seed=_mixed(seed, number), warn_independent_sampling=False),
    "cmaes": lambda seed, number: CmaEsSampler(seed=_mixed(seed, number), warn_independent_sampling=False),
    "nsga2": lambda seed, number: NSGAIISampler(population_size=20, seed=_mixed(seed, number)),
    "random": lambda seed, number: RandomSampler(seed=_mixed(seed, number)),
    "qmc": lambda seed, number: _qmc(seed, number),
    # The ledger enqueues the grid's points itself; nothing is left to draw.
    "grid": lambda seed, number: RandomSampler(seed=_mixed(seed, number)),
}
SINGLE_OBJECTIVE_SAMPLERS = ("cmaes",)


def grid(space: SearchSpace, levels: int) -> list[dict[str, Any]]:
    """Every combination of every parameter's values: all its choices, or `levels` values from low to high.

    UserError if there are more than GRID_LIMIT.
    """
    values = [_levels(parameter, levels) for parameter in space.parameters]
    size = math.prod(len(v) for v in values)
    if size > GRID_LIMIT:
        raise UserError(f"--sampler grid: {levels} levels of {len(values)} parameters are {size} configurations, more "
                        f"than {GRID_LIMIT}; use fewer --grid-levels or a smaller space.")
    names = [parameter.name for parameter in space.parameters]
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*values)]


class _NumberedQMC(QMCSampler):
    """A sampler of one sequence with one scrambling, of which a trial takes the point of its number.

    Optuna counts the points drawn; a trial that a kill caught between two parameters would take another point.
    """

    def __init__(self, seed: int, number: int) -> None:
        # Until a trial has ended well it draws independently, and not the same again each time.
        super().__init__(scramble=True, seed=seed, warn_independent_sampling=False,
                         independent_sampler=RandomSampler(seed=_mixed(seed, number)))
        self._number = number

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._number - 1  # trial 0 is the base


def _qmc(seed: int, number: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # it would break the display
        return _NumberedQMC(seed, number)


def _levels(parameter: Parameter, levels: int) -> list[Any]:
    """A parameter's values on the grid; a whole-numbered range may have fewer than `levels`."""
    if parameter.choices is not None:
        return list(parameter.choices)
    assert parameter.low is not None and parameter.high is not None
    spaced = (np.geomspace if parameter.log else np.linspace)(parameter.low, parameter.high, levels)
    # Rounding must not carry an end out of its range.
    inside: list[float] = np.clip(spaced, parameter.low, parameter.high).tolist()
    if field_type(parameter.name)[0] is int:
        return sorted({round(value) for value in inside})
    return inside


def _mixed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
