"""Summary of a sweep for a list, from a few small queries; opening its ledger costs far more."""

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, NullPool, create_engine, text

from dynamos.errors import UserError
from dynamos.files import AnyPath
from results.definition.sweep_config import SweepConfig
from results.definition.urls import readable_url
from results.ledger.attributes import (
    EXTENDED,
    NOTE,
    SweepState,
    asked_for,
    countable,
    looks_of,
    state_of,
    tags_of,
)
from results.ledger.lease import LEASE
from results.ledger.ledger import Ledger, known_sweep
from results.ledger.optuna_names import CONSTRAINTS_KEY
from results.ledger.study import known_tables, study_name
from results.sweep import Sweep
from results.trial import ENDED, IMPORTED

_OF_STUDY = "FROM {} JOIN trials USING (trial_id) WHERE trials.study_id = :study"


@dataclass(frozen=True, slots=True)
class Glance:
    """Summary of a sweep for a list; its values equal the ledger's."""

    config: SweepConfig
    state: SweepState
    ended: int  # trials, without imported ones
    budget: int
    best: float | None  # of the first objective
    tags: Mapping[str, str]
    note: str
    looks: Mapping[str, Any]


def glance(storage: AnyPath, name: str) -> Glance:
    """Read the summary of a sweep under a storage.

    Raises UserError or one of DATABASE_ERRORS if it is damaged.
    """
    config, record = known_sweep(storage / name)
    engine = create_engine(
        config.ledger_url or readable_url(storage / name / "ledger.db"), poolclass=NullPool
    )
    with closing(engine.connect()) as database:
        version = database.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if version != known_tables():
            raise UserError(
                f"the ledger is of another version of Optuna ({version}; this one has "
                f"{known_tables()})."
            )
        study = database.execute(
            text("SELECT study_id FROM studies WHERE study_name = :name"),
            {"name": study_name(config, record)},
        ).scalar()
        if study is None:
            raise UserError("the ledger does not know this sweep.")

        def ask(columns: str, table: str, also: str = "", **values: str) -> Any:
            return database.execute(
                text(f"SELECT {columns} {_OF_STUDY.format(table)} {also}"),
                {"study": study, **values},
            )

        seen = _glance(config, database, study, ask)
    if config.repeats or countable(config) or config.space.since or config.stop_when_done:
        # a mean over several trials, or the number of trials left, depends on all trials
        with closing(Ledger.open(storage, name)) as ledger:
            leader = Sweep.of(ledger).leader
            best = None if leader is None else leader.value
            return replace(seen, budget=ledger.budget, state=ledger.state, best=best)
    return seen


def _glance(
    config: SweepConfig, database: Connection, study: int, ask: Callable[..., Any]
) -> Glance:
    attributes = {
        key: json.loads(value)
        for key, value in database.execute(
            text("SELECT key, value_json FROM study_user_attributes WHERE study_id = :study"),
            {"study": study},
        )
    }
    states: dict[int, str] = dict(
        database.execute(
            text("SELECT trial_id, state FROM trials WHERE study_id = :study"), {"study": study}
        ).all()
    )
    noted: Mapping[str, dict[int, Any]] = {"source": {}, "ended_at": {}}
    for trial, key, value in ask(
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
        for trial, value in ask(
            "trial_id, value_json",
            "trial_system_attributes",
            "AND key LIKE :key",
            key=f"{CONSTRAINTS_KEY}:%",
        )
        if json.loads(value) > 0
    }
    values = [
        value
        for trial, value in ask("trial_id, value", "trial_values", "AND objective = 0")
        if trial in (ended | imported) - broken and states[trial] == "COMPLETE"
    ]
    asked = asked_for(
        config,
        attributes.get(EXTENDED, 0),
        (s for t, s in own.items() if states[t] not in ENDED or t in ended),
    )
    sign = config.objectives[0].sign
    return Glance(
        config,
        state_of(attributes[LEASE], attributes, asked - len(ended)),
        len(ended),
        asked,
        None if config.confirms is not None else max(values, key=lambda v: sign * v, default=None),
        tags_of(attributes),
        str(attributes.get(NOTE, "")),
        looks_of(attributes),
    )
