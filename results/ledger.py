"""The durable record of a sweep: SweepConfig in sweep.yaml, trials in an Optuna storage. The single source of truth.

One driver writes. What a trial said stands in its user attributes, written before the trial's state:

    source              where its parameters come from: "preset" or "sampler"
    attempt             how often it was started
    started_at          of the first attempt, ISO 8601, UTC
    result/SEED/TASK    a TaskResult as a mapping, plus recorded_at (seconds since the epoch)
    ended_at, reason    written just before the state that ends it
"""

import dataclasses
import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import optuna
import yaml
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event

from dynamos.config import TrainConfig, read_yaml
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
            if value is not None and not value >= least:
                raise UserError(f"--{name.replace('_', '-')} {value:g} is out of range; it must be at least {least:g}.")
        if self.time_budget_seconds is not None and self.time_budget_seconds <= 0:
            raise UserError(f"--time-budget {self.time_budget_seconds:g}s is out of range; it must be more than 0.")
        if self.base.evaluate_on != "validation":
            raise UserError(f"evaluate_on {self.base.evaluate_on!r}: a sweep chooses on validation images only.")
        self.space.stored(self.base.to_dict())  # the base is trial 0, so it must lie in the space

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

    @property
    def tasks_done(self) -> int:
        """Tasks whose results every seed has reported."""
        return min((len(results) for results in self.results.values()), default=0)

    @property
    def seconds(self) -> float | None:
        """Wall time from the first start to the end or, while it runs, until now."""
        if self.started_at is None:
            return None
        return ((self.ended_at or now()) - self.started_at).total_seconds()

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
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage = _storage(folder / "ledger.db")
        self.study = optuna.create_study(storage=self._storage, study_name=config.name, direction="maximize",
                                          load_if_exists=True)
        self._study_id = self._storage.get_study_id_from_name(config.name)

    @classmethod
    def create(cls, storage: Path, config: SweepConfig, record: Mapping[str, Any]) -> Self:
        """A new sweep's ledger under `storage`; UserError if the name is taken.

        `record` goes into sweep.yaml beside the configuration: versions, revision, data hashes.
        """
        folder = storage / config.name
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise UserError(f"a sweep {config.name!r} exists in {storage}. Go on with it: dynamos-sweep resume "
                            f"{config.name} --storage {storage}; or add trials: dynamos-sweep extend {config.name} "
                            f"--trials +10 --storage {storage}; or choose another --name.") from None
        content = {**config.to_dict(), "record": dict(record)}
        write_whole(folder / "sweep.yaml", yaml.safe_dump(content, sort_keys=False))
        return cls(folder, config, record)

    @classmethod
    def open(cls, storage: Path, name: str) -> Self:
        """An existing sweep's ledger; UserError if there is none of that name."""
        folder = storage / name
        if not (folder / "sweep.yaml").is_file():
            raise UserError(unknown("sweep", name, sweep_names(storage)) + f" (in {storage})")
        values = read_yaml(folder / "sweep.yaml")
        record = values.pop("record", {})
        return cls(folder, SweepConfig.from_dict(values), record)

    @property
    def budget(self) -> int:
        """Trials asked for, extensions included."""
        return self.config.trials + int(self.study.user_attrs.get(EXTENDED, 0))

    def extend(self, trials: int) -> None:
        """Adds to the budget."""
        self.study.set_user_attr(EXTENDED, int(self.study.user_attrs.get(EXTENDED, 0)) + trials)

    def begin(self) -> None:
        """Readies the ledger for a driver: trial 0 is enqueued, trials left running are to be resumed. Repeatable."""
        trials = self.study.get_trials(deepcopy=False)
        if not any(t.user_attrs.get("source") == "preset" for t in trials):
            self.study.enqueue_trial(self.config.space.stored(self.config.base.to_dict()),
                                      user_attrs={"source": "preset"})
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                self.interrupt(trial.number)

    def remaining(self) -> int:
        """Trials that may still be started."""
        trials = self.study.get_trials(deepcopy=False)
        return self.budget - sum(t.state != TrialState.WAITING for t in trials)

    def ask(self) -> TrialRecord:
        """The next trial, RUNNING: an enqueued or interrupted one before a new suggestion."""
        # Seeded by the trial's number, so that a resumed sweep does not repeat its first draws.
        self.study.sampler = _sampler(self.config.seed, len(self.study.get_trials(deepcopy=False)))
        trial = self.study.ask()
        self.config.space.suggest(trial)
        attributes = trial.user_attrs
        if "source" not in attributes:
            trial.set_user_attr("source", "sampler")
        if "started_at" not in attributes:
            trial.set_user_attr("started_at", now().isoformat())
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
            self.study.tell(number, record.last(OBJECTIVE))
        else:
            self.study.tell(number, state=TrialState[state])

    def interrupt(self, number: int) -> None:
        """Puts a running trial back: the next driver's `ask` returns it first, with its number and parameters."""
        self._storage.set_trial_state_values(self._id(number), TrialState.WAITING)

    def trials(self) -> list[TrialRecord]:
        """All trials, by number."""
        return [self._read(trial) for trial in self.study.get_trials(deepcopy=False)]

    def trial(self, number: int) -> TrialRecord:
        """One trial."""
        return self._read(self._storage.get_trial(self._id(number)))

    def importances(self) -> dict[str, float]:
        """Field -> share of the objective's variance among COMPLETE trials (fANOVA); empty below four of them."""
        complete = [t for t in self.study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
        if len(complete) < 4 or len({t.value for t in complete}) == 1:
            return {}
        stored = optuna.importance.get_param_importances(
            self.study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))
        return {p.name: float(stored[p.stored_name]) for p in self.config.space.parameters if p.stored_name in stored}

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
        given = attributes.get("started_at"), attributes.get("ended_at")
        started, ended = (dt.datetime.fromisoformat(text) if text else None for text in given)
        parameters = trial.params or trial.system_attrs.get("fixed_params", {})
        return TrialRecord(
            number=trial.number, state="INTERRUPTED" if interrupted else trial.state.name,
            source=attributes.get("source", "sampler"), config=self.config.space.real(parameters), results=results,
            attempt=attempt, reason=attributes.get("reason"), started_at=started, ended_at=ended,
            value=trial.value if trial.state == TrialState.COMPLETE else None)


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
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})

    @event.listens_for(storage.engine, "connect")
    def _(connection: Any, _: Any) -> None:
        # Ten times as fast as the default, and as safe when a process is killed.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()  # those opened before the listener was there
    return storage


