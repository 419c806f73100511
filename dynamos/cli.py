"""`dynamos`: trains one configuration, in a folder of its own; exports a trained one."""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dynamos.arguments import Parser, add_fields, fields_given, merged, with_validation
from dynamos.config import TrainConfig, differing, parsed_settings, read_config, read_yaml
from dynamos.errors import DynamosError, RunError, UserError
from dynamos.files import any_path, write_whole

if TYPE_CHECKING:  # torch takes seconds to import; --help and a wrong flag answer before it
    from dynamos.recorders import Recorder

EPILOG = """\
Of several values the later wins: default, --preset, --config, --set, the field's own flag.
`dynamos export RUN --to DIR` writes a trained network for use elsewhere."""
SAVE_PATH = Path("runs/train")
# Settings of a run that are no hyperparameters; they stand beside `config` in a run's config.yaml.
OPTIONS: dict[str, Any] = {"notes": "", "tensorboard": False, "csv_log": False, "save_all": False,
                           "checkpoint_every": None}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, 1 for a run that failed, 2 for bad input, 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["export"]:
        return exit_status("dynamos", lambda: _export(arguments[1:]))
    return exit_status("dynamos", lambda: _train(arguments))


def exit_status(program: str, work: Callable[[], int]) -> int:
    """What `work` returns; an error of ours is one line on stderr and 1 or 2, an interruption 130."""
    try:
        return work()
    except DynamosError as error:
        print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1 if isinstance(error, RunError) else 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130


