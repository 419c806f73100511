"""Results of sweeps: the ledger, and its analysis. `results.load_sweep` is for notebooks."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dynamos.doors import opens
from dynamos.strangers import refuse_strangers

if TYPE_CHECKING:
    from dynamos.files import AnyPath
    from results.definition.sweep_config import SweepConfig
    from results.sweep import Sweep

refuse_strangers("search_spaces")
__all__ = ["STORAGE", "Sweep", "SweepConfig", "load_sweep", "sweep_names"]
__getattr__ = opens(
    __name__,
    {"Sweep": "results.sweep", "SweepConfig": "results.definition.sweep_config"},
)
STORAGE = "runs"  # default folder of sweeps


def load_sweep(path_or_name: "str | AnyPath", storage: "str | AnyPath" = STORAGE) -> "Sweep":
    """Load a sweep by its folder, or by its name under `storage`, a path or URL.

    Raises UserError if no such sweep exists. Needs neither ray nor torch.
    """
    from dynamos.files import any_path
    from results.ledger.ledger import Ledger
    from results.sweep import Sweep

    path = any_path(str(path_or_name))
    if not (path / "sweep.yaml").is_file():
        path = any_path(str(storage)) / str(path_or_name)
    return Sweep.of(Ledger.open(path.parent, path.name))


def sweep_names(storage: "AnyPath") -> list[str]:
    """Names of the sweeps in a storage folder, damaged ones too."""
    files = [*storage.glob("*/sweep.yaml")]
    if isinstance(storage, Path):  # in an object store sweep.yaml is written last
        files += storage.glob("*/ledger.db")
    return sorted({file.parent.name for file in files if not file.parent.name.startswith(".")})


def closed_folders(storage: "AnyPath") -> list[str]:
    """Names of the folders in a storage folder that this process may not read."""
    from results.names import is_name

    if not isinstance(storage, Path) or not storage.is_dir():
        return []
    return sorted(
        path.name
        for path in storage.iterdir()
        if is_name(path.name) and path.is_dir() and not os.access(path, os.R_OK | os.X_OK)
    )
