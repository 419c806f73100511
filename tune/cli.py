"""`dynamos-sweep`: run a sweep, go on with it, read what came out. Heavy imports wait until they are needed."""

import argparse
import math
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamos.arguments import Parser
from dynamos.config import DATASETS, TrainConfig, parsed_settings, preset, preset_sizes
from dynamos.errors import DynamosError, UserError, unknown
from search_spaces.space import named_spaces, read_space

if TYPE_CHECKING:
    from results.ledger import Ledger, SweepConfig

DEFAULTS = {"storage": "runs", "dataset": "seq-digits", "space": "core", "trials": 20, "seed": 0, "cpus_per_trial": 1.0,
            "gpus_per_trial": 0.0}
METRICS = ("val_class_il", "val_task_il", "forgetting", "keep_fraction", "compute")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 the sweep failed, 2 bad input, 130 interrupted."""
    try:
        arguments = _parser().parse(sys.argv[1:] if argv is None else argv)
        status: int = arguments.run(arguments)
        return status
    except UserError as error:
        return _fail(error, 2)
    except DynamosError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return 130


def _fail(error: Exception, status: int) -> int:
    print(f"dynamos-sweep: error: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def _parser() -> Parser:
    parser = Parser(prog="dynamos-sweep", description="Search the hyperparameters of Dynamos with Ray Tune and "
                     "Optuna, choose on validation images, export the best configuration.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    _run_parser(commands)
    for name, run, text in (("resume", _resume, "go on with a sweep that was interrupted or killed"),
                            ("extend", _extend, "add trials to a sweep, finished or not"),
                            ("report", _report, "write a sweep's report.html")):
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(run=run)
        command.add_argument("name", metavar="NAME", help="the sweep's name")
        command.add_argument("--storage", metavar="DIR", default=DEFAULTS["storage"],
                             help="folder that holds the sweeps (default: %(default)s)")
        if name == "extend":
            command.add_argument("--trials", type=_extra, required=True, metavar="+N", help="trials to add")
    return parser


def _run_parser(commands: Any) -> None:
    text = ("Start a sweep. Trial 0 is always the stream's preset with what --set changes, so that a sweep ends no "
            "worse than it began.")
    run = commands.add_parser("run", help="start a sweep", description=text)
    run.set_defaults(run=_run)

    def add(flag: str, text: str, **more: Any) -> None:
        default = DEFAULTS.get(flag.lstrip("-").replace("-", "_"))
        run.add_argument(flag, default=default, help=text + (" (default: %(default)s)" if default is not None else ""),
                         **more)

    add("--name", "the sweep's name (default: dataset and space, numbered)", metavar="N")
    add("--dataset", "stream: " + ", ".join(DATASETS), metavar="D")
    add("--data-path", "folder that holds MNIST or SVHN", metavar="P")
    add("--space", f"what varies: a YAML file or one of {', '.join(named_spaces())}", metavar="SPACE")
    add("--trials", "configurations to try, the preset included", type=int, metavar="T")
    add("--time-budget", "stop after this long, for instance 90s, 30m or 2h (default: none)", type=_seconds,
        metavar="30m")
    add("--seed", "seed of the suggestions; --set seed=S is the trials' own", type=int, metavar="S")
    add("--cpus-per-trial", "CPU cores, and threads, of a trial", type=_amount, metavar="C")
    add("--gpus-per-trial", "GPUs of a trial; 0.125 packs eight on one, with 0 trials train on CPUs", type=_amount,
        metavar="G")
    add("--max-concurrent", "trials at a time (default: as many as the machine holds)", type=int, metavar="M")
    add("--storage", "folder for this and other sweeps and their MLflow store", metavar="DIR")
    run.add_argument("--set", dest="settings", nargs="+", action="extend", default=[], metavar="FIELD=VALUE",
                     help="fields of every trial, in place of the preset's; `dynamos --help` lists them")


def _run(arguments: argparse.Namespace) -> int:
    config = _sweep_config(arguments)
    from tune.sweep import create_sweep

    ledger = create_sweep(_storage(arguments), config)
    return _drive(ledger)


def _resume(arguments: argparse.Namespace) -> int:
    return _drive(_open(arguments))


def _extend(arguments: argparse.Namespace) -> int:
    return _drive(_open(arguments), arguments.trials)


def _report(arguments: argparse.Namespace) -> int:
    from results.report import write_report

    print(write_report(_open(arguments)))
    return 0


def _drive(ledger: "Ledger", more: int = 0) -> int:
    from rich.console import Console

    from results.best import baseline, best
    from tune.display import side_by_side
    from tune.sweep import mlflow_uri, run_sweep

    whole = run_sweep(ledger, more)
    trials = ledger.trials()
    chosen = best(trials)
    name, folder, storage = ledger.config.name, ledger.folder, ledger.folder.parent
    where = "" if storage == Path(str(DEFAULTS["storage"])).resolve() else f" --storage {shlex.quote(str(storage))}"
    left = ledger.remaining()
    print()
    if left:
        print(f"{'Interrupted' if not whole else 'The time budget was spent'}; {left} trials are left. "
              f"Go on: {_command('dynamos-sweep')} resume {name}{where}\n")
    if chosen is None:
        reasons = sorted({t.reason for t in trials if t.reason})
        print(f"No trial of {name} completed{': ' + '; '.join(reasons) if reasons else ''}.")
        print(f"Files in {folder}: sweep.yaml, ledger.db, trials.csv, trials/")
        return 130 if not whole else 1
    first = baseline(trials)
    began = "baseline" if first is None else first.source
    columns = {"best": chosen} if first is None or first.number == chosen.number else {"best": chosen, began: first}
    print("Best configuration on validation images"
          + (f" beside the {began}:" if len(columns) == 2 else f", which is the {began}:"))
    Console().print(side_by_side(columns, METRICS))
    if len(columns) == 2:
        complete = sum(t.state == "COMPLETE" for t in trials)
        print(f"One seed each, chosen as the best of {complete}: the difference is optimistic; retrain on fresh seeds.")
    exported = shlex.quote(str(folder / "best_config.yaml"))
    print(f"\nFiles in {folder}:\n  best_config.yaml  trials.csv  sweep.yaml  ledger.db  trials/")
    print("\nNext:\n"
          f"  retrain it      {_command('dynamos')} --config {exported}\n"
          f"  test it         {_command('dynamos')} --config {exported} --evaluate-on test --seed 1\n"
          f"  open MLflow     {_command('mlflow')} ui --backend-store-uri {shlex.quote(mlflow_uri(storage))}\n"
          f"  see the report  {_command('dynamos-sweep')} report {name}{where}")
    return 130 if not whole else 0


def _command(name: str) -> str:
    """What to type for a command of this environment: its name, or its path where the shell would not find it."""
    beside = Path(sys.executable).parent / name
    return name if shutil.which(name) or not beside.exists() else shlex.quote(str(beside))


def _sweep_config(arguments: argparse.Namespace) -> "SweepConfig":
    from results.ledger import SweepConfig

    space = read_space(arguments.space)
    return SweepConfig(
        name=_name(arguments), space=space, base=_base(arguments), trials=arguments.trials,
        time_budget_seconds=arguments.time_budget, seed=arguments.seed, cpus_per_trial=arguments.cpus_per_trial,
        gpus_per_trial=arguments.gpus_per_trial, max_concurrent=arguments.max_concurrent)


def _base(arguments: argparse.Namespace) -> TrainConfig:
    """The preset of the dataset at the buffer size asked for, with what --set changes."""
    settings = parsed_settings(arguments.settings)
    for name, flag in (("dataset", "--dataset"), ("data_path", "--data-path"), ("evaluate_on", None)):
        if name in settings:
            raise UserError(f"--set {name}: " + (f"use {flag}." if flag else "a sweep always uses validation images."))
    if arguments.dataset not in DATASETS:
        raise UserError(unknown("dataset", arguments.dataset, DATASETS))
    model = settings.get("model", "dynamos")
    size = settings.get("buffer_size", preset_sizes(arguments.dataset)[0])
    # Where the paper has no preset, the stream's smallest one is where the search begins.
    known = model == "dynamos" and size in preset_sizes(arguments.dataset)
    base = preset(arguments.dataset, size if known else preset_sizes(arguments.dataset)[0])
    data_path = None if arguments.data_path is None else str(Path(arguments.data_path).expanduser().resolve())
    fixed = {"data_path": data_path, "evaluate_on": "validation", "threads": max(int(arguments.cpus_per_trial), 1),
             "device": "cuda" if arguments.gpus_per_trial > 0 else "cpu"}
    return TrainConfig.from_dict({**base, **fixed, **settings})


def _name(arguments: argparse.Namespace) -> str:
    if arguments.name is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", arguments.name):
            raise UserError(f"--name {arguments.name!r}: letters, digits, '.', '_' and '-' only.")
        return str(arguments.name)
    stem = f"{arguments.dataset}-{Path(arguments.space).stem}"
    storage = _storage(arguments)
    return next(n for i in range(1, 10**6) if not (storage / (n := f"{stem}-{i}")).exists())


def _storage(arguments: argparse.Namespace) -> Path:
    return Path(arguments.storage).expanduser().resolve()


def _open(arguments: argparse.Namespace) -> "Ledger":
    from results.ledger import Ledger

    return Ledger.open(_storage(arguments), arguments.name)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|d)?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; write for instance 90s, 30m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2] or "s"]


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return value


def _extra(text: str) -> int:
    if not re.fullmatch(r"\+?[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form +20")
    return int(text)


