"""What came out of sweeps: the ledger, and what is read from it. `results.load_sweep` is for notebooks."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.frame import Sweep

STORAGE = "runs"  # where sweeps are kept by default


def load_sweep(path_or_name: str | Path, storage: str | Path = STORAGE) -> "Sweep":
    """A sweep by its folder, or by its name under `storage`; UserError if there is none. Needs no ray and no torch."""
    from results.frame import Sweep
    from results.ledger import Ledger

    path = Path(path_or_name).expanduser()
    if not (path / "sweep.yaml").is_file():
        path = Path(storage).expanduser() / path_or_name
    path = path.resolve()
    return Sweep.of(Ledger.open(path.parent, path.name))
