"""Studies in memory for tests of suggestions."""

from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from results.definition.sweep_config import SweepConfig
from results.ledger.asking import asked


def searched(
    value: Callable[[dict[str, Any]], float],
    made: SweepConfig,
    trials: int,
    before: Sequence[FrozenTrial] = (),
) -> optuna.Study:
    """A study in memory with so many trials of a sweep, one after the other."""
    study = optuna.create_study(direction="maximize")
    study.add_trials(before)
    if not before:
        study.enqueue_trial(made.space.stored(made.base.to_dict()))
    for number in range(len(before), trials):
        trial = asked(study, made, number)
        study.tell(trial, value(made.space.real(trial.params)))
    return study
