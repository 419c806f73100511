"""Comparison of sweeps: the best trial of each, at equal budgets, and the differences."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from dynamos.config import TrainConfig
from dynamos.errors import UserError
from dynamos.streams.classes import most_tasks
from results.analysis.difference import Difference, difference
from results.analysis.sampling_error import images_behind
from results.choice import reported_config
from results.definition.sweep_config import SweepConfig
from results.ledger.warm_start import DATA
from results.names import ENDED
from results.sweep import Sweep
from results.trial import TrialRecord
from results.wording import count, duration, mean_and_spread, number

BUDGETS = ("trials", "cpu_seconds", "gpu_seconds")  # kinds of budget
_SETTINGS: dict[str, Callable[[SweepConfig], Any]] = {
    "space": lambda c: c.space.name,
    "protocol": lambda c: c.protocol,
    "sampler": lambda c: c.sampler,
    "pruner": lambda c: c.pruner,
    "seeds": lambda c: c.seeds,
}
# Settings that make a stream: values of different streams have no common scale.
_STREAM: dict[str, Callable[[TrainConfig], Any]] = {
    "stream": lambda b: b.dataset,
    "n_tasks": lambda b: b.n_tasks or most_tasks(b),
    "classes_per_task": lambda b: b.classes_per_task,
    "class_order_seed": lambda b: b.class_order_seed,
    "max_train_images_per_task": lambda b: b.max_train_images_per_task,
}

Row = tuple[str, list[str]]  # its label; the text of each sweep


@dataclass(frozen=True, slots=True)
class Step:
    """State of a sweep when a trial ended: trials ended, their cost, and the best of them."""

    trials: int
    cpu_seconds: float
    gpu_seconds: float
    best: TrialRecord | None

    def spent(self, kind: str) -> float:
        """The used amount of a budget of the kind, one of BUDGETS."""
        return float(getattr(self, kind))


@dataclass(frozen=True, slots=True)
class Compared:
    """A sweep of a comparison."""

    sweep: Sweep
    # one per ended trial, in the order of their ends; before them one for imported results
    steps: tuple[Step, ...]

    @property
    def config(self) -> SweepConfig:
        """The sweep's configuration."""
        return self.sweep.config

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.config.name

    @property
    def best(self) -> TrialRecord | None:
        """The best of all trials; None if none can be chosen."""
        return self.steps[-1].best if self.steps else None

    def at(self, kind: str, budget: float) -> TrialRecord | None:
        """Return the best trial that had ended within a budget; None if none had."""
        within = [step for step in self.steps if step.spent(kind) <= budget]
        return within[-1].best if within else None

    def spent(self, kind: str) -> float:
        """Return the amount of a budget of the kind, one of BUDGETS, that the ended trials used."""
        return self.steps[-1].spent(kind) if self.steps else 0.0


def compared(sweeps: list[Sweep]) -> list[Compared]:
    """Return the sweeps for a comparison, in order.

    Raises UserError if first objectives differ or one is a confirmation.
    """
    for sweep in sweeps:
        if sweep.config.confirms is not None:
            raise UserError(
                f"{sweep.config.name!r} is a confirmation, which has no best trial; see the "
                f"report of {sweep.config.confirms!r}."
            )
    for one, other in pairwise(sweeps):
        if one.config.objectives[0] != other.config.objectives[0]:
            raise UserError(
                f"{one.config.name!r} seeks {one.config.objectives[0]} and {other.config.name!r} "
                f"{other.config.objectives[0]}: they cannot be compared."
            )
    return [Compared(sweep, _anytime(sweep)) for sweep in sweeps]


def comparison_rows(sweeps: list[Compared]) -> list[list[Row]]:
    """Return the rows of three sections.

    They are: settings and cost; the best trials, also at equal budgets; the fields that differ.
    """
    metric = sweeps[0].config.objectives[0].metric
    states = [Counter(t.state for t in s.sweep.own) for s in sweeps]
    streams = [(what, [str(of(s.config.base)) for s in sweeps]) for what, of in _STREAM.items()]
    settings = [
        (what, values) for what, values in streams if what == "stream" or len(set(values)) > 1
    ]
    settings += [(what, [str(of(s.config)) for s in sweeps]) for what, of in _SETTINGS.items()]
    ended = [(state.lower(), [str(of[state]) for of in states]) for state in ENDED]
    cost = [
        (f"{kind[:3].upper()} time", [duration(s.spent(kind)) for s in sweeps])
        for kind in BUDGETS[1:]
    ]
    found = [(f"best {metric}", [_of(s.best, metric) for s in sweeps])]
    images = [
        "" if s.best is None else images_behind(s.best, metric, s.sweep.record) for s in sweeps
    ]
    found += [("measured on", images)] if any(images) else []
    for kind in BUDGETS:
        budget = common_budget(sweeps, kind)
        if budget > 0:
            amount = (
                f"{budget:g} trials"
                if kind == "trials"
                else f"{duration(budget)} of {kind[:3].upper()}s"
            )
            found.append((f"after {amount}", [_of(s.at(kind, budget), metric) for s in sweeps]))
    shifted = [
        (name, ["" if value is None else number(value) for value in values])
        for name, values in shifts(sweeps).items()
    ]
    return [[*settings, *ended, *cost], found, shifted]


