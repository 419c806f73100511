"""Sweep: its configuration, record and trials together, as they were when it was read."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from results.definition.objectives import Objective
from results.definition.sweep_config import SweepConfig
from results.ledger.attributes import latest_outcome
from results.names import NON_FINITE
from results.strategy.race import last_race, left
from results.trial import TrialRecord, newest, pooled
from results.wording import count, number

EXTENDS = "extends"  # key of a confirmation's record: the confirmation to which it adds seeds
# Key of a confirmation's record: the confirmation whose configurations it trains on other class
# orders. Each of its training seeds is also a seed of the class order.
ORDERS_OF = "class_orders_of"
# Key of a confirmation's record: the number of its look at the results, from 1. Each look has a
# part of the error; without it, as in earlier versions, the confirmation has the whole error.
LOOK_NUMBER = "look"
IS_BASELINE = "is the baseline"  # verdict on a choice that is the baseline itself

if TYPE_CHECKING:
    import pandas as pd

    from dynamos.files import AnyPath
    from results.ledger.ledger import Ledger


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep, finished or not, as it was when it was read.

    In a notebook: `trials`, `results` and `pareto` are DataFrames, and `best` returns a row of
    `trials`. For programs: `records` has all trials, and the other lists are parts of it.
    """

    config: SweepConfig
    record: Mapping[str, Any]  # the rest of sweep.yaml: id, versions, data hashes
    records: Sequence[TrialRecord]  # by number
    # uses of test images, by confirmation, the oldest first
    looks: Mapping[str, Any] = field(default_factory=dict)
    extends: "Sweep | None" = None  # the confirmation to which this one adds seeds
    done: str | None = None  # why it tries no new configuration, if it ended by itself

    @classmethod
    def of(cls, ledger: "Ledger") -> Self:
        """Read the current state of a ledger's sweep."""
        extended = None
        if (earlier := ledger.extended()) is not None:
            with closing(earlier):
                extended = cls.of(earlier)
        return cls(
            ledger.config, ledger.record, ledger.trials(), ledger.looks, extended, ledger.done
        )

    @cached_property
    def own(self) -> list[TrialRecord]:
        """The trials that the sweep ran itself; its budget and its counts refer to these.

        A choice also considers imported results.
        """
        return [trial for trial in self.records if not trial.imported]

    @cached_property
    def complete(self) -> list[TrialRecord]:
        """The COMPLETE trials, imported ones too."""
        return [trial for trial in self.records if trial.state == "COMPLETE"]

    @property
    def own_complete(self) -> list[TrialRecord]:
        """The COMPLETE trials that the sweep ran itself."""
        return [trial for trial in self.complete if not trial.imported]

    @cached_property
    def configurations(self) -> list[TrialRecord]:
        """The COMPLETE trials, those of one configuration as one trial with the runs of all.

        Its number is that of the first of them; its value and its feasibility are those of the mean
        over all runs. A configuration of which a run diverged is not feasible: its mean over all
        runs does not exist.
        """
        if not any(t.replicates is not None for t in self.records):
            return self.complete
        space, groups = self.config.space, dict[Any, list[TrialRecord]]()
        for trial in self.complete:
            groups.setdefault(space.key(trial.config), []).append(trial)
        diverged = {
            space.key(t.config)
            for t in self.records
            if t.replicates is not None and (t.reason or "").startswith(NON_FINITE)
        }
        return [self._pooled(of, key in diverged) for key, of in groups.items()]

    def _pooled(self, trials: Sequence[TrialRecord], diverged: bool) -> TrialRecord:
        whole = pooled(trials)
        if whole is trials[0]:
            return replace(whole, feasible=False) if diverged and whole.feasible else whole
        metric, constraints = self.config.objectives[0].metric, self.config.constraints
        kept = all(c.violation(whole.final(c.metric)) <= 0 for c in constraints)
        return replace(
            whole, value=whole.final(metric), feasible=kept and not diverged and not whole.outside
        )

    @cached_property
    def ranked(self) -> list[TrialRecord]:
        """The configurations that keep every constraint, imported ones too, best first.

        The first objective decides. Between equal ones the next objective decides, then the
        trials' numbers. So the first is in the Pareto set. The configurations that are left in the
        final race come before all others, because values of fewer runs are luckier.
        """
        config = self.config
        finished = [t for t in self.configurations if t.value is not None and t.feasible]
        found = in_order(finished, config.objectives)
        if not any(t.races for t in self.records):
            return found
        racing = left(config, last_race(self.records).rounds)
        keys = {config.space.key(t.config) for t in racing}
        return sorted(found, key=lambda t: config.space.key(t.config) not in keys)

    @property
    def leader(self) -> TrialRecord | None:
        """The trial with the best value, the first of `ranked`: the luckiest of many readings.

        The sweep's choice is another one where a model expects more (results.choice.choice_of).
        Returns None if no trial can be chosen, and in a confirmation, which chooses nothing.
        """
        return None if self.config.confirms is not None else next(iter(self.ranked), None)

    @cached_property
    def pareto_set(self) -> list[TrialRecord]:
        """The Pareto set of `ranked` (`front`); [] in a confirmation, which chooses nothing."""
        return (
            [] if self.config.confirms is not None else front(self.ranked, self.config.objectives)
        )

    @property
    def baseline(self) -> TrialRecord | None:
        """Trial 0 (the stream's preset or the sweep's base) or its last rerun, with its replicates.

        Returns None before it exists.
        """
        first = next((t for t in self.records if t.number == 0), None)
        if first is None:
            return None
        last = newest(self.records)[0]
        whole = next((t for t in self.configurations if t.number == last.number), last)
        return replace(whole, source=first.source)

    @property
    def baseline_name(self) -> str:
        """Name of trial 0: "preset" or "base"."""
        return "preset" if self.config.base_is_preset else "base"

    @property
    def trials(self) -> "pd.DataFrame":
        """One row per trial: results.frames.COLUMNS, then one column per searched field."""
        from results.frames import trials_frame

        return trials_frame(self, self.records)

    @property
    def results(self) -> "pd.DataFrame":
        """One row per trial, seed and task: results.frames.RESULT_COLUMNS, then every metric."""
        from results.frames import results_frame

        return results_frame(self)

    @property
    def pareto(self) -> "pd.DataFrame":
        """The rows of `trials` in the Pareto set, the best in the first objective first."""
        from results.frames import trials_frame

        return trials_frame(self, self.pareto_set)

    def best(self, rule: str = "model", max_compute: float | None = None) -> "pd.Series[Any]":
        """Return the row of `trials` that the rule chooses (results.choice.RULES).

        Raises UserError if it can choose none.
        """
        from results.choice import Choice, chosen
        from results.frames import trials_frame

        return trials_frame(self, chosen(self, Choice(rule, max_compute))[:1]).iloc[0]

    def save(self, folder: str | Path, kind: str = "parquet") -> "list[AnyPath]":
        """Write trials, results and pareto to a folder and return the paths.

        `kind` is one of results.frames.FORMATS.
        """
        from results.frames import save

        return save(self, folder, kind)

    def __repr__(self) -> str:
        """One line for a notebook: stream, space, trials by state, the best."""
        config = self.config
        states = ", ".join(
            f"{often} {state.lower()}"
            for state, often in Counter(t.state for t in self.own).items()
        )
        from results.choice import choice_of

        best = choice_of(self)
        leads = (
            ""
            if best is None
            else f"; best: {best.label}, {config.objectives[0].metric} {number(best.value)}"
        )
        return (
            f"<Sweep {config.name!r} on {config.base.stream_name}, space {config.space.name}: "
            f"{count(len(self.own), 'trial')} ({states}){leads}{self._tested}>"
        )

    @property
    def _tested(self) -> str:
        """The verdict of its latest confirmation, in words; "" without one."""
        if (found := latest_outcome(self.looks)) is None:
            return ""
        return f"; {found['verdict']}{' on test images' * (found['verdict'] != IS_BASELINE)}"


def front(trials: Iterable[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """Return the trials that no other trial dominates, the best in the first objective first.

    A trial dominates another if it is at least equal in every objective and better in one.
    """
    found: list[tuple[list[float], TrialRecord]] = []
    for trial in in_order(trials, objectives):  # a trial that dominates another comes before it
        scores = [o.sign * trial.final(o.metric) for o in objectives]
        if not any(
            other != scores and all(a >= b for a, b in zip(other, scores, strict=True))
            for other, _ in found
        ):
            found.append((scores, trial))
    return [trial for _, trial in found]


def in_order(trials: Iterable[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """Return COMPLETE trials, the best first, as `Sweep.ranked` orders them."""
    return sorted(
        trials, key=lambda t: (*(-o.sign * t.final(o.metric) for o in objectives), t.number)
    )
