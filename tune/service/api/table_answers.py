"""Rows of trials, filtered and in order."""

from collections.abc import Sequence
from typing import Any, Literal

from dynamos.errors import unknown
from tune.service.wire.answers import TrialRow
from tune.service.wire.problems import Problem

Part = Literal["metrics", "config"]


def sorted_rows(
    rows: Sequence[TrialRow], state: str, q: str, sort: str, descending: bool
) -> list[TrialRow]:
    """The rows of a state ("" for any) that hold a text, sorted by a column.

    Rows without a value come last. Raises Problem for an unknown column.
    """
    columns = _columns(rows)
    if sort not in columns:
        raise Problem.of(unknown("column", sort, columns), "sort")
    place = columns[sort]
    found = [r for r in rows if state in ("", r["state"]) and (not q or q.lower() in _text(r))]

    def value(row: TrialRow) -> Any:
        return row.get(sort) if place is None else row[place].get(sort)

    known = [r for r in found if value(r) is not None]
    kinds = {type(value(r)) for r in known}
    as_text = len(kinds - {int, float, bool}) > 0 and len(kinds) > 1
    known.sort(key=lambda r: str(value(r)) if as_text else value(r), reverse=descending)
    return known + [r for r in found if value(r) is None]


def _columns(rows: Sequence[TrialRow]) -> dict[str, Part | None]:
    """The columns that a table may be sorted by, each with its part of a row."""
    if not rows:
        return {"number": None}
    first = rows[0]
    own: dict[str, Part | None] = {
        name: None for name in first if name not in ("metrics", "config", "curve")
    }
    fields = max((r["config"] for r in rows), key=len)
    own.update({name: "metrics" for name in first["metrics"]})
    own.update({name: "config" for name in fields})
    return own


def _text(row: TrialRow) -> str:
    config = " ".join(f"{name} {value}" for name, value in row["config"].items())
    return f"{row['number']} {row['state']} {row['source']} {row['reason'] or ''} {config}".lower()
