"""Storage of a sweep's driver: reads from memory, writes to the database first."""

import json
from collections.abc import Callable, Container, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from dynamos.errors import RunError

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
        super().create_new_study(
            database.get_study_directions(study_id), database.get_study_name_from_id(study_id)
        )
        for trial in database.get_all_trials(study_id):
            self._take_in(trial)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create a trial and return its id."""
        made = self._database.get_trial(
            self._database.create_new_trial(
                self._its_study_id,
                template_trial or create_trial(state=TrialState.RUNNING, user_attrs=SUGGESTED),
            )
        )
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

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Set a parameter."""
        self._database.set_trial_param(
            self._its_ids[trial_id], param_name, param_value_internal, distribution
        )
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Set the state and the values; return True if that was possible."""
        done = self._database.set_trial_state_values(self._its_ids[trial_id], state, values)
        return done and super().set_trial_state_values(trial_id, state, values)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Set an intermediate value."""
        self._database.set_trial_intermediate_value(
            self._its_ids[trial_id], step, intermediate_value
        )
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of a trial."""
        self._database.set_trial_user_attr(self._its_ids[trial_id], key, value)
        super().set_trial_user_attr(trial_id, key, _stored(value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a system attribute of a trial."""
        self._database.set_trial_system_attr(self._its_ids[trial_id], key, value)
        super().set_trial_system_attr(trial_id, key, _stored(value))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials that are not foreign, by number."""
        # With a tuple, Optuna would search for WAITING trials only after the last one found. Here
        # earlier trials become WAITING again.
        wanted = (
            None if states is None else frozenset(state for state in TrialState if state in states)
        )
        return [
            t
            for t in super().get_all_trials(study_id, deepcopy, wanted)
            if t.number not in self._hidden
        ]

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set an attribute of the study."""
        self._database.set_study_user_attr(self._its_study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a system attribute of the study."""
        self._database.set_study_system_attr(self._its_study_id, key, value)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the study's attributes, also those that other processes set."""
        return self._database.get_study_user_attrs(self._its_study_id)

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
