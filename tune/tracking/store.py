"""The MLflow server or store of a sweep: its URI, a check that it answers, its creation."""

import logging
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import make_url

from dynamos.files import AnyPath
from results.definition.sweep_config import SweepConfig
from results.definition.urls import sqlite_url
from results.ledger.ledger import Ledger

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "dynamos"
ERROR_LENGTH = 500
DATABASES = ("postgresql", "mysql", "mssql")  # beginnings of the URIs of stores without a server
# Columns in which an MLflow 3 store has paths of its files, by table.
_LOCATIONS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # otherwise two lines in the display for every run that ends
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A request fails quickly, without retries. These would take minutes, and a retried create_run
    # whose answer was lost would make a second run. Here, runs are searched before another attempt.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def mlflow_uri(ledger: Ledger) -> str:
    """The URI of the sweep's MLflow store: by default shared by the sweeps of a folder."""
    return store_uri(ledger.config, ledger.folder.parent)


def store_uri(config: SweepConfig, storage: AnyPath) -> str:
    """The URI of the MLflow store of a sweep in a storage folder, whose ledger may be lost."""
    return config.tracking_uri or sqlite_url(storage / "mlflow.db")


def prepare() -> None:
    """Import MLflow, and make it fail soon and log nothing."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401 (it sets the levels that are set again here)

    # it logs tracebacks of errors that it also raises
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # When a batch fails, for instance because a killed session has already stored a part of it,
    # psycopg raises the cause and logs that it gave up the rest. MLflow stores what is missing.
    logging.getLogger("psycopg").setLevel(logging.ERROR)


def reachable(uri: str) -> str | None:
    """The reason why an MLflow server or store does not answer, in one line; None if it does."""
    prepare()
    from mlflow import MlflowClient

    try:
        MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except Exception as error:  # whatever the store or the network raised
        return error_line(error)
    return None


def mlflow_client(uri: str, beside: AnyPath) -> "tuple[MlflowClient, str]":
    """Return a client and the id of EXPERIMENT, which is made if it is missing.

    The files of runs in a database are kept in a folder of `beside`. A new client would make the
    tables of a missing store, and two clients that do so at once fail. So the store is made first.
    """
    prepare()
    from mlflow import MlflowClient

    artifacts = None  # a server decides
    if uri.startswith("sqlite"):
        artifacts = make_store(uri)
    elif uri.startswith(DATABASES):
        # by default MLflow would keep files in this process's working folder
        artifacts = (beside / "mlartifacts").as_uri()
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(EXPERIMENT)
    return client, found.experiment_id if found else client.create_experiment(
        EXPERIMENT, artifact_location=artifacts
    )


def error_line(error: Exception) -> str:
    """The type and text of an error in one line, without the password of a URL in it."""
    text = re.sub(r"://\S*@", "://***@", " ".join(str(error).split()))
    text = re.sub(r"\b(password=)[^&\s]+", r"\1***", text)
    return f"{type(error).__name__}: {text}"[:ERROR_LENGTH]


def make_store(uri: str) -> str:
    """The URI of the folder beside an SQLite store in which it keeps files.

    A missing store is made: completely or not at all, however many processes do so at once.
    """
    path = Path(str(make_url(uri).database)).resolve()
    artifacts = path.with_name("mlartifacts").as_uri()
    if path.exists():
        _follow(path, artifacts)
        return artifacts
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    making = path.with_name(f".{path.name}.{os.getpid()}")
    making.unlink(missing_ok=True)
    try:
        store = SqlAlchemyStore(sqlite_url(making), artifacts)  # type: ignore[no-untyped-call]
        store.engine.dispose()
        with closing(sqlite3.connect(making)) as connection:
            # this saves a third of the time per trial; the file keeps the mode
            connection.execute("PRAGMA journal_mode=WAL")
        path.hardlink_to(making)
    except FileExistsError:
        pass  # another process was faster, and its store is as good
    finally:
        making.unlink(missing_ok=True)
    return artifacts


def _follow(path: Path, artifacts: str) -> None:
    """Update the paths of files in an SQLite store whose folder was moved or copied.

    MLflow writes absolute paths into each experiment, run and model, and has no command that
    changes them.
    """
    if not path.with_name("mlartifacts").is_dir():
        return
    with closing(sqlite3.connect(path, timeout=60)) as store, store:
        for (before,) in store.execute(
            "SELECT DISTINCT artifact_location FROM experiments "
            "WHERE artifact_location LIKE 'file://%/mlartifacts' "
            "AND artifact_location != ?",
            (artifacts,),
        ).fetchall():
            for table, columns in _LOCATIONS.items():
                for column in columns:
                    store.execute(
                        f"UPDATE {table} SET {column} = :now || substr({column}, length(:before) + "
                        f"1) WHERE substr({column} || '/', 1, length(:before) + 1) = :before || "
                        "'/'",
                        {"now": artifacts, "before": before},
                    )