def train_parser() -> Parser:
    """The parser of `dynamos` without a subcommand."""
    parser = Parser(prog="dynamos", description="Train one configuration on a stream of tasks.", epilog=EPILOG,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    run = parser.add_argument_group("the run")
    run.add_argument("--config", metavar="FILE", help="YAML file of fields, or one with a `config` section "
                     "(best_config.yaml, a run's config.yaml)")
    run.add_argument("--preset", "--load-best-args", action="store_true",
                     help="fill in the preset of stream and buffer size; without --buffer-size the stream's smallest")
    run.add_argument("--set", action="append", nargs="+", default=[], metavar="FIELD=VALUE", help="set fields by name")
    run.add_argument("--validation", action="store_true", help="the same as --evaluate-on validation")
    run.add_argument("--download", action="store_true", help="fetch missing data with torchvision")
    run.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run's folder where it stopped")
    run.add_argument("--save-path", type=Path, metavar="DIR",
                     help=f"where the run's folder is made [default: {SAVE_PATH}]")
    run.add_argument("--exp-name", metavar="NAME", help="name of the run's folder [default: stream, method, time]")
    run.add_argument("--notes", default=argparse.SUPPRESS, metavar="TEXT", help="a remark, kept with the results")
    run.add_argument("--tensorboard", action="store_true", default=argparse.SUPPRESS,
                     help="write event files (means of every epoch)")
    run.add_argument("--csv-log", action="store_true", default=argparse.SUPPRESS,
                     help="add a row to mean_accs.csv under DIR/results")
    run.add_argument("--save-all", action="store_true", default=argparse.SUPPRESS,
                     help="write a model file after every task, not after the last alone")
    run.add_argument("--checkpoint-every", type=_steps, default=argparse.SUPPRESS, metavar="N",
                     help="write a checkpoint every N steps beside those after every task")
    add_fields(parser)
    return parser


def _steps(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--checkpoint-every {text!r} is not a whole number of at least 1.")
    return int(text)


def _train(arguments: list[str]) -> int:
    parsed = train_parser().parse(arguments)
    given = with_validation(fields_given(parsed), parsed.validation)
    settings = parsed_settings([setting for group in parsed.set for setting in group])
    options = OPTIONS | {name: value for name, value in vars(parsed).items() if name in OPTIONS}
    started = None
    if parsed.resume is not None:
        for flag, used in (("--config", parsed.config), ("--preset", parsed.preset), ("--exp-name", parsed.exp_name),
                           ("--save-path", parsed.save_path)):
            if used:
                raise UserError(f"--resume goes on with the run's own configuration and folder; leave out {flag}.")
        folder = parsed.resume.expanduser().resolve()  # its name goes into results
        if not (folder / "config.yaml").is_file():
            raise UserError(f"--resume {folder}: no run there (it has no config.yaml).")
        file = read_config(folder / "config.yaml")
        config = merged(use_preset=False, layers=[file, settings, given])
        others = differing(TrainConfig.from_dict(file).to_dict(), config.to_dict())
        if others:
            raise UserError(f"--resume {folder}: the run has another configuration; these differ: "
                            f"{', '.join(others)}.")
        stored = read_yaml(folder / "config.yaml")
        options |= {name: stored[name] for name in OPTIONS if name in stored and not hasattr(parsed, name)}
        started = stored.get("started")
    else:
        file = {} if parsed.config is None else read_config(any_path(parsed.config))
        config = merged(use_preset=parsed.preset, layers=[file, settings, given])
        name = parsed.exp_name or f"{config.dataset}-{config.model}-{datetime.now():%Y%m%d-%H%M%S}"
        folder = (parsed.save_path or SAVE_PATH) / name
        if (folder / "config.yaml").exists():
            raise UserError(f"there is a run in {folder} already. Give another --exp-name, or go on with it: "
                            f"dynamos --resume {folder}")
    return _run(config, options, folder, started=started, download=parsed.download, resume=parsed.resume is not None)


def _run(config: TrainConfig, options: dict[str, Any], folder: Path, *, started: str | None, download: bool,
         resume: bool) -> int:
    """0, after training what is left of the run in `folder`."""
    from dynamos import checkpoints
    from dynamos.display import Display, print_summary
    from dynamos.provenance import now_utc
    from dynamos.recorders import Checkpoints, ModelFiles, ResultFile, finished, record
    from dynamos.streams import load_stream
    from dynamos.trainer import Trainer, pick_device

    started = started or now_utc()
    trainer = Trainer(config, load_stream(config, pick_device(config.device), download))
    state = checkpoints.latest(folder / "checkpoints") if resume else None
    if state is not None:
        trainer.load_state_dict(state)
    elif resume:
        print("no checkpoint to go on from: the run starts from its beginning", file=sys.stderr)
    result = folder / "result.json"
    if trainer.done and finished(result):
        print_summary(trainer)
        return 0
    # Also where it is resumed: it may have been given other options, and its images may lie elsewhere now.
    write_whole(folder / "config.yaml", yaml.safe_dump(
        {"config": config.to_dict(), **options, "started": started}, sort_keys=False))
    print(f"{config.model} on {config.dataset}, {trainer.n_tasks} tasks, seed {config.seed}, {trainer.device}; "
          f"in {folder}", flush=True)
    try:
        with Display(trainer) as display:
            recorders: list[Recorder] = [display, ModelFiles(folder / "models", options["save_all"])]
            recorders += _loggers(config, options, folder, trainer.stream.rotating)
            # Last but the checkpoints: what a kill takes away here, a resumed run writes again.
            recorders += [ResultFile(result, {"notes": options["notes"]}, started),
                          Checkpoints(folder / "checkpoints", options["checkpoint_every"])]
            record(trainer, recorders)
    except KeyboardInterrupt:
        print(f"dynamos: interrupted; go on with: dynamos --resume {folder}", file=sys.stderr)
        return 130
    print_summary(trainer)
    print(f"written to {folder}")
    return 0


def _loggers(config: TrainConfig, options: dict[str, Any], folder: Path, rotating: bool) -> "list[Recorder]":
    from dynamos.recorders import CsvRow, TensorBoard, settings

    loggers: list[Recorder] = []
    if options["csv_log"]:
        loggers.append(CsvRow(folder.parent, {"exp_name": folder.name, **options}, once=True))
    if options["tensorboard"]:
        loggers.append(TensorBoard({name: folder / "tensorboard" / name for name in settings(rotating)}))
    return loggers


def _export(arguments: list[str]) -> int:
    parser = Parser(prog="dynamos export", description="Write a run's network as safetensors and its configuration.")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to write")
    parsed = parser.parse(arguments)
    from dynamos import export

    folder = export.write(*export.trained(parsed.run), parsed.to)
    print(f"written to {folder}: {export.WEIGHTS}, {export.ABOUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
