"""Prose and tables on a terminal.

On a terminal, prose is wrapped at words, and each row of a table that is too wide becomes a
paragraph. In a file or pipe, which has no width, each paragraph and each row is one long line.
"""

import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn
from rich.table import Column, Table

from dynamos.errors import UserError
from results.wording import number
from tune.machines.screen import width

LEAST_PROSE = 30  # least columns of the screen for prose in a table
QUIET_SECONDS = 2.0  # before a slow step shows its progress
PIPE_WIDTH = 100_000


def console() -> Console:
    """The console that prints tables."""
    # data may look like markup
    return Console(width=width() or PIPE_WIDTH, markup=False, emoji=False, highlight=False)


def say(text: str, indent: str = "") -> None:
    """Print prose, on a screen wrapped at words.

    A word that is longer than a line, for instance a path, is not broken.
    """
    columns = width()
    for line in text.splitlines() or [""]:
        print(
            f"{indent}{line}"
            if columns is None
            else textwrap.fill(
                line,
                columns,
                initial_indent=indent,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )


def asked(question: str) -> bool:
    """True if the user at the terminal answers yes; raises UserError without a terminal."""
    if not sys.stdin.isatty():
        raise UserError("cannot ask, because this is not a terminal; use --yes.")
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def show(table: Table) -> None:
    """Print a table if it fits the screen, else each of its rows as a paragraph."""
    if Console(width=PIPE_WIDTH).measure(table).maximum <= (width() or PIPE_WIDTH):
        console().print(table)
        return
    for row in zip(*(column.cells for column in table.columns), strict=True):
        say(
            _paragraph(
                [str(column.header) for column in table.columns], [str(text) for text in row]
            )
        )


def plain(*columns: str | Column) -> Table:
    """A table without lines."""
    return Table(*columns, box=None, pad_edge=False)


def progress(items: Sequence[str], what: str) -> Iterator[str]:
    """Yield the items; on a terminal, after QUIET_SECONDS, a line shows the progress."""
    screen = Console(stderr=True)
    line = Progress(
        TextColumn(what),
        MofNCompleteColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    )
    task = line.add_task(what, total=len(items))
    timer = threading.Timer(QUIET_SECONDS, line.start)  # a single item may take long
    timer.start()
    try:
        for done, item in enumerate(items):
            line.update(task, completed=done)
            yield item
    finally:
        timer.cancel()
        timer.join()
        if line.live.is_started:
            line.stop()


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], prose: int = 0) -> None:
    """Print rows; the last `prose` columns hold words, not values.

    Columns without any content are left out.
    """
    kept = [i for i in range(len(columns)) if i == 0 or any(row[i] for row in rows)]
    prose -= sum(i not in kept for i in range(len(columns) - prose, len(columns)))
    columns, rows = [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]
    values = len(columns) - prose
    needed = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    least = (
        sum(needed[:values])
        + sum(min(size, LEAST_PROSE) for size in needed[values:])
        + 2 * (len(columns) - 1)
    )
    screen = width()

    def line(cells: Sequence[str]) -> str:
        padded = [
            text + " " * (size - cell_len(text)) for text, size in zip(cells, needed, strict=False)
        ]
        return "  ".join(padded).rstrip()

    if screen is None:
        for row in [columns, *rows]:
            print(line(row))
    elif least <= screen:
        table = plain(
            *(Column(name, no_wrap=i < values, overflow="fold") for i, name in enumerate(columns))
        )
        for row in rows:
            table.add_row(*row)
        console().print(table)
    else:
        aligned = sum(needed[:values]) + 2 * (values - 1) <= screen
        if aligned:
            print(line(columns[:values]))
        for row in rows:
            if aligned:
                print(line(row[:values]))
            else:
                say(_paragraph(columns[:values], row[:values]))
            for text in row[values:]:
                if text:
                    say(text, "    ")


def _paragraph(columns: Sequence[str], row: Sequence[str]) -> str:
    return ", ".join(
        f"{name} {text}".strip() for name, text in zip(columns, row, strict=True) if text
    )


def cell(value: float | None) -> str:
    """A number as text; "" for None."""
    return "" if value is None else number(value)
