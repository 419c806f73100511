"""The durable record of a sweep: SweepConfig in sweep.yaml, trials in an Optuna storage. The single source of truth.

One driver writes. What a trial said stands in its user attributes, written before the trial's state:

    source              where its parameters come from: "preset", "base" (the preset, altered) or "sampler"
    attempt             how often it was started
    started_at          of the first attempt, ISO 8601, UTC; attempt_started_at of the latest
    earlier_seconds     what attempts that were interrupted took
    result/SEED/TASK    a TaskResult as a mapping, plus recorded_at (seconds since the epoch)
    ended_at, reason    written just before the state that ends it
"""

import dataclasses
import datetime as dt
import fcntl
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import optuna
import yaml
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from dynamos.config import TrainConfig, preset, preset_names, read_yaml
from dynamos.errors import UserError, unknown
from dynamos.files import write_whole
from search_spaces.space import SearchSpace

OBJECTIVE = "val_class_il"  # what a sweep maximises: TaskResult.class_il on validation images after the last task
PROTOCOL = "val-all-seen"  # how its configuration is chosen: on validation images of every task
EXTENDED = "extended_by"  # study attribute: trials added to the budget after the start


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """A sweep, whole: what varies, what does not, how long, on what."""

    name: str
    space: SearchSpace
    base: TrainConfig  # what every trial shares, and trial 0 whole
    trials: int = 20
    time_budget_seconds: float | None = None
    seed: int = 0  # of the sampler
    cpus_per_trial: float = 1
    gpus_per_trial: float = 0
    max_concurrent: int | None = None  # trials at a time; None: as many as the resources hold

    def __post_init__(self) -> None:
        """Raises UserError for a value that is not allowed."""
        for name, least in (("trials", 1), ("max_concurrent", 1), ("cpus_per_trial", 0.01), ("gpus_per_trial", 0),
                            ("seed", 0)):
            value = getattr(self, name)
            if value is not None and not (value >= least and math.isfinite(value)):
                raise UserError(f"--{name.replace('_', '-')} {value:g} is out of range; it must be at least {least:g}.")
        if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise UserError(f"--gpus-per-trial {self.gpus_per_trial:g}: above 1 it must be a whole number.")
        if self.time_budget_seconds is not None and self.time_budget_seconds <= 0:
            raise UserError(f"--time-budget {self.time_budget_seconds:g}s is out of range; it must be more than 0.")
        if self.base.evaluate_on != "validation":
            raise UserError(f"evaluate_on {self.base.evaluate_on!r}: a sweep chooses on validation images only.")
        self.space.stored(self.base.to_dict())  # the base is trial 0, so it must lie in the space

    @property
    def base_is_preset(self) -> bool:
        """Whether the base has the stream's preset values."""
        base = self.base
        if (base.dataset, base.buffer_size) not in preset_names() or base.model != "dynamos":
            return False
        return base.replace(**preset(base.dataset, base.buffer_size)) == base

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as sweep.yaml holds them."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return values | {"space": {"name": self.space.name} | self.space.to_dict(), "base": self.base.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What to_dict gave; an unknown key is a UserError."""
        names = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise UserError("sweep.yaml: " + unknown("key", key, names))
        space = dict(values["space"])
        return cls(**dict(values) | {"space": SearchSpace.from_dict(space.pop("name"), space),
                                     "base": TrainConfig.from_dict(values["base"])})


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """Everything the ledger knows of a trial."""

    number: int
    state: str  # WAITING, RUNNING, INTERRUPTED (to be resumed), COMPLETE, PRUNED or FAIL
    source: str
    config: dict[str, Any]  # the searched fields, real values
    results: dict[int, list[dict[str, Any]]]  # by seed: TaskResults in the order of tasks
    attempt: int
    reason: str | None
    started_at: dt.datetime | None  # UTC
    ended_at: dt.datetime | None  # UTC
    value: float | None  # the objective; only of a COMPLETE trial
    seconds: float | None  # wall time of its attempts, until now where one runs; None before the first

    @property
    def tasks_done(self) -> int:
        """Tasks whose results every seed has reported."""
        return min((len(results) for results in self.results.values()), default=0)

    def last(self, metric: str) -> float | None:
        """A metric's mean over seeds after the last task reported by all; None before the first."""
        if self.tasks_done == 0:
            return None
        values = [results[self.tasks_done - 1]["metrics"].get(metric) for results in self.results.values()]
        return None if None in values else float(np.mean(values))


