"""`dynamos-sweep`: run a sweep, continue it, stop it, read its results.

Heavy packages are imported only when they are needed.
"""

import argparse
import codecs
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from dynamos.arguments import complete, exit_status
from dynamos.errors import DynamosError, RunError, UserError
from dynamos.files import any_path, local_path
from results.definition.urls import refuse_password, refuse_unmirrored
from tune.cli.at_cluster import AT_A_SERVER, done_there
from tune.cli.flags.naming import with_flags
from tune.cli.flags.parser import COMMANDS, parser_of
from tune.cli.flags.session import session_changes, storage, with_data_path
from tune.machines.address import JOB_SERVER, is_server
from tune.machines.status import tell_error

if TYPE_CHECKING:
    from rich.status import Status

    from dynamos.config import TrainConfig
    from results.definition.sweep_config import SweepConfig
    from results.ledger.ledger import Ledger
    from results.sweep import Sweep

_DRIVING = ("run", "resume", "extend", "rerun", "confirm")  # commands that drive sweeps
PATIENCE_SECONDS = 60.0  # how long `stop` waits to see the driver end


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; exit status 0 done, 1 the sweep failed, 2 bad input, 130 interrupted."""
    if "COMP_LINE" in os.environ:
        complete(parser_of(_asked(os.environ["COMP_LINE"].split())))
    texts = sys.argv[1:] if argv is None else list(argv)
    spell_out(sys.stdout)
    return exit_status("dynamos-sweep", lambda: _named(texts), tell_error)


def spell_out(stream: Any) -> None:
    """Make a text stream that cannot encode ± write +-, and ? for all other such characters."""

    def plain(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        return "".join(
            "+-" if sign == "±" else "?" for sign in error.object[error.start : error.end]
        ), error.end

    try:
        "±".encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        codecs.register_error("spell-out", plain)
        stream.reconfigure(errors="spell-out")


def _named(texts: list[str]) -> int:
    """Run a command line; an error names flags, not fields."""
    try:
        return _done(texts)
    except DynamosError as error:
        error.args = (with_flags(str(error)),)
        raise


def _done(texts: list[str]) -> int:
    """Run a command line; RunError if a ledger's file is damaged or its server does not answer."""
    asked = _asked(texts)
    arguments = parser_of(asked).parse(texts)
    if getattr(arguments, "config", None) is not None:
        from tune.cli.flags.sweep_file import flags_of

        if getattr(arguments, "mammoth", None) is not None:
            raise UserError("--config and --mammoth both name a file of the base; give one.")
        arguments = parser_of(asked, flags_of(local_path(arguments.config))).parse(texts)
    elif getattr(arguments, "mammoth", None) is not None:
        from tune.cli.flags.sweep_file import flags_of_mammoth

        arguments = parser_of(asked, flags_of_mammoth(arguments)).parse(texts)
    for flag in ("--ledger-url", "--tracking-uri"):
        refuse_password(flag, getattr(arguments, flag[2:].replace("-", "_"), None))
    refuse_unmirrored("--tracking-uri", getattr(arguments, "tracking_uri", None))
    address, command = getattr(arguments, "address", None), arguments.command
    if getattr(arguments, "server", None) is not None:
        from tune.cli.at_service import done_by_service

        return done_by_service(arguments)
    if command == "submit":
        from tune.cli.at_slurm import refuse_without_slurm, submitted

        if arguments.slurm:
            return submitted(arguments, texts)
        refuse_without_slurm(arguments)
    if is_server(address) and command != "serve":
        return done_there(arguments, texts)
    if address is not None and command in AT_A_SERVER:
        raise UserError(
            f"--address {address}: {command} needs a job server, for instance {JOB_SERVER}."
        )
    if address is not None and "preflight_only" not in arguments and command != "serve":
        raise UserError(
            f"--address {address}: this command runs here, or through a job server, for instance "
            f"{JOB_SERVER}."
        )
    try:
        with sigterm_as_ctrl_c() if command in _DRIVING else nullcontext():
            return _HERE[command](arguments)
    except DynamosError:
        raise
    except Exception as error:
        from results.ledger.study import DATABASE_ERRORS, unusable  # heavy

        if isinstance(error, DATABASE_ERRORS):
            raise RunError(unusable(error)) from error
        raise


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _asked(texts: Sequence[str]) -> str | None:
    """The command on a command line; None if it has none."""
    return next((text for text in texts if text in COMMANDS), None)


