"""Suggestions: ask a sweep's sampler for the next configuration, without repetition.

Optuna's samplers learn from COMPLETE trials, TPE also from pruned ones, and none from failed ones.
So a model would suggest configurations that diverge or get pruned again and again. Therefore the
sampler sees a view of the study in which a trial that ended early has stand-ins for its missing
final values. The ledger itself keeps the facts.
"""

import copy
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dynamos.errors import RunError
from results.definition.sweep_config import SweepConfig
from results.gaussian_process import coordinates
from results.ledger.optuna_names import CMA_KEY, DRAWN_KEY, GENERATION_KEY, storage_of
from results.names import IMPORTED, RERUN
from results.strategy.cube import config_of, coordinates_of, point_of
from results.strategy.sampled_space import SampledSpace
from results.strategy.samplers import GRID_LIMIT, SAMPLERS, Draw
from search_spaces.parameter import Parameter
from search_spaces.space import SearchSpace

_EARLY = (TrialState.PRUNED, TrialState.FAIL)
# Sources of trials that were given to a sweep begin with one of these.
GIVEN = (IMPORTED, "points:", "warm-start:")
DRAWS = 1000  # number of draws to find an untried configuration in a space too large to list
ALLOWED_DRAWS = 100_000  # the same in a space that forbids a part of its configurations
NEAR_DRAWS = 1000  # random configurations, and as many near a forbidden one, to replace it
NEAR = 0.1  # standard deviation of those near it, in each coordinate from 0 to 1
REPETITIONS = 5  # suggestions of tried configurations until a random one is taken instead


def asked(
    study: optuna.Study, config: SweepConfig, number: int, keys: dict[int, Any] | None = None
) -> optuna.Trial:
    """Return the study's next trial: a waiting one, or trial `number` from the sampler.

    `keys` remembers the keys of ended trials' configurations, by number; they do not change.
    """
    told = _Told(study, config)
    told.sampler = _Asking(config, number, told, keys)
    if not config.space.conditional:
        return told.ask(config.space.distributions())
    trial = told.ask()
    for p in config.space.parents_first:
        if p in config.space.active(config.space.real(trial.params)):
            _suggest(trial, p)
    return trial


