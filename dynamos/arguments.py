"""Shared parts of the command lines.

TrainConfig as flags, the precedence of values, exit on an error.
"""

import argparse
import difflib
import math
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dynamos.config import (
    FIELDS,
    OF_CODE,
    TrainConfig,
    checked,
    default,
    field_type,
    parsed,
    preset,
    preset_names,
    preset_sizes,
)
from dynamos.errors import DynamosError, UserError
from dynamos.fields import Range
from dynamos.files import local_path
from dynamos.mammoth import fields_in
from dynamos.methods.hyperparameters import is_trainer
from dynamos.outputs import outputs
from dynamos.streams.classes import with_tasks
from dynamos.user_code import absolute_code, code_of

TITLES = {
    "what": "training",
    "stream": "stream",
    "optimisation": "optimisation and rehearsal",
    "gates": "gates",
    "network": "network",
    "machine": "machine",
}
# Options for the files that a run leaves behind, by flag.
OPTIONS: dict[str, Any] = {"notes": "", "tensorboard": False, "csv_log": False, "save_all": False}


def exit_status(
    program: str, work: Callable[[], int], tell_error: Callable[[str], None] = lambda _: None
) -> int:
    """Run `work` and return its exit status: 0, 1 or 2 for an error, 130 for an interruption.

    UserError gives 2; any other DynamosError and OSError give 1. The error is printed as one line,
    which `tell_error` gets too. A failure to write standard output gives 1 at the end; a pipe that
    its reader closed is no failure.
    """
    with outputs() as (out, _):
        status = _status(program, work, tell_error)
        out.flush()
        if out.error is None or isinstance(out.error, BrokenPipeError):
            return status
        print(f"{program}: error: standard output: {out.error.strerror}", file=sys.stderr)
        return status or 1


def _status(program: str, work: Callable[[], int], tell_error: Callable[[str], None]) -> int:
    try:
        return work()
    except UserError as error:
        text, status = str(error), 2
    except DynamosError as error:
        text, status = str(error), 1
    except OSError as error:  # a file or folder that cannot be read or written, a full disk
        text, status = f"{error.filename}: {error.strerror}" if error.filename else str(error), 1
    except KeyboardInterrupt as error:
        print("; ".join(filter(None, (f"{program}: interrupted", str(error)))), file=sys.stderr)
        return 130
    line = " ".join(line.strip() for line in text.splitlines())
    print(f"{program}: error: {line}", file=sys.stderr)
    tell_error(line)
    return status


def complete(parser: "Parser") -> None:
    """If the shell asks for completions, answer and end the program; else do nothing."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser, always_complete_options="long")


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises UserError, and that takes `-` and `_` in flags alike."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def add_version(self) -> None:
        """Add --version, which also prints the commit of a checkout."""
        self.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the parsed arguments.

        Raises UserError for an unknown flag, naming the nearest one, and for invalid UTF-8.
        """
        for text in arguments:
            try:
                text.encode()
            except UnicodeEncodeError:  # the run would fail at the first write of the text
                raise UserError(f"{text!r} is not UTF-8.") from None
        return self.parse_args(_dashed(arguments))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, but raise UserError for an unknown argument."""
        known, rest = super().parse_known_args(args, namespace)
        flags = [text.partition("=")[0] for text in rest if text.startswith("-")]
        if flags:
            near = difflib.get_close_matches(flags[0], self._option_string_actions, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UserError(f"unknown flag {flags[0]}.{hint} `{self.prog} --help` lists them all.")
        if rest:
            named = "--name" in self._option_string_actions
            hint = f" Did you mean --name {shlex.quote(rest[0])}?" if named else ""
            raise UserError(
                f"unexpected argument {rest[0]!r}.{hint} `{self.prog} --help` lists the arguments."
            )
        return known, []

    def error(self, message: str) -> NoReturn:
        """Raise UserError in place of argparse's usage text and exit."""
        raise UserError(f"{message[:1].lower()}{message[1:]}.")


class _Version(argparse.Action):
    """The action of --version; it looks up the version only when it runs."""

    def __call__(self, *_: Any) -> NoReturn:
        """Print the version and end the program."""
        from dynamos.provenance import release

        print(release())
        sys.exit(0)


def add_run_flags(parser: argparse._ActionsContainer, *, save_path: str, exp_name: str) -> None:
    """Add the flags that both commands have in addition to the fields.

    OPTIONS that are not given leave no attribute behind.

    `save_path` and `exp_name` are the help texts of these two flags.
    """
    parser.add_argument(
        "--validation", action="store_true", help="the same as --evaluate-on validation"
    )
    parser.add_argument(
        "--download", action="store_true", help="fetch missing data with torchvision"
    )
    parser.add_argument("--save-path", type=Path, metavar="DIR", help=save_path)
    parser.add_argument("--exp-name", type=_folder_name, metavar="NAME", help=exp_name)
    parser.add_argument(
        "--notes", default=argparse.SUPPRESS, metavar="TEXT", help="a note, stored with the results"
    )
    for flag, text in (
        ("--tensorboard", "write event files (means of every epoch)"),
        ("--csv-log", "add a row to mean_accs.csv under DIR/results"),
        ("--save-all", "write a model file after every task, not only after the last"),
    ):
        parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=text)


