"""What a sweep would try first, without one."""

import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from results.ledger import Ledger
from results.sweep_config import SweepConfig

FIRST = 6


def first_suggestions(config: SweepConfig) -> list[dict[str, Any]]:
    """{"source", "config"} of the first trials, as the sampler gives them before it knows any result.

    What a warm start would add is left out.
    """
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.create(Path(folder), replace(config, ledger_url=None, tracking_uri=None, warm_start=None), {})
        with closing(ledger), ledger.driving():
            trials = [ledger.ask() for _ in range(min(FIRST, ledger.budget))]
    return [{"source": trial.source, "config": trial.config} for trial in trials]
