"""Samplers by name. A sampler suggests the next configuration from the results so far."""

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, create_trial

from dynamos.errors import UserError
from results.strategy.cube import configs_of
from results.strategy.sampled_space import SampledSpace
from search_spaces.parameter import Parameter
from search_spaces.space import SearchSpace

SHARE_DRAWS = 10_000  # random configurations that show how much a space forbids
GRID_LIMIT = 10_000  # points; a larger grid is never finished and only slow to draw from


@dataclass(frozen=True, slots=True)
class Draw:
    """Data of one suggestion, from which a sampler is built."""

    seed: int  # the sweep's
    number: int  # the trial's
    trials: int  # the sweep's budget at its start
    space: SearchSpace
    # COMPLETE trials that an earlier sweep or a file of points gave
    given: Sequence[FrozenTrial] = ()

    @property
    def mixed(self) -> int:
        """Seed of this trial, mixed from the sweep's seed and the trial's number."""
        return int(np.random.SeedSequence([self.seed, self.number]).generate_state(1)[0])


# Every suggestion builds a new sampler, seeded from the sweep's seed and the trial's number, so
# that a resumed sweep draws what an undisturbed one would have drawn. Samplers keep the rest of
# their state in the storage.
SAMPLERS: dict[str, Callable[[Draw], BaseSampler]] = {
    "tpe": lambda draw: _tpe(draw),
    "gp": lambda draw: GPSampler(
        n_startup_trials=MODEL_TRIALS, seed=draw.mixed, warn_independent_sampling=False
    ),
    "noisy": lambda draw: _noisy(draw),
    "cmaes": lambda draw: _cmaes(draw),
    "nsga2": lambda draw: _nsga2(draw),
    "random": lambda draw: RandomSampler(seed=draw.mixed),
    "qmc": lambda draw: _qmc(draw),
    # The ledger enqueues the points of the grid, so that nothing is left to draw.
    "grid": lambda draw: RandomSampler(seed=draw.mixed),
}
MODEL_TRIALS = 10  # trials that must have ended before TPE and the Gaussian process fit a model
NOISY_TRIALS = 5  # the same for the sampler `noisy`
SINGLE_OBJECTIVE_SAMPLERS = ("noisy", "cmaes")
UNCONSTRAINED_SAMPLERS = ("cmaes",)
RANGE_SAMPLERS = ("cmaes",)  # they draw the value of a field with choices at random


