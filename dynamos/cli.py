"""The command `dynamos`: trains one configuration in a new folder, or exports a trained network."""

import argparse
import os
import sys
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dynamos.arguments import (
    OPTIONS,
    Parser,
    add_fields,
    add_run_flags,
    as_trainer,
    complete,
    exit_status,
    fields_given,
    mammoth_fields,
    merged,
    tell_left_out,
    with_validation,
)
from dynamos.config import (
    PRESETS,
    TrainConfig,
    checked,
    differing,
    parsed_settings,
    read_config,
    read_yaml,
)
from dynamos.errors import UserError, command_line, unknown
from dynamos.files import any_path, local_path, write_whole
from dynamos.mammoth import arguments_of
from dynamos.user_code import absolute_code

if TYPE_CHECKING:  # `--help` needs no torch
    from dynamos.trainer import Trainer

EPILOG = """\
If a field has several values, the last source wins: default, --preset, --config or --mammoth,
--set, its flag.
`dynamos export RUN --to DIR` writes a trained network for use elsewhere;
`dynamos export RUN --as mammoth` prints the arguments of Mammoth.
`dynamos check FILE.py:NAME` checks a method or a trainer of your own."""
SAVE_PATH = Path("runs/train")
EXPORTS = ("safetensors", "mammoth")
TRACKING = "MLFLOW_TRACKING_URI"  # variable of the environment
# Entries of a run's config.yaml in addition to `config`.
KEPT: dict[str, Any] = OPTIONS | {"checkpoint_every": None, "tracking_uri": None}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `dynamos` and return its status: 0, 1 (failed), 2 (bad input), 130 (interrupted)."""
    complete(train_parser())
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["export"]:
        return exit_status("dynamos", lambda: _export(arguments[1:]))
    if arguments[:1] == ["check"]:
        return exit_status("dynamos", lambda: _check(arguments[1:]))
    return exit_status("dynamos", lambda: _train(arguments))


def train_parser() -> Parser:
    """Return the parser of `dynamos` without a subcommand."""
    parser = Parser(
        prog="dynamos",
        description="Train one configuration on a stream of tasks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_version()
    run = parser.add_argument_group("run")
    run.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file of fields, or one with a `config` section "
        "(best_config.yaml, a run's config.yaml)",
    )
    run.add_argument(
        "--mammoth",
        metavar="FILE",
        help="YAML file of Mammoth's arguments, in place of --config",
    )
    run.add_argument(
        "--preset",
        "--load-best-args",
        nargs="?",
        const="paper",
        metavar="paper|tuned",
        help="use the preset of the stream and buffer size; without --buffer-size, the "
        "preset of the smallest buffer. paper, the default: the paper's settings; tuned: the "
        "confirmed result of a sweep of ours",
    )
    run.add_argument(
        "--set",
        action="append",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="set fields by name",
    )
    run.add_argument(
        "--resume",
        type=local_path,
        metavar="RUN",
        help="continue the run in this folder from the point where it stopped",
    )
    add_run_flags(
        run,
        save_path=f"folder in which the run's folder is created [default: {SAVE_PATH}]",
        exp_name="name of the run's folder [default: stream, method, seed and time]",
    )
    run.add_argument(
        "--trainer",
        metavar="FILE.py:NAME",
        help="a trainer of your own in place of --model (docs/how-to/own-trainers.md)",
    )
    run.add_argument(
        "--checkpoint-every",
        type=_steps,
        default=argparse.SUPPRESS,
        metavar="N",
        help="also write a checkpoint every N steps, not only after every task",
    )
    run.add_argument(
        "--tracking-uri",
        default=argparse.SUPPRESS,
        metavar="URI",
        help=f"MLflow server or store to which the run is logged [default: {TRACKING}, or none]",
    )
    add_fields(parser)
    return parser


def _steps(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--checkpoint-every {text!r} is not a whole number of at least 1.")
    return int(text)


def _train(arguments: list[str]) -> int:
    parsed = train_parser().parse(arguments)
    given = with_validation(fields_given(parsed), parsed.validation)
    if parsed.trainer is not None:
        if "model" in given:
            raise UserError("--model and --trainer both name what trains; give one.")
        given["model"] = as_trainer(parsed.trainer)
    layers = [parsed_settings([setting for group in parsed.set for setting in group]), given]
    options = {name: value for name, value in vars(parsed).items() if name in KEPT}
    if parsed.resume is not None:
        for flag, used in (
            ("--config", parsed.config),
            ("--mammoth", parsed.mammoth),
            ("--preset", parsed.preset),
            ("--exp-name", parsed.exp_name),
            ("--save-path", parsed.save_path),
        ):
            if used:
                raise UserError(
                    f"--resume uses the run's own configuration and folder; remove {flag}."
                )
        stored = _stored(parsed.resume)
        config = merged(use_preset=None, layers=[stored["config"], *layers])
        others = differing(TrainConfig.from_dict(stored["config"]).to_dict(), config.to_dict())
        if others:
            raise UserError(
                f"--resume {parsed.resume}: the run has another configuration; these differ: "
                f"{', '.join(others)}."
            )
        return _run(
            config,
            {name: stored[name] for name in KEPT} | options,
            parsed.resume,
            download=parsed.download,
            stored=stored,
        )
    if parsed.config is not None and parsed.mammoth is not None:
        raise UserError("--config and --mammoth both name a file of the configuration; give one.")
    file = {} if parsed.config is None else read_config(any_path(parsed.config))
    if parsed.mammoth is not None:
        file = mammoth_fields(
            parsed.mammoth,
            *({**layers[0], **given}.get(name) for name in ("dataset", "buffer_size")),
        )
    config = merged(use_preset=_preset_kind(parsed.preset), layers=[file, *layers])
    name = (
        parsed.exp_name
        or f"{config.stream_name}-{config.method_name}-seed{config.seed}-"
        f"{datetime.now():%Y%m%d-%H%M%S}"
    )
    folder = (parsed.save_path or SAVE_PATH) / name
    if (folder / "config.yaml").exists():
        raise _taken(folder)
    usual = KEPT | {"tracking_uri": os.environ.get(TRACKING) or None}
    return _run(config, usual | options, folder, download=parsed.download)


def _taken(folder: Path) -> UserError:
    return UserError(
        f"a run already exists in {folder}. Choose another --exp-name, or continue it: "
        + command_line("dynamos", "--resume", folder)
    )


def _stored(folder: Path) -> dict[str, Any]:
    """Return the content of a run's config.yaml: `config`, the entries of KEPT and `started`.

    Raises UserError if no run wrote the file.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"--resume {folder}: no run in this folder (config.yaml is missing).")
    stored = KEPT | read_yaml(path) | {"config": read_config(path)}
    if not isinstance(stored.get("started"), str):  # an exported network has a config.yaml, too
        raise UserError(
            f"--resume {folder}: no run in this folder (its config.yaml has no `started`)."
        )
    for name, usual in KEPT.items():
        value = stored[name]
        steps = name == "checkpoint_every" and type(value) is int and value >= 1
        text = name == "tracking_uri" and isinstance(value, str)
        if not (steps or text) and type(value) is not type(usual):
            raise UserError(
                f"{name} {value!r} in {path} is not allowed for --{name.replace('_', '-')}."
            )
    return stored


