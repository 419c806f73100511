"""Ray's scheduler over the ledger: first come, first served.

It stops the trials that the searcher prunes.
"""

from collections import Counter
from typing import Any

from ray.tune.schedulers import FIFOScheduler

from tune.engine.report import Report
from tune.engine.searcher import LedgerSearcher
from tune.machines.ray_names import end_idle_workers, keep_workers
from tune.machines.slots import Slots


class LedgerScheduler(FIFOScheduler):
    """Enters a trial's results, and only then decides if the trial is pruned."""

    def __init__(self, searcher: LedgerSearcher, slots: Slots) -> None:
        """A scheduler for one driver session."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher, self._slots = searcher, slots
        # number of idle workers that Ray keeps, by the resources of a trial
        self._kept: Counter[Any] = Counter()
        self._packings = slots.packings

    def __reduce__(self) -> Any:
        return FIFOScheduler, ()  # for Ray's pickle of the Tuner, which is never restored

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Make Ray keep workers for later trials, as many as the most trials that ran at a time."""
        # By default Ray keeps one worker unless trials wait. Ours never wait, because each
        # suggestion is for a free slot. A new worker costs 2 to 14 s of imports.
        held = trial.placement_group_factory
        live = sum(
            other.placement_group_factory == held for other in tune_controller.get_live_trials()
        )
        if live > self._kept[held]:
            keep_workers(tune_controller, held, live - self._kept[held])
            self._kept[held] = live

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Stop trials whose node has left. Return None: Ray starts waiting trials by itself.

        Ray gives a trial to the worker that is starting for it. The choice of FIFOScheduler would
        give it to an idle worker and discard the starting one. If trials are shorter than the start
        of a worker, the sweep would never have more than one worker.
        """
        if self._slots.departing:
            # An idle worker on the node that leaves would get the next trial.
            end_idle_workers(tune_controller)
        if self._packings != self._slots.packings:
            self._packings = self._slots.packings
            # Idle workers of the old packing would hold the resources of later trials.
            for held, kept in self._kept.items():
                keep_workers(tune_controller, held, -kept)
            self._kept.clear()
        for trial in [t for t in tune_controller.get_live_trials() if t.status == "PENDING"]:
            if self._searcher.stranded(trial.trial_id):
                tune_controller.stop_trial(trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Enter a result; return STOP to prune or to move the trial, else CONTINUE."""
        stop = self._searcher.enter(trial.trial_id, Report.decode(result))
        return str(FIFOScheduler.STOP if stop else FIFOScheduler.CONTINUE)
