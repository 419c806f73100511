"""Flags of the settings that may change between sessions.

SweepConfig is imported only if a command has these flags.
"""

import argparse
import dataclasses
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dynamos.arguments import whole_number
from dynamos.errors import UserError
from dynamos.fields import Setting, settings
from dynamos.files import AnyPath, any_path, local_path
from dynamos.user_code import code_of
from tune.cli.flags.naming import with_flags

if TYPE_CHECKING:
    from results.definition.sweep_config import SweepConfig


# by field whose flag also takes "auto", the field that is then true
_MEASURED = {"gpus_per_trial": "pack_gpus", "cohort": "pack_cohorts"}


def add_session_flags(parser: Any, defaults: dict[str, Any]) -> None:
    """Add the flags of settings that may change from one session of a sweep to the next.

    Without a default, the earlier value stays.
    """
    from results.definition.sweep_config import SweepConfig

    for about in settings(SweepConfig).values():
        if about.session:
            add_setting(parser, defaults, about)
    parser.set_defaults(**{name: defaults.get(name) for name in _MEASURED.values()})
    add(
        parser,
        defaults,
        "--address",
        "run on the Ray cluster at auto or HOST:PORT (default: RAY_ADDRESS, or this "
        "machine only); with http://HOST:PORT, its job server runs the command",
        metavar="A",
    )
    parser.add_argument(
        "--preflight-only",
        action="store_true",
        help="check every node and show the result, without running anything",
    )


def add_setting(parser: Any, defaults: Mapping[str, Any], about: Setting) -> None:
    """Add a field's flag, under the field's name, if it has one.

    Its default is from `defaults`, if any.
    """
    if about.flag is None:
        return
    flag, default = f"--{about.flag}", defaults.get(about.name)
    text = with_flags(about.help).replace("%", "%%") + (
        "" if default is None else " (default: %(default)s)"
    )
    if about.kind is bool:
        parser.add_argument(flag, dest=about.name, action="store_true", help=with_flags(about.help))
    elif about.name in _MEASURED:
        parser.add_argument(
            flag,
            dest=about.name,
            default=default,
            action=_OrAuto,
            help=text,
            metavar=about.metavar,
        )
    else:
        reader = (
            seconds
            if about.unit == "s"
            else {int: whole_number, float: amount, str: str}[about.kind]
        )
        parser.add_argument(
            flag, dest=about.name, default=default, type=reader, help=text, metavar=about.metavar
        )


class _OrAuto(argparse.Action):
    """Takes a number, or "auto" for a number that is measured."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Set the field, and the one that says if it is measured."""
        automatic = values == "auto"
        setattr(namespace, _MEASURED[self.dest], automatic)
        try:
            read = amount if self.dest == "gpus_per_trial" else whole_number
            setattr(namespace, self.dest, 1 if automatic else read(values))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, f"{error}, nor auto") from None


def add_data_path(parser: Any) -> None:
    """Add the flag for the images' folder in a later session."""
    parser.add_argument(
        "--data-path",
        metavar="DIR",
        help="current folder of the images; they must be the images that the sweep started with",
    )


def with_data_path(
    arguments: argparse.Namespace, config: "SweepConfig", reported: bool = False
) -> "SweepConfig":
    """A sweep's configuration with the images at --data-path.

    Raises UserError if the stream's images are in a package.
    """
    if arguments.data_path is None:
        return config
    base = config.reported_base if reported else config.base
    if base.data_path is None:
        raise UserError(
            f"--data-path {arguments.data_path}: the images of {base.dataset} "
            f"{'come from a function' if code_of(base.dataset) else 'are in a package'}; they have "
            "no folder."
        )
    path = str(local_path(arguments.data_path))
    if reported and "data_path" in config.report_on:
        return dataclasses.replace(config, report_on=config.report_on | {"data_path": path})
    return dataclasses.replace(config, base=config.base.replace(data_path=path))


def session_changes(arguments: argparse.Namespace, config: "SweepConfig") -> dict[str, Any]:
    """SweepConfig fields that a later session's flags change.

    Raises UserError for a flag that would change its trials.
    """
    from results.definition.sweep_config import SweepConfig

    given = {
        name: value
        for name, about in settings(SweepConfig).items()
        if about.session and (value := getattr(arguments, name)) is not None
    }
    gpus = given.get("gpus_per_trial", config.gpus_per_trial)
    if (gpus > 0) != (config.gpus_per_trial > 0):
        where = "GPUs" if config.gpus_per_trial > 0 else "the CPU"
        raise UserError(
            f"--gpus-per-trial {gpus:g}: the trials of {config.name!r} train on {where} in all "
            f"sessions. For another device start a new sweep with --warm-start {config.name}."
        )
    return given


def storage(arguments: argparse.Namespace) -> AnyPath:
    """The folder that holds the sweeps; raises UserError for a URL that cannot be used."""
    return any_path(arguments.storage)


def add(group: Any, defaults: dict[str, Any], flag: str, text: str, **more: Any) -> None:
    """Add a flag, with its default if it has one."""
    default = defaults.get(flag.lstrip("-").replace("-", "_"))
    group.add_argument(
        flag,
        default=default,
        help=text + (" (default: %(default)s)" if default is not None else ""),
        **more,
    )


def seconds(text: str) -> float:
    """The seconds of a duration written as 90, 90s, 30m, 2h or 1d."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|d)?", text)
    if not match:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a duration; write for instance 90s, 30m or 2h"
        )
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2] or "s"]


def amount(text: str) -> float:
    """The finite number in a text."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value