def _run(arguments: argparse.Namespace) -> int:
    from results.definition.labels import check, parsed_tags
    from results.ledger.ledger import Ledger, NameTaken
    from tune.cli.flags.run import sweep_config, sweep_name

    config, tags = sweep_config(arguments), parsed_tags(arguments.tags)
    check(tags, arguments.note)
    address = _checked(arguments, config, config.base)
    if arguments.preflight_only:
        return 0
    if arguments.dry_run:
        from tune.cli.tables import print_tried
        from tune.engine.creation import recorded
        from tune.engine.suggestions import first_suggestions

        Ledger.refuse_taken(storage(arguments), config.name)
        print_tried(
            config.to_dict(),
            *first_suggestions(storage(arguments), config, recorded(config, address)),
        )
        return 0
    if arguments.name is not None:
        Ledger.refuse_taken(storage(arguments), config.name)  # before anything is started
    from tune.engine.early import early

    with early(config, address, config.trials):
        with _status("reading the images"):
            from tune.engine.creation import create_sweep

            while True:
                try:
                    ledger = create_sweep(storage(arguments), config, address=address)
                    break
                except NameTaken:
                    if arguments.name is not None:
                        raise
                    # another `run` took the number
                    config = dataclasses.replace(config, name=sweep_name(arguments))
        ledger.label(tags, arguments.note)
        return _drive(ledger, address)


def _resume(arguments: argparse.Namespace) -> int:
    return _go_on(arguments, _open(arguments))


def _extend(arguments: argparse.Namespace) -> int:
    ledger = _open(arguments)
    ledger.refuse_extension()
    if arguments.space is None and not arguments.trials:
        raise UserError("extend needs --trials +N, --space, or both.")
    if arguments.space is not None:
        from search_spaces.space import read_space
        from tune.cli.terminal import say

        space = read_space(arguments.space)
        if arguments.preflight_only:
            return _go_on(arguments, ledger, arguments.trials)
        with ledger.driving():
            for text in ledger.change_space(space) or ["the space stays as it is."]:
                say(text)
    return _go_on(arguments, ledger, arguments.trials)


def _rerun(arguments: argparse.Namespace) -> int:
    ledger = _open(arguments)
    ledger.refuse_rerun(arguments.trial)
    return _go_on(arguments, ledger, again=arguments.trial)


def _confirm(arguments: argparse.Namespace) -> int:
    from results.choice import Choice

    ledger = _open(arguments)
    if arguments.extend is not None or arguments.class_orders is not None:
        return _confirm_further(arguments, ledger)
    ledger.config = with_data_path(arguments, ledger.config, reported=True)
    changes = session_changes(arguments, ledger.config)
    choice = Choice(arguments.choose, arguments.max_compute)
    address = _checked(
        arguments,
        dataclasses.replace(ledger.config, **changes),
        ledger.config.reported_base.replace(evaluate_on="test"),
    )
    if arguments.preflight_only:
        return 0
    from tune.engine.early import early

    with early(dataclasses.replace(ledger.config, **changes), address, arguments.top + 1):
        with _status("reading the images"):
            from tune.engine.creation import check_images
            from tune.engine.retraining import confirmation

            there = confirmation(
                ledger,
                arguments.seeds,
                arguments.top,
                choice,
                arguments.baseline,
                changes,
                address,
                arguments.final,
            )
            if there.sessions and there.left:  # the images of a new one were checked before
                check_images(there)
        return _tested(ledger, there, address)


def _confirm_further(arguments: argparse.Namespace, ledger: "Ledger") -> int:
    """Add seeds or class orders to a confirmation."""
    from tune.engine.class_orders import class_orders
    from tune.engine.extension import extension, refuse_beside, searched

    usual = arguments.of_a_new_one
    refuse_beside(
        [name for name, value in usual.items() if getattr(arguments, name) != value],
        arguments.extend,
        arguments.class_orders,
    )
    sweep = searched(ledger)
    sweep.config = with_data_path(arguments, sweep.config, reported=True)
    moved = None if arguments.data_path is None else sweep.config.reported_base.data_path
    changes = session_changes(arguments, ledger.config)
    address = _checked(
        arguments,
        dataclasses.replace(sweep.config, **changes),
        sweep.config.reported_base.replace(evaluate_on="test"),
    )
    if arguments.preflight_only:
        return 0
    from tune.engine.early import early

    with early(dataclasses.replace(sweep.config, **changes), address, arguments.top + 1):
        with _status("reading the images"):
            from tune.engine.creation import check_images

            there = (
                class_orders(ledger, arguments.class_orders, changes, address, moved)
                if arguments.extend is None
                else extension(ledger, arguments.extend, changes, address, moved)
            )
            if there.sessions:  # the images of a new one were checked before
                check_images(there)
        return _tested(sweep, there, address)


