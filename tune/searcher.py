"""Ray's Searcher over the ledger: asks it for trials, enters what they report, tells it how they end."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.search import Searcher

from dynamos.config import TrainConfig
from dynamos.errors import UserError
from results.best import train_config
from results.ledger import Ledger, TrialRecord
from tune.trainable import REPORT

log = logging.getLogger(__name__)

Listener = Callable[[TrialRecord], None]


class LedgerSearcher(Searcher):
    """Suggests the ledger's next trial when a slot is free, never ahead of it."""

    def __init__(self, ledger: Ledger, slots: int, listeners: Sequence[Listener], deadline: float | None) -> None:
        """A searcher for one driver session.

        Args:
            ledger: open for writing.
            slots: trials that may run at a time.
            listeners: called with a trial's record after every change.
            deadline: time.monotonic() after which nothing new starts and what runs is put back; None for never.
        """
        super().__init__()
        self._ledger, self._slots, self._listeners, self._deadline = ledger, slots, listeners, deadline
        self._running: dict[str, TrialRecord] = {}  # by Ray's trial id, the record as it was when the trial started

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles its Tuner for a restore that is never used: the ledger is what resumes

    def save(self, checkpoint_path: str) -> None:
        """Nothing: all state is in the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: all state is in the ledger."""

    @property
    def out_of_time(self) -> bool:
        """Whether the time budget is spent."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration; None while no slot is free; FINISHED when the budget is spent."""
        while not self.out_of_time and self._ledger.remaining() > 0:
            if len(self._running) >= self._slots:
                return None
            record = self._ledger.ask()
            try:
                train = train_config(self._ledger, record)
            except UserError as error:  # values that do not go together, which no range can say
                self._ledger.finish(record.number, "FAIL", str(error))
                self._tell_listeners(record.number)
                continue
            self._running[trial_id] = record
            self._tell_listeners(record.number)
            return self._suggestion(record, train)
        return Searcher.FINISHED

    def _suggestion(self, record: TrialRecord, train: TrainConfig) -> dict[str, Any]:
        return {"number": record.number, "attempt": record.attempt,
                "folder": str(self._ledger.folder / "trials" / f"{record.number:04d}"),
                "train": train.to_dict()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Enters the results of a trial that goes on."""
        self._enter(self._running[trial_id], json.loads(result[REPORT]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ends the trial in the ledger."""
        record = self._running.pop(trial_id)
        report = json.loads(result[REPORT]) if result and REPORT in result else {"results": [], "state": None}
        self._enter(record, report, quiet=True)
        if error:
            self._ledger.finish(record.number, "FAIL",
                                "its worker failed or was lost more often than is retried (ray.log)")
        elif report["state"] is None:  # stopped while it ran
            self._ledger.interrupt(record.number)
        else:
            self._ledger.finish(record.number, report["state"], report["reason"])
        self._tell_listeners(record.number)

    def interrupt(self) -> None:
        """Puts what still runs back, for a later driver to go on with."""
        for record in self._running.values():
            self._ledger.interrupt(record.number)
            self._tell_listeners(record.number)
        self._running.clear()

    def _enter(self, record: TrialRecord, report: dict[str, Any], quiet: bool = False) -> None:
        seed = self._ledger.config.base.seed
        for entry in report["results"]:
            self._ledger.add_result(record.number, seed, entry["result"], entry["metrics"])
        if not quiet:
            self._tell_listeners(record.number)

    def _tell_listeners(self, number: int) -> None:
        record = self._ledger.trial(number)
        for listener in self._listeners:
            listener(record)
