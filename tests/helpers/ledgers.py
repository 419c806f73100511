"""Ledgers for tests, filled without a driver or training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dynamos.config import TrainConfig, preset
from dynamos.metrics import TaskResult
from results.analysis.confirmation import CHOSEN
from results.definition.objectives import Objective
from results.definition.protocols import CONFIRMATION
from results.definition.sweep_config import SweepConfig
from results.ledger.ledger import Ledger
from results.trial import TrialRecord
from search_spaces.space import SearchSpace, read_space

SEED = 42
ONE = SearchSpace.from_dict("one", {"parameters": {"keep_ratio": {"low": 0.1, "high": 0.9}}})
LADDER = SearchSpace.from_dict(
    "confirmation", {"parameters": {"keep_ratio": {"choices": [0.7, 0.2, 0.4]}}}
)
FOUR = SearchSpace.from_dict(
    "four",
    {
        "parameters": {
            "lr": {"low": 0.01, "high": 1.0, "log": True},
            "keep_ratio": {"low": 0.5, "high": 1.0},
            "policy_penalty": {"low": -1000, "high": -10, "log": True},
            "warmup": {"choices": [True, False]},
        }
    },
)


def config(name: str = "s", **changes: Any) -> SweepConfig:
    """A small sweep; its trials share SEED, so that a test can report for it.

    Its sampler is quick.
    """
    base = TrainConfig(**preset("seq-digits", 200)).replace(evaluate_on="validation")
    fields: dict[str, Any] = {"name": name, "space": read_space("core"), "base": base, "trials": 4}
    fields |= {"seed_policy": "shared", "sampler": "tpe"}
    return SweepConfig(**fields | changes)


@contextmanager
def driven(ledger: Ledger) -> Iterator[Ledger]:
    """Yields the ledger with its lease taken, as a driver has it."""
    with ledger.driving():
        ledger.begin()
        yield ledger


def begun(ledger: Ledger) -> TrialRecord:
    """Start the ledger's next trial and return it."""
    asked = ledger.ask()
    ledger.start(asked.number, asked.attempt)
    return ledger.trial(asked.number)


def result(task: int = 0, n_tasks: int = 1, /, **values: Any) -> TaskResult:
    """Return a TaskResult with likely values, except for those that are given. The prefix of an
    accuracy, as in val_class_il, decides the evaluation images."""
    images = "test" if any(name.startswith("test_") for name in values) else "validation"
    values = {name.removeprefix("val_").removeprefix("test_"): v for name, v in values.items()}
    accuracy = values.get("class_il", 50.0)
    likely = {
        "class_il": accuracy,
        "task_il": 99.0,
        "class_il_row": [accuracy] * min(task + 2, n_tasks),
        "task_il_row": [99.0] * min(task + 2, n_tasks),
        "forgetting": 0.0,
        "backward_transfer": 0.0,
        "forward_transfer": 0.0,
        "keep_fraction": 1.0,
        "keep_per_gate": [],
        "keep_per_task": [[]] * (task + 1),
        "policy_entropy": 0.0,
        "macs": 1e6,
        "compute": 1.0,
        "train_loss": 1.0,
        "train_accuracy": 90.0,
        "steps": 10,
        "train_seconds": 1.0,
        "eval_seconds": 0.1,
        "learning_accuracy": accuracy,
    }
    whole = {"task": task, "n_tasks": n_tasks, "evaluated_on": images} | likely | values
    return TaskResult.from_dict(whole)


def report(ledger: Ledger, number: int, *values: float, seed: int = SEED, first: int = 0) -> None:
    for task, value in enumerate(values, start=first):
        ledger.add_result(
            number, ledger.trial(number).attempt, seed, result(task, 2, val_class_il=value)
        )


def complete(ledger: Ledger, *values: float) -> int:
    number = begun(ledger).number
    report(ledger, number, *values)
    ledger.finish(number, "COMPLETE")
    return number


def confirmed(
    folder: Path, *rows: list[float] | str, of: dict[str, int] | None = None
) -> tuple[Ledger, Ledger]:
    """Return (a sweep, its confirmation). Each row has the values of test_class_il of a
    configuration by seed, or the state in which it ended."""
    sweep = Ledger.create(folder, config(space=ONE), {})
    seeds = max((len(row) for row in rows if isinstance(row, list)), default=1)
    base = TrainConfig(**preset("seq-digits", 200)).replace(keep_ratio=0.7, seed=100)
    points = tuple({"keep_ratio": value} for value in (0.2, 0.4))[: len(rows) - 1]
    made = config(
        "s-confirm-1",
        space=LADDER,
        base=base,
        protocol=CONFIRMATION,
        confirms="s",
        sampler="random",
        objectives=(Objective.parse("test_class_il"),),
        seeds=seeds,
        points=points,
        trials=len(rows),
    )
    numbers = of or {str(n): 10 + n for n in range(1, len(rows))}
    sweep.enter_look("s-confirm-1", {"at": "now", "configurations": len(rows), "seeds": [100]})
    with driven(Ledger.create(folder, made, {CHOSEN: numbers, "baseline": "the preset"})) as ledger:
        for row in rows:
            number = ledger.ask().number
            if isinstance(row, str):
                ledger.finish(number, row, "non-finite: logits")
                continue
            for seed, value in zip(made.training_seeds, row, strict=True):
                ledger.add_result(number, 1, seed, result(test_class_il=value, compute=0.5))
            ledger.finish(number, "COMPLETE")
    return sweep, Ledger.open(folder, "s-confirm-1")


def swept(
    storage: Path, *points: dict[str, Any], values: tuple[float, ...] = (), **changes: Any
) -> Ledger:
    """A sweep of two seeds and three tasks: trial 0, then the points. Each trial ends with its
    value. Accuracies and keep fractions grow with the seed."""
    made = config(
        space=FOUR, sampler="random", seeds=2, trials=len(points) + 1, points=points, **changes
    )
    with driven(Ledger.create(storage, made, {"id": "7", "versions": {"torch": "9.9"}})) as there:
        for value in values:
            number = begun(there).number
            for seed in (0, 1):
                for task, row in enumerate(((90, 1), (70, 80, 2), (50, 60, 70))):
                    told: dict[str, Any] = {name: float(value + seed) for name in made.metrics}
                    told["compute"] = 1 / (1 + number)
                    told["class_il_row"] = [one + 2 * seed for one in row]
                    told["keep_per_task"] = [
                        [0.5 + t / 10 + g / 100 + 0.02 * seed for g in range(4)]
                        for t in range(task + 1)
                    ]
                    there.add_result(number, 1, 42 + seed, result(task, 3, **told))
            there.finish(number, "COMPLETE")
    return Ledger.open(storage, "s")


def lucky(folder: Path) -> Ledger:
    """A finished sweep of the space ONE. Its values are a parabola with its maximum at 0.5, with
    noise, except for one lucky reading, the best, far from the maximum."""
    ratios = [0.1 + 0.04 * i for i in range(20)]
    points = tuple({"keep_ratio": ratio} for ratio in ratios if round(ratio, 2) != 0.7)  # the base
    noise = np.random.default_rng(1).normal(0, 1, 20)
    made = config(space=ONE, sampler="random", trials=20, points=points)
    with driven(Ledger.create(folder, made, {})) as there:
        for e in noise:
            number = there.ask().number
            ratio = there.trial(number).config["keep_ratio"]
            value = 86.0 if round(ratio, 2) == 0.18 else 80 - 156.25 * (ratio - 0.5) ** 2 + e
            there.add_result(number, 1, SEED, result(val_class_il=float(value)))
            there.finish(number, "COMPLETE")
    return there
