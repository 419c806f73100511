"""Commands that run through the service at --server."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynamos.errors import UserError, command_line
from dynamos.fields import settings
from results import STORAGE
from results.definition.defaults import PRESET
from results.definition.labels import one_line, parsed_tags, told
from results.definition.objectives import Constraint
from results.definition.sweep_config import SweepConfig
from results.wording import count
from search_spaces.space import read_space
from tune.cli import tables, terminal
from tune.cli.flags.naming import with_flags
from tune.cli.listing import SWEEPS
from tune.client import Client

# Flags of settings that belong to the service.
_ITS_OWN = (
    "address",
    "data_path",
    "ledger_url",
    "tracking_uri",
    "register",
    "page",
    "preflight_only",
)


def done_by_service(arguments: argparse.Namespace) -> int:
    """Make the service run a command; return the exit status.

    Raises UserError for flags that it does not take.
    """
    given = [flag for flag in _ITS_OWN if getattr(arguments, flag, None)]
    if arguments.storage != STORAGE:
        given.append("storage")
    if arguments.command == "confirm":  # its first session has the resources of the sweep
        given += [
            about.flag or name
            for name, about in settings(SweepConfig).items()
            if about.session and getattr(arguments, name) is not None
        ]
        if arguments.baseline not in (None, PRESET):
            given.append("baseline")
    if given:
        raise UserError(
            f"--{given[0].replace('_', '-')} cannot be used with --server: the service sets it."
        )
    COMMANDS[arguments.command](Client(arguments.server), arguments)
    return 0


def _run(client: Client, arguments: argparse.Namespace) -> None:
    from tune.cli.flags.run import sweep_config

    if arguments.name is None:
        raise UserError("with --server a sweep needs --name, so that you can find it.")
    config, tags = sweep_config(arguments), parsed_tags(arguments.tags)
    # The request holds each choice once, so the service cannot note that one was given twice.
    for text in config.space.notes:
        terminal.say(f"note: {with_flags(text)}")
    if arguments.dry_run:
        tried = client.create(config, dry_run=True)
        tables.print_tried(tried["config"], tried["trials"], tried["suggestions"], tried["notes"])
        return
    made = client.create(config, tags=tags, note=arguments.note or "")
    for text in made["notes"]:
        terminal.say(f"note: {with_flags(text)}")
    show = command_line("dynamos-sweep", "show", made["name"], "--server", client.url)
    terminal.say(f"{_line(made)}. Watch it: {show}, or the page {client.url}")


def _list(client: Client, _: argparse.Namespace) -> None:
    terminal.print_rows(
        SWEEPS,
        [
            [
                sweep["name"],
                sweep["stream"],
                sweep["space"],
                sweep["protocol"],
                sweep["state"],
                f"{_ended(sweep)}/{sweep['budget']}",
                terminal.cell(sweep["best"] and sweep["best"]["value"]),
                sweep["verdict"] or "",
                " ".join(sweep["objectives"]),
                told(sweep["tags"]),
                one_line(sweep["note"]),
                sweep["error"] or "",
            ]
            for sweep in client.sweeps()
        ],
        prose=3,
    )


def _show(client: Client, arguments: argparse.Namespace) -> None:
    sweep = client.sweep(arguments.name)
    if arguments.trial is not None:
        constraints = [Constraint.parse(text) for text in sweep["constraints"]]
        trial = client.trial(arguments.name, arguments.trial)
        tables.print_trial(trial, arguments.name, list(sweep["metrics"]), constraints)
        return
    page = f"{client.url}/#/sweep/{arguments.name}"
    tables.print_sweep(sweep, client.trials(arguments.name), page)


def _stop(client: Client, arguments: argparse.Namespace) -> None:
    if arguments.trial is None:
        terminal.say(_line(client.stop(arguments.name)))
    else:
        client.stop_trial(arguments.name, arguments.trial)
        print(f"trial {arguments.trial} of {arguments.name} was asked to stop")


def _resume(client: Client, arguments: argparse.Namespace) -> None:
    terminal.say(_line(client.resume(arguments.name, **_limits(arguments))))


def _extend(client: Client, arguments: argparse.Namespace) -> None:
    space = None
    if arguments.space is not None:
        read = read_space(arguments.space)
        space = {"name": read.name} | read.to_dict()
    if not arguments.trials:
        raise UserError("extend through a service needs --trials +N.")
    terminal.say(
        _line(client.extend(arguments.name, arguments.trials, space, **_limits(arguments)))
    )


def _confirm(client: Client, arguments: argparse.Namespace) -> None:
    terminal.say(
        _line(
            client.confirm(
                arguments.name,
                arguments.seeds,
                arguments.top,
                arguments.choose,
                arguments.max_compute,
                arguments.baseline,
                arguments.final,
                arguments.extend,
                arguments.class_orders,
            )
        )
    )


def _export(client: Client, arguments: argparse.Namespace) -> None:
    found = client.best(arguments.name, arguments.choose, arguments.max_compute)
    print(
        f"trial {found['trial']['number']} of {arguments.name}, {found['provenance']['chosen_by']}:"
    )
    for line in found["commands"].values():
        print(line)
    print(found["note"])


def _report(client: Client, arguments: argparse.Namespace) -> None:
    path = Path(f"{arguments.name}-report.html")
    path.write_text(client.report(arguments.name))
    print(path.resolve())


def _compare(client: Client, arguments: argparse.Namespace) -> None:
    found = client.compare(*arguments.names)
    tables.print_comparison(
        found["names"], (found["settings"], found["found"], found["shifted"]), found["sentences"]
    )


def _note(client: Client, arguments: argparse.Namespace) -> None:
    name, text = arguments.name, arguments.text
    sweep = client.sweep(name) if text is None else client.label(name, note=text)
    terminal.say(sweep["note"] or f"{name} has no note")


def _tag(client: Client, arguments: argparse.Namespace) -> None:
    name, tags = arguments.name, parsed_tags(arguments.tags)
    sweep = client.label(name, tags) if tags else client.sweep(name)
    terminal.say(told(sweep["tags"]) or f"{name} has no tags")


def _clean(client: Client, arguments: argparse.Namespace) -> None:
    found = client.clean(arguments.name, arguments.dry_run)
    terminal.say(f"{arguments.name}: {found['text']}")


def _delete(client: Client, arguments: argparse.Namespace) -> None:
    for name in arguments.names:
        terminal.say(_line(client.sweep(name)))
    if arguments.yes or terminal.asked("Delete for good?"):
        for name in arguments.names:
            client.delete(name)
            terminal.say(f"{name} is deleted")


COMMANDS: dict[str, Callable[[Client, argparse.Namespace], None]] = {
    "run": _run,
    "list": _list,
    "show": _show,
    "stop": _stop,
    "resume": _resume,
    "extend": _extend,
    "confirm": _confirm,
    "export": _export,
    "report": _report,
    "compare": _compare,
    "clean": _clean,
    "delete": _delete,
    "note": _note,
    "tag": _tag,
}


def _limits(arguments: argparse.Namespace) -> dict[str, float]:
    for flag, automatic in (
        ("--gpus-per-trial", arguments.pack_gpus),
        ("--cohort", arguments.pack_cohorts),
    ):
        if automatic:
            raise UserError(
                f"{flag} auto is not possible for a later session with --server; give a number."
            )
    return {
        name: value
        for name, about in settings(SweepConfig).items()
        if about.session and about.flag and (value := getattr(arguments, name)) is not None
    }


def _line(sweep: dict[str, Any]) -> str:
    ended = f"{_ended(sweep)} of {count(sweep['budget'], 'trial')} ended"
    told = f"{sweep['name']}: {sweep['state']}, {ended}"
    return told if sweep["error"] is None else f"{told}; {sweep['error']}"


def _ended(sweep: dict[str, Any]) -> int:
    return sum(int(sweep["counts"][state]) for state in ("complete", "pruned", "fail"))
