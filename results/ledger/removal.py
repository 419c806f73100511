"""Removal of a whole sweep: its study, in any database, and its folder."""

import shutil
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamos.errors import UserError, command_line
from dynamos.files import AnyPath
from results import sweep_names
from results.definition.sweep_config import SweepConfig
from results.ledger.ledger import Ledger
from results.ledger.study import DATABASE_ERRORS
from results.ledger.sweep_file import LedgerLost, read_sweep_file
from results.sweep import EXTENDS, LOOK_NUMBER, ORDERS_OF


@dataclass(frozen=True, slots=True)
class Removal:
    """A sweep that can be removed."""

    folder: AnyPath
    config: SweepConfig
    record: dict[str, Any]
    trials: int | None
    ledger: Ledger | None  # None if it is lost or damaged and only the folder is left

    def carry_out(self) -> None:
        """Remove the sweep; raise UserError if a driver has taken it meanwhile."""
        if self.ledger is not None:
            self.ledger.remove_study()
        if isinstance(self.folder, Path):
            gone = self.folder.with_name(f".{self.folder.name}.{uuid.uuid4().hex}")
            self.folder.rename(gone)  # so that no process sees it half removed
            shutil.rmtree(gone)
        else:
            self.folder.fs.rm_file((self.folder / "sweep.yaml").path)  # this file makes it a sweep
            if self.folder.fs.exists(self.folder.path):
                self.folder.fs.rm(self.folder.path, recursive=True)


def removals(storage: AnyPath, names: Sequence[str]) -> list[Removal]:
    """Return the sweeps of these names, each before those that it needs.

    Raises UserError if one is running, or if a sweep that stays needs one. A confirmation needs the
    sweep that it confirms, and the confirmation to which it adds seeds or class orders. A
    warm-started sweep needs the earlier sweep, because its confirmations must avoid the seeds of
    both.
    """
    found = {name: _removal(storage, name) for name in names}
    for other in sweep_names(storage):
        for what, needed in _needs(storage, other).items():
            if needed in found and other not in found:
                raise UserError(
                    f"{other} {what} {needed} and needs it; delete {other} first, or both: "
                    f"{command_line('dynamos-sweep', 'delete', other, *names)}"
                )
    return sorted(
        found.values(),
        key=lambda r: (
            r.config.confirms is None,
            r.config.warm_start is None,
            ORDERS_OF not in r.record,
            -_look(r.record),
        ),
    )


def _removal(storage: AnyPath, name: str) -> Removal:
    try:
        with closing(Ledger.open(storage, name)) as ledger:
            if ledger.driver is not None and not ledger.driver_gone:
                raise UserError(
                    f"the sweep {name!r} is running ({ledger.driver}); stop it first: "
                    f"{ledger.command('stop')}"
                )
            return Removal(
                ledger.folder, ledger.config, ledger.record, len(ledger.trials()), ledger
            )
    except (LedgerLost, *DATABASE_ERRORS) as error:
        config, record = read_sweep_file(storage / name / "sweep.yaml")
        if config.ledger_url is not None and not isinstance(error, LedgerLost):
            raise  # the database may be back
        return Removal(storage / name, config, record, None, None)


def _look(record: dict[str, Any]) -> int:
    """The number of a confirmation's look; each needs those before it."""
    return int(record.get(LOOK_NUMBER, 0))


def _needs(storage: AnyPath, name: str) -> dict[str, str | None]:
    """The sweeps that a sweep needs, by purpose; {} if its sweep.yaml cannot be read."""
    try:
        config, record = read_sweep_file(storage / name / "sweep.yaml")
    except UserError:
        return {}
    return {
        "confirms": config.confirms,
        "began with": config.warm_start,
        "extends": record.get(EXTENDS),
        "has class orders of": record.get(ORDERS_OF),
    }
