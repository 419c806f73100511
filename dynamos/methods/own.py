"""Methods in a user's file: FILE.py:NAME, a function `loss` or a class."""

import hashlib
import importlib.util
import inspect
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from dynamos.errors import UserError, unknown
from dynamos.files import local_path
from dynamos.methods import METHODS, OWN, Method, code_of

# Attributes of Method that a class may set.
FACTS = ("rehearses", "stores_all", "draws", "cumulative")


def facts(model: str) -> Method:
    """Return the facts of a method; those of FILE.py:NAME are attributes of its class."""
    if model in METHODS:
        return METHODS[model]
    found = load(model)
    return replace(OWN, **{name: getattr(found, name) for name in FACTS if hasattr(found, name)})


def load(model: str) -> Any:
    """Return the function or class that FILE.py:NAME names.

    Raises UserError if the file cannot be imported or has no such name.
    """
    code = code_of(model)
    assert code is not None, model
    path = _file(code[0])
    module = _imported(path, path.stat().st_mtime_ns)
    offered = [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    if code[1] not in offered:
        raise unknown(f"method of {path}", code[1], offered)
    return getattr(module, code[1])


def code_hash(model: str) -> str | None:
    """Return 16 hex digits of the SHA-256 of a method's file; None for a method of this package."""
    code = code_of(model)
    if code is None:
        return None
    return hashlib.sha256(_file(code[0]).read_bytes()).hexdigest()[:16]


def _file(name: str) -> Path:
    path = local_path(name)
    if not path.is_file():
        raise UserError(f"no file {path}.")
    return path


@cache
def _imported(path: Path, modified: int) -> ModuleType:
    """The module of a file, imported once for each time of its change."""
    spec = importlib.util.spec_from_file_location(f"dynamos_own_{path.stem}", path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    # the user's file may raise anything
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{path} fails to import: {type(error).__name__}: {said}.") from error
    return module


def is_class(thing: Any) -> bool:
    """True if FILE.py:NAME is a class, of which each run has an instance."""
    return inspect.isclass(thing)