def _suggest(trial: optuna.Trial, p: Parameter) -> None:
    """Give a trial the suggested value of a parameter."""
    distribution = p.distribution()
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(p.stored_name, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(p.stored_name, distribution.low, distribution.high, log=distribution.log)
    elif isinstance(distribution, FloatDistribution):
        trial.suggest_float(
            p.stored_name, distribution.low, distribution.high, log=distribution.log
        )


class _Told(optuna.Study):
    """View of a study for a sampler, with stand-ins for trials that ended early.

    Writes go to the study.
    """

    def __init__(self, study: optuna.Study, config: SweepConfig) -> None:
        super().__init__(study.study_name, storage_of(study))
        trials = super()._get_trials(deepcopy=False)
        self._instead = stand_ins(trials, self.directions)
        known = [self._instead.get(t.number, t) for t in trials]
        # trials that it did not draw, or not in this space, join its first generation
        if config.sampler == "nsga2":
            self._instead |= {
                t.number: _with(t, system_attrs={**t.system_attrs, GENERATION_KEY: 0})
                for t in known
                if t.state == TrialState.COMPLETE
                and (t.number < config.space.since or GENERATION_KEY not in t.system_attrs)
            }
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        base = [t for t in complete if t.number == 0]
        given = [
            t for t in complete if t.number > 0 and t.user_attrs.get("source", "").startswith(GIVEN)
        ]
        self.given = base + given if given else []  # the base alone tells a sampler too little
        self._lies: list[FrozenTrial] = []
        self._sampled = SampledSpace(config.space, config.sampler)
        if since := config.space.since:  # trials from before the space was changed
            fit = [t for t in complete if t.number < since and self._fits(t)]
            self.given = [*(t for t in self.given if t.number >= since), *fit]
        self.given = [self._sampled.seen(t) for t in self.given]

    def facts(self) -> list[FrozenTrial]:
        """The trials as they are stored."""
        return super()._get_trials(deepcopy=False)

    def lie(self, trial: FrozenTrial) -> None:
        """Add a stored COMPLETE trial's configuration again, with the worst values of all."""
        complete = self._get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        self._lies.append(
            optuna.trial.create_trial(
                params=trial.params,
                distributions=trial.distributions,
                values=_worst(complete, self.directions),
                constraints=trial.constraints,
            )
        )

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = [
            self._instead.get(t.number, t)
            for t in super()._get_trials(deepcopy=False, use_cache=use_cache)
        ]
        trials += self._lies
        trials = [t for t in trials if not t.params or self._fits(t)]
        found = [self._seen(t) for t in trials if states is None or t.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def _fits(self, trial: FrozenTrial) -> bool:
        """False for a trial that a changed space excludes."""
        space = self._sampled.space
        return not space.since or space.fits(space.real(trial.params))

    def _seen(self, trial: FrozenTrial) -> FrozenTrial:
        """A stored trial as the sampler sees it."""
        seen = self._sampled.seen(trial)
        if 0 <= trial.number < self._sampled.space.since:
            # CMA-ES would go on in the old ranges; it starts anew from the trials so far
            old = {k: v for k, v in trial.system_attrs.items() if not k.startswith(CMA_KEY)}
            seen = _with(seen, system_attrs=old)
        if trial.state != TrialState.RUNNING or not trial.params:
            return seen
        # TPE would take what it drew, which an allowed or untried configuration may have replaced
        attributes = {k: v for k, v in seen.system_attrs.items() if not k.startswith(DRAWN_KEY)}
        return _with(seen, system_attrs=attributes)


class _Asking(BaseSampler):
    """The sweep's sampler, asked again if a configuration was tried already.

    A model may ask for its best configuration for ever. So it is told that a repetition had the
    worst values. If it repeats configurations all the same, a random one replaces them.

    Nothing keeps a model from forbidden configurations. The nearest allowed one replaces such a
    suggestion, because the best allowed one often lies at the border. A random draw is repeated
    until it is allowed.
    """

    def __init__(
        self, config: SweepConfig, number: int, told: _Told, keys: dict[int, Any] | None = None
    ) -> None:
        draw = Draw(config.seed, number, config.trials, config.space, told.given)
        self._space, self._seed, self._told = config.space, draw.mixed, told
        self._keys = {} if keys is None else keys
        self._sampled = SampledSpace(config.space, config.sampler)
        self._draws = np.random.default_rng(draw.mixed)
        self._sampler = SAMPLERS[config.sampler](draw)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the whole space: only all values together show whether a configuration is new."""
        return self._space.distributions()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a configuration that no other trial has, if one is left."""
        others = [t for t in self._told.facts() if t.number != trial.number]
        taken = {key: t for t in others if (key := self._key(t)) is not None}
        for _ in range(REPETITIONS):
            modelled, seen = self._drawn(study, trial)
            config = self._space.trimmed(self._space.real(self._sampled.stored(seen)))
            drawn = self._space.stored(config)
            if self._space.forbids(config) is not None:
                if not modelled:
                    break
                near = nearest_allowed(self._space, config, taken, self._draws)
                if near is None:
                    break
                return near
            if (there := taken.get(self._space.key(config))) is None:
                return drawn
            if there.state == TrialState.COMPLETE:
                self._told.lie(there)
        found = untried(self._space, taken, self._seed)
        if found is None and self._space.forbids(config) is not None:
            raise RunError(
                f"the space {self._space.name} forbids all of {ALLOWED_DRAWS} random configurations"
                " that are not tried yet; start a sweep with narrower ranges"
            )
        return found or drawn

    def _key(self, trial: FrozenTrial) -> Any:
        """The key of a trial's configuration; None if it has none, or only a part of one."""
        if trial.number not in self._keys:
            found = next((self._space.key(c) for c in configs(self._space, [trial])), None)
            if not trial.state.is_finished():
                return found
            self._keys[trial.number] = found
        return self._keys[trial.number]

    def _drawn(self, study: optuna.Study, trial: FrozenTrial) -> tuple[bool, dict[str, Any]]:
        """(whether a model made it, a configuration as the sampler sees it)."""
        joint = self._sampler.sample_relative(
            study, trial, self._sampler.infer_relative_search_space(study, trial)
        )
        distributions = self._sampled.distributions()
        weights = {p.stored_name: p.weights for p in self._space.parameters}
        return bool(joint), {
            name: joint[name]
            if name in joint
            else self._alone(study, trial, name, distribution, weights[name])
            for name, distribution in distributions.items()
        }

    def _alone(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        name: str,
        distribution: BaseDistribution,
        weights: Sequence[float] | None,
    ) -> Any:
        """The value of a parameter that the sampler draws apart from others, at random."""
        if weights is not None and isinstance(distribution, CategoricalDistribution):
            share = np.array(weights) / sum(weights)
            return distribution.choices[self._draws.choice(len(share), p=share)]
        return self._sampler.sample_independent(study, trial, name, distribution)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a value of one parameter; usually `sample_relative` has given all of them."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Notify the sampler of a trial that starts."""
        self._sampler.before_trial(study, trial)


def stand_ins(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> dict[int, FrozenTrial]:
    """Return COMPLETE copies of trials that ended early, with stand-in values, by number.

    A pruned trial gets the worst final value among the COMPLETE trials that were at least as good
    as it after the same task. If no trial was, and for a failed trial, it is the worst value of all
    COMPLETE trials. A trial that has a rerun is left out. Returns {} if no trial is COMPLETE.
    """
    again = {
        source.removeprefix(RERUN)
        for t in trials
        if (source := t.user_attrs.get("source", "")).startswith(RERUN)
    }
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    if not complete:
        return {}

    def value(trial: FrozenTrial) -> list[float]:
        task = trial.last_step
        # a study of several objectives has no intermediate values
        if trial.state == TrialState.FAIL or task is None:
            return _worst(complete, directions)
        sign, then = _sign(directions[0]), trial.intermediate_values[task]
        above = [
            t
            for t in complete
            if sign * t.intermediate_values.get(task, -sign * np.inf) >= sign * then
        ]
        return _worst(above or complete, directions)

    return {
        t.number: _with(t, state=TrialState.COMPLETE, values=value(t))
        for t in trials
        if t.state in _EARLY and t.params and str(t.number) not in again
    }


def configs(space: SearchSpace, trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """Return the whole configurations, in real values, of the trials drawn or enqueued."""
    real = [space.real(t.params or t.system_attrs.get("fixed_params", {})) for t in trials]
    return [config for config in real if config and space.whole(config)]


def untried(
    space: SearchSpace, taken: Container[tuple[Any, ...]], seed: int
) -> dict[str, Any] | None:
    """Return a random configuration of a space that is not taken, as a sampler stores it.

    Returns None if all are taken, or if DRAWS draws find none that is left.
    """
    if space.size is not None and space.size <= GRID_LIMIT:
        left = [point for point in space.listed if space.key(point) not in taken]
        if not left:
            return None
        return space.stored(left[np.random.default_rng(seed).integers(len(left))])
    draws = np.random.default_rng(seed)
    for _ in range(ALLOWED_DRAWS if space.forbid else DRAWS):
        config = config_of(space, draws.random(len(space.parameters)))
        if space.key(config) not in taken and space.forbids(config) is None:
            return space.stored(config)
    return None


def nearest_allowed(
    space: SearchSpace,
    config: Mapping[str, Any],
    taken: Container[tuple[Any, ...]],
    draws: np.random.Generator,
) -> dict[str, Any] | None:
    """Return the nearest of many random configurations that is allowed and not taken.

    As a sampler stores it; None if none of them is.
    """
    size, here = len(space.parameters), point_of(space, config)
    around = np.clip(here + draws.normal(0, NEAR, (NEAR_DRAWS, size)), 0, 1)
    # only some of the fields change, so that choices are kept, too
    around = np.where(draws.random(around.shape) < 0.5, around, here)
    points = np.concatenate([around, draws.random((NEAR_DRAWS, size))])
    away = np.square(coordinates_of(space, points) - np.array(coordinates(space, config))).sum(1)
    for point in points[np.argsort(away, kind="stable")]:
        found = config_of(space, point)
        if space.key(found) not in taken and space.forbids(found) is None:
            return space.stored(found)
    return None


def _worst(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[float]:
    """The worst value of COMPLETE trials in each objective."""
    signs = [_sign(direction) for direction in directions]
    return [sign * min(sign * t.values[i] for t in trials) for i, sign in enumerate(signs)]


def _sign(direction: StudyDirection) -> int:
    return -1 if direction == StudyDirection.MINIMIZE else 1


def _with(trial: FrozenTrial, **changes: Any) -> FrozenTrial:
    """A copy of a trial with other attributes."""
    changed = copy.copy(trial)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed
