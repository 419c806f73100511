"""Shell completion for the words of `dynamos-sweep`'s command line."""

import argparse
import importlib
from collections.abc import Callable
from typing import Any

from dynamos.errors import DynamosError
from dynamos.files import any_path
from results import STORAGE, sweep_names

# By flag: the registry of its allowed values, which is imported when it is needed.
_REGISTRIES = {
    "dataset": "dynamos.streams.names:DATASETS",
    "settings": "dynamos.config:FIELDS",
    "report_on": "dynamos.config:FIELDS",
    "objectives": "results.definition.objectives:OBJECTIVES",
    "constraints": "results.definition.objectives:OBJECTIVES",
    "protocol": "results.definition.protocols:PROTOCOLS",
    "pruner": "results.strategy.pruners:PRUNERS",
    "choose": "results.choice:RULES",
    "sampler": "results.strategy.samplers:SAMPLERS",
}


def add_completions(command: argparse.ArgumentParser) -> None:
    """Add completion to the arguments of a command that name a sweep or an entry of a registry."""
    for action in command._actions:
        if action.dest == "warm_start" or action.metavar == "NAME" and not action.option_strings:
            action.completer = _sweeps  # type: ignore[attr-defined]
        elif action.dest in _REGISTRIES:
            action.completer = _registered(action.dest)  # type: ignore[attr-defined]


def _sweeps(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    try:
        return sweep_names(any_path(getattr(parsed_args, "storage", None) or STORAGE))
    except (DynamosError, OSError):  # a completion shows no errors
        return []


def _registered(flag: str) -> Callable[..., list[str]]:
    module, _, registry = _REGISTRIES[flag].partition(":")

    def find(**_: Any) -> list[str]:
        names = getattr(importlib.import_module(module), registry)
        return [f"{name}=" for name in names] if registry == "FIELDS" else list(names)

    return find
