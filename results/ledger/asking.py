"""Asking a sweep's sampler for the next configuration: what it learns of the trials so far, and that none is repeated.

Optuna's samplers learn from COMPLETE trials, TPE from pruned ones too, and from none that failed: a model would ask
for what diverges or is pruned again and again. So a sampler is asked over a view of the study, in which a trial that
ended early has values that stand for those it never came to. The ledger itself keeps what happened.
"""

import copy
import itertools
from collections.abc import Container, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from results.definition.sweep_config import SweepConfig
from results.strategy.samplers import GRID_LIMIT, SAMPLERS, Draw
from results.trial import IMPORTED, RERUN
from search_spaces.space import SearchSpace

_GENERATION = NSGAIISampler._get_generation_key()
_EARLY = (TrialState.PRUNED, TrialState.FAIL)
GIVEN = (IMPORTED, "points:", "warm-start:")  # what the sources of trials begin with that a sweep was given


def asked(study: optuna.Study, config: SweepConfig, number: int) -> optuna.Trial:
    """The study's next trial: one that waits, with its parameters, or trial `number`, with those of the sampler."""
    told = _Told(study, config)
    told.sampler = _Asking(config, number, told.given)
    return told.ask(config.space.distributions())


class _Told(optuna.Study):
    """A study as a sampler sees it; what is written to it is written to the study."""

    def __init__(self, study: optuna.Study, config: SweepConfig) -> None:
        super().__init__(study.study_name, study._storage)
        trials = super()._get_trials(deepcopy=False)
        self._instead = stand_ins(trials, self.directions)
        known = [self._instead.get(t.number, t) for t in trials]
        if config.sampler == "nsga2":  # what it did not draw itself is of its first generation
            self._instead |= {t.number: _with(t, system_attrs={**t.system_attrs, _GENERATION: 0}) for t in known
                              if t.state == TrialState.COMPLETE and _GENERATION not in t.system_attrs}
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        base = [t for t in complete if t.number == 0]
        given = [t for t in complete if t.number > 0 and t.user_attrs.get("source", "").startswith(GIVEN)]
        self.given = base + given if given else []  # the base alone says nothing of where to begin

    def _get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None,
                    use_cache: bool = False) -> list[FrozenTrial]:
        trials = [self._instead.get(t.number, t) for t in super()._get_trials(deepcopy=False, use_cache=use_cache)]
        found = [t for t in trials if states is None or t.state in states]
        return copy.deepcopy(found) if deepcopy else found


class _Asking(BaseSampler):
    """The sweep's sampler; for a configuration that was tried before it gives one that was not, drawn at random."""

    def __init__(self, config: SweepConfig, number: int, given: Sequence[FrozenTrial]) -> None:
        draw = Draw(config.seed, number, config.trials, given)
        self._space, self._seed = config.space, draw.mixed
        self._sampler = SAMPLERS[config.sampler](draw)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space: whether a configuration is new is seen of all its values together."""
        return self._space.distributions()

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial,
                        search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """A configuration that no other trial has, if there is one left."""
        joint = self._sampler.sample_relative(study, trial, self._sampler.infer_relative_search_space(study, trial))
        drawn = {name: joint[name] if name in joint else self._sampler.sample_independent(
            study, trial, name, distribution) for name, distribution in search_space.items()}
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        taken = {self._space.key(config) for config in configs(self._space, others)}
        if self._space.key(self._space.real(drawn)) not in taken:
            return drawn
        return untried(self._space, taken, self._seed) or drawn

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, param_name: str,
                           param_distribution: BaseDistribution) -> Any:
        """A value of one parameter; `sample_relative` has given them all."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Lets the sampler know of a trial that begins."""
        self._sampler.before_trial(study, trial)


def stand_ins(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> dict[int, FrozenTrial]:
    """By number, the trials that ended early as COMPLETE ones, with values that stand for those they never came to.

    A pruned trial is taken to have ended like the worst of those that were no worse than it after the same task. Of
    one that failed, and where there are none, the worst value of all counts. {} before a trial is COMPLETE. What was
    run again says nothing more.
    """
    again = {source.removeprefix(RERUN) for t in trials if (source := t.user_attrs.get("source", "")).startswith(RERUN)}
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    if not complete:
        return {}
    signs = [-1 if d == StudyDirection.MINIMIZE else 1 for d in directions]

    def worst(of: Sequence[FrozenTrial]) -> list[float]:
        return [sign * min(sign * t.values[i] for t in of) for i, sign in enumerate(signs)]

    def value(trial: FrozenTrial) -> list[float]:
        task = trial.last_step
        if trial.state == TrialState.FAIL or task is None:  # a study of several objectives has no values in between
            return worst(complete)
        sign, then = signs[0], trial.intermediate_values[task]
        above = [t for t in complete if sign * t.intermediate_values.get(task, -sign * np.inf) >= sign * then]
        return worst(above or complete)

    return {t.number: _with(t, state=TrialState.COMPLETE, values=value(t)) for t in trials
            if t.state in _EARLY and t.params and str(t.number) not in again}


def configs(space: SearchSpace, trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """The configurations, real values, of those trials that have one: drawn or enqueued."""
    real = [space.real(t.params or t.system_attrs.get("fixed_params", {})) for t in trials]
    return [config for config in real if len(config) == len(space.parameters)]


def untried(space: SearchSpace, taken: Container[tuple[Any, ...]], seed: int) -> dict[str, Any] | None:
    """A configuration of a space at random, as a sampler stores it, that is not taken; None where all are."""
    if space.size is not None and space.size <= GRID_LIMIT:
        left = [point for point in itertools.product(*(p.values or () for p in space.parameters)) if point not in taken]
        if not left:
            return None
        names = [p.name for p in space.parameters]
        return space.stored(dict(zip(names, left[np.random.default_rng(seed).integers(len(left))], strict=True)))
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    while True:
        drawn = random.ask(space.distributions()).params
        if space.key(space.real(drawn)) not in taken:
            return drawn


def _with(trial: FrozenTrial, **changes: Any) -> FrozenTrial:
    """A copy of a trial with other attributes."""
    changed = copy.copy(trial)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed
