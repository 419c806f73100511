"""The Optuna study of a sweep: its database, its creation and its first trials."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from dynamos.errors import UserError
from dynamos.files import AnyPath
from results.definition.sweep_config import SweepConfig
from results.definition.urls import readable_url, sqlite_url
from results.ledger import lease
from results.ledger.sweep_file import study_name
from results.ledger.tables import known_tables
from results.ledger.warm_start import Beginning

# raised by a ledger's database that cannot be used
DATABASE_ERRORS = (SQLAlchemyError, OptunaError)


def open_database(url: str | None, folder: AnyPath) -> RDBStorage:
    """Open the Optuna storage at a URL; without one, ledger.db in a sweep's folder."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # log lines would break the display
    if url is not None:
        try:
            return _opened(url, {"pool_pre_ping": True})
        except (SQLAlchemyError, ImportError) as error:
            raise UserError(f"`ledger_url` {url}: {str(error).strip().splitlines()[0]}") from None
    url = readable_url(folder / "ledger.db")
    storage = _opened(url, {"connect_args": {"timeout": 60}})
    if url != sqlite_url(folder / "ledger.db"):
        return storage

    @event.listens_for(storage.engine, "connect")
    def _(connection: Any, _: Any) -> None:
        # Ten times as fast as the default, and as safe when a process is killed.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()  # connections from before the listener
    return storage


def _opened(url: str, engine_kwargs: dict[str, Any]) -> RDBStorage:
    """Open the storage at a URL.

    Raises RuntimeError if another version of Optuna made its tables and they differ.
    """
    storage = RDBStorage(url, engine_kwargs, skip_compatibility_check=True)
    if storage.get_current_version() == known_tables():
        return storage
    storage.engine.dispose()
    return RDBStorage(url, engine_kwargs)  # it raises an error that explains the difference


def make_study(folder: AnyPath, begins: Beginning, record: Mapping[str, Any]) -> None:
    """Create a new sweep's study with its first trials, in `folder` if its ledger has no URL."""
    config = begins.config
    database = open_database(config.ledger_url, folder)
    study = optuna.create_study(
        storage=database,
        study_name=study_name(config.name, record),
        directions=["maximize" if o.direction == "max" else "minimize" for o in config.objectives],
    )
    lease.free(database, database.get_study_id_from_name(study.study_name))
    for trial in begins.trials:
        if isinstance(trial, tuple):
            enqueue(study, config, *trial)
        else:
            study.add_trial(trial)
    database.engine.dispose()


def enqueue(
    study: optuna.Study,
    config: SweepConfig,
    source: str,
    changes: Mapping[str, Any],
    seed: int | None = None,
) -> None:
    """Enqueue the sweep's base with some fields changed.

    `seed` is the first of its training seeds; without it the seed policy decides.
    """
    # The values are checked together when the trial starts: some combinations of a grid may fail.
    study.enqueue_trial(
        config.space.stored(config.base.to_dict() | dict(changes)),
        user_attrs={"source": source} | ({} if seed is None else {"seed": seed}),
    )


def unusable(error: Exception) -> str:
    """Return the message of a database's error, in one line."""
    # Optuna's message says only that something failed; the message of its cause has the reason.
    return f"the ledger cannot be used: {str(error.__cause__ or error).strip().splitlines()[0]}"
