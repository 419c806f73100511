"""Tags and notes of sweeps: their form and their limits."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from dynamos.errors import UserError

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$"
VALUE_LENGTH, NOTE_LENGTH = 500, 5000
# Tags that the sweep's MLflow run has anyway.
RESERVED = (
    "space",
    "dataset",
    "protocol",
    "warning",
    "best_trial",
    "best_source",
    "luckiest_trial",
    "confirmation",
    "verdict",
    "headline",
)


def parsed_tags(texts: Sequence[str]) -> dict[str, str]:
    """Return the tags of NAME=VALUE texts; raise UserError for a text of another form."""
    tags = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(
                f"the tag {text!r} is not of the form NAME=VALUE, for instance team=vision."
            )
        tags[name.strip()] = value.strip()
    check(tags)
    return tags


def check(tags: Mapping[str, str], note: str | None = None) -> None:
    """Raise UserError for a tag or a note that cannot be stored."""
    for name, value in tags.items():
        if not re.match(NAME, name):
            raise UserError(
                f"the tag's name {name!r} is not 1 to 60 letters, digits, '.', '_' and '-'."
            )
        if name in RESERVED or name.startswith(("mlflow.", "dynamos.")):
            raise UserError(
                f"the tag's name {name!r} is used by MLflow or by the sweep; choose another."
            )
        _check_text(f"the tag {name}", value, VALUE_LENGTH)
    _check_text("the note", (note or "").replace("\n", " "), NOTE_LENGTH)


def _check_text(what: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise UserError(f"{what} has {len(text)} characters; at most {longest} are allowed.")
    # Control characters move a terminal's cursor; JSON cannot hold surrogates.
    odd = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs")), None)
    if odd is not None:
        raise UserError(f"{what} contains {odd!r}, which is not allowed in text.")


def one_line(note: str) -> str:
    """A note on one line."""
    return " ".join(note.split())


def told(tags: Mapping[str, str]) -> str:
    """Tags on one line."""
    return " ".join(f"{name}={value}" for name, value in tags.items())
