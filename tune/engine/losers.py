"""Removal of the checkpoints of trials that have lost, while a sweep runs."""

import logging

from results.checkpoints import waste
from results.ledger.ledger import Ledger

log = logging.getLogger(__name__)


class Losers:
    """Removes the checkpoints that `keep_checkpoints` does not keep.

    Only ended trials lose, and their end is in the ledger before a file is removed. A kill leaves
    files behind at most; the next session begins with `drop`.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Remove nothing yet."""
        self._ledger = ledger
        self._clean: set[int] = set()  # numbers of the trials that have no more checkpoints

    def drop(self) -> None:
        """Remove the checkpoints of all trials that have lost so far."""
        keep = self._ledger.config.keep_checkpoints
        if keep == "all":
            return
        try:
            gone = waste(self._ledger, keep, self._clean)
            gone.remove()
        except OSError as error:  # the sweep goes on; the next end tries again
            log.warning("checkpoints of trials that lost could not be removed: %s", error)
            return
        self._clean.update(gone.lost)

    def drop_late(self) -> None:
        """Remove also what a worker wrote after its trial had ended."""
        self._clean.clear()
        self.drop()
