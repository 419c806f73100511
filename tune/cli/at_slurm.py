"""`submit --slurm`: a sweep as a SLURM job array."""

import argparse
import shlex
from collections.abc import Sequence

from dynamos.errors import UserError, command_line

WORKERS = 4
OPTIONS = "--cpus-per-task=8 --time=04:00:00"
_OWN = ("--workers", "--sbatch", "--name", "--storage")  # flags with a value


def submitted(arguments: argparse.Namespace, texts: Sequence[str]) -> int:
    """Submit the sweep and return the exit status; `arguments` are the parsed `texts`."""
    from results.wording import count
    from tune.cli.flags.run import sweep_config
    from tune.machines.slurm.submission import submit

    if arguments.name is None:
        raise UserError("submit needs --name, so that you can find the sweep and its logs.")
    workers = WORKERS if arguments.workers is None else arguments.workers
    if workers < 1:
        raise UserError(f"--workers {workers}: give at least 1.")
    if any(text.partition("=")[0] == "--address" for text in texts):
        raise UserError("--address does not go with --slurm: the job starts its own Ray cluster.")
    for flag in ("preflight_only", "dry_run"):
        if getattr(arguments, flag, False):
            raise UserError(
                f"--{flag.replace('_', '-')} runs nothing; it does not go with --slurm."
            )
    try:
        options = shlex.split(OPTIONS if arguments.sbatch is None else arguments.sbatch)
    except ValueError as error:
        raise UserError(f"--sbatch {arguments.sbatch!r}: {error}.") from None
    sweep_config(arguments)  # wrong flags are refused here
    name, storage = arguments.name, arguments.storage
    flags = [f"--name={name}", f"--storage={storage}", *_of_run(texts[1:])]
    job = submit(name, storage, flags, workers, options)
    show, stop = (
        command_line("dynamos-sweep", verb, name, "--storage", storage) for verb in ("show", "stop")
    )
    print(
        f"job {job} drives {name} with up to {count(workers, 'worker')}.\n"
        f"  its logs     {name}-*.out\n  its trials   {show}\n  end it       {stop}"
    )
    return 0


def _of_run(texts: Sequence[str]) -> list[str]:
    """The flags of `run` among those of `submit --slurm`, but for the name and the storage."""
    left, rest = list[str](), iter(texts)
    for text in rest:
        if text in _OWN:
            next(rest)
        elif text != "--slurm" and not text.startswith(tuple(f"{flag}=" for flag in _OWN)):
            left.append(text)
    return left


def refuse_without_slurm(arguments: argparse.Namespace) -> None:
    """Raise UserError if a flag is given that only --slurm uses."""
    for flag in ("workers", "sbatch"):
        if getattr(arguments, flag, None) is not None:
            raise UserError(f"--{flag} goes with --slurm.")
