"""`dynamos-sweep run`'s flags and the SweepConfig that they mean."""

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynamos.config import DATASETS, TrainConfig, parsed_settings, preset, preset_sizes
from dynamos.errors import UserError, unknown
from dynamos.files import STORES
from results import STORAGE
from results.protocols import PROTOCOLS, images_of
from results.pruners import PRUNERS
from results.samplers import SAMPLERS
from results.sweep_config import OBJECTIVES, Constraint, Objective, SweepConfig
from search_spaces.space import named_spaces, read_points, read_space
from tune.session import add, add_session_flags, storage

DEFAULTS: dict[str, Any] = {
    "storage": STORAGE, "dataset": "seq-digits", "space": "core", "trials": 20, "seed": 0, "cpus_per_trial": 1.0,
    "gpus_per_trial": 0.0, "pack_gpus": False, "retries": 3, "protocol": "val-all-seen", "sampler": "tpe",
    "grid_levels": 3, "pruner": "none", "grace_tasks": 2, "seeds": 1}

DEFAULT_OBJECTIVE = {"val-current": "val_learning_accuracy", "test": "test_class_il"}


def add_run_flags(run: argparse.ArgumentParser) -> None:
    """Adds everything that says what a sweep is."""

    def section(title: str) -> Any:
        return run.add_argument_group(title)

    _add(section("what"), "--name", "the sweep's name (default: dataset and space, numbered)", metavar="N")
    what = section("what is trained and what varies")
    _add(what, "--dataset", "stream: " + ", ".join(DATASETS), metavar="D")
    _add(what, "--data-path", "folder that holds MNIST or SVHN", metavar="P")
    _add(what, "--space", f"what varies: a YAML file or one of {', '.join(named_spaces())}", metavar="SPACE")
    what.add_argument("--set", dest="settings", nargs="+", action="extend", default=[], metavar="FIELD=VALUE",
                      help="fields of every trial, in place of the preset's; `dynamos --help` lists them")
    _add(what, "--seeds", "training seeds of each trial, in lockstep; a trial counts by their mean", type=int,
         metavar="K")
    what = section("what is sought")
    _add(what, "--protocol", "what configurations are chosen on: " + "; ".join(
        f"{name}: {text.removeprefix('chosen on ')}" for name, text in PROTOCOLS.items()) + " (not publishable)",
        metavar="P")
    _add(what, "--first-k", "tasks that --protocol first-k searches on", type=int, metavar="K")
    what.add_argument("--report-on", nargs="+", action="extend", default=[], metavar="FIELD=VALUE",
                      help="fields of what is confirmed and exported that are not those of the search, for --protocol "
                           "two-stream: dataset=D, class_order_seed=S and what else has to differ")
    what.add_argument("--objective", dest="objectives", action="append", default=[], metavar="METRIC[:max|min]",
                      help=f"one or, repeated, several of {', '.join(OBJECTIVES)}; the first decides what is best and "
                           "what is pruned (default: val_class_il:max, or what the protocol has in its place)")
    what.add_argument("--constraint", dest="constraints", action="append", default=[], metavar="METRIC<=NUMBER",
                      help="a bound that the best configuration must keep, for instance 'keep_fraction<=0.6'; "
                           "repeatable")
    how = section("how it is searched")
    _add(how, "--sampler", ", ".join(SAMPLERS), metavar="NAME")
    _add(how, "--seed", "seed of the suggestions; --set seed=S is the first of the trials' own", type=int, metavar="S")
    _add(how, "--grid-levels", "values of each range that the sampler grid tries", type=int, metavar="L")
    _add(how, "--pruner", f"what stops trials early: {', '.join(PRUNERS)}", metavar="NAME")
    _add(how, "--grace-tasks", "tasks that a trial is given before it may be pruned", type=int, metavar="G")
    _add(how, "--points", "configurations to try first, a YAML file: `points: [{lr: 0.05}, ...]`", metavar="FILE")
    _add(how, "--warm-start", "begin with an earlier sweep's results, or with its configurations where its results "
         "mean something else", metavar="SWEEP")
    how.add_argument("--deterministic-order", action="store_true",
                     help="the same seed gives the same configurations whatever the timing: trials are asked for in "
                          "batches, and each batch waits for its slowest")
    budget = section("how long, whichever comes first")
    _add(budget, "--trials", "configurations to try, the preset included", type=int, metavar="T")
    add_session_flags(budget, DEFAULTS)
    where = section("where")
    _add(where, "--storage", "folder for this and other sweeps and their MLflow store, or, for the "
         f"sweeps alone, the URL of one in an object store ({', '.join(STORES)})", metavar="DIR")
    _add(where, "--ledger-url", "database that keeps the ledger, for instance postgresql+psycopg://host/name "
         "(default: a file in the sweep's folder)", metavar="URL")
    _add(where, "--tracking-uri", "MLflow server (default: MLFLOW_TRACKING_URI, or a store in --storage)",
         metavar="URI")