def _run(
    config: TrainConfig,
    options: dict[str, Any],
    folder: Path,
    *,
    download: bool,
    stored: dict[str, Any] | None = None,
) -> int:
    """Train the rest of the run in `folder` and return the exit status.

    `stored`: its config.yaml, if it has one.
    """
    from dynamos import checkpoints
    from dynamos.provenance import now_utc
    from dynamos.recorders import Checkpoints, Recorder, finished, offered
    from dynamos.run import RunFolders, alone, build, refuse_options, train

    refuse_options(config, options)
    trainer = build(config, download)
    places = RunFolders(
        result=folder / "result.json",
        models=folder / "models",
        tables=folder.parent,
        events=lambda setting: folder / "tensorboard" / setting,
    )
    about = {"id": uuid.uuid4().hex, "started": now_utc()} | {
        name: value for name, value in (stored or {}).items() if name in ("id", "started")
    }
    mirror: Recorder | None = None
    if options["tracking_uri"] is not None:
        flag = TRACKING if options["tracking_uri"] == os.environ.get(TRACKING) else "--tracking-uri"
        mirror = offered("mlflow")(
            options["tracking_uri"], flag, folder, about | {"notes": options["notes"]}
        )
    if stored is not None and finished(places.result) and _ended(trainer, options, folder, stored):
        if mirror is not None:  # MLflow may lack results
            mirror.start(trainer)
            mirror.end(trainer)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        state = None if stored is None else checkpoints.latest(folder / "checkpoints")
        if state is not None:
            trainer.load_state_dict(state)
        elif stored is not None:
            print("no checkpoint: the run starts again from the beginning", file=sys.stderr)
        try:
            # Also on a resume: options may have changed, and the images may be in another folder
            # now.
            write_whole(
                folder / "config.yaml",
                yaml.safe_dump({"config": config.to_dict(), **options, **about}, sort_keys=False),
                new=stored is None,
            )
        except FileExistsError:  # another run of that name started while this one read its images
            raise _taken(folder) from None
        print(
            f"{config.method_name} on {config.stream_name}, {trainer.n_tasks} tasks, seed "
            f"{config.seed}, {trainer.device}; in {folder}",
            flush=True,
        )
        try:
            row = {name: value for name, value in options.items() if name != "tracking_uri"}
            train(
                trainer,
                options,
                places,
                {"exp_name": folder.name, **row},
                about["started"],
                Checkpoints(folder / "checkpoints", options["checkpoint_every"]),
                mirror,
            )
        except KeyboardInterrupt:
            print(
                "dynamos: interrupted; continue with: "
                f"{command_line('dynamos', '--resume', folder)}",
                file=sys.stderr,
            )
            return 130
    print(f"written to {folder}")
    return 0


