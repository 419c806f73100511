"""First suggestions of a sweep that is not started."""

import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from dynamos.files import AnyPath
from results.definition.sweep_config import SweepConfig
from results.ledger.ledger import Ledger

FIRST = 6


class Tried(NamedTuple):
    """The beginning of a sweep that is not started."""

    trials: int  # in all
    suggestions: list[dict[str, Any]]  # {"number", "source", "config"} of the first FIRST
    notes: list[str]  # on unexpected traits of the search


def first_suggestions(storage: AnyPath, config: SweepConfig, record: Mapping[str, Any]) -> Tried:
    """The beginning of a new sweep, before any result.

    The storage holds the sweep of a warm start; `record` describes the data of the new sweep.
    """
    with tempfile.TemporaryDirectory() as folder:
        tried = replace(config, ledger_url=None, tracking_uri=None)
        with (
            closing(Ledger.create(Path(folder), tried, record, beside=storage)) as ledger,
            ledger.driving(),
        ):
            budget, notes = ledger.budget, ledger.remarks
            trials = [ledger.ask() for _ in range(min(FIRST, budget))]
    suggestions = [{"number": t.number, "source": t.source, "config": t.config} for t in trials]
    return Tried(budget, suggestions, notes)