class Ledger:
    """One sweep's record, open for reading and, by one driver at a time, for writing."""

    def __init__(self, folder: Path, config: SweepConfig, record: Mapping[str, Any]) -> None:
        """Opens the storage in an existing sweep folder; use `create` or `open`."""
        self.folder, self.config, self.record = folder, config, dict(record)
        self._storage = _storage(folder / "ledger.db")
        self._study = optuna.load_study(storage=self._storage, study_name=config.name)
        self._study_id = self._storage.get_study_id_from_name(config.name)

    @classmethod
    def create(cls, storage: Path, config: SweepConfig, record: Mapping[str, Any]) -> Self:
        """A new sweep's ledger under `storage`; UserError if the name is taken.

        `record` goes into sweep.yaml beside the configuration: versions, revision, data hashes.
        """
        folder = storage / config.name
        if (folder / "sweep.yaml").exists():
            raise UserError(f"a sweep {config.name!r} exists in {storage}. Go on with it: dynamos-sweep resume "
                            f"{config.name} --storage {storage}; or add trials: dynamos-sweep extend {config.name} "
                            f"--trials +10 --storage {storage}; or choose another --name.")
        if folder.exists():
            raise UserError(f"{folder} exists and is no sweep; choose another --name or --storage.")
        content = {**config.to_dict(), "record": {"id": uuid.uuid4().hex, **record}}
        # Made beside its place and renamed: a sweep is there whole or not at all.
        making = storage / f".{config.name}.{os.getpid()}"
        try:
            making.mkdir(parents=True)
            write_whole(making / "sweep.yaml", yaml.safe_dump(content, sort_keys=False))
            made = _storage(making / "ledger.db")
            optuna.create_study(storage=made, study_name=config.name, direction="maximize")
            made.engine.dispose()
            making.rename(folder)
        except OSError as error:
            raise UserError(f"cannot make the sweep's folder {folder}: {error.strerror}.") from None
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return cls(folder, config, content["record"])

    @classmethod
    def open(cls, storage: Path, name: str) -> Self:
        """An existing sweep's ledger; UserError if there is none of that name or its files are damaged."""
        folder = storage / name
        if not (folder / "sweep.yaml").is_file():
            raise UserError(unknown("sweep", name, sweep_names(storage)) + f" (in {storage})")
        values = read_yaml(folder / "sweep.yaml")
        try:
            record = dict(values.pop("record"))
            config = SweepConfig.from_dict(values)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder / 'sweep.yaml'} is damaged: {type(error).__name__} {error}.") from None
        if not (folder / "ledger.db").is_file():
            raise UserError(f"{folder} has lost its ledger.db.")
        try:
            return cls(folder, config, record)
        except (SQLAlchemyError, KeyError) as error:
            raise UserError(f"{folder / 'ledger.db'} is no ledger of this sweep: {error}.") from None

    @contextmanager
    def driving(self) -> Iterator[None]:
        """While it lasts, this process alone may write; UserError if another does. A killed one's claim is gone."""
        with (self.folder / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(f"another process is running the sweep {self.config.name!r}; wait for it, or stop it "
                                "with Ctrl-C.") from None
            yield

    @property
    def budget(self) -> int:
        """Trials asked for, extensions included."""
        return self.config.trials + int(self._study.user_attrs.get(EXTENDED, 0))

    def extend(self, trials: int) -> None:
        """Adds to the budget."""
        self._study.set_user_attr(EXTENDED, int(self._study.user_attrs.get(EXTENDED, 0)) + trials)

    def begin(self) -> None:
        """Readies the ledger for a driver: trial 0 is enqueued, trials left running are to be resumed. Repeatable."""
        trials = self._study.get_trials(deepcopy=False)
        if not trials:
            source = "preset" if self.config.base_is_preset else "base"
            self._study.enqueue_trial(self.config.space.stored(self.config.base.to_dict()),
                                     user_attrs={"source": source})
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                self.interrupt(trial.number)

    def remaining(self) -> int:
        """Trials that may still be started."""
        trials = self._study.get_trials(deepcopy=False)
        return self.budget - sum(t.state != TrialState.WAITING for t in trials)

    def ask(self) -> TrialRecord:
        """The next trial, RUNNING: an enqueued or interrupted one before a new suggestion."""
        # Seeded by the trial's number, so that a resumed sweep does not repeat its first draws.
        self._study.sampler = _sampler(self.config.seed, len(self._study.get_trials(deepcopy=False)))
        trial = self._study.ask()
        self.config.space.suggest(trial)
        attributes = trial.user_attrs
        if "source" not in attributes:
            trial.set_user_attr("source", "sampler")
        if "started_at" not in attributes:
            trial.set_user_attr("started_at", now().isoformat())
        trial.set_user_attr("attempt_started_at", now().isoformat())
        trial.set_user_attr("attempt", attributes.get("attempt", 0) + 1)
        return self.trial(trial.number)

    def add_result(self, number: int, seed: int, result: Mapping[str, Any], metrics: Mapping[str, float]) -> bool:
        """Enters a TaskResult; False if that task's result was there already, which stands."""
        trial_id = self._id(number)
        key = f"result/{seed}/{result['task']}"
        if key in self._storage.get_trial(trial_id).user_attrs:
            return False
        self._storage.set_trial_user_attr(
            trial_id, key, {**result, "metrics": dict(metrics), "recorded_at": time.time()})
        self._storage.set_trial_intermediate_value(trial_id, result["task"], metrics[OBJECTIVE])
        return True

    def finish(self, number: int, state: str, reason: str | None = None) -> None:
        """Ends a trial: COMPLETE if it saw every task, PRUNED or FAIL with a reason. Nothing can be added after."""
        record = self.trial(number)
        for name, text in (("reason", reason), ("ended_at", now().isoformat())):
            if text is not None:
                self._storage.set_trial_user_attr(self._id(number), name, text)
        if state == "COMPLETE":
            self._study.tell(number, record.last(OBJECTIVE))
        else:
            self._study.tell(number, state=TrialState[state])

    def interrupt(self, number: int) -> None:
        """Puts a running trial back: the next driver's `ask` returns it first, with its number and parameters."""
        attributes = self._storage.get_trial(self._id(number)).user_attrs
        if "attempt_started_at" in attributes:
            # A killed driver cannot say when it ended: the last result is the last that is known of the attempt.
            started = dt.datetime.fromisoformat(attributes["attempt_started_at"]).timestamp()
            last = max((v["recorded_at"] for k, v in attributes.items() if k.startswith("result/")), default=started)
            self._storage.set_trial_user_attr(self._id(number), "earlier_seconds",
                                              attributes.get("earlier_seconds", 0.0) + max(last - started, 0.0))
        self._storage.set_trial_state_values(self._id(number), TrialState.WAITING)

    def trials(self) -> list[TrialRecord]:
        """All trials, by number."""
        return [self._read(trial) for trial in self._study.get_trials(deepcopy=False)]

    def trial(self, number: int) -> TrialRecord:
        """One trial."""
        return self._read(self._storage.get_trial(self._id(number)))

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _read(self, trial: FrozenTrial) -> TrialRecord:
        attributes = trial.user_attrs
        results: dict[int, list[dict[str, Any]]] = {}
        entries = sorted((int(seed), int(task), key) for key in attributes if key.startswith("result/")
                         for _, seed, task in [key.split("/")])
        for seed, _, key in entries:
            results.setdefault(seed, []).append(attributes[key])
        attempt = int(attributes.get("attempt", 0))
        interrupted = trial.state == TrialState.WAITING and attempt > 0
        times = (attributes.get(name) for name in ("started_at", "attempt_started_at", "ended_at"))
        started, attempt_started, ended = (dt.datetime.fromisoformat(text) if text else None for text in times)
        seconds = None if started is None else attributes.get("earlier_seconds", 0.0)
        if attempt_started is not None and seconds is not None and not interrupted:
            seconds += ((ended or now()) - attempt_started).total_seconds()
        parameters = trial.params or trial.system_attrs.get("fixed_params", {})
        return TrialRecord(
            number=trial.number, state="INTERRUPTED" if interrupted else trial.state.name,
            source=attributes.get("source", "sampler"), config=self.config.space.real(parameters), results=results,
            attempt=attempt, reason=attributes.get("reason"), started_at=started, ended_at=ended,
            value=trial.value if trial.state == TrialState.COMPLETE else None, seconds=seconds)


def sweep_names(storage: Path) -> list[str]:
    """Names of the sweeps in a storage folder."""
    return sorted(path.parent.name for path in storage.glob("*/sweep.yaml"))


def now() -> dt.datetime:
    """The time, UTC."""
    return dt.datetime.now(dt.UTC)


def _sampler(seed: int, number: int) -> BaseSampler:
    draw = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    return TPESampler(multivariate=True, constant_liar=True, seed=draw)


def _storage(path: Path) -> optuna.storages.RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # its lines would break the display
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})

    @event.listens_for(storage.engine, "connect")
    def _(connection: Any, _: Any) -> None:
        # Ten times as fast as the default, and as safe when a process is killed.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()  # those opened before the listener was there
    return storage