def sweep_config(arguments: argparse.Namespace) -> SweepConfig:
    """The sweep that the flags mean; UserError for what is not allowed."""
    tracking_uri = arguments.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None
    if "://" in arguments.storage:
        for flag, value in (("--ledger-url", arguments.ledger_url), ("--tracking-uri", tracking_uri)):
            if value is None:
                raise UserError(f"--storage {arguments.storage} needs {flag}: no database can lie in an object store.")
    space = read_space(arguments.space)
    default = DEFAULT_OBJECTIVE.get(arguments.protocol, "val_class_il")
    objectives = tuple(Objective.parse(text) for text in arguments.objectives or [default])
    base, report_on = _base(arguments)
    points = () if arguments.points is None else read_points(Path(arguments.points).expanduser())
    return SweepConfig(
        name=_name(arguments), space=space, base=base, objectives=objectives, protocol=arguments.protocol,
        report_on=report_on,
        constraints=tuple(Constraint.parse(text) for text in arguments.constraints), sampler=arguments.sampler,
        grid_levels=arguments.grid_levels, pruner=arguments.pruner, grace_tasks=arguments.grace_tasks,
        seeds=arguments.seeds, points=points, warm_start=arguments.warm_start, trials=arguments.trials,
        time_budget_seconds=arguments.time_budget, cpu_budget_seconds=arguments.cpu_budget,
        gpu_budget_seconds=arguments.gpu_budget, target=arguments.target, seed=arguments.seed,
        deterministic_order=arguments.deterministic_order, cpus_per_trial=arguments.cpus_per_trial,
        gpus_per_trial=arguments.gpus_per_trial, pack_gpus=arguments.pack_gpus, retries=arguments.retries,
        max_concurrent=arguments.max_concurrent,
        ledger_url=arguments.ledger_url,
        tracking_uri=tracking_uri)


def base_config(dataset: str, settings: Mapping[str, Any], protocol: str, cpus: float, gpus: float,
                data_path: str | None) -> TrainConfig:
    """What every trial shares: the stream's preset at the buffer size asked for, with what `settings` changes.

    Images, threads and device are those that a sweep of the protocol and of trials of so many CPUs and GPUs has.
    """
    if dataset not in DATASETS:
        raise UserError(unknown("dataset", dataset, DATASETS))
    size = settings.get("buffer_size", preset_sizes(dataset)[0])
    # Where the paper has no preset, the stream's smallest one is where the search begins.
    known = settings.get("model", "dynamos") == "dynamos" and size in preset_sizes(dataset)
    fixed = {"data_path": data_path, "evaluate_on": images_of(protocol), "threads": max(int(cpus), 1),
             "device": "cuda" if gpus > 0 else "cpu"}
    return TrainConfig.from_dict({**preset(dataset, size if known else preset_sizes(dataset)[0]), **fixed, **settings})


def _add(group: Any, flag: str, text: str, **more: Any) -> None:
    add(group, DEFAULTS, flag, text, **more)


def _base(arguments: argparse.Namespace) -> tuple[TrainConfig, dict[str, Any]]:
    """(the preset of the dataset at the buffer size asked for, with what --set changes; what is reported otherwise)."""
    settings = parsed_settings(arguments.settings)
    for name, flag in (("dataset", "--dataset"), ("data_path", "--data-path"), ("evaluate_on", "--protocol")):
        if name in settings:
            raise UserError(f"--set {name}: use {flag}.")
    if arguments.protocol not in PROTOCOLS:
        raise UserError(unknown("protocol", arguments.protocol, PROTOCOLS))
    if (arguments.first_k is not None) != (arguments.protocol == "first-k"):
        raise UserError("--protocol first-k and --first-k K go together.")
    data_path = None if arguments.data_path is None else str(Path(arguments.data_path).expanduser().resolve())
    whole = base_config(arguments.dataset, settings, arguments.protocol, arguments.cpus_per_trial,
                        arguments.gpus_per_trial, data_path)
    if arguments.first_k is not None:
        return whole.replace(n_tasks=arguments.first_k), {"n_tasks": whole.n_tasks}
    report_on = parsed_settings(arguments.report_on)
    if report_on.get("data_path") is not None:
        report_on["data_path"] = str(Path(report_on["data_path"]).expanduser().resolve())
    return whole, report_on


def _name(arguments: argparse.Namespace) -> str:
    if arguments.name is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", arguments.name):
            raise UserError(f"--name {arguments.name!r}: letters, digits, '.', '_' and '-' only.")
        return str(arguments.name)
    stem = f"{arguments.dataset}-{Path(arguments.space).stem}"
    folder = storage(arguments)
    return next(n for i in range(1, 10**6) if not (folder / (n := f"{stem}-{i}")).exists())
