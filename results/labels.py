"""Tags and notes, with which people mark sweeps: what is one."""

import re
from collections.abc import Mapping, Sequence

from dynamos.errors import UserError

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$"
VALUE_LENGTH, NOTE_LENGTH = 500, 5000
# What the sweep's MLflow run has tags of by itself.
RESERVED = ("space", "dataset", "protocol", "warning", "best_trial")


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
        if len(value) > VALUE_LENGTH:
            raise UserError(f"the tag {name} has {len(value)} characters; at most {VALUE_LENGTH} are kept.")
    if note is not None and len(note) > NOTE_LENGTH:
        raise UserError(f"the note has {len(note)} characters; at most {NOTE_LENGTH} are kept.")


def told(tags: Mapping[str, str]) -> str:
    """Tags in a line."""
    return " ".join(f"{name}={value}" for name, value in tags.items())