def whole_number(text: str) -> int:
    """Return the whole number in a text, for instance 8, 8.0 or 1e3."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value.is_integer():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(value)


def _folder_name(text: str) -> str:
    if "/" in text or text in (".", ".."):
        raise UserError(
            f"--exp-name {text!r} is not the name of a folder; give a name without a path."
        )
    return text


def add_fields(parser: argparse.ArgumentParser) -> None:
    """Add one flag per TrainConfig field; a field that is not given leaves no attribute behind."""
    for group, title in TITLES.items():
        section = parser.add_argument_group(title)
        for name, spec in FIELDS.items():
            if spec.group != group:
                continue
            flag = "--" + name.replace("_", "-")
            kind, _ = field_type(name)
            if kind is bool:
                section.add_argument(
                    flag,
                    action=argparse.BooleanOptionalAction,
                    default=argparse.SUPPRESS,
                    help=_help(name),
                )
            else:
                section.add_argument(
                    flag,
                    default=argparse.SUPPRESS,
                    help=_help(name),
                    type=_reader(name),
                    metavar={int: "N", float: "X", str: "NAME"}[kind],
                )


def fields_given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the TrainConfig fields among parsed arguments."""
    return {name: value for name, value in vars(arguments).items() if name in FIELDS}


def merged(*, use_preset: str | None, layers: Sequence[Mapping[str, Any]]) -> TrainConfig:
    """Return the configuration of several layers of fields.

    A later layer wins over an earlier one, and any layer over the preset and the defaults.

    `use_preset` is a kind of preset. A preset belongs to a stream and a buffer size; without a size
    it is the stream's preset of the smallest buffer.
    """
    chosen: dict[str, Any] = {}
    for layer in layers:
        chosen |= layer
    if use_preset is not None:
        dataset = checked("dataset", chosen.get("dataset", default("dataset")))
        size = checked(
            "buffer_size", chosen.get("buffer_size", _smallest_preset(dataset, use_preset))
        )
        model = chosen.get("model", default("model"))
        chosen = preset(dataset, size, model, use_preset) | chosen
    if chosen.get("data_path") is not None:  # a run may be resumed from another directory
        chosen["data_path"] = str(local_path(checked("data_path", chosen["data_path"])))
    for name in {*OF_CODE} & {*chosen}:
        chosen[name] = absolute_code(checked(name, chosen[name]))
    config = TrainConfig.from_dict(chosen).whole()
    # a user's function of a stream may take long: it is called once, when the images are read
    return config if code_of(config.dataset) is not None else with_tasks(config)


def _smallest_preset(dataset: str, kind: str) -> int:
    sizes = preset_sizes(dataset, kind)
    if not sizes:
        known = dict.fromkeys(name for name, _ in preset_names(kind))
        which = "" if kind == "paper" else f"{kind} "
        raise UserError(
            f"{dataset} has no {which}preset; streams with {which}presets are {', '.join(known)}."
        )
    return sizes[0]


def with_validation(given: dict[str, Any], validation: bool) -> dict[str, Any]:
    """Return the given fields with `--validation` applied.

    Raises UserError if they contradict each other.
    """
    if not validation:
        return given
    if given.get("evaluate_on") == "test":
        raise UserError("--validation and --evaluate-on test contradict each other.")
    return given | {"evaluate_on": "validation"}


def _dashed(arguments: Sequence[str]) -> list[str]:
    """The arguments with `-` for `_` in flags and with `=` before negative numbers.

    Without `=`, argparse may take a negative number for a flag.
    """
    texts: list[str] = []
    for text in arguments:
        if text.startswith("--"):
            flag, equals, value = text.partition("=")
            text = flag.replace("_", "-") + equals + value
        elif text.startswith("-") and _is_number(text) and texts and texts[-1].startswith("--"):
            text = f"{texts.pop()}={text}"
        texts.append(text)
    return texts


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _reader(name: str) -> Any:
    return lambda text: parsed(name, text)


def _help(name: str) -> str:
    spec = FIELDS[name]
    allowed, usual = spec.allowed, spec.default
    notes = []
    if isinstance(allowed, tuple):
        notes.append(", ".join(allowed))
    elif isinstance(allowed, Range):
        notes.append(str(allowed))
    if usual is not None:
        notes.append(f"default: {usual}")
    return f"{spec.help} [{'; '.join(notes)}]".replace(" []", "").replace("%", "%%")


def tell_left_out(where: str, left_out: Sequence[str]) -> None:
    """Print values without a counterpart in another program as one line on standard error."""
    if left_out:
        print(f"dynamos: {where}, left out: {', '.join(left_out)}", file=sys.stderr)


def as_trainer(text: str) -> str:
    """Return FILE.py:NAME of `--trainer`, with the file's absolute path.

    Raises UserError if it is not a class with `__iter__`.
    """
    if code_of(text) is None:
        raise UserError(f"--trainer {text!r} is not of the form FILE.py:NAME.")
    model = absolute_code(text)
    if not is_trainer(model):
        raise UserError(
            f"--trainer {text}: it is no class with `__iter__` (docs/how-to/own-trainers.md); a "
            "method of your own goes to --model."
        )
    return model


def mammoth_fields(
    file: str, dataset: str | None = None, buffer_size: int | None = None
) -> dict[str, Any]:
    """Return the fields in a file of Mammoth's arguments; print what has no counterpart."""
    translated = fields_in(local_path(file), dataset, buffer_size)
    tell_left_out(f"{file}: not in dynamos", translated.left_out)
    return translated.values
