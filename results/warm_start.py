"""What an earlier sweep brings to a new one: its results where they mean the same, else its configurations."""

from collections.abc import Mapping
from typing import Any

import optuna

from dynamos.errors import UserError
from results.best import ranked, train_config
from results.protocols import images_of
from results.sweep_config import SweepConfig
from results.trial import IMPORTED, TrialRecord

DATA = ("data_hash", "validation_hash")  # of a sweep's record: what its results were measured on
# Of a configuration: what does not change what a result means.
WHERE = ("data_path", "device", "threads", "seed", "log_every")


def warm_start(study: optuna.Study, config: SweepConfig, record: Mapping[str, Any], trials: list[TrialRecord],
               earlier: SweepConfig, earlier_record: Mapping[str, Any]) -> None:
    """Adds to a new study what an earlier sweep knows; UserError where nothing of it lies in the new space.

    Results are added as finished trials, which no budget counts, where images and everything but the new space's
    fields agree. Otherwise the configurations, the best first, become points that are tried again, as many as leave
    half of the budget to the sampler.
    """
    if config.publishable and images_of(earlier.protocol) == "test":
        raise UserError(f"--warm-start {earlier.name}: it looked at test images, and what begins with that cannot "
                        "be published; say --protocol test, or begin with another sweep.")
    trials = [t for t in ranked(trials, earlier) if _fits(t, config, earlier)]
    if not trials:
        raise UserError(f"--warm-start {earlier.name}: none of its finished trials lies in the space "
                        f"{config.space.name} with this sweep's other settings.")
    name = earlier.name
    if all(earlier_record.get(hash_) == record.get(hash_) for hash_ in DATA) and all(
            _same_setting(t, config, earlier) for t in trials):
        for trial in trials:
            study.add_trial(_finished(trial, config, earlier, f"{IMPORTED}{name}/{trial.number}"))
        return
    for trial in trials[:max((config.trials - 1 - len(config.points)) // 2, 1)]:
        values = train_config(earlier, trial).to_dict()
        study.enqueue_trial(config.space.stored(values),
                            user_attrs={"source": f"warm-start:{name}/{trial.number}"})


def _fits(trial: TrialRecord, config: SweepConfig, earlier: SweepConfig) -> bool:
    """Whether a trial's values of the new space's fields lie in it."""
    values = train_config(earlier, trial).to_dict()
    return all(p.admits(values[p.name]) for p in config.space.parameters)


def _same_setting(trial: TrialRecord, config: SweepConfig, earlier: SweepConfig) -> bool:
    """Whether a trial trained what the new sweep's base trains, but for the new space's fields."""
    searched = [p.name for p in config.space.parameters]
    then, now = train_config(earlier, trial).to_dict(), config.base.to_dict()
    measured = [o.metric for o in config.objectives] + [c.metric for c in config.constraints]
    return all(trial.last(metric) is not None for metric in measured) and all(
        then[name] == now[name] for name in now if name not in searched and name not in WHERE)


def _finished(trial: TrialRecord, config: SweepConfig, earlier: SweepConfig, source: str) -> optuna.trial.FrozenTrial:
    values = train_config(earlier, trial).to_dict()
    results = {f"result/{seed}/{result['task']}": result
               for seed, of_seed in trial.results.items() for result in of_seed}
    constraints = {str(c): c.violation(value) for c in config.constraints
                   if (value := trial.last(c.metric)) is not None}
    return optuna.trial.create_trial(
        params=config.space.stored(values), distributions=config.space.distributions(),
        values=[trial.final(o.metric) for o in config.objectives], constraints=constraints,
        user_attrs={"source": source, **results})
