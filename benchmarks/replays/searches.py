"""Searches on a surrogate: what each tool asks, and what it chooses after some runs."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import optuna

from dynamos.config import TrainConfig
from results.definition.sweep_config import SweepConfig
from results.gaussian_process import coordinates
from results.ledger.asking import asked
from results.posterior import LEAST_CONFIGURATIONS, LEAST_EXPLAINED, fitted
from search_spaces.space import SearchSpace

Config = dict[str, Any]


class Landscape(Protocol):
    """A function that a search maximises: the surrogate, or in a test a known function."""

    def run(self, config: Mapping[str, Any], seed: int) -> float:
        """Value of a run."""

    def mean(self, config: Mapping[str, Any]) -> float:
        """Expected value of a configuration's runs over all seeds."""


class Tool(Protocol):
    """A search that is asked for runs."""

    def ask(self) -> tuple[Config, int | None]:
        """Return the next configuration, and its seed if the tool chooses seeds itself."""

    def tell(self, values: Sequence[float]) -> None:
        """Enter the values of the configuration asked for last, one for each seed."""

    def choice(self) -> tuple[Config, float] | None:
        """Return the tool's own choice and the value that it reports; None if it has no rule."""

    def close(self) -> None:
        """End the search."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A way to search.

    Attributes:
        name: of the plan.
        tool: returns the tool of a search by space, seed of the search, and number of runs.
        seeds: runs of each configuration.
        shared: True if all configurations have the same seeds, False if each has fresh ones.
        ahead: True if the search depends on the number of runs that it is given at its start. Then
            each number of runs is a search of its own, else a short search begins a long one.
    """

    name: str
    tool: Callable[[SearchSpace, int, int], Tool]
    seeds: int = 1
    shared: bool = False
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The choices after a number of runs."""

    runs: int  # at most; configurations with several seeds may leave some
    seconds: float  # of the tool, so far
    # by rule, "own", "best" or "model": the choice's expected value, and the value by which it was
    # chosen
    choices: Mapping[str, tuple[float, float]]


def answers(
    plan: Plan,
    landscape: Landscape,
    space: SearchSpace,
    numbers: Sequence[int],
    repetition: int,
) -> Iterator[Answer]:
    """Yield the choices after each of the numbers of runs, in ascending order.

    Args:
        plan: how to search.
        landscape: what is searched.
        space: where.
        numbers: of runs.
        repetition: seeds the search and its runs.
    """
    if plan.ahead and len(numbers) > 1:
        for number in numbers:
            yield from answers(plan, landscape, space, [number], repetition)
        return
    tool = plan.tool(space, repetition, numbers[-1])
    first = 1_000_000 * (repetition + 1)  # the seeds of a repetition are its own
    history: list[tuple[Config, tuple[float, ...]]] = []
    spent, seconds = 0, 0.0
    for number in numbers:
        while spent + plan.seeds <= number:
            began = time.perf_counter()
            config, seed = tool.ask()
            seconds += time.perf_counter() - began
            start = first if plan.shared else first + spent
            seeds = [seed] if seed is not None else range(start, start + plan.seeds)
            values = tuple(landscape.run(config, s) for s in seeds)
            spent += len(values)
            history.append((config, values))
            began = time.perf_counter()
            tool.tell(values)
            seconds += time.perf_counter() - began
        began = time.perf_counter()
        own = tool.choice()
        took = time.perf_counter() - began
        chosen = {"best": best(space, history), "model": by_model(space, history)}
        if own is not None:
            chosen["own"] = own
        yield Answer(
            number,
            round(seconds + took, 3),
            {rule: (landscape.mean(config), claim) for rule, (config, claim) in chosen.items()},
        )
    tool.close()


History = Sequence[tuple[Config, tuple[float, ...]]]


def grouped(space: SearchSpace, history: History) -> list[tuple[Config, tuple[float, ...]]]:
    """Return each configuration once, with all its values."""
    groups: dict[tuple[Any, ...], tuple[Config, tuple[float, ...]]] = {}
    for config, values in history:
        key = space.key(config)
        groups[key] = config, groups.get(key, (config, ()))[1] + values
    return list(groups.values())


def best(space: SearchSpace, history: History) -> tuple[Config, float]:
    """(configuration with the largest mean, that mean)."""
    groups = grouped(space, history)
    means = [math.fsum(values) / len(values) for _, values in groups]
    place = int(np.argmax(means))
    return groups[place][0], means[place]


def by_model(space: SearchSpace, history: History) -> tuple[Config, float]:
    """(configuration with the largest expectation, that expectation).

    As results/posterior.py does it; `best` if there is no model that explains enough.
    """
    groups = grouped(space, history)
    if len(groups) < LEAST_CONFIGURATIONS or len({v for _, values in groups for v in values}) == 1:
        return best(space, history)
    points = tuple(tuple(coordinates(space, config)) for config, _ in groups)
    model = fitted(points, tuple(values for _, values in groups), (True,) * len(points))
    if model.explained < LEAST_EXPLAINED:
        return best(space, history)
    place = int(np.argmax(model.means))
    return groups[place][0], model.means[place]


class Ours:
    """A sampler of this package, asked as a sweep asks it."""

    def __init__(self, space: SearchSpace, seed: int, runs: int, sampler: str) -> None:
        base = TrainConfig(dataset="seq-digits", evaluate_on="validation")
        self._config = SweepConfig(
            name="replay", space=space, base=base, sampler=sampler, seed=seed, trials=runs
        )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(direction="maximize")
        self._number = 0
        self._trial: optuna.Trial | None = None

    def ask(self) -> tuple[Config, None]:
        """Return the next trial's configuration."""
        # Trial 0 of a sweep is its base; here it is drawn, so that no tool has a head start.
        self._number += 1
        self._trial = asked(self._study, self._config, self._number)
        fixed = {} if "average_decay" in self._trial.params else {"average_decay": 0.0}
        return self._config.space.real(self._trial.params) | fixed, None

    def tell(self, values: Sequence[float]) -> None:
        """Complete the trial."""
        assert self._trial is not None
        self._study.tell(self._trial, math.fsum(values) / len(values))

    def choice(self) -> None:
        """Return None: the rules `best` and `model` are the package's own."""

    def close(self) -> None:
        """Do nothing: the study is in memory."""