def _tested(ledger: "Ledger", confirmation: "Ledger", address: str | None) -> int:
    """Run what is left of a confirmation of a sweep, and print its result."""
    if confirmation.left:
        return _drive(confirmation, address)
    from tune.cli.summary import confirmed

    return 0 if confirmed(ledger, confirmation, None) else 1


def _export(arguments: argparse.Namespace) -> int:
    from results.choice import Choice, chosen, chosen_by, reported_config
    from results.pages.best_config import commands, export, note
    from results.sweep import Sweep

    ledger, choice = _open(arguments), Choice(arguments.choose, arguments.max_compute)
    place = None
    if arguments.register is not None:
        from tune.tracking.registry import parse

        place = parse(arguments.register)
    sweep = Sweep.of(ledger)
    trial = chosen(sweep, choice)[0]
    export(ledger, trial, choice)
    by = chosen_by(sweep, choice)
    print(f"{trial.label} ({by}): {ledger.folder / 'best_config.yaml'}, best_args.py")
    config = reported_config(ledger.config, trial)
    for line in (*commands(config).values(), note(config, ledger, trial.number)):
        print(line)
    if place is not None:
        from tune.tracking.registry import register
        from tune.tracking.store import mlflow_uri

        model, alias = place
        with _status(f"registering the network in MLflow as {model}"):
            version = register(ledger, trial, model, alias)
        print(
            f"version {version} at {mlflow_uri(ledger)}: "
            f"mlflow.pyfunc.load_model('models:/{model}@{alias}')"
        )
    return 0


def _go_on(
    arguments: argparse.Namespace, ledger: "Ledger", more: int = 0, again: Sequence[int] = ()
) -> int:
    changed = dataclasses.replace(ledger.config, **session_changes(arguments, ledger.config))
    ledger.config = with_data_path(arguments, changed)
    left = ledger.left + more + len(again)
    if not arguments.preflight_only:
        if left <= 0 and ledger.driver is None:  # a killed driver left files to repair
            return _nothing_left(ledger)
        _refuse_at_a_limit(ledger, left)
    address = _checked(arguments, ledger.config, ledger.config.base)
    if arguments.preflight_only:
        return 0
    from tune.engine.early import early

    with early(ledger.config, address, left):
        with _status("reading the images"):
            from tune.engine.creation import check_images

            check_images(ledger)
        return _drive(ledger, address, more, again)


def _nothing_left(ledger: "Ledger") -> int:
    """Print that a sweep is finished, and the commands that continue it.

    Also make its files agree with its ledger.
    """
    from results.frames import stale
    from results.pages.best_config import write_views
    from results.wording import count

    config = ledger.config
    if stale(ledger):  # after a full disk or a kill
        write_views(ledger)
    ways = [ledger.command("extend", "--trials", "+10"), ledger.command("confirm")]
    if config.confirms is not None:
        ways = [ledger.command("show"), ledger.command("confirm", "--extend", "+10")]
    print(
        f"{config.name} is finished ({count(ledger.budget, 'trial')}). To continue: "
        f"{'; or '.join(ways)}"
    )
    return 0


def _refuse_at_a_limit(ledger: "Ledger", left: int) -> None:
    """Raise UserError if a limit already reached would end a session before its first trial."""
    from tune.engine.limits import reached

    limits = reached(ledger)
    # A killed driver left files to repair. The next driver repairs them.
    if not limits or ledger.driver is not None or left <= 0:
        return
    from results.pages.best_config import write_views

    write_views(ledger)  # an earlier session may have lacked the disk space
    raise UserError(
        f"{' and '.join(limits.values())}, so later sessions of {ledger.config.name} would end at "
        f"once; to continue set another {' and another '.join(f'`{field}`' for field in limits)}."
    )


