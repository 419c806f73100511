"""Searches of other tools, asked over standard input; runs in the environment of the peers.

It needs nothing of this project. Each request and each answer is a JSON object on a line:

    {"do": "begin", "tool": ..., "parameters": [...], "seed": ..., "runs": ...}   {}
    {"do": "ask"}                        {"config": {...}, "seed": an integer or null}
    {"do": "tell", "values": [...]}      {}
    {"do": "choice"}                     {"config": {...}, "value": ...}

Larger values are better.
"""

import json
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

Parameters = list[dict[str, Any]]


class Optuna:
    """Optuna with one of its samplers, with its defaults; its choice is the best observed."""

    def __init__(self, sampler: str, parameters: Parameters, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        made = {"tpe": optuna.samplers.TPESampler, "gp": optuna.samplers.GPSampler}[sampler]
        self._study = optuna.create_study(direction="maximize", sampler=made(seed=seed))
        self._space: dict[str, Any] = {
            p["name"]: optuna.distributions.CategoricalDistribution(p["choices"])
            if p["choices"]
            else optuna.distributions.FloatDistribution(p["low"], p["high"], log=p["log"])
            for p in parameters
        }
        self._trial: Any = None

    def ask(self) -> dict[str, Any]:
        """Return the next trial."""
        self._trial = self._study.ask(self._space)
        return {"config": self._trial.params, "seed": None}

    def tell(self, values: list[float]) -> None:
        """Tell the mean."""
        self._study.tell(self._trial, sum(values) / len(values))

    def choice(self) -> dict[str, Any]:
        """Return the best trial."""
        return {"config": self._study.best_params, "value": self._study.best_value}


class Smac:
    """SMAC3's facade for hyperparameter optimisation, whose intensifier gives seeds.

    Its scenario is not deterministic, as its documentation says for noisy targets. The choice is
    the incumbent, its value the mean of the incumbent's runs.
    """

    def __init__(self, parameters: Parameters, seed: int, runs: int) -> None:
        from ConfigSpace import Categorical, ConfigurationSpace, Float
        from smac import HyperparameterOptimizationFacade, Scenario

        space = ConfigurationSpace(seed=seed)
        for p in parameters:
            if p["choices"]:
                space.add(Categorical(p["name"], p["choices"], ordered=True))
            else:
                space.add(Float(p["name"], (p["low"], p["high"]), log=p["log"]))
        self._folder = tempfile.TemporaryDirectory()
        scenario = Scenario(
            space,
            deterministic=False,
            n_trials=runs,
            seed=seed,
            output_directory=Path(self._folder.name),
        )
        self._facade = HyperparameterOptimizationFacade(
            scenario, lambda config, seed: 0.0, overwrite=True, logging_level=logging.ERROR
        )
        self._info: Any = None

    def ask(self) -> dict[str, Any]:
        """Return the next configuration and its seed."""
        self._info = self._facade.ask()
        return {"config": _plain(self._info.config), "seed": self._info.seed}

    def tell(self, values: list[float]) -> None:
        """Tell the cost, which is the distance from 100."""
        from smac.runhistory.dataclasses import TrialValue

        self._facade.tell(self._info, TrialValue(cost=100 - values[0]))

    def choice(self) -> dict[str, Any]:
        """Return the incumbent."""
        incumbent = self._facade.intensifier.get_incumbent()
        cost = self._facade.runhistory.average_cost(incumbent)
        return {"config": _plain(incumbent), "value": 100 - float(cost)}


class Ax:
    """Ax's Client with its default strategy.

    Values are given without a standard error, so Ax estimates the noise, as its documentation says
    for noise of unknown size. Its choice is its best parameterization, by the model's prediction
    where the model is good enough for Ax, else the best observed.
    """

    def __init__(self, parameters: Parameters, seed: int) -> None:
        from ax.api.client import Client
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

        self._client = Client(random_seed=seed)
        self._client.configure_experiment(
            name="replay",
            parameters=[
                ChoiceParameterConfig(
                    name=p["name"], parameter_type="float", values=p["choices"], is_ordered=True
                )
                if p["choices"]
                else RangeParameterConfig(
                    name=p["name"],
                    parameter_type="float",
                    bounds=(p["low"], p["high"]),
                    scaling="log" if p["log"] else "linear",
                )
                for p in parameters
            ],
        )
        self._client.configure_optimization(objective="value")
        self._trial = 0

    def ask(self) -> dict[str, Any]:
        """Return the next trial."""
        ((self._trial, config),) = self._client.get_next_trials(max_trials=1).items()
        return {"config": _plain(config), "seed": None}

    def tell(self, values: list[float]) -> None:
        """Complete the trial with the mean."""
        self._client.complete_trial(self._trial, raw_data={"value": sum(values) / len(values)})

    def choice(self) -> dict[str, Any]:
        """Return the best parameterization."""
        config, found, _, _ = self._client.get_best_parameterization()
        value = found["value"]
        mean = value[0] if isinstance(value, tuple) else value
        return {"config": _plain(config), "value": float(mean)}


def _plain(config: Any) -> dict[str, float]:
    """A configuration whose values are plain numbers."""
    return {name: float(value) for name, value in dict(config).items()}


def begun(request: dict[str, Any]) -> Any:
    """Return the search that a request wants."""
    parameters, seed = request["parameters"], request["seed"]
    tool = request["tool"]
    if tool == "smac":
        return Smac(parameters, seed, request["runs"])
    if tool == "ax":
        return Ax(parameters, seed)
    return Optuna(tool.removeprefix("optuna-"), parameters, seed)


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    search: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        if request["do"] == "begin":
            search = begun(request)
        elif request["do"] == "ask":
            answer = search.ask()
        elif request["do"] == "tell":
            search.tell(request["values"])
        else:
            answer = search.choice()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
