"""The command line's tables of sweeps and trials, be they of a ledger here or told by a service."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from results.wording import number, parameters

SHOWN_TRIALS = 30
PIPE_WIDTH = 1000


def console() -> Console:
    """What prints them; in a file or pipe, which has no width of its own, nothing is cut."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)  # what a trial is told by may look like it


def plain(*columns: str | Column) -> Table:
    """A table without lines."""
    return Table(*columns, box=None, pad_edge=False)


def sweeps() -> Table:
    """One with a row for each sweep."""
    name = Column("sweep", overflow="fold")  # whole, for other commands take it
    return plain(name, "stream", "space", "protocol", "state", "trials", "best", "objective")


def trials(metric: str) -> Table:
    """One with a row for each trial."""
    return plain("trial", "state", "source", "tasks", metric, "seconds", "parameters or reason")


def add_trial(table: Table, number: int, state: str, source: str, tasks_done: int, value: float | None,
              seconds: float | None, reason: str | None, config: dict[str, Any]) -> None:
    """Adds a trial's row."""
    table.add_row(str(number), state.lower(), source, str(tasks_done), cell(value), f"{seconds or 0:.0f}",
                  reason or parameters(config))


def results(by_seed: Mapping[Any, Sequence[Mapping[str, Any]]], metrics: Sequence[str]) -> Table:
    """What a trial reported, a row for each seed and task."""
    table = plain("seed", "task", *metrics)
    for seed, reported in by_seed.items():
        for result in reported:
            table.add_row(str(seed), str(result["task"] + 1), *(cell(result["metrics"].get(m)) for m in metrics))
    return table


def print_comparison(names: Iterable[str], sections: Iterable[Iterable[tuple[str, Iterable[str]]]],
                     sentences: Iterable[str]) -> None:
    """Prints sweeps side by side: what each found, at equal budgets too, and how far apart their best are."""
    table = Table("")
    for name in names:
        table.add_column(name, justify="right")
    for section in sections:
        for what, values in section:
            table.add_row(what, *values)
        table.add_section()
    console().print(table)
    for sentence in sentences:
        print(sentence)


def cell(value: float | None) -> str:
    """A number, where there is one."""
    return "" if value is None else number(value)
