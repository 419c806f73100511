"""The original Dynamos project's command line: its flags, folders and file names."""

import sys
from collections.abc import Sequence
from datetime import datetime
from glob import escape
from pathlib import Path

from dynamos.arguments import (
    OPTIONS,
    Parser,
    add_fields,
    add_run_flags,
    exit_status,
    fields_given,
    merged,
    with_validation,
)
from dynamos.config import FIELDS
from dynamos.methods import method_of


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, 1 for a run that failed, 2 for bad input, 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return exit_status("main_policy", lambda: _train(arguments))


def _parser() -> Parser:
    parser = Parser(
        prog="main_policy",
        description="Train as the original project did. `dynamos` does more.",
        epilog="An explicit flag wins over --load-best-args. Flags take `-` and `_` alike.",
    )
    parser.add_argument(
        "--load-best-args",
        action="store_true",
        help="the paper's settings of stream and buffer size",
    )
    add_run_flags(
        parser,
        save_path="folder for results, models and tensorboard_runs [default: %(default)s]",
        exp_name="name of the run; an earlier run's files of that name are overwritten [default: "
        "time and seed]",
    )
    parser.set_defaults(save_path=Path("runs/original"), **OPTIONS)
    add_fields(parser)
    return parser


def _train(arguments: list[str]) -> int:
    parsed = _parser().parse(arguments)
    config = merged(
        use_preset="paper" if parsed.load_best_args else None,
        layers=[with_validation(fields_given(parsed), parsed.validation)],
    )
    experiment = parsed.exp_name or f"{datetime.now():%Y%m%d-%H%M%S}-seed{config.seed}"
    place = Path(config.dataset, config.method_name)
    if method_of(config.model).rehearses:
        place /= f"buf_{config.buffer_size}"
    place /= experiment
    models = parsed.save_path / "models" / place
    others = {name: value for name, value in vars(parsed).items() if name not in FIELDS}

    from dynamos.provenance import now_utc
    from dynamos.run import RunFolders, alone, build, train

    started = now_utc()
    trainer = build(config, parsed.download)
    # A default name overwrites nothing: another run may have started in the same second.
    models.mkdir(parents=True, exist_ok=bool(parsed.exp_name))
    events = parsed.save_path / "tensorboard_runs"
    with alone(models):
        for old in (
            *models.glob("task_*.pth"),
            *events.glob(f"*/{escape(str(place))}/events.out.tfevents.*"),
        ):
            old.unlink()  # else they would look like event files of this run
        train(
            trainer,
            vars(parsed),
            RunFolders(
                result=models / "result.json",
                models=models,
                tables=parsed.save_path,
                events=lambda setting: events / setting / place,
            ),
            others | {"exp_name": experiment},
            started,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
