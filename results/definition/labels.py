"""Tags and notes, with which people mark sweeps: what is one."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from dynamos.errors import UserError

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$"
VALUE_LENGTH, NOTE_LENGTH = 500, 5000
# What the sweep's MLflow run has tags of by itself.
RESERVED = ("space", "dataset", "protocol", "warning", "best_trial", "best_source", "confirmation", "verdict",
            "headline")


def parsed_tags(texts: Sequence[str]) -> dict[str, str]:
    """The tags of NAME=VALUE texts; UserError for what is none."""
    tags = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"the tag {text!r} is not of the form NAME=VALUE, for instance team=vision.")
        tags[name.strip()] = value.strip()
    check(tags)
    return tags


def check(tags: Mapping[str, str], note: str | None = None) -> None:
    """UserError for a tag or a note that cannot be kept."""
    for name, value in tags.items():
        if not re.match(NAME, name):
            raise UserError(f"the tag's name {name!r} is not 1 to 60 letters, digits, '.', '_' and '-'.")
        if name in RESERVED or name.startswith(("mlflow.", "dynamos.")):
            raise UserError(f"the tag's name {name!r} is what MLflow or the sweep itself has one of; choose another.")
        _check_text(f"the tag {name}", value, VALUE_LENGTH)
    _check_text("the note", (note or "").replace("\n", " "), NOTE_LENGTH)


def _check_text(what: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise UserError(f"{what} has {len(text)} characters; at most {longest} are kept.")
    # What moves a terminal's cursor, and halves of characters, of which no JSON can be made.
    odd = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs")), None)
    if odd is not None:
        raise UserError(f"{what} holds {odd!r}, which is no text.")


def one_line(note: str) -> str:
    """A note in a line."""
    return " ".join(note.split())


def told(tags: Mapping[str, str]) -> str:
    """Tags in a line."""
    return " ".join(f"{name}={value}" for name, value in tags.items())
