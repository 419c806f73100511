"""Start of a sweep: trial 0, the points to try first, and the warm start from an earlier sweep.

A warm start imports the results of the earlier sweep where they mean the same, else its
configurations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import optuna

from dynamos.config import unused
from dynamos.errors import UserError
from results.choice import broken_by, train_config
from results.definition.protocols import images_of
from results.definition.sweep_config import SweepConfig
from results.ledger.stored_trial import stored_result
from results.names import IMPORTED
from results.strategy.samplers import RANGE_SAMPLERS, grid, grid_size, random_trials
from results.sweep import Sweep, in_order
from results.trial import TrialRecord
from results.wording import count

# keys of a sweep's record: hashes of the images behind its results
DATA = ("data_hash", "validation_hash")
# Fields of a configuration that do not change the meaning of a result.
WHERE = ("data_path", "device", "threads", "seed", "log_every")


@dataclass
class Beginning:
    """First trials of a sweep, in the order of their numbers.

    Attributes:
        config: the sweep's configuration.
        trials: (source, configuration) to try, or a trial that another sweep finished.
        notes: omissions and unexpected traits of the search, in sentences.
    """

    config: SweepConfig
    trials: list[tuple[str, dict[str, Any]] | optuna.trial.FrozenTrial] = field(
        default_factory=list
    )
    notes: list[str] = field(default_factory=list)
    # of the trials so far, by the space's key
    _sources: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def same(self, values: Mapping[str, Any]) -> str | None:
        """Return the source of the trial that already has these values; None if none has."""
        return self._sources.get(self.config.space.key(values))

    def add(
        self,
        source: str,
        values: Mapping[str, Any],
        finished: optuna.trial.FrozenTrial | None = None,
    ) -> None:
        """Add a new configuration, or a finished trial of it."""
        self._sources[self.config.space.key(values)] = source
        self.trials.append(finished or (source, dict(values)))


def beginning(
    config: SweepConfig,
    record: Mapping[str, Any],
    earlier: Sweep | None,
) -> Beginning:
    """Return the first trials of a new sweep, each configuration once.

    `earlier` is the sweep of the warm start. If its images and all fields outside the new space
    agree, and it has at least as many seeds, its results are added as finished trials, which do not
    count in any budget. Otherwise its best configurations are tried again, with at most half of the
    budget. Raises UserError if none of its trials lies in the new space.
    """
    begins, base = Beginning(config), config.base.to_dict()
    taken = [] if earlier is None else _taken(config, earlier)
    imports = earlier is not None and _means_the_same(config, record, earlier, taken)
    results: dict[tuple[Any, ...], tuple[str, Mapping[str, Any], optuna.trial.FrozenTrial]] = {}
    if imports:
        for trial, values in taken:
            source = f"{IMPORTED}{config.warm_start}/{trial.number}"
            results.setdefault(
                config.space.key(values), (source, values, _finished(trial, values, config, source))
            )
    first = results.pop(config.space.key(base), None)
    if first is not None:
        begins.add(*first)
        begins.notes.append(
            f"trial 0 is not trained: it has the results of trial {_their_number(first[0])} of "
            f"{config.warm_start}, on the same images and with the same settings."
        )
    else:
        begins.add("preset" if config.base_is_preset else "base", base)
    for number, point in enumerate(config.points, start=1):
        values = base | point
        there = (
            results[config.space.key(values)][0]
            if config.space.key(values) in results
            else begins.same(values)
        )
        if there is not None:
            begins.notes.append(
                f"`points`, configuration {number} is skipped, because it equals {there}."
            )
        else:
            begins.add(f"points:{number}", values)
    for found in results.values():
        begins.add(*found)
    if taken and not imports:
        _try_again(begins, taken)
    begins.notes += config.space.notes + _forbidden(config, earlier) + _of_sampler(begins)
    return begins


def _try_again(begins: Beginning, taken: Sequence[tuple[TrialRecord, dict[str, Any]]]) -> None:
    """Add an earlier sweep's best configurations, for at most half of the budget.

    Those that broke the new sweep's constraints are left out, unless all did.
    """
    config, added = begins.config, 0
    kept = [(trial, values) for trial, values in taken if _keeps(config, trial)]
    for trial, values in kept or taken:
        if added == max((config.trials - len(begins.trials) + added) // 2, 1):
            return
        if (there := begins.same(values)) is not None:
            begins.notes.append(
                f"`warm_start`: trial {trial.number} of {config.warm_start} is not tried again, "
                f"because its configuration equals {there}."
            )
            continue
        begins.add(f"warm-start:{config.warm_start}/{trial.number}", values)
        added += 1


def _forbidden(config: SweepConfig, earlier: Sweep | None) -> list[str]:
    """Notes on configurations that the space forbids and that are therefore left out."""
    space, notes = config.space, list[str]()
    if not space.forbid:
        return notes
    rules = "; ".join(map(str, space.forbid))
    if earlier is not None:
        out = [
            t.number
            for t, values in _known(config, earlier)
            if _admitted(config, values) and space.forbids(values) is not None
        ]
        if out:
            notes.append(
                f"`warm_start`: {count(len(out), 'trial')} of {earlier.config.name} "
                f"({', '.join(map(str, sorted(out)[:10]))}{', ...' if len(out) > 10 else ''}) "
                f"{'is' if len(out) == 1 else 'are'} left out, because the space forbids {rules}."
            )
    if config.sampler == "grid":
        whole, left = grid_size(space, config.grid_levels), len(grid(space, config.grid_levels))
        if left < whole:
            notes.append(
                f"{whole - left} of the grid's {count(whole, 'point')} "
                f"{'is' if whole - left == 1 else 'are'} left out, because the space forbids "
                f"{rules}."
            )
    return notes


def _of_sampler(begins: Beginning) -> list[str]:
    """Notes on behaviour of the sampler that users may not expect with this space and budget."""
    config, space, notes = begins.config, begins.config.space, list[str]()
    if config.confirms is not None:
        return notes
    imported = sum(not isinstance(trial, tuple) for trial in begins.trials)
    if config.sampler == "grid":
        points = grid(space, config.grid_levels)
        fit, left = (
            config.trials - len(begins.trials) + imported,
            sum(begins.same(point) is None for point in points),
        )
        if fit < left:
            notes.append(
                f"`trials` {config.trials} covers only {len(points) - left + fit} of the grid's "
                f"{len(points)} points, spread over the whole grid. For all points: `trials` "
                f"{config.trials + left - fit}."
            )
    elif space.size is not None and space.size - imported < config.trials:
        notes.append(
            f"the space {space.name} has {count(space.size, 'configuration')}. Each is trained "
            f"once, so the sweep ends after {count(space.size - imported, 'trial')}, not "
            f"{config.trials}. For several seeds per configuration use `seeds`."
        )
    needed = random_trials(config.sampler, config.trials)
    most = config.trials + imported
    if min(most, most if space.size is None else space.size) <= needed:
        # The note does not name the budget, because it may grow.
        notes.append(
            f"`sampler` {config.sampler} draws at random until {needed} trials have ended; a sweep "
            f"of at most {needed} trials is random search."
        )
    at_random = [p.name for p in space.parameters if p.choices is not None and len(p.choices) > 1]
    if config.sampler in RANGE_SAMPLERS and at_random:
        notes.append(
            f"`sampler` {config.sampler} supports only ranges: {', '.join(at_random)} "
            f"{'is' if len(at_random) == 1 else 'are'} drawn at random from the choices."
        )
    return notes


def _taken(config: SweepConfig, earlier: Sweep) -> list[tuple[TrialRecord, dict[str, Any]]]:
    """The earlier sweep's COMPLETE trials in the new space, with all fields.

    Those that keep the new sweep's constraints come first, the best first.
    """
    name = earlier.config.name
    if config.publishable and images_of(earlier.config.protocol) == "test":
        raise UserError(
            f"`warm_start` {name}: it used test images, so a sweep that starts from it is "
            "not publishable; use `protocol` test, or another sweep."
        )
    fitting = [
        (t, values)
        for t, values in _known(config, earlier)
        if _admitted(config, values) and config.space.forbids(values) is None
    ]
    if not fitting:
        raise UserError(
            f"`warm_start` {name}: none of its finished trials has values that the "
            f"space {config.space.name} and this sweep's other settings allow."
        )
    return fitting


def _known(config: SweepConfig, earlier: Sweep) -> list[tuple[TrialRecord, dict[str, Any]]]:
    """The earlier sweep's COMPLETE configurations with all fields, as `_taken` orders them."""
    # a configuration with all its runs
    own = replace(earlier, records=earlier.own).configurations
    best_first = in_order(own, earlier.config.objectives)
    return [
        (t, train_config(earlier.config, t).to_dict())
        for t in sorted(best_first, key=lambda t: not _keeps(config, t))
    ]


