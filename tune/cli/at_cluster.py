"""Commands that run on a cluster, through the job server at --address."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dynamos.errors import UserError, command_line
from dynamos.files import local_path

AT_A_SERVER = ("submit", "logs")  # these run only there
DRIVES = ("submit", "resume", "extend", "rerun", "confirm")


def done_there(arguments: argparse.Namespace, texts: Sequence[str]) -> int:
    """Run a command on the cluster and return its exit status.

    `arguments` are the parsed `texts`.

    Raises UserError for commands and paths that the cluster cannot use.
    """
    command, address, what = arguments.command, arguments.address, _without_address(texts)
    if command == "run":
        raise UserError(
            f"--address {address}: a driver connects to auto or HOST:PORT. To run it on the "
            f"cluster: {command_line('dynamos-sweep', 'submit', '--address', address)} ..."
        )
    from tune.machines.jobs import Jobs

    if command == "logs" and arguments.trial is None:
        jobs = Jobs(address)
        (jobs.follow if arguments.follow else jobs.show)(jobs.of(arguments.name))
        return 0
    for flag in ("storage", "data_path", "page"):
        place = getattr(arguments, flag, None)
        if place is not None and "://" not in place and not Path(place).is_absolute():
            raise UserError(
                f"--{flag.replace('_', '-')} {place}: give its absolute path on the "
                "cluster's nodes."
            )
    if command not in DRIVES:
        return Jobs(address).run(what)  # it reads no file of this machine
    if command == "submit":
        from tune.cli.flags.run import sweep_config

        if arguments.name is None:
            raise UserError("submit needs --name, so that you can find the sweep and its logs.")
        config = sweep_config(arguments)  # wrong flags are refused here
        what[0] = "run"
        if config.tracking_uri is not None:  # this machine's environment may name it
            what += ["--tracking-uri", config.tracking_uri]
    # Files are copied under the given names, even if these are links.
    files = {
        flag: Path(given).expanduser()
        for flag in ("config", "space", "points", "baseline")
        if (given := getattr(arguments, flag, None))
        and isinstance(given, str)
        and local_path(given).is_file()
    }
    for flag, path in files.items():
        what += [f"--{flag}", path.name]  # the last value of a flag counts
    if len({path.name for path in files.values()}) < len(files):
        raise UserError(
            f"{' '.join(map(str, files.values()))} are copied by file name, so their file names "
            "must differ."
        )
    what += ["--address", "auto"]
    if arguments.preflight_only or getattr(arguments, "dry_run", False):
        return Jobs(address).run(what, list(files.values()))
    job = Jobs(address).started(what, arguments.name, list(files.values()))
    follow = command_line("dynamos-sweep", "logs", "-f", arguments.name, "--address", address)
    print(f"job {job} drives {arguments.name}. Follow it: {follow}")
    return 0


def _without_address(texts: Sequence[str]) -> list[str]:
    """A command line without its --address."""
    left = [text for text in texts if not text.startswith("--address=")]
    if "--address" in left:
        place = left.index("--address")
        del left[place : place + 2]
    return left
