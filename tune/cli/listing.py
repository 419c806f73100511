"""The list of the sweeps in a storage. It imports no heavy package unless a sweep needs one."""

from collections.abc import Mapping
from contextlib import closing

from dynamos.errors import DynamosError, UserError
from dynamos.files import AnyPath
from results import closed_folders, sweep_names
from results.definition.labels import one_line, told
from results.ledger.attributes import OUTCOME, latest_outcome
from results.ledger.glance import Glance, glance
from tune.cli.terminal import cell, print_rows, progress

SWEEPS = (
    "sweep",
    "stream",
    "space",
    "protocol",
    "state",
    "trials",
    "best",
    "verdict",
    "objective",
    "tags",
    "note",
    "error",
)


def listing(storage: AnyPath) -> None:
    """Print a line per sweep."""
    names, closed = sweep_names(storage), closed_folders(storage)
    if not names and not closed:
        raise UserError(f"no sweep in {storage}. Start one: dynamos-sweep run")
    rows = [
        _no_row(name, "closed", f"{storage / name}: Permission denied")
        for name in closed
        if name not in names
    ]
    seen = dict[str, Glance]()
    for name in progress(names, "reading the sweeps"):
        try:
            seen[name] = glance(storage, name)
        except (DynamosError, OSError) as error:
            # one damaged sweep does not hide the others
            rows.append(_no_row(name, "damaged", str(error)))
    for name, one in seen.items():
        try:
            rows.append(_row(one, _verdict(storage, one, seen)))
        except (DynamosError, OSError) as error:
            rows.append(_no_row(name, "damaged", str(error)))
    print_rows(SWEEPS, sorted(rows), prose=3)


def _row(seen: Glance, verdict: str | None) -> list[str]:
    return [
        seen.name,
        seen.stream,
        seen.space,
        seen.protocol,
        str(seen.state),
        f"{seen.ended}/{seen.budget}",
        cell(seen.best),
        verdict or "",
        " ".join(seen.objectives),
        told(seen.tags),
        one_line(seen.note),
        "",
    ]


def _verdict(storage: AnyPath, seen: Glance, others: Mapping[str, Glance]) -> str | None:
    """The verdict of a confirmation, or of a sweep's latest one; None if no answer exists.

    `others` are the sweeps of the storage, by name.
    """
    if seen.confirms is None:
        found = latest_outcome(seen.looks)
        return None if found is None else str(found["verdict"])
    # A finished confirmation does not change, and its sweep has its outcome.
    if seen.state.name == "finished" and seen.confirms in others:
        look = others[seen.confirms].looks.get(seen.name, {})
        if OUTCOME in look:
            return str(look[OUTCOME]["verdict"])
    from results.analysis.confirmation import latest_verdict
    from results.ledger.ledger import Ledger
    from results.sweep import Sweep

    with closing(Ledger.open(storage, seen.name)) as ledger:
        return latest_verdict(Sweep.of(ledger))


def _no_row(name: str, state: str, why: str) -> list[str]:
    """The row of a sweep that cannot be read."""
    return [name, "", "", "", state, *[""] * (len(SWEEPS) - 6), why]