def _admitted(config: SweepConfig, values: Mapping[str, Any]) -> bool:
    """True if all searched fields that are active lie in their ranges."""
    return all(p.admits(values.get(p.name)) for p in config.space.active(values))


def _keeps(config: SweepConfig, trial: TrialRecord) -> bool:
    """True if a trial of another sweep keeps those constraints of this one whose metrics it has."""
    finals = {c.metric: trial.last(c.metric) for c in config.constraints}
    known = {metric: value for metric, value in finals.items() if value is not None}
    return not broken_by([c for c in config.constraints if c.metric in known], known)


def _means_the_same(
    config: SweepConfig,
    record: Mapping[str, Any],
    earlier: Sweep,
    taken: Sequence[tuple[TrialRecord, dict[str, Any]]],
) -> bool:
    """True if these trials have the new sweep's images, settings and at least as many seeds."""
    return (
        earlier.config.seeds >= config.seeds
        and all(earlier.record.get(hash_) == record.get(hash_) for hash_ in DATA)
        and all(_same_setting(trial, values, config) for trial, values in taken)
    )


def _same_setting(trial: TrialRecord, then: Mapping[str, Any], config: SweepConfig) -> bool:
    """True if a trial has the new sweep's metrics and, outside the searched fields, its base."""
    now = config.base.to_dict()
    # what the method does not use may differ; other inactive fields must have the base's values
    free = [p.name for p in config.space.active(then)]
    free += [p.name for p in config.space.parameters if p.name in unused(then["model"])]
    measured = [o.metric for o in config.objectives] + [c.metric for c in config.constraints]
    return all(trial.last(metric) is not None for metric in measured) and all(
        then.get(name) == now[name] for name in now if name not in free and name not in WHERE
    )


def _finished(
    trial: TrialRecord, values: Mapping[str, Any], config: SweepConfig, source: str
) -> optuna.trial.FrozenTrial:
    results = {
        f"result/{seed}/{result.task}": stored_result(result, at)
        for seed, of_seed in trial.results.items()
        for result, at in zip(of_seed, trial.recorded_at[seed], strict=True)
    }
    constraints = {
        str(c): c.violation(value)
        for c in config.constraints
        if (value := trial.last(c.metric)) is not None
    }
    params = config.space.stored(values)
    return optuna.trial.create_trial(
        params=params,
        distributions={n: d for n, d in config.space.distributions().items() if n in params},
        values=[trial.final(o.metric) for o in config.objectives],
        constraints=constraints,
        user_attrs={"source": source, **results},
    )


def _their_number(source: str) -> str:
    return source.rpartition("/")[2]
