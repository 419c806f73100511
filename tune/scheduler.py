"""Ray's scheduler over the ledger: first come, first served; a trial is stopped where the searcher's judge says so."""

import json
from typing import Any

from ray.tune.schedulers import FIFOScheduler

from tune.searcher import LedgerSearcher
from tune.trainable import REPORT


class LedgerScheduler(FIFOScheduler):
    """Has a trial's results entered, then asks whether it is to be pruned: in that order."""

    def __init__(self, searcher: LedgerSearcher, slots: int) -> None:
        """A scheduler for one driver session, with so many trials at a time."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher, self._slots = searcher, slots

    def __reduce__(self) -> Any:
        return FIFOScheduler, ()  # for the pickled Tuner that is never restored

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Has Ray keep the worker of every slot for the next trial, from the first trial on."""
        # Ray keeps one idle worker unless trials already wait, and ours never do: a suggestion is drawn for a free
        # slot. A new worker costs 2 to 14 s of imports. Trials of a sweep all hold the same resources.
        tune_controller._actor_cache.increase_max(trial.placement_group_factory, by=self._slots)
        self._slots = 0

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None: Ray starts what waits by itself, and leaves a trial whose own worker is on its way to that worker.

        FIFO's choice would take an idle worker for such a trial and throw its own away: trials shorter than a
        worker's start would never get more than one.
        """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """STOP to prune, else CONTINUE."""
        prune = self._searcher.enter(trial.trial_id, json.loads(result[REPORT]))
        return str(FIFOScheduler.STOP if prune else FIFOScheduler.CONTINUE)
