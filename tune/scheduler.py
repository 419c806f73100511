"""Ray's scheduler over the ledger: first come, first served; a trial is stopped where the searcher's judge says so."""

import json
from typing import Any

from ray.tune.schedulers import FIFOScheduler

from tune.searcher import LedgerSearcher
from tune.trainable import REPORT


class LedgerScheduler(FIFOScheduler):
    """Has a trial's results entered, then asks whether it is to be pruned: in that order."""

    def __init__(self, searcher: LedgerSearcher) -> None:
        """A scheduler for one driver session."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher

    def __reduce__(self) -> Any:
        return FIFOScheduler, ()  # for the pickled Tuner that is never restored

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """STOP to prune, else CONTINUE."""
        prune = self._searcher.enter(trial.trial_id, json.loads(result[REPORT]))
        return str(FIFOScheduler.STOP if prune else FIFOScheduler.CONTINUE)
