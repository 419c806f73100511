"""Flags of `dynamos-sweep run`, and their SweepConfig."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from dynamos.config import DATASETS, TrainConfig, parsed_settings
from dynamos.errors import UserError, unknown
from dynamos.fields import settings
from dynamos.files import STORES, local_path
from results.definition.defaults import DEFAULTS, base_config, default_objective
from results.definition.protocols import PROTOCOLS
from results.definition.sweep_config import OBJECTIVES, Constraint, Objective, SweepConfig
from results.definition.urls import tracking_uri
from results.names import allowed_name, check_name
from search_spaces.space import named_spaces, read_points, read_space
from tune.cli.session import add, add_session_flags, add_setting, storage


def add_run_flags(run: argparse.ArgumentParser) -> None:
    """Adds the flags that define a sweep."""

    def section(title: str) -> Any:
        return run.add_argument_group(title)

    what = section("what")
    _add(what, "--name", "the sweep's name (default: dataset and space, numbered)", metavar="N")
    what.add_argument(
        "--tag",
        dest="tags",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="mark the sweep, for instance team=vision; repeatable, and `tag` changes it later",
    )
    what.add_argument(
        "--note", metavar="TEXT", help="write something about the sweep; `note` changes it later"
    )
    what.add_argument(
        "--config",
        metavar="FILE",
        help="a sweep in a YAML file, another one's sweep.yaml for instance, "
        "or some of its fields; flags win over it",
    )
    what.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything, show what would be tried first, and run and write nothing",
    )
    what = section("what is trained and what varies")
    _add(what, "--dataset", "stream: " + ", ".join(DATASETS), metavar="D")
    _add(what, "--data-path", "folder that holds MNIST or SVHN", metavar="P")
    _add(
        what,
        "--space",
        f"what varies: a YAML file or one of {', '.join(named_spaces())}",
        metavar="SPACE",
    )
    what.add_argument(
        "--set",
        dest="settings",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="fields of every trial, in place of the preset's; `dynamos --help` lists them",
    )
    what = section("what is sought")
    _add(what, "--first-k", "tasks that --protocol first-k searches on", type=int, metavar="K")
    what.add_argument(
        "--report-on",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="fields of what is confirmed and exported that are not those of the search, for "
        "--protocol two-stream: dataset=D, class_order_seed=S and what else has to differ",
    )
    what.add_argument(
        "--objective",
        dest="objectives",
        action="append",
        default=[],
        metavar="METRIC[:max|min]",
        help=f"one or, repeated, several of {', '.join(OBJECTIVES)}; the first decides what is "
        "best and what is pruned (default: val_class_il:max, or what the protocol has in its "
        "place)",
    )
    what.add_argument(
        "--constraint",
        dest="constraints",
        action="append",
        default=[],
        metavar="METRIC<=NUMBER",
        help="a bound that the best configuration must keep, for instance 'keep_fraction<=0.6'; "
        "repeatable",
    )
    groups = {
        group: section(title)
        for group, title in (
            ("main", "how it is searched"),
            ("search", "how it is searched, in detail"),
            ("session", "how long, whichever comes first, and with what"),
            ("where", "where"),
        )
    }
    for about in settings(SweepConfig).values():
        if not about.session:
            add_setting(groups[about.group], DEFAULTS, about)
    add_session_flags(groups["session"], DEFAULTS)
    _add(
        groups["search"],
        "--points",
        "configurations to try first, a YAML file: `points: [{lr: 0.05}, ...]`",
        metavar="FILE",
    )
    _add(
        groups["where"],
        "--storage",
        "folder for this and other sweeps and their MLflow store, or, for the "
        f"sweeps alone, the URL of one in an object store ({', '.join(STORES)})",
        metavar="DIR",
    )


def sweep_config(arguments: argparse.Namespace) -> SweepConfig:
    """The SweepConfig of the flags; UserError for values that are not allowed."""
    uri = tracking_uri(arguments.tracking_uri)
    if "://" in arguments.storage:
        for flag, value in (("--ledger-url", arguments.ledger_url), ("--tracking-uri", uri)):
            if value is None:
                raise UserError(
                    f"--storage {arguments.storage} needs {flag}: no database can lie in an object "
                    "store."
                )
    file = arguments.file
    space = read_space(arguments.space) if isinstance(arguments.space, str) else arguments.space
    base, report_on = _base(arguments)
    objectives = arguments.objectives or file.get("objectives", ())
    constraints = arguments.constraints or file.get("constraints", ())
    return SweepConfig(
        **{f.name: vars(arguments)[f.name] for f in fields(SweepConfig) if f.name in arguments}
        | {
            "name": sweep_name(arguments),
            "space": space,
            "base": base,
            "report_on": report_on,
            "objectives": tuple(map(Objective.parse, objectives))
            or (default_objective(arguments.protocol),),
            "constraints": tuple(map(Constraint.parse, constraints)),
            "points": read_points(local_path(arguments.points))
            if isinstance(arguments.points, str)
            else (arguments.points or ()),
            "tracking_uri": uri,
        }
    )


def _add(group: Any, flag: str, text: str, **more: Any) -> None:
    add(group, DEFAULTS, flag, text, **more)


def _base(arguments: argparse.Namespace) -> tuple[TrainConfig, dict[str, Any]]:
    """(the preset of dataset and buffer size, with the changes of --set.

    The fields that the report changes).
    """
    settings = parsed_settings(arguments.settings)
    for name, flag in (
        ("dataset", "--dataset"),
        ("data_path", "--data-path"),
        ("evaluate_on", "--protocol"),
    ):
        if name in settings:
            raise UserError(f"--set {name}: use {flag}.")
    settings = arguments.file.get("base", {}) | settings
    if arguments.protocol not in PROTOCOLS:
        raise unknown("protocol", arguments.protocol, PROTOCOLS)
    if (arguments.first_k is not None) != (arguments.protocol == "first-k"):
        raise UserError("--protocol first-k and --first-k K go together.")
    data_path = None if arguments.data_path is None else str(local_path(arguments.data_path))
    whole = base_config(
        arguments.dataset,
        settings,
        arguments.protocol,
        arguments.cpus_per_trial,
        arguments.gpus_per_trial,
        data_path,
    )
    if arguments.first_k is not None:
        return whole.replace(n_tasks=arguments.first_k), {"n_tasks": whole.n_tasks}
    report_on = arguments.file.get("report_on", {}) | parsed_settings(arguments.report_on)
    if report_on.get("data_path") is not None:
        report_on["data_path"] = str(local_path(report_on["data_path"]))
    return whole, report_on


def sweep_name(arguments: argparse.Namespace) -> str:
    """The sweep's name; by default stream, space and the first free number."""
    if arguments.name is not None:
        try:
            return check_name(arguments.name)
        except UserError as error:
            raise UserError(f"--name {error}") from None
    space = Path(arguments.space).stem if isinstance(arguments.space, str) else arguments.space.name
    stem, folder = f"{arguments.dataset}-{space}", storage(arguments)
    return next(
        n for i in range(1, 10**6) if not (folder / (n := allowed_name(stem, f"-{i}"))).exists()
    )
