"""Storage of a sweep's driver: reads from memory, writes to the database before it goes on."""

import copy
import json
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Any

from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from dynamos.errors import RunError
from results.ledger.batch import create, study_attributes, write

SUGGESTED = {"source": "sampler"}  # attribute of a suggested trial from its creation on


class WriteThrough(InMemoryStorage):
    """An Optuna storage of one study in a database to which no other process writes trials.

    Optuna reads a study's running trials from the database a dozen times per trial, which costs
    more than all writes. This storage reads only the study's attributes there, which others may
    write.
    """

    def __init__(
        self, database: RDBStorage, study_id: int, foreign: Callable[[FrozenTrial], bool]
    ) -> None:
        """Read the study. Trials that are `foreign` keep their numbers but stay hidden."""
        super().__init__()
        self._database, self._its_study_id, self._foreign = database, study_id, foreign
        self._hidden: set[int] = set()
        # the database's ids of the trials, by number, which is their id here
        self._its_ids: list[int] = []
        # by id, the trials that have changed, as the database has them
        self._before: dict[int, FrozenTrial] = {}
        self._blocks = 0  # number of `together` blocks that are open
        super().create_new_study(
            database.get_study_directions(study_id), database.get_study_name_from_id(study_id)
        )
        for trial in database.get_all_trials(study_id):
            self._take_in(trial)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make the changes of trials in a `with` block durable at its end, in one transaction.

        After an error, none of them has been made, here as in the database. Other threads wait for
        the end of the block. A new trial and study attributes are durable at once, with all
        changes before them.
        """
        with self._lock:
            self._blocks += 1
            try:
                yield
                if self._blocks == 1:
                    self._write()
            except BaseException:
                if self._blocks == 1:
                    for trial_id, before in self._before.items():
                        super()._set_trial(trial_id, before)
                    self._before.clear()
                raise
            finally:
                self._blocks -= 1

    def _write(self) -> None:
        """Make the changes so far durable."""
        write(
            self._database.engine,
            [(self._its_ids[n], before, self._get_trial(n)) for n, before in self._before.items()],
        )
        self._before.clear()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create a trial and return its id."""
        self._write()
        made = (
            copy.copy(template_trial) if template_trial else create_trial(state=TrialState.RUNNING)
        )
        made.user_attrs = _stored(made.user_attrs) if template_trial else dict(SUGGESTED)
        made.system_attrs = _stored(made.system_attrs)
        its_id, made.number = create(self._database.engine, self._its_study_id, made)
        made._trial_id = its_id
        # another program has added trials meanwhile
        for number in range(len(self._its_ids), made.number):
            there = self._database.get_trial(
                self._database.get_trial_id_from_study_id_trial_number(self._its_study_id, number)
            )
            if not self._foreign(there):
                raise RunError(f"trial {number} was added to the ledger by another process")
            self._take_in(there)
        return self._take_in(made)

    @property
    def next_number(self) -> int:
        """The number of the next new trial."""
        return len(self._its_ids)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of a trial."""
        super().set_trial_user_attr(trial_id, key, _stored(value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a system attribute of a trial."""
        super().set_trial_system_attr(trial_id, key, _stored(value))

    def _set_trial(self, trial_id: int, trial: FrozenTrial) -> None:
        """Replace a trial by one with a change. Optuna calls this for every change."""
        with self.together():
            if trial_id not in self._before:
                self._before[trial_id] = _copied(self._get_trial(trial_id))
            super()._set_trial(trial_id, trial)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials that are not foreign, by number."""
        # With a tuple, Optuna would search for WAITING trials only after the last one found. Here
        # earlier trials become WAITING again.
        wanted = (
            None if states is None else frozenset(state for state in TrialState if state in states)
        )
        trials = super().get_all_trials(study_id, deepcopy, wanted)
        return [t for t in trials if t.number not in self._hidden] if self._hidden else trials

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set an attribute of the study."""
        self._write()
        self._database.set_study_user_attr(self._its_study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a system attribute of the study."""
        self._write()
        self._database.set_study_system_attr(self._its_study_id, key, value)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the study's attributes, also those that other processes set."""
        return study_attributes(self._database.engine, self._its_study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the study's system attributes."""
        return self._database.get_study_system_attrs(self._its_study_id)

    def _take_in(self, trial: FrozenTrial) -> int:
        assert trial.number == len(self._its_ids)
        if self._foreign(trial):
            self._hidden.add(trial.number)
        self._its_ids.append(trial._trial_id)
        return super().create_new_trial(0, trial)


def _stored(value: Any) -> Any:
    """The value that a later reader of the database gets."""
    return json.loads(json.dumps(value))


def _copied(trial: FrozenTrial) -> FrozenTrial:
    """A copy of a trial that keeps its entries; Optuna may add some to the trial itself."""
    copied = copy.copy(trial)
    copied.params, copied.distributions = dict(trial.params), dict(trial.distributions)
    copied.user_attrs, copied.system_attrs = dict(trial.user_attrs), dict(trial.system_attrs)
    copied.intermediate_values = dict(trial.intermediate_values)
    return copied
