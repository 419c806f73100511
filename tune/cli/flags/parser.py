"""`dynamos-sweep`'s commands and their flags. Heavy packages are imported when needed."""

import argparse
import os
from collections.abc import Mapping
from typing import Any

from dynamos.arguments import Parser, whole_number
from results import STORAGE
from tune.cli.at_slurm import OPTIONS, WORKERS
from tune.cli.flags.completion import add_completions
from tune.cli.flags.session import add_data_path, add_session_flags, amount
from tune.machines.address import JOB_SERVER

COMMANDS = {
    "run": "start a sweep",
    "resume": "continue an interrupted or killed sweep",
    "extend": "add trials to a sweep, finished or not",
    "rerun": "run failed or manually stopped trials again",
    "stop": "stop a running sweep, or one of its trials, from any terminal",
    "confirm": "retrain the chosen configuration and a baseline on fresh seeds, and test them",
    "export": "write the chosen configuration as files and command lines",
    "compare": "show sweeps side by side, in a table and a page",
    "list": "show the sweeps of a storage folder",
    "show": "show a sweep's trials, or all data of one trial",
    "note": "write or show the note on a sweep",
    "tag": "set or show the tags of a sweep",
    "clean": "remove the checkpoints of a sweep that nothing needs any more",
    "delete": "delete sweeps and their MLflow runs permanently",
    "sync": "update MLflow from a sweep's ledger",
    "report": "write a sweep's report.html",
    "submit": "start a sweep on a cluster through its job server, or on SLURM; this machine may be "
    "switched off",
    "logs": "show the logs of a sweep, its driver or one of its trials",
    "serve": "serve sweeps over HTTP, with a page",
}
BY_SERVICE = (
    "run",
    "list",
    "show",
    "stop",
    "resume",
    "extend",
    "confirm",
    "export",
    "report",
    "compare",
    "clean",
    "delete",
    "note",
    "tag",
)


def parser_of(asked: str | None, file: Mapping[str, Any] | None = None) -> Parser:
    """The parser; only the command `asked` has its flags, because the flags of `run` import Optuna.

    `file` holds the values of `run --config` that replace the flags' defaults.
    """
    parser = Parser(
        prog="dynamos-sweep",
        description="Search the hyperparameters of Dynamos with Ray Tune and "
        "Optuna, choose on validation images, export the best configuration.",
    )
    parser.add_version()
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=Parser
    )
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(command=name)
        if name == asked:
            _add_flags(command, name)
            add_completions(command)
            command.set_defaults(**(file or {"file": {}}))
            if name in BY_SERVICE:
                command.add_argument(
                    "--server", metavar="URL", help="run the command through the service at URL"
                )
    return parser


def _extra(text: str) -> int:
    try:
        more = whole_number(text)
    except argparse.ArgumentTypeError:
        more = 0
    if more < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form +20")
    return more


def _add_flags(command: Parser, name: str) -> None:
    """Add a command's flags in the order of `--help`."""
    if name in _WHOLE:
        _WHOLE[name](command)
        return
    _BEFORE_STORAGE.get(name, _name)(command)
    _storage(command)
    _AFTER_STORAGE.get(name, _nothing)(command)
    if name in ("resume", "extend", "rerun", "confirm"):
        session = command.add_argument_group("this session (default: as in the sweep)")
        add_session_flags(session, {})
        add_data_path(session)
    else:
        command.add_argument(
            "--address",
            metavar="URL",
            help="run this command on a cluster, through its job server, "
            f"for instance {JOB_SERVER}",
        )
    if name in ("stop", "show"):
        command.add_argument("--trial", type=whole_number, metavar="N", help="this trial only")


def _run(command: Parser) -> None:
    from tune.cli.flags.run import add_run_flags

    command.description = (
        "Start a sweep. Trial 0, the baseline, is always the stream's preset with the changes of "
        "--set."
    )
    add_run_flags(command)


def _submit(command: Parser) -> None:
    _run(command)
    command.description = (
        "Start a sweep on a cluster: its driver runs there, through Ray Jobs. It has the flags of "
        "`run`; --address is the job server, --storage a path on the cluster."
    )
    command.set_defaults(address=os.environ.get("RAY_API_SERVER_ADDRESS", JOB_SERVER))
    command.add_argument(
        "--slurm",
        action="store_true",
        help="submit a SLURM job array instead: its tasks are workers that come and go",
    )
    command.add_argument(
        "--workers",
        type=whole_number,
        metavar="N",
        help=f"with --slurm: number of tasks (default: {WORKERS})",
    )
    command.add_argument(
        "--sbatch",
        metavar="OPTIONS",
        help=f"with --slurm: sbatch's options for each task (default: {OPTIONS})",
    )


def _serve(command: Parser) -> None:
    from tune.service.serve import add_serve_flags

    add_serve_flags(command)


def _logs(command: Parser) -> None:
    command.add_argument(
        "name", metavar="NAME", help="the sweep's name or, with --address, the job's id"
    )
    command.add_argument(
        "-f", "--follow", action="store_true", help="follow the log until the sweep ends"
    )
    command.add_argument(
        "--trial", type=whole_number, metavar="N", help="this trial's log and traceback"
    )
    _storage(command)
    command.add_argument(
        "--address",
        metavar="URL",
        help="the job server that runs the sweep's driver, for instance "
        f"{JOB_SERVER} (default: RAY_API_SERVER_ADDRESS if the storage has no such sweep)",
    )


