"""Export of the chosen configuration as YAML, command lines and a Python mapping."""

import pprint
import shlex
from contextlib import closing, suppress
from typing import Any

import yaml

from dynamos.config import TrainConfig, default, read_yaml
from dynamos.errors import UserError
from dynamos.files import write_whole
from dynamos.methods.hyperparameters import of_method
from results.analysis.confirmation import enter_outcome
from results.analysis.headline import expectation
from results.choice import Choice, choice_of, chosen_by, reported_config
from results.definition.protocols import NOT_PUBLISHABLE
from results.frames import write_trials
from results.ledger.attributes import latest_outcome
from results.ledger.ledger import REMARKS, Ledger
from results.sweep import IS_BASELINE, Sweep
from results.trial import TrialRecord
from results.wording import measured

# Fields of a single run, not of the configuration.
_MACHINE = ("data_path", "device", "threads", "evaluate_on", "seed", "log_every", "readings")
_KEYS = ("model", "dataset", "buffer_size")  # keys of best_args, which hold the other fields


def export(ledger: Ledger, trial: TrialRecord, choice: Choice) -> None:
    """Write a trial's configuration and provenance to best_config.yaml and best_args.py.

    best_config.yaml holds `exported`, which `dynamos --config` trains; best_args.py holds the
    mapping {stream: {method: {buffer size: fields}}}, as in the original program.
    """
    content = exported(ledger, trial, choice)
    write_whole(ledger.folder / "best_config.yaml", _text(content))
    write_whole(
        ledger.folder / "best_args.py",
        best_args(reported_config(ledger.config, trial), content["provenance"]),
    )


def exported(ledger: Ledger, trial: TrialRecord, choice: Choice) -> dict[str, Any]:
    """Return a trial's configuration, its command lines, a note on these, its provenance."""
    config = reported_config(ledger.config, trial)
    return {
        "config": config.to_dict(),
        "commands": commands(config),
        "note": note(config, ledger, trial.number),
        "provenance": provenance(ledger, trial, choice),
    }


def write_views(ledger: Ledger) -> None:
    """Write trials.csv, pareto.csv if there are several objectives, and the best trial's files.

    For a confirmation, also enter the outcome in the sweep that it confirms.
    """
    confirms, storage = ledger.config.confirms, ledger.folder.parent
    if confirms is not None and (storage / confirms / "sweep.yaml").is_file():
        with closing(Ledger.open(storage, confirms)) as sweep:
            enter_outcome(sweep, Sweep.of(ledger))
            _renew_note(sweep)
    # None for a confirmation, because it would be a choice on test images
    found = choice_of(Sweep.of(ledger))
    if found is not None:
        export(ledger, found, Choice())
    write_trials(ledger)  # written last: if trials.csv is up to date, so are the other files


def _renew_note(ledger: Ledger) -> None:
    """Write the `note` in best_config.yaml again, if the file exists."""
    path = ledger.folder / "best_config.yaml"
    if not path.is_file():
        return
    with suppress(
        UserError, KeyError, TypeError
    ):  # a file that the user has changed stays as it is
        content = read_yaml(path)
        trial = ledger.trial(content["provenance"]["trial"])
        content["note"] = note(reported_config(ledger.config, trial), ledger, trial.number)
        write_whole(path, _text(content))


def _text(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=120)


def provenance(ledger: Ledger, trial: TrialRecord, choice: Choice) -> dict[str, Any]:
    """Return the origin of a configuration and the rule and metric of its choice."""
    config = ledger.config
    stamp = {} if config.publishable else {"warning": NOT_PUBLISHABLE}
    searched = (
        {"searched_on": {name: config.base.to_dict().get(name) for name in config.report_on}}
        if (config.report_on)
        else {}
    )
    rule = {"chosen_by": str(choice)}
    if choice.rule == "model":
        sweep = Sweep.of(ledger)
        rule = {"chosen_by": chosen_by(sweep, choice)}
        if expected := expectation(sweep, trial):
            rule["expected"] = expected
    return stamp | {
        "sweep": config.name,
        "trial": trial.number,
        "source": trial.source,
        "seeds": list(trial.results),
        "cohorts": list(trial.cohorts),
        "protocol": config.protocol,
        **searched,
        **rule,
        "metric": config.objectives[0].metric,
        "value": trial.value,
        "spread": trial.spread(config.objectives[0].metric),
        "constraints": [str(c) for c in config.constraints],
        **{name: value for name, value in ledger.record.items() if name != REMARKS},
    }


def commands(config: TrainConfig) -> dict[str, str]:
    """Return the command lines that train this configuration, by program.

    The original program has no flag for the hyperparameters of a method.
    """
    flags = " ".join(
        _flag(name, value)
        for name, value in config.to_dict().items()
        if name in ("dataset", "evaluate_on", "seed") or value != default(name)
    )
    original = {"main_policy": f"python main_policy.py --csv-log {flags}"}
    return {"dynamos": f"dynamos {flags}"} | ({} if config.method else original)


def note(config: TrainConfig, ledger: Ledger, number: int) -> str:
    """Describe the images that the `commands` of a sweep's trial use, and the test of the trial."""
    if config.evaluate_on == "test":
        return "These commands use test images; the sweep does not count this."
    return (
        "These commands measure on validation images, as the sweep did. "
        f"{_test(ledger, number)} With --evaluate-on test, the commands use test images "
        "too, and the sweep does not count this."
    )


def _test(ledger: Ledger, number: int) -> str:
    """The verdict of the latest confirmation with an answer, or the command that begins one."""
    begin = f"For a test on test images run: {ledger.command('confirm')}."
    if (found := latest_outcome(ledger.looks)) is None:
        return begin
    name, chosen = found["confirmation"], found["trial"]
    if number not in found["tested"]:
        return f"The confirmation {name} did not test trial {number}. {begin}"
    if number == chosen:
        verdict = found["verdict"]
        said = f"it {verdict}" if verdict == IS_BASELINE else verdict
        return f"The confirmation {name} tested it on test images: {said}."
    return (
        f"The confirmation {name} tested it on test images, beside the choice, trial {chosen}: "
        f"{found['verdict']}."
    )


def _flag(name: str, value: Any) -> str:
    if of_method(name):
        text = str(value).lower() if isinstance(value, bool) else value
        return f"--set={shlex.quote(f'{name}={text}')}"
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={shlex.quote(str(value))}"  # with =, because a value may begin with -


def best_args(config: TrainConfig, about: dict[str, Any]) -> str:
    """Return the content of best_args.py for a configuration; `about` is its provenance."""
    fields = {
        name: value for name, value in config.to_dict().items() if name not in _MACHINE + _KEYS
    }
    mapping = {config.dataset: {config.model: {config.buffer_size: fields}}}
    warning = f"# {NOT_PUBLISHABLE}\n" if "warning" in about else ""
    value = measured(about["metric"], about["value"])
    return (
        f"{warning}# Sweep {about['sweep']}, trial {about['trial']} ({about['source']}): "
        f"{about['metric']} {value} ({about['protocol']}).\nbest_args = "
        f"{pprint.pformat(mapping, sort_dicts=False, width=100)}\n"
    )
