"""A sweep in a file, for `run --config`: fields of SweepConfig, all or some, as in sweep.yaml."""

import argparse
import typing
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from dynamos.arguments import mammoth_fields
from dynamos.config import number_of_text, parsed_settings, read_yaml
from dynamos.errors import UserError, unknown
from results.definition.defaults import DEFAULTS, FOLLOWS
from results.definition.sweep_config import EARLIER, SweepConfig
from search_spaces.space import OF_A_CHANGE, SearchSpace

_HINTS = typing.get_type_hints(SweepConfig)
# Types in a file that differ from those in the configuration.
_SHAPES: dict[str, tuple[type, ...]] = {
    "space": (str, dict),
    "base": (dict,),
    "objectives": (list,),
    "constraints": (list,),
    "points": (list,),
    "report_on": (dict,),
}
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    dict: "a mapping",
    list: "a list",
    NoneType: "null",
}
# fields that more than one flag may change
_MERGED = ("base", "report_on", "objectives", "constraints")


def flags_of(path: Path) -> dict[str, Any]:
    """Return the values of a file, by the attributes that the flags of `run` set.

    The entry `file` holds the values that several flags may change. The name and the record of a
    sweep.yaml are left out. Raises UserError for names that are not fields of a sweep.
    """
    values = read_yaml(path)
    own = values.pop("record", None) is not None
    if own:
        values = EARLIER | values
    names = [name for name in _HINTS if name != "confirms"]
    if values.pop("confirms", None) is not None:
        raise UserError(
            f"{path} belongs to a confirmation; run dynamos-sweep confirm on its sweep again."
        )
    for name in values:
        if name not in names:
            raise unknown("field", name, names).within(str(path))
    try:
        given = {name: _fitting(name, value) for name, value in values.items()}
        if isinstance(space := given.get("space"), Mapping):
            content = {
                key: value for key, value in space.items() if key not in ("name", *OF_A_CHANGE)
            }
            given["space"] = SearchSpace.from_dict(str(space.get("name", path.stem)), content)
    except UserError as error:
        raise error.within(str(path)) from None
    if own:
        given.pop("name", None)
    file = {name: given.pop(name) for name in _MERGED if name in given}
    base = file["base"] = {
        name: number_of_text(name, value) for name, value in file.get("base", {}).items()
    }
    _leave_to_flags(base, given)
    # The file's base has the first K tasks. With flags, the base has all tasks, and first_k is K.
    if given.get("protocol") == "first-k":
        given["first_k"], base["n_tasks"] = (
            base.get("n_tasks"),
            file.pop("report_on", {}).get("n_tasks"),
        )
    return (
        given
        | {name: base.pop(name) for name in ("dataset", "data_path") if name in base}
        | {"file": file}
    )


def flags_of_mammoth(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the values of the file `--mammoth`, by the attributes that the flags of `run` set.

    Images, device and threads follow from the sweep's flags.
    """
    dataset = arguments.dataset if arguments.dataset != DEFAULTS["dataset"] else None
    size = parsed_settings(arguments.settings).get("buffer_size")
    base = mammoth_fields(arguments.mammoth, dataset, size)
    base = {name: value for name, value in base.items() if name not in FOLLOWS}
    return {"dataset": base.pop("dataset", DEFAULTS["dataset"]), "file": {"base": base}}


def _leave_to_flags(base: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Remove base fields that follow from other fields, so that flags may change these."""
    follows = {
        "evaluate_on": "test" if given.get("protocol") == "test" else "validation",
        "threads": max(int(given.get("cpus_per_trial", DEFAULTS["cpus_per_trial"])), 1),
        "device": "cuda" if given.get("gpus_per_trial", 0) > 0 else "cpu",
    }
    for name, value in follows.items():
        if base.get(name) == value:
            del base[name]


def _fitting(name: str, value: Any) -> Any:
    """A field's value; raises UserError if its type is wrong."""
    hint = _HINTS[name]
    kinds = _SHAPES.get(name) or typing.get_args(hint) or (hint,)
    number = float if float in kinds else int if int in kinds and str not in kinds else None
    if number and isinstance(value, str):  # YAML 1.1 takes 1e3 for a text
        try:
            value = float(value)
        except ValueError:
            pass
    if number is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not any(type(value) is kind or (kind is float and type(value) is int) for kind in kinds):
        raise UserError(f"{name} {value!r} is not {' or '.join(_WORDS[kind] for kind in kinds)}.")
    if isinstance(value, list):
        inside = dict if name == "points" else str
        for entry in value:
            if not isinstance(entry, inside):
                raise UserError(f"{name}: {entry!r} is not {_WORDS[inside]}.")
    if name == "points":
        return tuple(
            {field: number_of_text(field, given) for field, given in point.items()}
            for point in value
        )
    return value