def population(trials: int) -> int:
    """Size of an NSGA-II generation: a quarter of the budget, from 4 to 20."""
    return min(max(trials // 4, 4), 20)


def random_trials(sampler: str, trials: int) -> int:
    """Number of trials that must have ended before a sampler stops drawing at random."""
    at_random = {"tpe": MODEL_TRIALS, "gp": MODEL_TRIALS, "noisy": NOISY_TRIALS}
    return (at_random | {"nsga2": population(trials)}).get(sampler, 0)


def grid(space: SearchSpace, levels: int) -> list[dict[str, Any]]:
    """Return every combination of the parameters' values: choices, or `levels` of a range.

    Combinations that the space forbids are left out. Raises UserError for more than GRID_LIMIT
    combinations, and if none is left.
    """
    points = _grid(space, levels)
    allowed = [point for point in points if space.forbids(point) is None]
    if not allowed:
        raise UserError(
            f"`sampler` grid: the space {space.name} forbids every point of {levels} levels."
        )
    return allowed


def grid_size(space: SearchSpace, levels: int) -> int:
    """Return the number of the grid's points, those that are forbidden included."""
    return len(_grid(space, levels))


def _grid(space: SearchSpace, levels: int) -> list[dict[str, Any]]:
    """Every combination, those that are forbidden included."""
    values = [_levels(parameter, levels) for parameter in space.parameters]
    size = math.prod(len(v) for v in values)
    if size > GRID_LIMIT:
        raise UserError(
            f"`sampler` grid: {levels} levels of {len(values)} parameters give {size} "
            f"configurations, more than the limit {GRID_LIMIT}; use fewer `grid_levels` or a "
            "smaller space."
        )
    names = [parameter.name for parameter in space.parameters]
    points = (dict(zip(names, point, strict=True)) for point in itertools.product(*values))
    return space.different(points)


def allowed_share(space: SearchSpace) -> float:
    """Return the share of random configurations that a space does not forbid."""
    points = np.random.default_rng(0).random((SHARE_DRAWS, len(space.parameters)))
    return float(np.mean([space.forbids(config) is None for config in configs_of(space, points)]))


class _RestartedNSGAII(NSGAIISampler):
    """NSGA-II in a changed space: the parents that the study remembers are those of the old one."""

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Return the parents of a generation, found anew."""
        return [] if generation == 0 else self.select_parent(study, generation)


class _NumberedQMC(QMCSampler):
    """A sampler of one scrambled sequence; a trial takes the point of its number.

    Forbidden points do not count.

    Optuna counts the points drawn; a trial that was killed between two parameters would take
    another point.
    """

    def __init__(self, draw: Draw) -> None:
        # Until a trial is COMPLETE it draws with the independent sampler, whose seed differs from
        # trial to trial.
        super().__init__(
            scramble=True,
            seed=draw.seed,
            warn_independent_sampling=False,
            independent_sampler=RandomSampler(seed=draw.mixed),
        )
        self._number, self._space = draw.number, draw.space
        self._sampled = SampledSpace(draw.space, "qmc")
        self._place = draw.number - 1  # trial 0 is the base

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the point of the trial's number among those that are not forbidden."""
        if not self._space.forbid or not search_space:
            return super().sample_relative(study, trial, search_space)
        allowed = 0
        for self._place in itertools.count():
            point = super().sample_relative(study, trial, search_space)
            config = self._space.trimmed(self._space.real(self._sampled.stored(point)))
            allowed += self._space.forbids(config) is None
            if allowed == self._number:
                return point
        raise AssertionError("the sequence has no end")

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._place


def _nsga2(draw: Draw) -> BaseSampler:
    kind = _RestartedNSGAII if draw.space.since else NSGAIISampler
    return kind(population_size=population(draw.trials), seed=draw.mixed)


def _tpe(draw: Draw) -> BaseSampler:
    """TPE over all fields together; of conditional ones, over each group that comes together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # it would break the display
        return TPESampler(
            n_startup_trials=MODEL_TRIALS,
            multivariate=True,
            group=draw.space.conditional,
            constant_liar=True,
            seed=draw.mixed,
        )


def _qmc(draw: Draw) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # it would break the display
        return _NumberedQMC(draw)


def _noisy(draw: Draw) -> BaseSampler:
    from results.strategy.noisy import NoisySampler  # it imports scipy.stats, which takes long

    return NoisySampler(draw.space, draw.seed, draw.number, draw.mixed)


def _cmaes(draw: Draw) -> BaseSampler:
    """CMA-ES, started from the trials that the sweep was given (Nomura et al. 2021) if any.

    It learns only from trials that it drew itself, so given trials can count in no other way.
    """
    # It uses the best tenth of them and fails if that is no trial. If fewer than ten are given,
    # each is repeated ten times, so that the best tenth consists of the best trial.
    given = [_ranges(t) for t in draw.given] * (1 if len(draw.given) >= 10 else 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return CmaEsSampler(
            seed=draw.mixed, source_trials=given or None, warn_independent_sampling=False
        )


def _ranges(trial: FrozenTrial) -> FrozenTrial:
    """A trial with its ranges alone: CMA-ES refuses given trials that have choices, too."""
    ranges = {
        name: of
        for name, of in trial.distributions.items()
        if not isinstance(of, CategoricalDistribution) and not of.single()
    }
    return create_trial(
        params={name: trial.params[name] for name in ranges},
        distributions=ranges,
        values=trial.values,
    )


def _levels(parameter: Parameter, levels: int) -> list[Any]:
    """A parameter's values on the grid; one with finitely many values may have fewer than `levels`.

    All choices, whatever their weights. Other values lie at even distances on the range's scale, or
    at even probabilities of its prior.
    """
    if parameter.choices is not None:
        return list(parameter.choices)
    if parameter.step is not None and parameter.prior is None:
        steps = parameter.values
        assert steps is not None
        last = len(steps) - 1
        return [steps[i] for i in sorted({round(x) for x in np.linspace(0, last, levels)})]
    if parameter.prior is not None:
        return sorted({parameter.at(float(place)) for place in np.linspace(0, 1, levels)})
    assert parameter.low is not None and parameter.high is not None
    spaced = (np.geomspace if parameter.log else np.linspace)(parameter.low, parameter.high, levels)
    # Rounding must not move an end out of the range.
    inside: list[float] = np.clip(spaced, parameter.low, parameter.high).tolist()
    return sorted({round(value) for value in inside}) if parameter.whole else inside
