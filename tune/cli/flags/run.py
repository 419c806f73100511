"""Flags of `dynamos-sweep run`, and their SweepConfig."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from dynamos.arguments import as_trainer, whole_number
from dynamos.config import FIELDS, TrainConfig, parsed_settings
from dynamos.errors import UserError, unknown
from dynamos.fields import settings
from dynamos.files import STORES, local_path
from dynamos.streams.classes import with_tasks
from dynamos.streams.names import DATASETS
from dynamos.user_code import absolute_code, short_name
from results.definition.defaults import DEFAULTS, base_config, default_objective
from results.definition.objectives import OBJECTIVES, Constraint, Objective
from results.definition.protocols import PROTOCOLS
from results.definition.sweep_config import SweepConfig
from results.definition.urls import tracking_uri
from results.names import allowed_name, check_name
from search_spaces.space import SearchSpace, named_spaces, read_points, read_space
from tune.cli.flags.session import add, add_session_flags, add_setting, storage


def add_run_flags(run: argparse.ArgumentParser) -> None:
    """Add the flags that define a sweep."""

    def section(title: str) -> Any:
        return run.add_argument_group(title)

    what = section("sweep")
    _add(what, "--name", "the sweep's name (default: dataset and space, numbered)", metavar="N")
    what.add_argument(
        "--tag",
        dest="tags",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="tag of the sweep, for instance team=vision; repeatable; `tag` changes tags later",
    )
    what.add_argument("--note", metavar="TEXT", help="note on the sweep; `note` changes it later")
    what.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file with fields of a sweep, for instance another sweep's sweep.yaml; "
        "flags override it",
    )
    what.add_argument(
        "--mammoth",
        metavar="FILE",
        help="YAML file of Mammoth's arguments, as the base of all trials",
    )
    what.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything and show the first configurations, without running or writing "
        "anything",
    )
    what = section("training and search space")
    _add(what, "--dataset", "stream: " + ", ".join(DATASETS) + ", or FILE.py:NAME", metavar="D")
    _add(what, "--data-path", FIELDS["data_path"].help, metavar="P")
    _add(
        what,
        "--space",
        f"search space: a YAML file or one of {', '.join(named_spaces())}",
        metavar="SPACE",
    )
    what.add_argument(
        "--set",
        dest="settings",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="values that replace the preset's in every trial; `dynamos --help` lists the fields",
    )
    what.add_argument(
        "--trainer",
        metavar="FILE.py:NAME",
        help="a trainer of your own in place of a method (docs/how-to/own-trainers.md)",
    )
    what = section("goal")
    _add(
        what,
        "--first-k",
        "number of tasks that the search uses, from the first on, for --protocol first-k",
        type=whole_number,
        metavar="K",
    )
    what.add_argument(
        "--report-on",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="fields of the other stream, on which the choice is confirmed and exported, for "
        "--protocol two-stream: dataset=D, class_order_seed=S, ...",
    )
    what.add_argument(
        "--objective",
        dest="objectives",
        action="append",
        default=[],
        metavar="METRIC[:max|min]",
        help=f"one of {', '.join(OBJECTIVES)}; repeat it for several; the first decides which "
        "trial is best and which are pruned (default: val_class_il:max, or the protocol's own "
        "metric)",
    )
    what.add_argument(
        "--constraint",
        dest="constraints",
        action="append",
        default=[],
        metavar="METRIC<=NUMBER",
        help="bound on a metric that the best trial must keep, for instance 'keep_fraction<=0.6'; "
        "repeatable",
    )
    groups = {
        group: section(title)
        for group, title in (
            ("main", "search"),
            ("search", "search details"),
            ("session", "limits and resources"),
            ("where", "storage"),
        )
    }
    for about in settings(SweepConfig).values():
        if not about.session:
            add_setting(groups[about.group], DEFAULTS, about)
    add_session_flags(groups["session"], DEFAULTS)
    _add(
        groups["search"],
        "--points",
        "YAML file of configurations to try first: `points: [{lr: 0.05}, ...]`",
        metavar="FILE",
    )
    _add(
        groups["where"],
        "--storage",
        "folder for sweeps and their MLflow store; or, only for the sweeps, the URL of a "
        f"folder in an object store ({', '.join(STORES)})",
        metavar="DIR",
    )


def sweep_config(arguments: argparse.Namespace) -> SweepConfig:
    """The SweepConfig of the flags; raises UserError for values that are not allowed."""
    uri = tracking_uri(arguments.tracking_uri)
    if "://" in arguments.storage:
        for flag, value in (("--ledger-url", arguments.ledger_url), ("--tracking-uri", uri)):
            if value is None:
                raise UserError(
                    f"--storage {arguments.storage} needs {flag}: an object store cannot hold a "
                    "database."
                )
    file = arguments.file
    space = read_space(arguments.space) if isinstance(arguments.space, str) else arguments.space
    base, report_on = _base(arguments, space)
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


def _base(arguments: argparse.Namespace, space: SearchSpace) -> tuple[TrainConfig, dict[str, Any]]:
    """Return (base, report_on).

    `base` is the preset of dataset and buffer size with the changes of --set and the fields that
    the space fixes. `report_on` has the fields that differ on the reported stream.
    """
    settings = parsed_settings(arguments.settings)
    if arguments.trainer is not None:
        if "model" in settings:
            raise UserError("--set model and --trainer both name what trains; give one.")
        settings["model"] = as_trainer(arguments.trainer)
    for name, flag in (
        ("dataset", "--dataset"),
        ("data_path", "--data-path"),
        ("evaluate_on", "--protocol"),
    ):
        if name in settings:
            raise UserError(f"--set {name}: use {flag}.")
    for name, value in settings.items():
        try:
            space.refuse_other(name, value)
        except UserError as error:
            raise error.within("--set") from None
    settings = arguments.file.get("base", {}) | settings | space.fixed
    if "model" in settings:
        settings["model"] = absolute_code(settings["model"])
    if "network" in settings:
        settings["network"] = absolute_code(settings["network"])
    dataset = absolute_code(arguments.dataset)
    if arguments.protocol not in PROTOCOLS:
        raise unknown("protocol", arguments.protocol, PROTOCOLS)
    if (arguments.first_k is not None) != (arguments.protocol == "first-k"):
        raise UserError("--protocol first-k and --first-k K go together.")
    data_path = None if arguments.data_path is None else str(local_path(arguments.data_path))
    whole = base_config(
        dataset,
        settings,
        arguments.protocol,
        arguments.cpus_per_trial,
        arguments.gpus_per_trial,
        data_path,
    ).whole()
    if arguments.first_k is not None:
        whole = with_tasks(whole)
        return whole.replace(n_tasks=arguments.first_k), {"n_tasks": whole.n_tasks}
    report_on = arguments.file.get("report_on", {}) | parsed_settings(arguments.report_on)
    if report_on.get("data_path") is not None:
        report_on["data_path"] = str(local_path(report_on["data_path"]))
    if "dataset" in report_on:
        report_on["dataset"] = absolute_code(report_on["dataset"])
    return whole, report_on


def sweep_name(arguments: argparse.Namespace) -> str:
    """The sweep's name; by default stream, space and the first free number."""
    if arguments.name is not None:
        try:
            return check_name(arguments.name)
        except UserError as error:
            raise UserError(f"--name {error}") from None
    space = Path(arguments.space).stem if isinstance(arguments.space, str) else arguments.space.name
    stem, folder = f"{short_name(arguments.dataset)}-{space}", storage(arguments)
    return next(
        n for i in range(1, 10**6) if not (folder / (n := allowed_name(stem, f"-{i}"))).exists()
    )
