"""Durable record of a sweep: SweepConfig in sweep.yaml, trials in an Optuna storage.

It is the only record: everything else can be rebuilt from it. One driver at a time writes to it and
holds the lease (lease.py). stored_trial.py describes the attributes of a trial.
"""

import dataclasses
import datetime as dt
import io
import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from dynamos.errors import UserError, command_line
from dynamos.files import AnyPath, write_whole
from dynamos.metrics import EpochReading, TaskResult
from results import STORAGE
from results.definition.sweep_config import SweepConfig, refuse_in_vain, refuse_nearly_empty
from results.ledger import holder, lease
from results.ledger.asking import asked
from results.ledger.attributes import (
    BATCH,
    DONE,
    EXTENDED,
    LOOK,
    NOTE,
    STOP,
    TAG,
    SweepState,
    asked_for,
    asked_to_stop,
    countable,
    done_by,
    looks_of,
    state_of,
    tags_of,
)
from results.ledger.optuna_names import CONSTRAINTS_KEY
from results.ledger.stored_trial import (
    cohorts,
    epoch_reading,
    foreign,
    last_heard,
    read,
    repeatable,
    stored_reading,
    stored_result,
    task_result,
)
from results.ledger.study import enqueue, make_study, open_database
from results.ledger.sweep_file import LedgerLost, known_sweep, study_name, sweep_file_text
from results.ledger.warm_start import beginning
from results.ledger.write_through import WriteThrough
from results.names import (
    CHANNEL_USE,
    IMPORTED,
    NON_FINITE,
    OUTSIDE,
    RERUN,
    STOP_FILE,
    STOPPED,
    check_name,
)
from results.strategy.allocation import Run, further, further_left, race_left
from results.strategy.samplers import grid
from results.strategy.seeds import fresh_seed
from results.sweep import EXTENDS, Sweep
from results.trial import TrialRecord
from results.wording import count
from search_spaces.change import changed
from search_spaces.space import SearchSpace

log = logging.getLogger(__name__)
P = ParamSpec("P")
Answer = TypeVar("Answer")

# key of the record: unexpected traits of the sweep's start and search, in sentences
REMARKS = "remarks"
WORST_VIOLATION = 1e12  # violation of each constraint by a trial without a usable value


def _at_once(
    method: "Callable[Concatenate[Ledger, P], Answer]",
) -> "Callable[Concatenate[Ledger, P], Answer]":
    """Make the writes of a ledger's method durable together, before it returns."""

    @wraps(method)
    def wrapped(self: "Ledger", /, *given: P.args, **named: P.kwargs) -> Answer:
        with self.together():
            return method(self, *given, **named)

    return wrapped


class NameTaken(UserError):
    """Raised if a new sweep has the name of an existing folder."""


