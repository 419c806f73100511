"""The chosen configuration in the forms it is used in: YAML, command lines, a Python mapping."""

import pprint
import shlex
from typing import Any

import yaml

from dynamos.config import FIELDS, TrainConfig
from dynamos.files import write_whole
from results.best import Choice, best, reported_config
from results.frame import write_trials
from results.ledger import Ledger
from results.protocols import NOT_PUBLISHABLE
from results.trial import TrialRecord
from results.wording import measured

_MACHINE = ("data_path", "device", "threads", "evaluate_on", "seed")  # not of the configuration but of one run of it
_KEYS = ("model", "dataset", "buffer_size")  # under which best_args has the rest


def export(ledger: Ledger, trial: TrialRecord, choice: Choice) -> None:
    """Writes a trial's configuration, as it applies to the stream that is reported, and where it is from.

    best_config.yaml is what `dynamos --config` trains, and has the same as command lines; best_args.py is the mapping
    {stream: {method: {buffer size: fields}}}, as the original program keeps its settings.
    """
    config = reported_config(ledger.config, trial)
    about = provenance(ledger, trial, choice)
    content = {"config": config.to_dict(), "commands": commands(config), "provenance": about}
    write_whole(ledger.folder / "best_config.yaml", yaml.safe_dump(content, sort_keys=False, width=120))
    write_whole(ledger.folder / "best_args.py", best_args(config, about))


def write_views(ledger: Ledger) -> None:
    """Writes trials.csv and, where there is a choice to make, the files of the best and of the Pareto set."""
    found = best(ledger.trials(), ledger.config)  # None of a confirmation: that would be to choose on test images
    if found is not None:
        export(ledger, found, Choice())
    write_trials(ledger)  # last: where it is as it should be, so is the rest


def provenance(ledger: Ledger, trial: TrialRecord, choice: Choice) -> dict[str, Any]:
    """Where a configuration is from, and what it was chosen by."""
    config = ledger.config
    stamp = {} if config.publishable else {"warning": NOT_PUBLISHABLE}
    searched = {"searched_on": {name: getattr(config.base, name) for name in config.report_on}} if (
        config.report_on) else {}
    return stamp | {
        "sweep": config.name, "trial": trial.number, "source": trial.source, "seeds": list(trial.results),
        "protocol": config.protocol, **searched, "chosen_by": str(choice), "metric": config.objectives[0].metric,
        "value": trial.value, "spread": trial.spread(config.objectives[0].metric),
        "constraints": [str(c) for c in config.constraints], **ledger.record}


def commands(config: TrainConfig) -> dict[str, str]:
    """Command lines that train a configuration on all training images and test it, by program."""
    flags = " ".join(_flag(name, value) for name, value in config.replace(evaluate_on="test", seed=1).to_dict().items()
                     if name in ("dataset", "seed") or value != FIELDS[name].default)
    return {"dynamos": f"dynamos {flags}", "main_policy": f"python main_policy.py --csv-log {flags}"}


def _flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={shlex.quote(str(value))}"  # with =, for a value may begin with -


def best_args(config: TrainConfig, about: dict[str, Any]) -> str:
    """A configuration as the mapping of best_args.py; `about` is its provenance."""
    fields = {name: value for name, value in config.to_dict().items() if name not in _MACHINE + _KEYS}
    mapping = {config.dataset: {config.model: {config.buffer_size: fields}}}
    warning = f"# {NOT_PUBLISHABLE}\n" if "warning" in about else ""
    value = measured(about["metric"], about["value"])
    return (f"{warning}# Sweep {about['sweep']}, trial {about['trial']}: {about['metric']} {value} "
            f"({about['protocol']}).\nbest_args = {pprint.pformat(mapping, sort_dicts=False, width=100)}\n")
