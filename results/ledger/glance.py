"""Summary of a sweep for a list, from sweep.yaml and a few small queries.

Opening a ledger costs far more; so do Optuna, NumPy and SQLAlchemy, which most sweeps do not need.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from dynamos.errors import UserError
from dynamos.files import AnyPath
from dynamos.user_code import short_name
from results.definition.urls import readable_file
from results.ledger.attributes import (
    EXTENDED,
    NOTE,
    SweepState,
    asked_for,
    looks_of,
    state_of,
    tags_of,
)
from results.ledger.holder import LEASE
from results.ledger.sweep_file import damaged, known_values, study_name
from results.ledger.tables import known_tables
from results.names import ENDED, IMPORTED

# system attributes that hold violations of constraints: optuna_names.CONSTRAINTS_KEY
VIOLATIONS = "constraints:%"
_OF_STUDY = "FROM {} JOIN trials USING (trial_id) WHERE trials.study_id = :study"
Ask = Callable[..., Sequence[Any]]  # rows of a query, with its values by name


@dataclass(frozen=True, slots=True)
class Glance:
    """Summary of a sweep for a list; its values equal the ledger's."""

    name: str
    stream: str
    space: str
    protocol: str
    objectives: tuple[str, ...]
    confirms: str | None
    state: SweepState
    ended: int  # trials, without imported ones
    budget: int
    best: float | None  # of the first objective
    tags: Mapping[str, str]
    note: str
    looks: Mapping[str, Any]


def glance(storage: AnyPath, name: str) -> Glance:
    """Read the summary of a sweep under a storage.

    Raises UserError if its files are damaged or its database cannot be used.
    """
    folder = storage / name
    values = known_values(folder)
    try:
        with _asking(values.get("ledger_url"), folder / "ledger.db") as ask:
            seen = _glance(values, ask)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(folder / "sweep.yaml", error) from None
    if not _depends_on_all_trials(values):
        return seen
    from results.ledger.ledger import Ledger
    from results.sweep import Sweep

    with closing(Ledger.open(storage, name)) as ledger:
        leader = Sweep.of(ledger).leader
        best = None if leader is None else leader.value
        return replace(seen, budget=ledger.budget, state=ledger.state, best=best)


def _depends_on_all_trials(values: Mapping[str, Any]) -> bool:
    """True if the best value may be a mean over trials, or the space limits their number."""
    space = values["space"]
    if values.get("confirms") is not None:  # its trials are listed when it begins
        return False
    return bool(
        values.get("replicates")
        or values.get("race")
        or values.get("stop_when_done")
        or values["sampler"] == "grid"
        or space.get("since")
        # a range of whole numbers may be that of an integer field
        or not any(
            isinstance(spec.get("low"), float) and spec.get("step") is None
            for spec in space["parameters"].values()
        )
    )


@contextmanager
def _asking(url: str | None, file: AnyPath) -> Iterator[Ask]:
    """Read a ledger's database; UserError if that fails.

    A file is read without SQLAlchemy, which takes longer to import than a hundred files to read.
    """
    if url is None:
        path, read_only = readable_file(file)
        try:
            with closing(sqlite3.connect(path, uri=read_only)) as database:
                yield lambda query, **values: database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise UserError(f"the ledger cannot be used: {error}") from None
        return
    from sqlalchemy import NullPool, create_engine, text

    from results.ledger.study import DATABASE_ERRORS, unusable

    try:
        with closing(create_engine(url, poolclass=NullPool).connect()) as connection:
            yield lambda query, **values: connection.execute(text(query), values).all()
    except DATABASE_ERRORS as error:
        raise UserError(unusable(error)) from None


def _glance(config: Mapping[str, Any], ask: Ask) -> Glance:
    [[version]] = ask("SELECT version_num FROM alembic_version")
    if version != known_tables():
        raise UserError(
            f"the ledger is of another version of Optuna ({version}; this one has "
            f"{known_tables()})."
        )
    found = ask(
        "SELECT study_id FROM studies WHERE study_name = :name",
        name=study_name(config["name"], config["record"]),
    )
    if not found:
        raise UserError("the ledger does not know this sweep.")
    [[study]] = found
    attributes = {
        key: json.loads(value)
        for key, value in ask(
            "SELECT key, value_json FROM study_user_attributes WHERE study_id = :study", study=study
        )
    }

    def of_trials(columns: str, table: str, also: str = "", **values: str) -> Sequence[Any]:
        query = f"SELECT {columns} {_OF_STUDY.format(table)} {also}"
        return ask(query, study=study, **values)

    states: dict[int, str] = {
        trial: state
        for trial, state in ask(
            "SELECT trial_id, state FROM trials WHERE study_id = :study", study=study
        )
    }
    noted: Mapping[str, dict[int, Any]] = {"source": {}, "ended_at": {}}
    for trial, key, value in of_trials(
        "trial_id, key, value_json", "trial_user_attributes", "AND key IN ('source', 'ended_at')"
    ):
        noted[key][trial] = json.loads(value)
    own = {
        trial: source
        for trial, source in noted["source"].items()
        if not source.startswith(IMPORTED)
    }
    ended = {trial for trial in own if states[trial] in ENDED and trial in noted["ended_at"]}
    imported = noted["source"].keys() - own.keys()
    broken = {
        trial
        for trial, value in of_trials(
            "trial_id, value_json",
            "trial_system_attributes",
            "AND key LIKE :key",
            key=VIOLATIONS,
        )
        if json.loads(value) > 0
    }
    best_of = max if config["objectives"][0].endswith(":max") else min
    complete = [
        value
        for trial, value in of_trials("trial_id, value", "trial_values", "AND objective = 0")
        if trial in (ended | imported) - broken and states[trial] == "COMPLETE"
    ]
    asked = asked_for(
        config["trials"] + attributes.get(EXTENDED, 0),
        (s for t, s in own.items() if states[t] not in ENDED or t in ended),
    )
    confirms = config.get("confirms")
    return Glance(
        name=config["name"],
        stream=short_name(config["base"]["dataset"]),
        space=config["space"]["name"],
        protocol=config["protocol"],
        objectives=tuple(config["objectives"]),
        confirms=confirms,
        state=state_of(attributes[LEASE], attributes, asked - len(ended)),
        ended=len(ended),
        budget=asked,
        best=None if confirms is not None else best_of(complete, default=None),
        tags=tags_of(attributes),
        note=str(attributes.get(NOTE, "")),
        looks=looks_of(attributes),
    )
