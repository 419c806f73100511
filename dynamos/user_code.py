"""Code in a user's file: FILE.py:NAME, a method or a stream.

A name is read here without its file; only `load` imports a file.
"""

import hashlib
import importlib.util
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from dynamos.errors import UserError, unknown
from dynamos.files import local_path

_CODE = re.compile(r"(?P<file>.+\.py):(?P<name>[^\W\d]\w*)")


def code_of(text: str) -> tuple[str, str] | None:
    """Return (file, name) of FILE.py:NAME; None for other names."""
    found = _CODE.fullmatch(text)
    return None if found is None else (found["file"], found["name"])


def short_name(text: str) -> str:
    """Return NAME of FILE.py:NAME; other names as they are."""
    code = code_of(text)
    return text if code is None else code[1]


def absolute_code(text: str) -> str:
    """Return FILE.py:NAME with the file's absolute path; other names as they are."""
    code = code_of(text)
    return text if code is None else f"{local_path(code[0])}:{code[1]}"


def load(text: str, kind: str) -> Any:
    """Return the function or class that FILE.py:NAME names.

    `kind` is the word for it in errors. Raises UserError if the file cannot be imported or has no
    such name.
    """
    code = code_of(text)
    assert code is not None, text
    path = _file(code[0])
    module = _imported(path, path.stat().st_mtime_ns)
    offered = [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    if code[1] not in offered:
        raise unknown(f"{kind} of {path}", code[1], offered)
    return getattr(module, code[1])


def code_hashes(texts: Iterable[str]) -> dict[str, str]:
    """Return 16 hex digits of the SHA-256 of the file of each FILE.py:NAME among the texts.

    Raises UserError if a file is missing.
    """
    return {
        text: hashlib.sha256(_file(code[0]).read_bytes()).hexdigest()[:16]
        for text in sorted({*texts})
        if (code := code_of(text)) is not None
    }


def changed_code(hashes: Mapping[str, str]) -> list[str]:
    """Return those of `hashes`, a result of `code_hashes`, whose files have other content now.

    Raises UserError if a file is missing.
    """
    now = code_hashes(hashes)
    return [text for text in hashes if now[text] != hashes[text]]


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
        raise UserError(f"{path} fails to import: {in_words(error)}.") from error
    return module


def in_words(error: BaseException) -> str:
    """Return an error of a user's code in one line, without a full stop."""
    said = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