def _ended(
    trainer: "Trainer", options: dict[str, Any], folder: Path, stored: dict[str, Any]
) -> bool:
    """Return True if a finished run has no task left, and print its summary.

    Returns False if its last checkpoint is damaged, so that the last tasks must be repeated.
    """
    from dynamos import checkpoints
    from dynamos.display import print_summary

    state = checkpoints.latest(folder / "checkpoints")
    if state is None:  # training it again would lose its results
        raise UserError(
            f"the run in {folder} is finished and has no checkpoints left, so it cannot be "
            "continued."
        )
    trainer.load_state_dict(state)
    if not trainer.done:
        return False
    late = [
        f"--{name.replace('_', '-')}"
        for name in KEPT
        if options[name] != stored[name] and name != "tracking_uri"
    ]
    if late:
        raise UserError(f"the run in {folder} is finished: {', '.join(late)} would have no effect.")
    print_summary(trainer)
    return True


def _preset_kind(given: str | None) -> str | None:
    if given is not None and given not in PRESETS:
        raise unknown("preset", given, PRESETS)
    return given


def _check(arguments: list[str]) -> int:
    parser = Parser(
        prog="dynamos check",
        description="Check a method or a trainer of your own on two tiny tasks of the digits.",
        epilog="The exit status is 1 if it has a fault.",
    )
    parser.add_argument("model", metavar="FILE.py:NAME", help="a function or a class in a file")
    model = absolute_code(checked("model", parser.parse(arguments).model))
    from dynamos.methods.check import check

    for what, fault in check(model):
        print(f"{'ok' if fault is None else 'fault'}: {what}", flush=True)
        if fault is not None:
            print(f"  {fault}")
            return 1
    return 0


def _export_arguments(place: Path, to: Path | None) -> int:
    """Print Mammoth's arguments for the configuration in a run's folder or in a file."""
    file = place / "config.yaml" if place.is_dir() else place
    translated = arguments_of(TrainConfig.from_dict(read_config(file)))
    if to is not None:
        content = yaml.safe_dump(translated.values, sort_keys=False)
        write_whole(to / "mammoth.yaml", content)
    print(command_line(*(f"--{name}={value}" for name, value in translated.values.items())))
    tell_left_out("not in Mammoth", translated.left_out)
    return 0


def _export(arguments: list[str]) -> int:
    parser = Parser(
        prog="dynamos export",
        description="Write a run's network as safetensors and its configuration; or, with --as "
        "mammoth, print the arguments for Mammoth's command line.",
    )
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN",
        help="folder of a run; with --as mammoth, also a file of its configuration",
    )
    parser.add_argument(
        "--as",
        dest="kind",
        default="safetensors",
        metavar="FORMAT",
        help=f"one of {', '.join(EXPORTS)} [default: safetensors]",
    )
    parser.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        help="folder to write; with --as mammoth optional: it gets mammoth.yaml",
    )
    parsed = parser.parse(arguments)
    if parsed.kind not in EXPORTS:
        raise unknown("format", parsed.kind, EXPORTS).within("--as")
    if parsed.kind == "mammoth":
        return _export_arguments(parsed.run, parsed.to)
    if parsed.to is None:
        raise UserError("--to DIR is missing: the folder for the network.")
    from dynamos import export
    from dynamos.streams.classes import most_tasks

    config, network, tasks = export.newest_checkpoint(parsed.run)
    of = most_tasks(config) if config.n_tasks is None else config.n_tasks
    folder = export.write(config, network, parsed.to)
    print(
        f"written to {folder}: {export.WEIGHTS}, {export.ABOUT}"
        + (
            ""
            if tasks == of
            else f"; the run is not finished, the network has learned {tasks} of {of} tasks"
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
