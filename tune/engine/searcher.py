"""Ray's Searcher over the ledger: asks it for trials, and enters their results and their ends."""

import dataclasses
import datetime as dt
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune.search import Searcher

from dynamos.errors import DynamosError, RunError, UserError
from results.choice import train_config
from results.ledger.ledger import Ledger
from results.ledger.study import DATABASE_ERRORS
from results.strategy.pruners import Judge
from results.sweep import Sweep
from results.trial import TrialRecord
from tune.engine.limits import finished, on_target, spent
from tune.engine.losers import Losers
from tune.engine.report import LOST, OUT_OF_MEMORY, PUT_BACK, REPORT, Report
from tune.engine.workers.actors import Hosts
from tune.machines.slots import Slot, Slots

OnTrial = Callable[[TrialRecord], None]
# This many lost workers in a row, plus two per slot, cannot be chance.
LOST_IN_A_ROW = 10
POLL_SECONDS = 0.5  # between two reads of the ledger for a request to stop


class LedgerSearcher(Searcher):
    """Suggests the ledger's next trial when a slot is free, never earlier.

    Attributes:
        over: reason why no trial starts and running trials are interrupted; None while the
            sweep continues.
        failure: the error of ledger or machine that ended the session, or None.
    """

    def __init__(
        self,
        ledger: Ledger,
        slots: Slots,
        listener: OnTrial,
        hosts: Hosts | None = None,
        say: Callable[[str], None] = lambda line: None,
        on_begin: Callable[[], None] = lambda: None,
    ) -> None:
        """A searcher for one driver session.

        Args:
            ledger: open for writing.
            slots: where trials may run.
            listener: called with a trial's record after every change.
            hosts: the workers of trials, if they train several each.
            say: called with a line for the user.
            on_begin: called once, when the first trial begins to train.
        """
        super().__init__()
        config = ledger.config
        self._ledger, self._config, self._tell = ledger, config, listener
        self._slots, self._hosts = slots, hosts
        self._say, self._on_begin = say, on_begin
        objective = config.objectives[0]
        others = [(o.metric, o.sign > 0) for o in config.objectives[1:]]
        self._judge = Judge(
            config.pruner,
            config.grace_tasks,
            objective.metric,
            objective.sign > 0,
            others,
            config.grace_epochs,
            config.base.n_epochs,
        )
        self._batch_left = 0  # trials of a batch that have not been started
        # By Ray's trial id, the record at the trial's start, and its slot.
        self._running: dict[str, tuple[TrialRecord, Slot]] = {}
        # By Ray's trial id, the host of a trial, and the number of the suggestion.
        self._hosted: dict[str, tuple[str, int]] = {}
        self._tickets = itertools.count(1)
        # numbers of the trials that got more room after memory ran out
        self._retried: set[int] = set()
        self._pruned: dict[str, str] = {}  # reasons by Ray's trial id
        self._moved: set[str] = set()  # Ray's ids of trials that continue on another node
        # By number, the end and the report of each ended trial of a batch that is not over.
        self._ended: dict[int, tuple[dt.datetime, Report]] = {}
        self._lost_in_a_row = 0  # workers, since the last report of one
        self._polled = -POLL_SECONDS
        self._deadline = math.inf  # until the first trial trains
        self._begun = False  # True once a trial has trained in this session
        self.over: str | None = None
        self.failure: Exception | None = None
        for trial in ledger.trials():
            self._learn(trial)
        self._judge_search()  # a kill may have come before it
        self.losers = Losers(ledger)
        self.losers.drop()

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles its Tuner for a restore that is never used: a sweep resumes from the ledger
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: all state is in the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: all state is in the ledger."""

    def poll(self) -> bool:
        """True if the session is over: budget spent, target reached or stop requested."""
        if self.over is None and time.monotonic() >= self._deadline:
            self.over = "the time budget is spent"
        if self.over is None and time.monotonic() - self._polled >= POLL_SECONDS:
            self._polled = time.monotonic()
            with self._guarded():
                if self._ledger.stop_requested():
                    self.over = "stopped on request"
                for reason in spent(self._config, self._ledger.spent).values():
                    self.over = reason
        return self.over is not None

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration; None while no slot is free.

        Returns FINISHED when no trial is left to start.
        """
        while not self.poll():
            slot = self._free()
            if slot is None:
                return None
            with self._guarded():
                record = self._ask(slot)
                if record is None:
                    # A running trial may be put back, if it loses its worker or node. Or the next
                    # batch waits for the end of this one.
                    return None if self._running else Searcher.FINISHED
                try:
                    train_config(self._config, record)
                except UserError as error:  # a combination of values that no range can exclude
                    self._end(record.number, Report(record.attempt, {}, "FAIL", str(error)))
                    continue
                # A crash or the end of a session may have prevented the decision after its last
                # task.
                reason = self._objection(record, self._judge.places(record)[-1:])
                if reason is not None:
                    self._end(record.number, Report(record.attempt, {}, "PRUNED", reason))
                    continue
                taken = [other for _, other in self._running.values()]
                self._running[trial_id] = record, slot
                suggestion = self._suggestion(record, slot)
                if self._hosts is not None:
                    host, ticket = self._hosts.of(slot, taken), next(self._tickets)
                    self._hosted[trial_id] = host, ticket
                    suggestion |= {"host": host, "ticket": ticket}
                self._tell(record)
                return suggestion
        return Searcher.FINISHED

    def _free(self) -> Slot | None:
        """A slot for the next trial; None if it has to wait for one.

        Results depend on the place in a worker. So a trial continues in its place if it is free,
        and in deterministic order the place follows from the trial's number.
        """
        taken = [slot for _, slot in self._running.values()]
        if self._hosts is None:
            return self._slots.free(taken)
        with self._guarded():
            number, place = self._ledger.upcoming()
            silent = self._hosts.silent()
            if self._config.deterministic_order:
                return self._slots.free(taken, number, only=True, without=silent)
            return self._slots.free(taken, place, without=silent)
        return None

    def enter(self, trial_id: str, report: Report) -> bool:
        """Enter the start of a trial's training, or its results; return True to stop it.

        It is then pruned, or it continues on another node because its own leaves.
        """
        with self._guarded():
            record, slot = self._running[trial_id]
            number = record.number
            if report.state == LOST:
                return False
            # Ray may have chosen the node
            self._running[trial_id] = record, dataclasses.replace(slot, node=report.node)
            if report.began:
                self._begin(number, report)
                return False
            self._lost_in_a_row = 0
            known = self._judge.places(self._ledger.trial(number))
            self._add(number, report)
            record = self._ledger.trial(number)
            self._tell(record)
            if report.state is None:
                # After a crash a report may have several tasks. Each is compared separately.
                places = self._judge.places(record)
                reason = self._objection(record, [at for at in places if at not in known])
                if reason is not None:
                    self._pruned[trial_id] = reason
                    return True
                if self._slots.leaves(self._running[trial_id][1]):
                    self._moved.add(trial_id)
                    return True
        return False

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: the scheduler entered the result before its decision."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """End the trial in the ledger, or interrupt it if it lost its worker or node."""
        with self._guarded():
            started, slot = self._running.pop(trial_id)
            report = (
                Report.decode(result) if result and REPORT in result else Report(started.attempt)
            )
            new_loss = self._let_go(trial_id, slot, lost=report.state == LOST)
            if (error or report.state == LOST) and self._slots.leaves(slot):
                # it was no surprise, so it counts neither for the trial nor for the session
                self._put_back(started.number)
                return
            if error or report.state == LOST:
                self._lost_in_a_row += error or new_loss
                if self._lost_in_a_row >= 2 * self._slots.workers() + LOST_IN_A_ROW:
                    self.failure = self.failure or RunError(
                        f"{self._lost_in_a_row} workers were lost in a row without any result; see "
                        f"{self._ledger.folder / 'sweep.log'}"
                    )
                    self.over = "all workers were lost"
                    self._put_back(started.number)
                    return
                if started.losses < self._config.retries:
                    self._put_back(started.number, lost=True)
                    return
                lost = f"its worker or node was lost {started.losses + 1} times (sweep.log)"
                reason = report.reason or lost
                report = dataclasses.replace(report, state="FAIL", reason=reason)
            elif trial_id in self._pruned:
                pruned = self._pruned.pop(trial_id)
                report = dataclasses.replace(report, state="PRUNED", reason=pruned)
            elif trial_id in self._moved:
                self._moved.remove(trial_id)
                self._put_back(started.number)
                return
            elif report.state == OUT_OF_MEMORY:
                node, before = report.node or slot.node or "", self._slots.packings
                if self._slots.thin_out(slot, node) and started.number not in self._retried:
                    if self._slots.packings > before:
                        self._say(f"memory ran out: {self._slots.packing(node)} from now on")
                    if slot.cohort == 1:
                        self._retried.add(started.number)
                    self._add(started.number, report)
                    self._put_back(started.number)
                    return
                report = dataclasses.replace(report, state="FAIL")
            elif report.state == PUT_BACK:
                self.failure = self.failure or RunError(f"trial {started.number}: {report.reason}")
                self.over = "a machine cannot continue a trial"
            elif result is None and self.over is None:  # it waited for a node that has left
                self._put_back(started.number)
                return
            self._end(started.number, report)

    def _let_go(self, trial_id: str, slot: Slot, lost: bool) -> bool:
        """Free a trial's place in its host; return True if the host is newly known to be lost."""
        if self._hosts is None:
            return False
        host, ticket = self._hosted.pop(trial_id)
        if lost:
            return self._hosts.lost(slot, host)
        self._hosts.leave(slot, host, ticket)
        return False

    def stranded(self, trial_id: str) -> bool:
        """True if a trial that has not started waits for a node that has left."""
        return trial_id in self._running and self._slots.gone(self._running[trial_id][1])

    def interrupt(self) -> None:
        """Interrupt running trials, so that a later driver resumes them."""
        with self._guarded():
            ended: dict[int, dt.datetime | None] = {
                record.number: None for record, _ in self._running.values()
            }
            for number, at in (
                ended | {number: at for number, (at, _) in self._ended.items()}
            ).items():
                self._ledger.interrupt(number, at)
                self._tell(self._ledger.trial(number))
        self._running.clear()
        self._ended.clear()

    def _begin(self, number: int, report: Report) -> None:
        """Start a trial's clock and, at the session's first trial, that of the time budget."""
        self._ledger.start(number, report.attempt, report.cohort)
        self._tell(self._ledger.trial(number))
        if not self._begun:
            self._begun = True
            self._on_begin()
            self._deadline = time.monotonic() + (self._config.time_budget_seconds or math.inf)

    def _objection(self, record: TrialRecord, places: Iterable[int]) -> str | None:
        """The first reason to prune a trial at any of these places (Judge.places).

        A replicate is never pruned: the mean over those that were not would be too good.
        """
        if record.replicates is not None:
            return None
        return next(
            (reason for place in places if (reason := self._judge.verdict(record, place))),
            None,
        )

    def _put_back(self, number: int, lost: bool = False) -> None:
        """Interrupt a trial, so that it continues from its checkpoints, in its batch if any."""
        self._ledger.interrupt(number, lost=lost)
        self._batch_left += self._config.deterministic_order
        self._tell(self._ledger.trial(number))

    def _ask(self, slot: Slot) -> TrialRecord | None:
        """The ledger's next trial.

        Returns None if none is left, if the next one depends on trials that run, or, in
        deterministic order, until the batch is over.
        """
        remaining = self._ledger.remaining()
        if remaining > 0 and self._ledger.waits():
            self._batch_left = 0
            if self._running:
                return None
            self._finish_batch()
            remaining = self._ledger.remaining()
        if not self._config.deterministic_order:
            return self._started(slot) if remaining > 0 else None
        if not self._batch_left and not self._running:
            batch = self._ledger.batch_size(self._slots.count())
            trials = Sweep.of(self._ledger).own
            begun = sum(t.state not in ("WAITING", "INTERRUPTED") for t in trials)
            # A batch that was cut short is completed first, beginning with its interrupted trials.
            self._batch_left = min(batch - begun % batch, self._ledger.remaining())
        if not self._batch_left:
            return None
        self._batch_left -= 1
        return self._started(slot)

    def _started(self, slot: Slot) -> TrialRecord:
        """The ledger's next trial, with its part of a worker's resources."""
        if not self._slots.hosted:
            return self._ledger.ask(slot.gpus)
        return self._ledger.ask(slot.gpus / slot.cohort, slot.cpus / slot.cohort, slot.place)

    def _end(self, number: int, report: Report) -> None:
        """End a trial.

        In deterministic order, the trials of a batch end together, by number, after the last one.
        """
        self._add(number, report)
        at = dt.datetime.now(dt.UTC)
        self._ended[number] = at, report
        if self._config.deterministic_order and (self._running or self._batch_left):
            self._ledger.hold(number, at)
            return
        self._finish_batch()

    def _finish_batch(self) -> None:
        """End the trials that wait for their batch."""
        for ended in sorted(self._ended):
            self._finish(ended, *self._ended.pop(ended))

    def _finish(self, number: int, at: dt.datetime, report: Report) -> None:
        if report.state in (None, PUT_BACK):  # stopped while it ran
            self._ledger.interrupt(number, at)
        else:
            self._ledger.finish(number, report.state, report.reason, at)
        trial = self._ledger.trial(number)
        self._learn(trial)
        self._judge_search()
        self._tell(trial)
        self.losers.drop()

    def _judge_search(self) -> None:
        """End the search if the sweep is to, and little is left to gain."""
        if self._ledger.may_be_done and (why := finished(Sweep.of(self._ledger))) is not None:
            self._ledger.end_search(why)

    def _learn(self, trial: TrialRecord) -> None:
        """Enter a trial that is not running into the pruner's judge, and check the target."""
        # of a configuration, one trial sets the bar for others
        if not trial.imported and trial.replicates is None:
            self._judge.learn(trial)
        runs = [trial] if trial.replicates is None else self._ledger.trials()
        for reason in on_target(Sweep(self._config, {}, runs)).values():
            self.over = reason

    def _add(self, number: int, report: Report) -> None:
        with self._ledger.together():
            for seed, results in report.results.items():
                for result in results:
                    self._ledger.add_result(number, report.attempt, seed, result)
            for seed, readings in report.readings.items():
                for reading in readings:
                    self._ledger.add_reading(number, report.attempt, seed, reading)

    def _suggestion(self, record: TrialRecord, slot: Slot) -> dict[str, Any]:
        return {
            "number": record.number,
            "attempt": record.attempt,
            "folders": json.dumps(list(map(str, self._ledger.attempts(record)))),
            "changes": json.dumps(record.config),
            "seed": record.seed,
            "slot": json.dumps(dataclasses.asdict(slot)),
        }

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """End the session at an error of the ledger, which Ray would blame on the trial."""
        try:
            yield
        except (DynamosError, *DATABASE_ERRORS) as error:
            self.failure = self.failure or error
            self.over = "the ledger cannot be written"
