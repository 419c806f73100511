"""Checkpoints of a sweep's trials: which are needed, and removal of the others."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from dynamos.files import AnyPath
from results.choice import choice_of
from results.ledger.ledger import Ledger
from results.names import ENDED, STOPPED
from results.sweep import ORDERS_OF, Sweep
from results.trial import TrialRecord
from results.wording import count

# A model's choice is nearly always among so many with the best means. While a sweep runs, it would
# need a model after each trial.
BEST = 10
UNITS = ("kB", "MB", "GB", "TB")
PATTERN = "attempt-*/seed-*/*checkpoint-*"  # with the temporary files of killed writers


@dataclass(frozen=True, slots=True)
class Waste:
    """Checkpoint files that nothing needs.

    Attributes:
        trials: numbers of their trials.
        files: their paths and sizes in bytes.
        lost: numbers of all trials that have lost, with files or without.
    """

    trials: list[int]
    files: list[tuple[AnyPath, int]]
    lost: list[int]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)

    def remove(self) -> None:
        """Delete the files; those that are gone already do not matter."""
        for path, _ in self.files:
            path.unlink(missing_ok=True)

    def __str__(self) -> str:
        return (
            f"{count(len(self.files), 'checkpoint file')} of {count(len(self.trials), 'trial')}, "
            f"{amount(self.size)}"
        )


def amount(size: int) -> str:
    """Return a number of bytes as text, with the exact number if it is rounded."""
    if size < 1000:
        return count(size, "byte")
    power = min(int(math.log(size * 1.0005, 1000)), len(UNITS))
    return f"{size / 1000**power:.3g} {UNITS[power - 1]} ({size:,} bytes)"


def cleanable(ledger: Ledger) -> Waste:
    """Return what `clean` removes: the rule "best", which also keeps the sweep's choice."""
    chosen = choice_of(Sweep.of(ledger))
    return waste(ledger, "best", [] if chosen is None else [chosen.number])


def waste(ledger: Ledger, keep: str, but: Collection[int] = ()) -> Waste:
    """Return the checkpoints of a sweep that a rule of `keep_checkpoints` does not keep.

    Those of trials that have not ended always stay, those of trials that `rerun` may continue, and
    those of a confirmation that the model registry takes. Nothing else of a trial is removed.

    Args:
        ledger: of the sweep.
        keep: the rule: all, best (the BEST configurations and the Pareto set) or none.
        but: numbers of further trials to leave alone.
    """
    sweep = Sweep.of(ledger)
    kept = needed(sweep, keep)
    lost = [t for t in sweep.own if t.number not in kept and t.number not in but]
    found: dict[int, list[tuple[AnyPath, int]]] = {}
    for trial in lost:
        there: Iterator[AnyPath] = ledger.trial_folder(trial.number).glob(PATTERN)
        files = [p for p in there if not _registered(sweep, trial, p)]
        if files:
            found[trial.number] = [(path, path.stat().st_size) for path in sorted(files, key=str)]
    every = [file for files in found.values() for file in files]
    return Waste(list(found), every, [t.number for t in lost])


def needed(sweep: Sweep, keep: str) -> set[int]:
    """Return the numbers of the trials of which every checkpoint stays."""
    if keep == "all":
        return {t.number for t in sweep.own}
    kept = set(_continued(sweep))
    if keep == "best" and sweep.config.confirms is None:
        keys = [sweep.config.space.key(t.config) for t in sweep.ranked[:BEST]]
        best = [t for t in sweep.complete if sweep.config.space.key(t.config) in keys]
        kept |= {t.number for t in [*best, *sweep.pareto_set]}
    return kept


def _continued(sweep: Sweep) -> Iterator[int]:
    """The numbers of trials whose checkpoints a resume or a rerun continues."""
    of, rerun = {t.number: t for t in sweep.records}, {t.reruns for t in sweep.records}
    for trial in sweep.own:
        again = trial.state == "FAIL" or trial.reason == STOPPED
        if trial.state not in ENDED or (again and trial.number not in rerun):
            continues: TrialRecord | None = trial
            while continues is not None:  # a rerun continues from the trial that it runs again
                yield continues.number
                continues = None if continues.reruns is None else of.get(continues.reruns)


def _registered(sweep: Sweep, trial: TrialRecord, path: AnyPath) -> bool:
    """True if the model registry may take a file's network (tune/tracking/registry.py).

    It takes that of the first seed of a confirmation's trial, except on other class orders.
    """
    config = sweep.config
    return (
        config.confirms is not None
        and ORDERS_OF not in sweep.record
        and trial.state == "COMPLETE"
        and path.parent.name == f"seed-{config.training_seeds[0]}"
    )