def _nothing(command: Parser) -> None:
    """Add no flags."""


def _name(command: Parser) -> None:
    command.add_argument("name", metavar="NAME", help="the sweep's name")


def _storage(command: Parser) -> None:
    command.add_argument(
        "--storage",
        metavar="DIR",
        default=STORAGE,
        help="folder that holds the sweeps, or its URL (default: %(default)s)",
    )


def _compare(command: Parser) -> None:
    command.add_argument("names", nargs="+", metavar="NAME", help="the sweeps' names, two or more")
    command.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow server or store, searched for sweeps that are "
        "not in the storage folder; the newest sweep of a name is used",
    )
    command.add_argument(
        "--page",
        metavar="FILE",
        help="the page to write (default: compare-NAMES.html in the storage folder)",
    )


def _delete(command: Parser) -> None:
    command.add_argument("names", nargs="+", metavar="NAME", help="the sweeps' names")
    command.add_argument("--yes", action="store_true", help="do not ask first")


def _clean(command: Parser) -> None:
    _name(command)
    command.add_argument(
        "--dry-run", action="store_true", help="show what would be removed, and remove nothing"
    )


def _note(command: Parser) -> None:
    _name(command)
    command.add_argument(
        "text", nargs="?", metavar="TEXT", help='the note, "" for none (default: show it)'
    )


def _tag(command: Parser) -> None:
    _name(command)
    command.add_argument(
        "tags",
        nargs="*",
        metavar="NAME=VALUE",
        help="tags to set, NAME= to remove one (default: show them)",
    )


def _extend(command: Parser) -> None:
    command.add_argument("--trials", type=_extra, default=0, metavar="+N", help="trials to add")
    command.add_argument(
        "--space",
        metavar="NAME|FILE",
        help="another space from now on, with the same fields; trials outside are not chosen from",
    )


def _rerun(command: Parser) -> None:
    command.add_argument(
        "--trial",
        type=whole_number,
        action="append",
        required=True,
        metavar="N",
        help="the trial to run again; repeatable",
    )


def _sync(command: Parser) -> None:
    command.add_argument(
        "--tracking-uri", metavar="URI", help="MLflow server or database to use from now on"
    )


def _choice(command: Parser) -> None:
    from results.choice import DEFAULT, RULES

    rules = "; ".join(f"{rule}: {text}" for rule, text in RULES.items())
    command.add_argument(
        "--choose",
        default=DEFAULT,
        metavar="RULE",
        help=f"{rules} (default: %(default)s; if no model predicts the trials: best)",
    )
    command.add_argument(
        "--max-compute",
        type=amount,
        metavar="C",
        help="choose among trials whose compute is at most this fraction of the dense network's",
    )


def _export(command: Parser) -> None:
    _choice(command)
    command.add_argument(
        "--register",
        metavar="MODEL@ALIAS",
        help="register the network that a confirmation trained, in "
        "MLflow's model registry under this alias",
    )


def _confirm(command: Parser) -> None:
    from results.definition.defaults import CONFIRMATION_SEEDS

    command.add_argument(
        "--extend",
        type=_extra,
        metavar="+K",
        help="add K fresh seeds to every configuration of the confirmation NAME, or of the latest "
        "confirmation of the sweep NAME, and look at all seeds again",
    )
    command.add_argument(
        "--class-orders",
        type=whole_number,
        metavar="N",
        help="train every configuration of that confirmation on N other orders of the classes; "
        "reported apart from its seeds",
    )
    command.add_argument(
        "--final",
        action="store_true",
        help="test with the whole error of 5 %%; the confirmation cannot be extended",
    )
    _choice(command)
    command.add_argument(
        "--seeds",
        type=whole_number,
        default=CONFIRMATION_SEEDS,
        metavar="K",
        help="fresh seeds for each configuration (default: %(default)s)",
    )
    command.add_argument(
        "--top",
        type=whole_number,
        default=3,
        metavar="N",
        help="number of configurations to test: the "
        "chosen one and the next in rank (default: %(default)s)",
    )
    command.add_argument(
        "--baseline",
        metavar="preset|FILE",
        help="baseline: preset, for the preset of stream and "
        "buffer, or a configuration in a YAML file (default: the sweep's trial 0)",
    )
    new = ("seeds", "top", "choose", "max_compute", "baseline", "final")
    command.set_defaults(of_a_new_one={name: command.get_default(name) for name in new})


_WHOLE = {"run": _run, "submit": _submit, "serve": _serve, "logs": _logs}
_BEFORE_STORAGE = {
    "clean": _clean,
    "compare": _compare,
    "delete": _delete,
    "list": _nothing,
    "note": _note,
    "tag": _tag,
}
_AFTER_STORAGE = {
    "confirm": _confirm,
    "export": _export,
    "extend": _extend,
    "rerun": _rerun,
    "sync": _sync,
}