def _checked(
    arguments: argparse.Namespace, config: "SweepConfig", base: "TrainConfig"
) -> str | None:
    """The address of the cluster to run on, after a preflight of its nodes.

    Returns None for this machine only.

    `base` decides which images the trials need.
    """
    from tune.machines.cluster import cluster_address
    from tune.machines.private import check_token

    address = cluster_address(arguments.address)
    check_token()
    if address is not None or arguments.preflight_only:
        from tune.machines.preflight import preflight

        preflight(config, storage(arguments), address, base)
    return address


def _status(text: str) -> "Status":
    """A line on the terminal that names a slow step while it runs."""
    from rich.console import Console

    return Console(stderr=True).status(text)


def _drive(ledger: "Ledger", address: str | None, more: int = 0, again: Sequence[int] = ()) -> int:
    from results.ledger.ledger import Ledger
    from tune.cli.live_table import LiveTable
    from tune.cli.summary import confirmed, ending
    from tune.engine.sweep import INTERRUPTED, run_sweep

    over = run_sweep(ledger, more, address, again, LiveTable(ledger, more + len(again)))
    confirms = ledger.config.confirms
    found = (
        ending(ledger, over)
        if confirms is None
        else confirmed(Ledger.open(ledger.folder.parent, confirms), ledger, over)
    )
    return 130 if over == INTERRUPTED else 0 if found else 1


def _stop(arguments: argparse.Namespace) -> int:
    ledger = _open(arguments)
    name, driver = ledger.config.name, ledger.driver
    if driver is None or ledger.driver_gone:
        if driver is None and ledger.left <= 0:
            print(f"{name} is finished; there is nothing to stop")
            return 0
        raise UserError(
            f"the sweep {name!r} is not "
            f"running{'' if driver is None else f', {driver} was killed'}. Continue it: "
            f"{ledger.command('resume')}"
        )
    if arguments.trial is None:
        ledger.request_stop()
        what = f"sweep {name}"
    else:
        ledger.asked_for(arguments.trial)  # an error for an unknown trial names the known ones
        ledger.request_trial_stop(arguments.trial)
        what = f"trial {arguments.trial} of {name}"
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        if ledger.driver is None or (
            arguments.trial is not None and not ledger.trial(arguments.trial).trains
        ):
            print(
                f"{what} has stopped"
                + (
                    f"; continue with: {ledger.command('resume')}"
                    if arguments.trial is None
                    else ""
                )
            )
            return 0
        time.sleep(0.2)
    print(
        f"{what} has not stopped yet, because its driver ({ledger.driver}) does not answer. If "
        f"that process has ended, {ledger.command('resume')} takes over.",
        file=sys.stderr,
    )
    return 1


def _compare(arguments: argparse.Namespace) -> int:
    from results.analysis.comparison import compared, comparison_rows, comparison_sentences
    from results.names import comparison_page
    from results.pages.compare_page import write_comparison
    from tune.cli.tables import print_comparison

    names = arguments.names
    if len(set(names)) < len(names) or len(names) < 2:
        raise UserError(f"compare {' '.join(names)}: name two or more different sweeps.")
    sweeps = compared([_found(arguments, name) for name in names])
    print_comparison(
        [s.name for s in sweeps], comparison_rows(sweeps), comparison_sentences(sweeps)
    )
    path = (
        any_path(arguments.page) if arguments.page else storage(arguments) / comparison_page(names)
    )
    print(f"\nThe page: {write_comparison(sweeps, path)}")
    return 0


def _note(arguments: argparse.Namespace) -> int:
    from results.definition.labels import check
    from tune.cli.terminal import say

    ledger = _open(arguments)
    if arguments.text is not None:
        check({}, arguments.text)
        ledger.label({}, arguments.text)
        _hint_at_sync(ledger)
    say(ledger.note or f"{arguments.name} has no note")
    return 0


def _tag(arguments: argparse.Namespace) -> int:
    from results.definition.labels import parsed_tags, told
    from tune.cli.terminal import say

    ledger = _open(arguments)
    if arguments.tags:
        ledger.label(parsed_tags(arguments.tags), None)
        _hint_at_sync(ledger)
    say(told(ledger.tags) or f"{arguments.name} has no tags")
    return 0


