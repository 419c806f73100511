"""Rows of the benchmark's table, and its files: gpu.md and gpu.json."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dynamos.files import write_whole

BASE = "eager"  # the row that others are compared with, for images of the same size
HEADER = (
    "what",
    "images",
    "runs",
    "ms a step",
    "ms a run-step",
    "run-steps/s",
    "gain",
    "peak MiB",
    "note",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A measurement."""

    what: str
    size: int | None = None  # images are size x size
    runs: int = 1  # runs that a step trains
    seconds: float | None = None  # of a step
    mib: float | None = None  # largest memory in use on the device
    note: str = ""

    @property
    def rate(self) -> float | None:
        """Run-steps per second."""
        return None if self.seconds is None else self.runs / self.seconds


@dataclass
class Report:
    """All rows so far, and the parts that failed."""

    command: str
    rows: list[Row] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)  # (part, reason)
    seconds: float = 0.0

    def write(self, folder: Path) -> None:
        """Write both files whole."""
        write_whole(folder / "gpu.md", self.markdown())
        content = {
            "command": self.command,
            "seconds": self.seconds,
            "rows": [dataclasses.asdict(row) | {"rate": row.rate} for row in self.rows],
            "failures": [{"part": part, "reason": reason} for part, reason in self.failures],
        }
        write_whole(folder / "gpu.json", json.dumps(content, indent=1) + "\n")

    def markdown(self) -> str:
        """The table; gain is a row's run-steps per second over those of one eager run."""
        base = {row.size: row.rate for row in self.rows if row.what == BASE}
        lines = [_line(HEADER), _line(["---"] * len(HEADER))]
        lines += [_line(_cells(row, base.get(row.size))) for row in self.rows]
        failed = [f"- {part} failed: {reason}" for part, reason in self.failures]
        end = f"`{self.command}`: {self.seconds:.0f} s."
        return "\n".join([*lines, "", *failed, *([""] if failed else []), end, ""])


def read(path: Path) -> list[Row]:
    """The rows that a part has written, one a line; none if it wrote no file."""
    if not path.exists():
        return []
    # a part that was killed may have left half a line
    whole = path.read_text().rpartition("\n")[0]
    return [Row(**json.loads(line)) for line in whole.splitlines()]


def append(path: Path, row: Row) -> None:
    """Add a row to a part's file."""
    with path.open("a") as file:
        file.write(json.dumps(dataclasses.asdict(row)) + "\n")


def _cells(row: Row, base: float | None) -> list[str]:
    def shown(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    rate, seconds = row.rate, row.seconds
    return [
        row.what,
        "" if row.size is None else f"{row.size}x{row.size}",
        str(row.runs) if seconds is not None else "",
        shown(None if seconds is None else 1000 * seconds, 2),
        shown(None if seconds is None else 1000 * seconds / row.runs, 3),
        shown(rate, 0),
        shown(None if rate is None or base is None else rate / base, 1),
        shown(row.mib, 0),
        row.note,
    ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "/") for cell in cells) + " |"