def comparison_sentences(sweeps: list[Compared]) -> list[str]:
    """Return sentences on the difference of the best, pair by pair, and those of `incomparable`."""
    texts = []
    for one, other in pairwise(sweeps):
        if (found := lead(one, other)) is not None:
            metric = one.config.objectives[0].metric
            texts.append(
                f"The best of {one.name} compared with the best of {other.name}: "
                f"{found.shown_mean(metric)} "
                f"on {count(found.n, 'shared seed')}. {found.chance(metric)} Both were chosen by "
                "these numbers. To measure how they generalise, run dynamos-sweep confirm."
            )
    return texts + incomparable([s.sweep for s in sweeps])


def incomparable(sweeps: list[Sweep]) -> list[str]:
    """Return sentences on differences that make values incomparable: protocol, stream, images."""
    found = []
    for one, other in pairwise(sweeps):
        pair = f"{one.config.name} and {other.config.name}"
        if one.config.protocol != other.config.protocol:
            found.append(
                f"{pair} have different protocols: {one.config.protocol} and "
                f"{other.config.protocol}."
            )
        found += [
            f"{pair} have different {'streams' if what == 'stream' else what}: {a} and {b}."
            for what, (a, b) in _streams_apart(one.config, other.config).items()
        ]
        if any(one.record.get(name) != other.record.get(name) for name in DATA):
            found.append(f"{pair} were measured on different images.")
    return found


def common_budget(sweeps: list[Compared], kind: str) -> float:
    """Return the largest budget of a kind that every sweep has used; 0 if one has not started."""
    return min((sweep.spent(kind) for sweep in sweeps), default=0.0)


def lead(one: Compared, other: Compared) -> Difference | None:
    """Return the difference of the best of two sweeps over the seeds that both trained.

    None if they share no seed, and for sweeps on different streams. Both trials were chosen by
    these numbers, so the difference favours the sweep with more trials. A confirmation avoids this.
    """
    if one.best is None or other.best is None or _streams_apart(one.config, other.config):
        return None
    metric = one.config.objectives[0].metric
    shared = [seed for seed in one.best.results if seed in other.best.results]
    values = [
        dict(zip(trial.results, trial.by_seed(metric), strict=True))
        for trial in (one.best, other.best)
    ]
    return (
        difference(*([of_seed[seed] for seed in shared] for of_seed in values)) if shared else None
    )


def shifts(sweeps: list[Compared]) -> dict[str, list[Any]]:
    """Return the fields in which the sweeps' best configurations differ, with the value of each.

    The value is None for a sweep without a best trial.
    """
    trained = [
        None if s.best is None else reported_config(s.config, s.best).to_dict() for s in sweeps
    ]
    known = [values for values in trained if values is not None]
    names = [
        name
        for name in dict.fromkeys(name for values in known for name in values)
        if name != "seed" and len({str(values.get(name)) for values in known}) > 1
    ]
    return {
        name: [None if values is None else values.get(name) for values in trained] for name in names
    }


def _streams_apart(one: SweepConfig, other: SweepConfig) -> dict[str, tuple[Any, Any]]:
    """The fields of _STREAM in which two sweeps differ, with both values."""
    both = {what: (of(one.base), of(other.base)) for what, of in _STREAM.items()}
    return {what: (a, b) for what, (a, b) in both.items() if a != b}


def _anytime(sweep: Sweep) -> tuple[Step, ...]:
    ended = sorted(
        (t for t in sweep.own if t.ended_at is not None),
        key=lambda t: (t.ended_at, t.number),
    )
    taken = [t for t in sweep.records if t.imported]
    # imported results cost nothing
    steps = [Step(0, 0.0, 0.0, replace(sweep, records=taken).leader)] if taken else []
    for trial in ended:
        before = steps[-1] if steps else Step(0, 0.0, 0.0, None)
        rivals = [trial] if before.best is None else [before.best, trial]
        if sweep.config.repeats:  # a configuration counts by all its runs so far
            rivals = taken + ended[: before.trials + 1]
        steps.append(
            Step(
                before.trials + 1,
                before.cpu_seconds + trial.cpu_seconds,
                before.gpu_seconds + trial.gpu_seconds,
                replace(sweep, records=rivals).leader,
            )
        )
    return tuple(steps)


def _of(trial: TrialRecord | None, metric: str) -> str:
    return "" if trial is None else f"{mean_and_spread(trial, metric)} ({trial.label})"