def _hint_at_sync(ledger: "Ledger") -> None:
    """Print how MLflow gets a change of the ledger that no driver mirrors."""
    if ledger.driver is None or ledger.driver_gone:
        print(f"To update MLflow: {ledger.command('sync')}", file=sys.stderr)


def _delete(arguments: argparse.Namespace) -> int:
    from results.ledger.removal import removals
    from results.wording import count
    from tune.cli.terminal import asked, say
    from tune.tracking.mirror import delete_runs
    from tune.tracking.store import store_uri

    going = removals(storage(arguments), list(dict.fromkeys(arguments.names)))
    for removal in going:
        uri = store_uri(removal.config, storage(arguments))
        trials = "its ledger is lost" if removal.trials is None else count(removal.trials, "trial")
        study = (
            ""
            if removal.config.ledger_url is None
            else f", its study at {removal.config.ledger_url}"
        )
        runs = delete_runs(uri, removal.record["id"], really=False)
        say(
            f"{removal.config.name}: {trials}, {removal.folder}{study}, "
            f"{count(runs, 'MLflow run')} at {uri}"
        )
    if not (arguments.yes or asked("Delete for good?")):
        return 1
    for removal in going:
        delete_runs(store_uri(removal.config, storage(arguments)), removal.record["id"])
        removal.carry_out()
        say(
            f"{removal.config.name} is deleted"
            + (
                "; its sweep still counts its use of test images"
                if removal.config.confirms is not None
                else ""
            )
        )
    return 0


def _clean(arguments: argparse.Namespace) -> int:
    from results.checkpoints import cleanable

    ledger = _open(arguments)
    found = cleanable(ledger)
    if not arguments.dry_run:
        found.remove()
    print(f"{arguments.name}: {'would free' if arguments.dry_run else 'freed'} {found}")
    return 0


def _found(arguments: argparse.Namespace, name: str) -> "Sweep":
    """A sweep from its ledger or, with --tracking-uri and without a ledger here, from MLflow."""
    from results import sweep_names
    from results.sweep import Sweep

    if arguments.tracking_uri is None or name in sweep_names(storage(arguments)):
        return Sweep.of(_open_named(arguments, name))
    from tune.tracking.reader import served_sweep

    return served_sweep(arguments.tracking_uri, name)


def _list(arguments: argparse.Namespace) -> int:
    from tune.cli.listing import listing

    listing(storage(arguments))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from tune.cli.summary import show_sweep, show_trial

    ledger = _open(arguments)
    if arguments.trial is None:
        show_sweep(ledger)
    else:
        show_trial(ledger, arguments.trial)
    return 0


def _sync(arguments: argparse.Namespace) -> int:
    from tune.tracking.mirror import sync

    ledger = _open(arguments)
    with _status("comparing MLflow with the ledger"):
        done = sync(ledger, arguments.tracking_uri)
    print(done)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from results.pages.report import write_report

    ledger = _open(arguments)
    with _status(f"drawing the report of {ledger.config.name}"):
        path = write_report(ledger)
    print(path)
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    from results import sweep_names
    from tune.cli.log_reader import print_logs

    server = os.environ.get("RAY_API_SERVER_ADDRESS")
    if server is not None and arguments.name not in sweep_names(storage(arguments)):
        arguments.address = server
        return done_there(arguments, ["logs", arguments.name])
    print_logs(_open(arguments), arguments.trial, arguments.follow)
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    from tune.service.serve import serve

    return serve(arguments)


def _open(arguments: argparse.Namespace) -> "Ledger":
    return _open_named(arguments, arguments.name)


def _open_named(arguments: argparse.Namespace, name: str) -> "Ledger":
    from results.ledger.ledger import Ledger

    with _status(f"reading {name}"):
        ledger = Ledger.open(storage(arguments), name)
        ledger.trials()  # the first reading of thousands of trials takes seconds
    return ledger


# Handlers of commands that run here; `submit` runs only on a cluster.
_HERE: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "resume": _resume,
    "extend": _extend,
    "rerun": _rerun,
    "confirm": _confirm,
    "export": _export,
    "stop": _stop,
    "compare": _compare,
    "note": _note,
    "tag": _tag,
    "clean": _clean,
    "delete": _delete,
    "list": _list,
    "show": _show,
    "sync": _sync,
    "report": _report,
    "logs": _logs,
    "serve": _serve,
}
