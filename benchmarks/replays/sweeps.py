"""A whole sweep of this package on a surrogate: its ledger, further runs, race and choice."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks.replays.searches import Config
from dynamos.config import TrainConfig
from dynamos.metrics import TaskResult
from results.choice import Choice, chosen
from results.definition.sweep_config import SweepConfig
from results.ledger.ledger import Ledger
from results.posterior import posterior
from results.strategy.cube import config_of
from results.sweep import Sweep
from results.trial import TrialRecord
from search_spaces.space import SearchSpace

METRIC = "val_class_il"
# Of a run only this metric is known. The others are those of one that learned a single task.
NOTHING: dict[str, Any] = {
    "task": 0,
    "n_tasks": 1,
    "evaluated_on": "validation",
    "task_il": None,
    "class_il_row": (),
    "task_il_row": (),
    "forgetting": None,
    "backward_transfer": None,
    "forward_transfer": None,
    "keep_fraction": 1.0,
    "keep_per_gate": (),
    "keep_per_task": (),
    "policy_entropy": 0.0,
    "macs": 1.0,
    "compute": 1.0,
    "train_loss": 0.0,
    "train_accuracy": 0.0,
    "steps": 1,
    "train_seconds": 0.0,
    "eval_seconds": 0.0,
}


class Swept:
    """A sweep with a ledger in a temporary folder; its choice is the sweep's."""

    def __init__(self, space: SearchSpace, seed: int, runs: int, **strategy: Any) -> None:
        """Begin a sweep.

        Args:
            space: of the sweep.
            seed: of the sweep. It also draws the base, because a preset would be a head start.
            runs: budget of trials, each of which has one seed.
            strategy: fields of SweepConfig.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        draws = np.random.default_rng([seed, 1])
        base = TrainConfig(
            dataset="seq-digits",
            evaluate_on="validation",
            seed=0,
            **config_of(space, draws.random(len(space.parameters))),
        )
        self._first = 1_000_000 * (seed + 1)
        self._opened = ExitStack()
        folder = self._opened.enter_context(tempfile.TemporaryDirectory())
        config = SweepConfig(
            name="replay", space=space, base=base, seed=seed, trials=runs, **strategy
        )
        self._ledger = Ledger.create(Path(folder), config, {})
        self._opened.enter_context(self._ledger.driving())
        self._ledger.begin()
        self._trial: TrialRecord | None = None

    def ask(self) -> tuple[Config, int]:
        """Return the next trial's configuration and seed."""
        self._trial = self._ledger.ask()
        assert self._trial.seed is not None
        return {"average_decay": 0.0} | self._trial.config, self._first + self._trial.seed

    def tell(self, values: Sequence[float]) -> None:
        """Complete the trial."""
        trial, (value,) = self._trial, values
        assert trial is not None and trial.seed is not None
        self._ledger.start(trial.number, trial.attempt)
        result = TaskResult(class_il=value, **NOTHING)
        self._ledger.add_result(trial.number, trial.attempt, trial.seed, result)
        self._ledger.finish(trial.number, "COMPLETE")

    def choice(self) -> tuple[Config, float]:
        """Return what the sweep chooses, and the value that it shows for it."""
        sweep = Sweep.of(self._ledger)
        trial, model = chosen(sweep, Choice())[0], posterior(sweep)
        estimate = model.of(trial) if model is not None and model.useful else None
        value = trial.final(METRIC) if estimate is None else estimate.expected
        return {"average_decay": 0.0} | trial.config, value

    def close(self) -> None:
        """Remove its folder."""
        self._opened.close()
