"""Commands that a service does, which --server names."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dynamos.errors import UserError
from results import STORAGE
from results.wording import count, number, parameters
from tune.client import Client
from tune.session import SESSION

# Flags that say what is the service's own.
_ITS_OWN = ("address", "data_path", "ledger_url", "tracking_uri", "baseline", "register", "page", "preflight_only")
SHOWN_TRIALS = 30


def done_by_service(arguments: argparse.Namespace) -> int:
    """Has the service do a command; its exit status. UserError for what it cannot do."""
    given = [flag for flag in _ITS_OWN if getattr(arguments, flag, None)]
    if arguments.storage != STORAGE:
        given.append("storage")
    if arguments.command == "confirm":  # whose first session has the resources of the sweep's
        given += [flag for flag in SESSION if getattr(arguments, flag) is not None]
    if given:
        raise UserError(f"--{given[0].replace('_', '-')} is not for --server: that is the service's own.")
    COMMANDS[arguments.command](Client(arguments.server), arguments)
    return 0


def _run(client: Client, arguments: argparse.Namespace) -> None:
    from tune.flags import sweep_config

    if arguments.name is None:
        raise UserError("with --server a sweep needs --name, by which it is found again.")
    made = client.create(sweep_config(arguments))
    print(f"{_line(made)}. Watch it: dynamos-sweep show {made['name']} --server {client.url}, or the page {client.url}")


def _list(client: Client, _: argparse.Namespace) -> None:
    table = Table("sweep", "stream", "space", "protocol", "state", "trials", "best", "objective", box=None,
                  pad_edge=False)
    for sweep in client.sweeps():
        chosen = sweep["best"]
        table.add_row(sweep["name"], sweep["stream"], sweep["space"], sweep["protocol"], sweep["state"],
                      f"{_ended(sweep)}/{sweep['budget']}", "" if chosen is None else number(chosen["value"]),
                      " ".join(sweep["objectives"]))
    _print(table)


def _show(client: Client, arguments: argparse.Namespace) -> None:
    if arguments.trial is not None:
        _show_trial(client.trial(arguments.name, arguments.trial), arguments.name)
        return
    sweep = client.sweep(arguments.name)
    print(f"{_line(sweep)}; {sweep['answer']}")
    for caution in sweep["cautions"]:
        print(caution)
    metric = sweep["objectives"][0].partition(":")[0]
    table = Table("trial", "state", "source", "tasks", metric, "seconds", "parameters or reason", box=None,
                  pad_edge=False)
    best_first = "desc" if sweep["metrics"][metric] == "max" else "asc"
    trials = list(client.trials(arguments.name, sort="value", order=best_first))
    for trial in trials[:SHOWN_TRIALS]:
        value = trial["metrics"][metric]
        table.add_row(str(trial["number"]), trial["state"].lower(), trial["source"], str(trial["tasks_done"]),
                      "" if value is None else number(value), f"{trial['seconds'] or 0:.0f}",
                      trial["reason"] or parameters(trial["config"]))
    _print(table)
    if len(trials) > SHOWN_TRIALS:
        print(f"... and {len(trials) - SHOWN_TRIALS} more at {client.url}/#/sweep/{arguments.name}")


def _show_trial(trial: dict[str, Any], name: str) -> None:
    print(f"trial {trial['number']} of {name}: {trial['state'].lower()}, from {trial['source']}, attempt "
          f"{trial['attempt']}, {trial['seconds'] or 0:.0f} s")
    if trial["reason"]:
        print(f"reason: {trial['reason']}")
    print(parameters(trial["config"]))
    table = Table("task", *trial["by_task"], box=None, pad_edge=False)
    for task in range(trial["tasks_done"]):
        values = [of[task] for of in trial["by_task"].values()]
        table.add_row(str(task + 1), *("" if v is None else number(v) for v in values))
    _print(table)
    for warning in trial["warnings"]:
        print(f"warning: {warning}")


def _stop(client: Client, arguments: argparse.Namespace) -> None:
    if arguments.trial is None:
        print(_line(client.stop(arguments.name)))
    else:
        client.stop_trial(arguments.name, arguments.trial)
        print(f"trial {arguments.trial} of {arguments.name} was asked to stop")


def _resume(client: Client, arguments: argparse.Namespace) -> None:
    print(_line(client.resume(arguments.name, **_limits(arguments))))


def _extend(client: Client, arguments: argparse.Namespace) -> None:
    print(_line(client.extend(arguments.name, arguments.trials, **_limits(arguments))))


def _confirm(client: Client, arguments: argparse.Namespace) -> None:
    print(_line(client.confirm(arguments.name, arguments.seeds, arguments.top, arguments.choose,
                               arguments.max_compute)))


def _export(client: Client, arguments: argparse.Namespace) -> None:
    found = client.best(arguments.name, arguments.choose, arguments.max_compute)
    print(f"trial {found['trial']['number']} of {arguments.name}, {found['provenance']['chosen_by']}:")
    for line in found["commands"].values():
        print(line)


def _report(client: Client, arguments: argparse.Namespace) -> None:
    path = Path(f"{arguments.name}-report.html")
    path.write_text(client.report(arguments.name))
    print(path.resolve())


def _compare(client: Client, arguments: argparse.Namespace) -> None:
    found = client.compare(*arguments.names)
    table = Table("", *found["names"], box=None, pad_edge=False)
    for section in ("settings", "found", "shifted"):
        for label, values in found[section]:
            table.add_row(label, *values)
        table.add_section()
    _print(table)
    for sentence in found["sentences"]:
        print(sentence)


COMMANDS: dict[str, Callable[[Client, argparse.Namespace], None]] = {
    "run": _run, "list": _list, "show": _show, "stop": _stop, "resume": _resume, "extend": _extend,
    "confirm": _confirm, "export": _export, "report": _report, "compare": _compare}


def _limits(arguments: argparse.Namespace) -> dict[str, float]:
    if arguments.pack_gpus:
        raise UserError("--gpus-per-trial auto is not for a later session at --server; say a number.")
    return {name: value for flag, name in SESSION.items()
            if name != "pack_gpus" and (value := getattr(arguments, flag)) is not None}


def _line(sweep: dict[str, Any]) -> str:
    told = f"{sweep['name']}: {sweep['state']}, {_ended(sweep)} of {count(sweep['budget'], 'trial')} ended"
    return told if sweep["error"] is None else f"{told}; {sweep['error']}"


def _ended(sweep: dict[str, Any]) -> int:
    return sum(int(sweep["counts"][state]) for state in ("complete", "pruned", "fail"))


def _print(table: Table) -> None:
    Console(markup=False, emoji=False, highlight=False).print(table)
