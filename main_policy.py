"""The original Dynamos project's command line: its flags, its folders, its file names, over this trainer."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dynamos.arguments import Parser, add_fields, fields_given, merged, with_validation
from dynamos.cli import exit_status
from dynamos.config import FIELDS, METHODS

if TYPE_CHECKING:
    from dynamos.recorders import Recorder


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, 1 for a run that failed, 2 for bad input, 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return exit_status("main_policy", lambda: _train(arguments))


def _parser() -> Parser:
    parser = Parser(prog="main_policy", description="Train as the original project did. `dynamos` does more.",
                    epilog="An explicit flag wins over --load-best-args. Flags take `-` and `_` alike.")
    parser.add_argument("--load-best-args", action="store_true", help="the paper's settings of stream and buffer size")
    parser.add_argument("--validation", action="store_true",
                        help="hold out 10%% of the training images and evaluate on those")
    parser.add_argument("--download", action="store_true", help="fetch missing data with torchvision")
    parser.add_argument("--save-path", type=Path, default=Path("runs/original"), metavar="DIR",
                        help="where results, models and tensorboard_runs are written [default: runs/original]")
    parser.add_argument("--exp-name", metavar="NAME", help="name of the run [default: the time]")
    parser.add_argument("--notes", default="", metavar="TEXT", help="a remark, kept in the CSV row")
    parser.add_argument("--tensorboard", action="store_true", help="write event files")
    parser.add_argument("--csv-log", action="store_true", help="add a row to mean_accs.csv")
    parser.add_argument("--save-all", action="store_true", help="write a model file after every task")
    add_fields(parser)
    return parser


def _train(arguments: list[str]) -> int:
    parsed = _parser().parse(arguments)
    config = merged(use_preset=parsed.load_best_args,
                    layers=[with_validation(fields_given(parsed), parsed.validation)])
    experiment = parsed.exp_name or f"{datetime.now():%Y%m%d-%H%M%S}"

    from dynamos.display import Display, print_summary
    from dynamos.provenance import now_utc
    from dynamos.recorders import CsvRow, ModelFiles, ResultFile, TensorBoard, record, settings
    from dynamos.streams import load_stream
    from dynamos.trainer import Trainer, pick_device

    started = now_utc()
    trainer = Trainer(config, load_stream(config, pick_device(config.device), parsed.download))
    place = Path(config.dataset, config.model)
    if METHODS[config.model].rehearses:
        place /= f"buf_{config.buffer_size}"
    place /= experiment
    out = parsed.save_path
    models = out / "models" / place
    others = {name: value for name, value in vars(parsed).items() if name not in FIELDS}  # arguments
    with Display(trainer) as display:
        recorders: list[Recorder] = [display, ModelFiles(models, parsed.save_all)]
        if parsed.tensorboard:
            recorders.append(TensorBoard({setting: out / "tensorboard_runs" / setting / place
                                          for setting in settings(trainer.stream.rotating)}))
        if parsed.csv_log:
            recorders.append(CsvRow(out, others | {"exp_name": experiment}))
        recorders.append(ResultFile(models / "result.json", {"notes": parsed.notes}, started))
        record(trainer, recorders)
    print_summary(trainer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
