"""Changes of trials that become durable together in an Optuna database, all or none.

Optuna has a transaction of its own for each attribute, with four statements and their objects.
"""

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import (
    Connection,
    Engine,
    Insert,
    Select,
    Table,
    Update,
    bindparam,
    func,
    select,
)

from results.ledger.optuna_names import tables


def write(engine: Engine, changes: Iterable[tuple[int, FrozenTrial, FrozenTrial]]) -> None:
    """Make changes of trials durable in one transaction.

    A change is a trial's id in the database, the trial as the database has it, and the trial now.
    Raises UpdateFinishedTrialError if another program has ended one of the trials; then, as after
    any error, the database has none of the changes.
    """
    changes = list(changes)
    if changes:
        with engine.begin() as database:
            _write(database, changes)


def create(engine: Engine, study: int, trial: FrozenTrial) -> tuple[int, int]:
    """Make a new trial durable, with all that it has, and return (its id, its number).

    Both are those in the database. The trial must not have ended.
    """
    trials, studies = _table("trials"), _table("studies")
    with engine.begin() as database:
        # locks the study: the number of a trial is the number of those before it
        of_study = studies.c.study_id == study
        database.execute(studies.update().where(of_study).values(study_id=study))
        before = select(func.count()).where(trials.c.study_id == study)
        number = int(database.execute(before).scalar_one())
        row = {"study_id": study, "number": number, **_state(trial)}
        made = database.execute(trials.insert().values(row)).inserted_primary_key
        assert made is not None
        blank = create_trial(state=trial.state)
        blank.datetime_start, blank.datetime_complete = trial.datetime_start, None
        _write(database, [(made[0], blank, trial)])
        return int(made[0]), number


def study_attributes(engine: Engine, study: int) -> dict[str, Any]:
    """The user attributes of a study."""
    with engine.connect() as database:
        rows = database.execute(_study_attributes(), {"study": study}).all()
    return {key: json.loads(value) for key, value in rows}


def _write(database: Connection, changes: Sequence[tuple[int, FrozenTrial, FrozenTrial]]) -> None:
    inserted: dict[str, list[dict[str, Any]]] = {}
    updated: dict[str, list[dict[str, Any]]] = {}
    states, trials = [], []
    for trial, before, now in changes:
        trials.append(trial)
        for name, old, new in zip(_TABLES, _entries(before), _entries(now), strict=True):
            for key in new:
                if key not in old:
                    row = {"trial_id": trial, _key(name): key}
                    inserted.setdefault(name, []).append(row | _columns(name, now, key))
                # every write makes a new object, and an equal one may be of another type
                elif new[key] is not old[key]:
                    row = {"the_trial": trial, "the_key": key}
                    updated.setdefault(name, []).append(row | _columns(name, now, key))
        if (state := _state(now)) != _state(before):
            states.append({"the_trial": trial} | state)
    for name, rows in inserted.items():
        database.execute(_insert(name), rows)
    for name, rows in updated.items():
        database.execute(_update(name), rows)
    # the states last: until then they show whether another program has ended a trial
    ended = database.execute(_ended(), {"trials": trials}).scalar()
    if ended is not None:
        raise UpdateFinishedTrialError(f"another program ended the trial of id {ended}.")
    if states:
        database.execute(_update("trials"), states)


_TABLES = ("params", "user_attributes", "system_attributes", "values", "intermediate")


def _entries(trial: FrozenTrial) -> Iterator[Mapping[Any, Any]]:
    """The entries of a trial in each of _TABLES, by key."""
    yield trial.params
    yield trial.user_attrs
    yield trial.system_attrs
    yield dict(enumerate(trial.values or ()))
    yield trial.intermediate_values


def _columns(name: str, trial: FrozenTrial, key: Any) -> dict[str, Any]:
    """The columns of an entry of a trial, apart from its key."""
    match name:
        case "params":
            distribution = trial.distributions[key]
            return {
                "param_value": distribution.to_internal_repr(trial.params[key]),
                "distribution_json": distribution_to_json(distribution),
            }
        case "values":
            value, kind = tables()[name].value_to_stored_repr(trial.values[key])
            return {"value": value, "value_type": kind}
        case "intermediate":
            value = trial.intermediate_values[key]
            value, kind = tables()[name].intermediate_value_to_stored_repr(value)
            return {"intermediate_value": value, "intermediate_value_type": kind}
    attributes = trial.user_attrs if name == "user_attributes" else trial.system_attrs
    return {"value_json": json.dumps(attributes[key])}


def _state(trial: FrozenTrial) -> dict[str, Any]:
    """The columns of a trial's state. Optuna's times are local, those of its database UTC."""
    times = {"datetime_start": trial.datetime_start, "datetime_complete": trial.datetime_complete}
    return {"state": trial.state} | {
        name: time and time.astimezone(dt.UTC).replace(tzinfo=None) for name, time in times.items()
    }


def _table(name: str) -> Table:
    table: Table = tables()[name].__table__
    return table


def _key(name: str) -> str:
    """The column that holds an entry's key. It follows the row's id and the trial's."""
    return _table(name).columns[2].name


@cache
def _insert(name: str) -> Insert:
    return _table(name).insert()


@cache
def _update(name: str) -> Update:
    """The statement that changes an entry, or the state of a trial."""
    table = _table(name)
    update = table.update().where(table.c.trial_id == bindparam("the_trial"))
    return update if name == "trials" else update.where(table.c[_key(name)] == bindparam("the_key"))


@cache
def _study_attributes() -> Select[Any]:
    columns = _table("study_attributes").c
    return select(columns.key, columns.value_json).where(columns.study_id == bindparam("study"))


@cache
def _ended() -> Select[Any]:
    trials = _table("trials")
    return select(trials.c.trial_id).where(
        trials.c.trial_id.in_(bindparam("trials", expanding=True)),
        trials.c.state.in_([s for s in TrialState if s.is_finished()]),
    )
