"""SampledSpace: a search space as a sampler sees it.

The storage holds real values. A sampler sees a step by its number, and a value that has a prior by
its cumulative probability. So what it sees is uniform, and all samplers know priors and steps. It
sees a neutral value of an inactive field, unless it knows that fields may be missing.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial

from search_spaces.parameter import Parameter
from search_spaces.space import SearchSpace

CUBE_SAMPLERS = ("qmc",)  # they draw points of a cube, one coordinate for each field
GROUP_SAMPLERS = ("tpe",)  # they know that a field may be missing
REAL_SAMPLERS = ("noisy",)  # they know priors and steps, and see what the storage holds


@dataclass(frozen=True, slots=True)
class SampledSpace:
    """A space in the coordinates of a sampler."""

    space: SearchSpace
    sampler: str

    @property
    def differs(self) -> bool:
        """True if the sampler sees something else than the storage holds."""
        if self.sampler in REAL_SAMPLERS:
            return False
        return (
            self.space.since > 0
            or self._fills
            or any(
                self._on_cube(p) or p.sampled_distribution() != p.distribution()
                for p in self.space.parameters
            )
        )

    @property
    def _fills(self) -> bool:
        """True if the sampler sees a neutral value of each inactive field."""
        return self.space.conditional and self.sampler not in GROUP_SAMPLERS

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the distributions that the sampler sees, by stored name."""
        if not self.differs:
            return self.space.distributions()
        return {p.stored_name: self._distribution(p) for p in self.space.parameters}

    def seen(self, trial: FrozenTrial) -> FrozenTrial:
        """Return a trial as the sampler sees it.

        A trial from before the space was changed has the distributions of the new space.
        """
        if not self.differs or not trial.params:
            return trial
        if self.space.since:
            trial = self._now(trial)
        found = {p.stored_name: p for p in self.space.parameters if p.stored_name in trial.params}
        seen, params = (
            copy(trial),
            {name: self._seen(p, trial.params[name]) for name, p in found.items()},
        )
        if self._fills and self.space.whole(self.space.real(trial.params)):
            for p in self.space.parameters:
                if p.stored_name not in found:
                    found[p.stored_name] = p
                    params[p.stored_name] = 0.5 if self._on_cube(p) else p.neutral
        seen.params = params
        seen.distributions = {name: self._distribution(p) for name, p in found.items()}
        return seen

    def _now(self, trial: FrozenTrial) -> FrozenTrial:
        """A trial as the changed space stores it; without parameters if it does not fit."""
        config, now = self.space.real(trial.params), copy(trial)
        now.params = self.space.stored(config) if self.space.fits(config) else {}
        distributions = self.space.distributions()
        now.distributions = {name: distributions[name] for name in now.params}
        return now

    def stored(self, seen: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the sampler suggests as the storage holds it."""
        if not self.differs:
            return dict(seen)
        parameters = {p.stored_name: p for p in self.space.parameters}
        return {name: self._stored(parameters[name], value) for name, value in seen.items()}

    def _on_cube(self, p: Parameter) -> bool:
        """True for a choice with weights that a sampler draws as a part of a cube."""
        return self.sampler in CUBE_SAMPLERS and p.weights is not None

    def _distribution(self, p: Parameter) -> BaseDistribution:
        return FloatDistribution(0.0, 1.0) if self._on_cube(p) else p.sampled_distribution()

    def _seen(self, p: Parameter, stored: Any) -> Any:
        value = p.stored(stored)
        return p.place(value) if self._on_cube(p) else p.sampled(value)

    def _stored(self, p: Parameter, seen: Any) -> Any:
        return p.stored(p.at(float(seen)) if self._on_cube(p) else p.real(seen))