class Ledger:
    """One sweep's record, open for reading and, by one driver at a time, for writing.

    Attributes:
        folder: the sweep's folder.
        config: its configuration; a driver may set other resources for its session.
        record: the rest of sweep.yaml: id, versions, revision, data hashes.
    """

    def __init__(self, folder: AnyPath, config: SweepConfig, record: Mapping[str, Any]) -> None:
        """Open the storage of an existing sweep folder; call `create` or `open` instead."""
        self.folder, self.config, self.record = folder, config, dict(record)
        self._database = open_database(config.ledger_url, folder)
        self._use(self._database)
        self._database_id = self._study_id
        self._lease: lease.Lease | None = None
        self._ended: dict[int, TrialRecord] = {}
        self._ignored: set[int] = set()  # numbers of foreign trials
        self._keys = dict[int, Any]()  # keys of ended trials' configurations, by number
        self._asked: set[int] = set()  # numbers of the trials that this driver has started

    @classmethod
    def create(
        cls,
        storage: AnyPath,
        config: SweepConfig,
        record: Mapping[str, Any],
        beside: AnyPath | None = None,
    ) -> Self:
        """Create a new sweep's ledger under `storage`, with its first trials enqueued.

        `record` goes into sweep.yaml in addition to the configuration. `beside` is the storage of
        a warm start's sweep, by default the same. Raises NameTaken if the name is in use, and
        UserError for a name that is not allowed.
        """
        cls.refuse_taken(storage, config.name)
        refuse_in_vain(config)
        folder = storage / config.name
        earlier = (
            None if config.warm_start is None else cls.open(beside or storage, config.warm_start)
        )
        before = None
        if earlier is not None:
            with closing(earlier):
                before = Sweep.of(earlier)
        begins = beginning(config, record, before)
        notes = [*record.get(REMARKS, ()), *begins.notes]
        record = {"id": uuid.uuid4().hex, **record} | ({REMARKS: notes} if notes else {})
        content = sweep_file_text(config, record)
        # A sweep appears complete, with its first trials enqueued, or not at all.
        try:
            if isinstance(folder, Path):
                making = folder.with_name(f".{config.name}.{uuid.uuid4().hex}")
                try:
                    making.mkdir(parents=True)
                    write_whole(making / "sweep.yaml", content)
                    make_study(making, begins, record)
                    making.rename(folder)
                finally:
                    shutil.rmtree(making, ignore_errors=True)
            else:
                # A store cannot rename. So the file that makes the folder a sweep is written last,
                # and only if it does not exist.
                make_study(folder, begins, record)
                file = folder / "sweep.yaml"
                file.fs.pipe_file(file.path, content.encode(), mode="create")
        except OSError as error:
            if folder.exists():  # another process was faster
                raise NameTaken(
                    f"{folder} was just created by another process; choose another `name`."
                ) from None
            raise UserError(
                f"cannot make the sweep's folder {folder}: {error.strerror or error}."
            ) from None
        return cls(folder, config, record)

    @staticmethod
    def refuse_taken(storage: AnyPath, name: str) -> None:
        """Raise UserError for a name that is not allowed, NameTaken for a name in use."""
        folder = storage / check_name(name)
        if (folder / "sweep.yaml").exists():
            raise NameTaken(
                f"a sweep {name!r} exists in {storage}. Continue it: "
                f"{_command(storage, name, 'resume')}; or add trials: "
                f"{_command(storage, name, 'extend', '--trials', '+10')}; or choose another --name."
            )
        if folder.exists():
            raise NameTaken(
                f"{folder} exists but is not a sweep; choose another `name` or `storage`."
            )

    @classmethod
    def open(cls, storage: AnyPath, name: str) -> Self:
        """Open an existing sweep's ledger.

        Raises UserError if it does not exist or its files are damaged.
        """
        folder = storage / name
        config, record = known_sweep(folder)
        try:
            return cls(folder, config, record)
        except RuntimeError as error:  # another version of Optuna made its tables
            raise UserError(f"{folder}: {' '.join(str(error).split())}") from None
        except (SQLAlchemyError, KeyError) as error:
            # A database that does not answer may still hold the ledger.
            lost = config.ledger_url is None or isinstance(error, KeyError)
            raise (LedgerLost if lost else UserError)(
                f"{config.ledger_url or folder / 'ledger.db'} is not the ledger of this sweep: "
                f"{' '.join(str(error).split())}."
            ) from None

    def use_tracking(self, uri: str) -> None:
        """Mirror the sweep to another MLflow server or store from now on.

        Raises UserError while a driver runs it.
        """
        if self.driver is not None and not self.driver_gone:
            raise UserError(
                f"the sweep {self.config.name!r} is running ({self.driver}) and mirrors to "
                f"its MLflow store; stop it first: {self.command('stop')}"
            )
        self.config = dataclasses.replace(self.config, tracking_uri=uri)
        write_whole(self.folder / "sweep.yaml", sweep_file_text(self.config, self.record))

    @contextmanager
    def driving(self) -> Iterator[None]:
        """Give this process the exclusive right to write while the context lasts.

        Raises UserError if another process drives the sweep (lease.py).
        """
        held = lease.Lease(self._database, self._database_id, self.config.name, self.command)
        held.take()
        self._lease = held
        self._asked.clear()
        try:
            self._ours()  # warns of ignored trials
            self._use(
                WriteThrough(
                    self._database, self._database_id, lambda trial: foreign(trial, self.config)
                )
            )
            yield
        finally:
            self._use(self._database)
            self._lease = None
            held.release()

    def command(self, verb: str, *flags: str, sweep: str | None = None) -> str:
        """Return the command line of a verb for this sweep, or for another in its storage."""
        return _command(self.folder.parent, sweep or self.config.name, verb, *flags)

    def remove_study(self) -> None:
        """Remove the study with all trials; raise UserError while a driver holds it.

        The ledger is unusable afterwards.
        """
        held = lease.Lease(self._database, self._database_id, self.config.name, self.command)
        held.take()
        held.end()
        if self.config.ledger_url is not None:  # else its file goes with the folder
            self._database.delete_study(self._database_id)
        self._database.engine.dispose()

    @property
    def driver(self) -> str | None:
        """HOST:PID of the driver that holds the sweep, or held it when it was killed.

        Returns None if it released the sweep.
        """
        owner: str | None = self._stored_lease["owner"]
        return owner

    @property
    def heartbeat(self) -> tuple[int, int] | None:
        """(sessions, heartbeats), which change while the sweep's driver lives.

        Returns None if no driver holds the sweep.
        """
        held = self._stored_lease
        return None if held["owner"] is None else (int(held["epoch"]), int(held["heartbeat"]))

    @property
    def sessions(self) -> int:
        """Number of drivers so far."""
        return int(self._stored_lease["epoch"])

    @property
    def budget(self) -> int:
        """Number of trials to run, extensions and reruns included.

        It is limited by the number of configurations of a finite space.
        """
        attributes = self._study.user_attrs
        if done_by(attributes) is None and not countable(self.config):
            sources = (t.user_attrs.get("source", "") for t in self._ours())
            return asked_for(self.config.trials + int(attributes.get(EXTENDED, 0)), sources)
        trials = self.trials()
        asked = asked_for(self.config.trials + self._extended, (t.source for t in trials))
        left = self._untried(trials)
        if self.done is not None:
            sweep, total = Sweep(self.config, self.record, trials), self.config.trials
            races = race_left(sweep, total + self._extended)
            return min(asked, sum(not t.imported for t in trials) + races)
        if left is None:
            return asked
        if self.config.repeats:
            sweep = Sweep(self.config, self.record, trials)
            left += further_left(sweep, self.config.trials + self._extended)
        return min(asked, sum(not t.imported for t in trials) + left)

    @property
    def _extended(self) -> int:
        """Number of trials that were added to the budget after the start."""
        return int(self._study.user_attrs.get(EXTENDED, 0))

    def _untried(self, trials: Sequence[TrialRecord]) -> int | None:
        """Number of configurations that no trial has; None if the space has infinitely many."""
        space = self.config.space
        if not countable(self.config):
            return None
        tried = {space.key(t.config) for t in trials if t.config and space.fits(t.config)}
        if self.config.sampler == "grid":
            return sum(
                space.key(point) not in tried for point in grid(space, self.config.grid_levels)
            )
        # a trial that a kill left without values will get one of the remaining configurations
        without = sum(not space.whole(t.config) for t in trials)
        return max((space.size or 0) - len(tried) - without, 0)

    @property
    def driver_gone(self) -> bool:
        """True if the driver is known to have been killed."""
        held = self._stored_lease
        return held["owner"] is not None and holder.gone(held)

    @property
    def state(self) -> SweepState:
        """State of the sweep, with the driver and the trials left."""
        return state_of(self._stored_lease, self._study.user_attrs, self.left)

    @property
    def left(self) -> int:
        """Number of trials of the budget that have not ended, running ones included."""
        return self.budget - sum(t.ended_at is not None for t in self.trials() if not t.imported)

    def extended(self) -> "Ledger | None":
        """Open the confirmation to which this one adds seeds; None for all other sweeps."""
        name = self.record.get(EXTENDS)
        return None if name is None else Ledger.open(self.folder.parent, name)

    def refuse_extension(self) -> None:
        """Raise UserError for a confirmation: it has no budget of trials."""
        if self.config.confirms is not None:
            raise UserError(
                f"{self.config.name!r} is a confirmation; for more seeds: "
                + self.command("confirm", "--extend", "+10")
            )

    def extend(self, trials: int) -> None:
        """Add trials to the budget; raise UserError for a confirmation. With 0 nothing changes."""
        if not trials:
            return
        self.refuse_extension()
        budget = self.budget
        self.config.refuse_beyond_pool(budget + trials)
        self._check()
        if self.done is None:
            self._study.set_user_attr(EXTENDED, self._extended + trials)
            return
        # An extension overrules the end of the search. The trials that it left out are not part of
        # it, so this may be less than zero. After a kill between the two, the same call repeats it.
        reruns = sum(t.reruns is not None for t in self.trials())
        self._study.set_user_attr(EXTENDED, budget + trials - self.config.trials - reruns)
        self._study.set_user_attr(DONE, self._study.user_attrs[DONE] | {"overruled": True})

    @property
    def done(self) -> str | None:
        """Reason why the sweep tries no new configuration; None if it does."""
        return done_by(self._study.user_attrs)

    @property
    def may_be_done(self) -> bool:
        """True if the sweep is to end when little is left to gain, and has not yet.

        After an extension it runs all of its trials.
        """
        return self.config.stop_when_done and DONE not in self._study.user_attrs

    def end_search(self, reason: str) -> None:
        """Try no new configuration from now on. Trials that have begun, and a race, still run."""
        self._check()
        self._study.set_user_attr(DONE, {"reason": reason, "overruled": False})

    def refuse_rerun(self, numbers: Sequence[int]) -> None:
        """Raise UserError unless each trial failed or was stopped, and was not run again yet."""
        trials = self.trials()
        for number in numbers:
            trial = self.asked_for(number)
            if numbers.count(number) > 1:
                raise UserError(f"`trial` {number} is given twice.")
            for later in trials:
                if later.reruns == number:
                    raise UserError(
                        f"`trial` {number} was run again as trial {later.number} "
                        f"({later.state.lower()})."
                    )
            if trial.state != "FAIL" and trial.reason != STOPPED:
                raise UserError(
                    f"`trial` {number} is "
                    f"{trial.state.lower()}{f' ({trial.reason})' if trial.reason else ''}; only a "
                    "trial that failed or that a user stopped can be run again."
                )
            if self.config.space.since and not self.config.space.fits(trial.config):
                raise UserError(
                    f"`trial` {number} lies outside the space {self.config.space.name}, which was "
                    f"changed before trial {self.config.space.since}."
                )

    def rerun(self, numbers: Sequence[int]) -> None:
        """Enqueue a new trial with the configuration of each of these trials.

        The budget grows by their number.
        """
        self._check()
        self.refuse_rerun(numbers)
        for number in numbers:
            trial = self.trial(number)
            enqueue(self._study, self.config, f"{RERUN}{number}", trial.config, trial.seed)

    def begin(self) -> None:
        """Mark trials that were left running as INTERRUPTED, to be resumed. Repeatable."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.interrupt(trial.number)
        if self.config.space.since:
            self._adapt_waiting()

    def change_space(self, space: SearchSpace) -> list[str]:
        """Search in another space from the next new trial on; return sentences on the change.

        Returns [] if nothing changes. Trials that the new space excludes stay in the record, marked
        as outside; they are not chosen, and no sampler learns from them. Raises UserError for a
        change that would alter the meaning of the trials so far.
        """
        self._check()
        self.refuse_extension()
        assert isinstance(self._storage, WriteThrough)
        made = changed(self.config.space, space, self._storage.next_number)
        if made is None:
            return []
        stored, record = known_sweep(self.folder)
        points = tuple(p for p in stored.points if made.fits(made.trimmed({**made.around, **p})))
        config = dataclasses.replace(stored, space=made, points=points)
        if made.forbid:
            refuse_nearly_empty(made)
        before = self.config.space
        said = (
            f"the space is {made.name} from trial {made.since} on: {made}. Before, it was "
            f"{before.name}: {before}."
        )
        record = record | {REMARKS: [*record.get(REMARKS, ()), said]}
        write_whole(self.folder / "sweep.yaml", sweep_file_text(config, record))
        self.config = dataclasses.replace(self.config, space=made, points=points)
        self.record = record
        self._keys.clear()
        self._ended.clear()  # the records say whether the space admits them
        return [said]

    def _adapt_waiting(self) -> None:
        """Make enqueued and interrupted trials agree with a changed space. Repeatable.

        Those that it excludes end as PRUNED.
        """
        space = self.config.space
        for trial in self._ours():
            enqueued = trial.system_attrs.get("fixed_params", {})
            config = space.real(trial.params or enqueued)
            if trial.state != TrialState.WAITING or not space.whole(config) or not config:
                continue
            if not space.fits(config):
                self._storage.set_trial_state_values(self._id(trial.number), TrialState.RUNNING)
                self.finish(trial.number, "PRUNED", f"{OUTSIDE}, which was changed before it ended")
            elif (now := space.stored(config)) != enqueued:
                # parameters whose stored name has changed are taken from these
                self._storage.set_trial_system_attr(self._id(trial.number), "fixed_params", now)

    def remaining(self) -> int:
        """Return the number of trials that may still be started."""
        begun = [t for t in self._ours() if t.state != TrialState.WAITING]
        return self.budget - sum(
            not t.user_attrs.get("source", "").startswith(IMPORTED) for t in begun
        )

    def spent(self, kind: str) -> float:
        """Return the CPU ("cpu") or GPU ("gpu") seconds that all trials have held so far."""
        return sum(t.cpu_seconds if kind == "cpu" else t.gpu_seconds for t in self.trials())

    def batch_size(self, slots: int) -> int:
        """Return the batch size of deterministic order: the slots of the first driver."""
        if BATCH not in self._study.user_attrs:
            self._check()
            self._study.set_user_attr(BATCH, slots)
        return int(self._study.user_attrs[BATCH])

    def upcoming(self) -> tuple[int, int | None]:
        """(number, place in a worker) of the trial that `ask` returns next.

        The place is that of its last attempt; None if it had none.
        """
        assert isinstance(self._storage, WriteThrough)
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if not waiting:
            return self._storage.next_number, None
        return waiting[0].number, waiting[0].user_attrs.get("attempt", {}).get("place")

    @_at_once
    def ask(
        self, gpus: float | None = None, cpus: float | None = None, place: int | None = None
    ) -> TrialRecord:
        """Return the next trial, RUNNING: an enqueued or interrupted one, else a new suggestion.

        `start` starts its training. A warning is logged if it continues in another place.

        Args:
            gpus: its number of GPUs, if that differs from the configuration's.
            cpus: its number of CPUs, likewise.
            place: its place in a worker that trains several trials.
        """
        self._check()
        if self.config.repeats:
            runs = self._further()
            assert runs is not None, "ask only if the ledger does not wait"
            for run in runs:
                enqueue(self._study, self.config, run.source, run.config, run.seed)
        trials = self._study.get_trials(deepcopy=False)
        # A waiting trial comes first. If a kill left it without parameters, they are drawn now;
        # they depend on its number.
        assert isinstance(self._storage, WriteThrough)
        new = self._storage.next_number
        number = next((t.number for t in trials if t.state == TrialState.WAITING), new)
        if self.config.sampler == "grid" and number == new:
            self._enqueue_grid_point()
        trial = asked(self._study, self.config, number, self._keys)
        attributes = trial.user_attrs
        if "source" not in attributes:
            trial.set_user_attr("source", "sampler")
        if "seed" not in attributes:
            trial.set_user_attr("seed", self._first_seed(trial.number))
        before = attributes.get("attempt", {"number": 0})
        trial.set_user_attr(
            "attempt",
            {
                "number": before["number"] + 1,
                "cpus": self.config.cpus_per_trial if cpus is None else cpus,
                "gpus": self.config.gpus_per_trial if gpus is None else gpus,
                **({} if place is None else {"place": place}),
            },
        )
        if place is not None and before.get("place", place) != place and _trained(attributes):
            log.warning(
                "trial %d trained in place %d of its worker, and continues in place %d: it will "
                "not repeat exactly",
                trial.number,
                before["place"],
                place,
            )
        self._asked.add(trial.number)
        return self.trial(trial.number)

    @_at_once
    def start(self, number: int, attempt: int, cohort: int = 1) -> None:
        """Note that an attempt starts to train; its time counts from now.

        It has no effect for an attempt that is over. `cohort` is the largest number of runs, its
        own and others', that train as one program. A warning is logged if it is not that of an
        earlier attempt.
        """
        self._check()
        attributes = self._stored(number).user_attrs
        current = attributes["attempt"]
        if attempt != current["number"]:
            return
        now = dt.datetime.now(dt.UTC).isoformat()
        if "started_at" not in attributes:
            self._storage.set_trial_user_attr(self._id(number), "started_at", now)
        self._storage.set_trial_user_attr(
            self._id(number), "attempt", current | {"started_at": now}
        )
        before = cohorts(attributes)
        if cohort != before[-1]:
            trained = _trained(attributes)
            now_known = [*before, cohort] if trained else [cohort]
            self._storage.set_trial_user_attr(self._id(number), "cohorts", now_known)
            if trained:
                log.warning(
                    "trial %d trained in a program of %s, and continues in one of %d: it will not "
                    "repeat exactly",
                    number,
                    count(before[-1], "run"),
                    cohort,
                )

    @_at_once
    def add_result(self, number: int, attempt: int, seed: int, result: TaskResult) -> bool:
        """Enter a result; return False if it is refused.

        A result is refused if its attempt is no longer the current one (a worker that counted as
        lost may still report), or if its task has a result already. A warning is logged if the
        second result differs.
        """
        self._check()
        if not self._current(number, attempt):
            return False
        attributes = self._stored(number).user_attrs
        key = f"result/{seed}/{result.task}"
        is_new = key not in attributes
        if is_new:
            entry = stored_result(result, time.time())
            self._storage.set_trial_user_attr(self._id(number), key, entry)
        elif repeatable(task_result(attributes[key])) != repeatable(result):
            log.warning(
                "trial %d: seed %d reported a different result of task %d; the first is kept",
                number,
                seed,
                result.task + 1,
            )
        # also after a refused second result: a kill may have come between the entry and this line
        self._report(self._stored(number), result.task)
        return is_new

    @_at_once
    def add_reading(self, number: int, attempt: int, seed: int, reading: EpochReading) -> bool:
        """Enter an EpochReading; return False if it is refused, as `add_result` refuses."""
        self._check()
        if not self._current(number, attempt):
            return False
        attributes = self._stored(number).user_attrs
        key = f"reading/{seed}/{reading.epochs}"
        if key not in attributes:
            entry = stored_reading(reading, time.time())
            self._storage.set_trial_user_attr(self._id(number), key, entry)
            return True
        if epoch_reading(attributes[key]) != reading:
            log.warning(
                "trial %d: seed %d reported a different reading after epoch %d; the first is kept",
                number,
                seed,
                reading.epochs,
            )
        return False

    def _current(self, number: int, attempt: int) -> bool:
        """True if an attempt is a trial's current one; logs a warning if it is not."""
        current = self._stored(number).user_attrs["attempt"]["number"]
        if attempt != current:
            log.warning(
                "trial %d: a report of attempt %d is ignored, %d is the current one",
                number,
                attempt,
                current,
            )
        return bool(attempt == current)

    @_at_once
    def finish(
        self, number: int, state: str, reason: str | None = None, at: dt.datetime | None = None
    ) -> None:
        """End a trial: COMPLETE if it saw every task, PRUNED or FAIL with a reason.

        Nothing can be added afterwards.

        `at` is the time of its end, by default now.
        """
        self._check()
        before = self._stored(number)
        record = read(before, self.config, dt.datetime.now(dt.UTC))
        if reason is not None or "reason" in before.user_attrs:
            self._storage.set_trial_user_attr(self._id(number), "reason", reason)
        ended = (at or dt.datetime.now(dt.UTC)).isoformat()
        self._storage.set_trial_user_attr(self._id(number), "ended_at", ended)
        for constraint in self.config.constraints:
            value = (
                None if (reason or "").startswith(NON_FINITE) else record.last(constraint.metric)
            )
            # Without a value Optuna counts a constraint as kept, so TPE would prefer configurations
            # that diverge.
            violation = WORST_VIOLATION if value is None else constraint.violation(value)
            # set_constraint would keep the value of an earlier end that a kill interrupted.
            self._storage.set_trial_system_attr(
                self._id(number), f"{CONSTRAINTS_KEY}:{constraint}", violation
            )
        if state == "COMPLETE":
            self._study.tell(number, [record.final(o.metric) for o in self.config.objectives])
        else:
            self._study.tell(number, state=TrialState[state])

    @_at_once
    def hold(self, number: int, at: dt.datetime) -> None:
        """Record that a trial has finished training and waits for other trials to end.

        From then on it holds no resources.
        """
        self._check()
        attempt = self._stored(number).user_attrs["attempt"]
        self._storage.set_trial_user_attr(
            self._id(number), "attempt", attempt | {"ended_at": at.isoformat()}
        )

    @_at_once
    def interrupt(self, number: int, at: dt.datetime | None = None, *, lost: bool = False) -> None:
        """Interrupt a running trial: the next `ask` returns it first, unchanged.

        `at` is the end of its attempt, by default now; `lost` means that its worker or node was
        lost.
        """
        self._check()
        attributes = self._stored(number).user_attrs
        if lost:
            self._storage.set_trial_user_attr(
                self._id(number), "losses", attributes.get("losses", 0) + 1
            )
        attempt = attributes.get("attempt", {"number": 0})
        earlier = attributes.get(
            "earlier", {"attempts": 0, "seconds": 0.0, "cpu_seconds": 0.0, "gpu_seconds": 0.0}
        )
        if attempt["number"] > earlier["attempts"]:
            seconds = 0.0
            if "started_at" in attempt:
                started = dt.datetime.fromisoformat(attempt["started_at"])
                ended = (
                    (at or dt.datetime.now(dt.UTC))
                    if number in self._asked
                    else last_heard(attributes, started)
                )
                seconds = max((ended - started).total_seconds(), 0.0)
            self._storage.set_trial_user_attr(
                self._id(number),
                "earlier",
                {
                    "attempts": attempt["number"],
                    "seconds": earlier["seconds"] + seconds,
                    "cpu_seconds": earlier["cpu_seconds"] + attempt["cpus"] * seconds,
                    "gpu_seconds": earlier["gpu_seconds"] + attempt["gpus"] * seconds,
                },
            )
        self._storage.set_trial_state_values(self._id(number), TrialState.WAITING)

    @property
    def remarks(self) -> list[str]:
        """Unexpected traits of the sweep's start and search, in sentences."""
        return list(self.record.get(REMARKS, ()))

    @property
    def looks(self) -> dict[str, Any]:
        """Uses of test images: {"at", "configurations", "seeds"} by confirmation, oldest first."""
        return looks_of(self._study.user_attrs)

    def enter_look(self, confirmation: str, look: Mapping[str, Any]) -> None:
        """Record that a confirmation uses test images. Any process may call this."""
        self._study.set_user_attr(LOOK + confirmation, dict(look))

    @property
    def note(self) -> str:
        """A user's note on the sweep; "" without one."""
        return str(self._study.user_attrs.get(NOTE, ""))

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the sweep, values by name."""
        return tags_of(self._study.user_attrs)

    def label(self, tags: Mapping[str, str], note: str | None) -> None:
        """Set tags (an empty text removes one) and, unless None, the note.

        Any process may call this, at any time.
        """
        for name, value in tags.items():
            self._study.set_user_attr(TAG + name, value)
        if note is not None:
            self._study.set_user_attr(NOTE, note)

    def request_stop(self) -> None:
        """Ask the driver to interrupt its trials and end. Any process may call this."""
        self._study.set_user_attr(STOP, self._stored_lease["epoch"])

    def stop_requested(self) -> bool:
        """True if this driver was asked to end.

        Raises LeaseLost if it no longer holds the sweep, so that a driver that only waits notices.
        """
        self._check()
        assert self._lease is not None
        return bool(self._study.user_attrs.get(STOP) == self._lease.epoch)

    @property
    def stopping(self) -> bool:
        """True if the sweep has a driver that was asked to end."""
        return asked_to_stop(self._stored_lease, self._study.user_attrs)

    def request_trial_stop(self, number: int) -> None:
        """Ask a running trial to end; UserError if it is not running. Any process may call it."""
        trial = self.trial(number)
        if not trial.trains:
            state = "waiting for the end of its batch" if trial.held else trial.state.lower()
            raise UserError(f"trial {number} of {self.config.name} is not running: it is {state}.")
        write_whole(self.trial_folder(number) / STOP_FILE, "")

    def trial_folder(self, number: int) -> AnyPath:
        """Folder of a trial, with its attempts' files."""
        return self.folder / "trials" / f"{number:04d}"

    def attempts(self, trial: TrialRecord) -> list[AnyPath]:
        """Folders of a trial's attempts, the newest first.

        For a rerun, the folders of the trial that it runs again follow.
        """
        folder = self.trial_folder(trial.number)
        own = [folder / f"attempt-{attempt}" for attempt in range(trial.attempt, 0, -1)]
        return own if trial.reruns is None else own + self.attempts(self.trial(trial.reruns))

    def channel_use(self, trial: TrialRecord, seed: int) -> np.ndarray | None:
        """(K, G, C), the fraction of each class's images that kept each channel, for one seed.

        Returns None if no file holds it: the training is not over, or the network has no gates.
        """
        files = [folder / f"seed-{seed}" / CHANNEL_USE for folder in self.attempts(trial)]
        return next(
            (np.load(io.BytesIO(file.read_bytes())) for file in files if file.is_file()), None
        )

    def trials(self) -> list[TrialRecord]:
        """Return all trials, by number."""
        now = self._now()
        records = []
        for trial in self._ours():
            record = self._ended.get(trial.number) or read(trial, self.config, now)
            if trial.state.is_finished():  # it does not change any more
                self._ended[trial.number] = record
            records.append(record)
        return records

    def trial(self, number: int) -> TrialRecord:
        """Return one trial."""
        return read(self._stored(number), self.config, self._now())

    def asked_for(self, number: int) -> TrialRecord:
        """Return the trial of a number that a user named; raise UserError if there is none."""
        trials = self.trials()
        found = next((t for t in trials if t.number == number), None)
        if found is None:
            raise UserError(
                f"`trial` {number}: {self.config.name} has trials 0 to {trials[-1].number}."
            )
        return found

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make what a `with` block writes about trials durable at its end, in one transaction."""
        assert isinstance(self._storage, WriteThrough), "write only while driving()"
        with self._storage.together():
            yield

    def close(self) -> None:
        """Close the files of an SQLite ledger; the next use reopens them.

        Connections to a database server stay open.
        """
        if self.config.ledger_url is None:
            self._database.engine.dispose()

    @property
    def _stored_lease(self) -> dict[str, Any]:
        return lease.read(self._database, self._database_id)

    def _now(self) -> dt.datetime | None:
        """Time until which RUNNING trials have run: now, or None if no driver runs them."""
        if self._lease is None:
            held = self._stored_lease
            if held["owner"] is None or holder.gone(held):
                return None
        return dt.datetime.now(dt.UTC)

    def _check(self) -> None:
        """Raise LeaseLost if another process has taken over; call it before each write."""
        assert self._lease is not None, "write only while driving()"
        self._lease.check()

    def _use(self, storage: BaseStorage) -> None:
        """Read and write through a storage of the study from now on."""
        self._storage = storage
        self._study = optuna.load_study(
            storage=storage, study_name=study_name(self.config.name, self.record)
        )
        self._study_id = storage.get_study_id_from_name(self._study.study_name)

    def _ours(self) -> list[FrozenTrial]:
        """The study's trials without the foreign ones (`foreign`); warns of each of these once."""
        trials, ours = self._study.get_trials(deepcopy=False), list[FrozenTrial]()
        if isinstance(self._storage, WriteThrough):  # which hides them
            return trials
        strange = []
        for trial in trials:
            if trial.number in self._ended or not foreign(trial, self.config):
                ours.append(trial)
            elif trial.number not in self._ignored:
                strange.append(trial.number)
        if strange:
            self._ignored.update(strange)
            log.warning(
                "%s of %s: ignored, because another program added or ended %s in the ledger.",
                f"trials {', '.join(map(str, strange))}"
                if len(strange) > 1
                else f"trial {strange[0]}",
                self.config.name,
                "them" if len(strange) > 1 else "it",
            )
        return ours

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _stored(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._id(number))

    def waits(self) -> bool:
        """True if the next trial depends on trials that have not ended."""
        return self.config.repeats and self._further() is None

    def _further(self) -> list[Run] | None:
        """The further runs of known configurations that come next, as `further` returns them."""
        assert isinstance(self._storage, WriteThrough)
        trials = self.trials()
        return further(
            Sweep(self.config, self.record, trials),
            self.config.trials + self._extended,
            self._storage.next_number,
            self._untried(trials) == 0,
            self.done is not None,
        )

    def _first_seed(self, number: int) -> int:
        """The first training seed of a new trial."""
        config = self.config
        if config.seed_policy == "shared":
            return config.base.seed
        return fresh_seed(config.base.seed, config.seeds, number, self._imported_seeds)

    @cached_property
    def _imported_seeds(self) -> list[int]:
        """The seeds of imported results, which a sweep has from its creation on."""
        return [seed for t in self.trials() if t.imported for seed in t.results]

    def _enqueue_grid_point(self) -> None:
        """Enqueue the grid's next point. The order is random, so that a part covers all ranges."""
        points, space = grid(self.config.space, self.config.grid_levels), self.config.space
        tried = {space.key(trial.config) for trial in self.trials()}
        order = np.random.default_rng(self.config.seed).permutation(len(points))
        number = next(int(i) for i in order if space.key(points[i]) not in tried)
        enqueue(self._study, self.config, f"grid:{number}", points[number])

    def _report(self, trial: FrozenTrial, task: int) -> None:
        """Store a task's objective as an intermediate value once every seed has reported it."""
        # In a study of several objectives, TPE raises an error at every suggestion after the first
        # intermediate value.
        if len(self.config.objectives) > 1 or task in trial.intermediate_values:
            return
        record = read(trial, self.config, dt.datetime.now(dt.UTC))
        value = record.last(self.config.objectives[0].metric)
        if record.tasks_done == task + 1 and value is not None:
            self._storage.set_trial_intermediate_value(self._id(trial.number), task, value)


def _trained(attributes: Mapping[str, Any]) -> bool:
    """True if a trial with these attributes has results or EpochReadings."""
    return any(name.startswith(("result/", "reading/")) for name in attributes)


def _command(storage: AnyPath, name: str, verb: str, *flags: str) -> str:
    where = [] if storage == Path(STORAGE).resolve() else ["--storage", storage]
    return command_line("dynamos-sweep", verb, name, *flags, *where)
