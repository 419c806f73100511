"""The search: Ray drives, Optuna suggests, MLflow mirrors."""

import sys
from typing import TYPE_CHECKING

from dynamos.doors import opens
from dynamos.strangers import refuse_strangers, strangers

if TYPE_CHECKING:
    from tune.client import Client
    from tune.engine.creation import create_sweep
    from tune.engine.sweep import run_sweep

_NEEDED = ("search_spaces", "results")
# `python -m tune.cli` puts the working folder first on the path, but needs nothing in it.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and any(strangers(*_NEEDED)):
    del sys.path[0]
refuse_strangers(*_NEEDED)
__all__ = ["Client", "create_sweep", "run_sweep"]
__getattr__ = opens(
    __name__,
    {
        "Client": "tune.client",
        "create_sweep": "tune.engine.creation",
        "run_sweep": "tune.engine.sweep",
    },
)
