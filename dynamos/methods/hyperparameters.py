"""Hyperparameters of a method beside the fields of TrainConfig, with defaults and types.

Everywhere outside the method they are named method.NAME: in `--set`, files, spaces and results.
Those of FILE.py:NAME are the arguments of its function after the step, or of its class's `__init__`
after the run, in a trainer after (config, stream). They are read from the text of the file, which
is not run: a driver and a service need them.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dynamos.errors import UserError, unknown
from dynamos.fields import Setting, plain
from dynamos.files import local_path
from dynamos.methods import METHODS
from dynamos.user_code import code_of, in_words

PREFIX = "method."
GROUP = "method"
_KINDS: dict[str, type] = {kind.__name__: kind for kind in (bool, int, float, str)}
_Definition = ast.FunctionDef | ast.ClassDef


def of_method(name: str) -> bool:
    """True for method.NAME, the name of a method's hyperparameter."""
    return name.startswith(PREFIX)


def scalar(name: str, value: Any) -> Any:
    """Return a value in Python's types.

    Raises UserError if it is not a number, a text, true or false.
    """
    value = plain(value)
    if not isinstance(value, bool | int | float | str):
        raise UserError(f"{name} {value!r} is not a number, a text, true or false.")
    return value


def scalar_of_text(text: str) -> Any:
    """Return the number, the truth value or the text that a text of a command line stands for."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def filled(model: str, about: Sequence[Setting], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of each hyperparameter of a method, by name: the given one or the default.

    Raises UserError for a name that the method does not have, and for a value that does not fit.
    """
    names = [one.name for one in about]
    for name in given:
        if name not in names:
            raise no_hyperparameter(model, PREFIX + name, [PREFIX + one for one in names])
    return {
        one.name: fitting(one, given[one.name]) if one.name in given else one.default
        for one in about
    }


def no_hyperparameter(model: str, name: str, names: Sequence[str]) -> UserError:
    """Return the error for a name method.NAME that a method does not have."""
    return unknown(f"hyperparameter of {model}", name, names)


def fitting(about: Setting, value: Any) -> Any:
    """Return the value of a hyperparameter in its type; UserError if it does not fit."""
    shown = PREFIX + about.name
    return about.within(about.typed(value, shown), shown)


def declared(model: str) -> tuple[Setting, ...]:
    """Return the hyperparameters of a method, of FILE.py:NAME from the text of its file.

    Raises UserError if the file is missing or no Python, and for an argument whose default is
    missing, or neither a number, a text, true, false nor a constant of the file.
    """
    code = code_of(model)
    if code is None:
        return METHODS[model].hyperparameters
    return _declared(*_found(code[0]), code[1])


def is_trainer(model: str) -> bool:
    """True if a model is a trainer of a user: FILE.py:NAME, a class with `__iter__`.

    Reads the text of its file. Raises UserError if it is missing or no Python.
    """
    code = code_of(model)
    if code is None:
        return False
    _, definitions = _parsed(*_found(code[0]))
    return any(_method(node, "__iter__") for node in _family(code[1], definitions))


def about_value(name: str, value: Any) -> Setting:
    """Return the description of a hyperparameter that has this value: only its type is known."""
    return Setting(name, type(value), False, value, GROUP, "")


def _found(name: str) -> tuple[Path, int]:
    """(file, time of its last change)."""
    path = local_path(name)
    if not path.is_file():
        raise UserError(f"no file {path}.")
    return path, path.stat().st_mtime_ns


@cache
def _parsed(path: Path, modified: int) -> tuple[ast.Module, dict[str, _Definition]]:
    """(content of a file, its functions and classes by name)."""
    try:
        content = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path} fails to import: {in_words(error)}.") from None
    return content, {
        node.name: node for node in content.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


@cache
def _declared(path: Path, modified: int, name: str) -> tuple[Setting, ...]:
    content, definitions = _parsed(path, modified)
    constants = {
        target.id: node.value
        for node in content.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    signature = _signature(name, definitions)
    if signature is None:
        return ()
    arguments, skipped = signature
    found = []
    for argument, default in list(_with_defaults(arguments))[skipped:]:
        where = f"{path.name}:{name}, argument {argument.arg}"
        found.append(_setting(where, argument, default, constants))
    return tuple(found)


def _signature(
    name: str, definitions: Mapping[str, _Definition]
) -> tuple[ast.arguments, int] | None:
    """(arguments, number of those that are not hyperparameters); None if they are not in the file.

    A method gets (step), or as a class (self, run); a trainer (self, config, stream).
    """
    node = definitions.get(name)
    if isinstance(node, ast.FunctionDef):
        return node.args, 1
    family = list(_family(name, definitions))
    made = [part for node in family for part in _method(node, "__init__")]
    trains = any(_method(node, "__iter__") for node in family)
    return (made[0].args, 3 if trains else 2) if made else None


def _family(name: str, definitions: Mapping[str, _Definition]) -> Iterator[ast.ClassDef]:
    """Yield a class, its first base in the file, and so on."""
    node, seen = definitions.get(name), set[str]()
    while isinstance(node, ast.ClassDef) and node.name not in seen:
        seen.add(node.name)
        yield node
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        node = next((definitions[base] for base in bases if base in definitions), None)


def _method(node: ast.ClassDef, name: str) -> list[ast.FunctionDef]:
    return [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == name]


def _with_defaults(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    """Yield the arguments in order with default or None; *args and **more are left out."""
    places = [*arguments.posonlyargs, *arguments.args]
    missing = len(places) - len(arguments.defaults)
    yield from zip(places, [*([None] * missing), *arguments.defaults], strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)


def _setting(
    where: str, argument: ast.arg, default: ast.expr | None, constants: Mapping[str, ast.expr]
) -> Setting:
    if default is None:
        raise UserError(f"{where}: a hyperparameter needs a default, such as {argument.arg}=1.0.")
    if isinstance(default, ast.Name):
        default = constants.get(default.id, default)
    try:
        value = ast.literal_eval(default)
    except ValueError:
        value = None
    if not isinstance(value, bool | int | float | str):
        raise UserError(
            f"{where}: the default {ast.unparse(default)} is not a number, a text, true, false or "
            "a constant of the file."
        )
    hint = argument.annotation
    kind = _KINDS.get(hint.id, type(value)) if isinstance(hint, ast.Name) else type(value)
    about = Setting(argument.arg, kind, False, value, GROUP, "")
    return Setting(argument.arg, kind, False, about.typed(value, where), GROUP, "")
