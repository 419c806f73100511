"""URLs of ledgers and MLflow servers, which stand in files and command lines for all to read."""

import os
import re
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from sqlalchemy import URL

from dynamos.errors import UserError
from dynamos.files import AnyPath


def sqlite_url(file: AnyPath) -> str:
    """The URL of an SQLite database; a path may hold ?, #, % and whatever else a file system takes."""
    url = URL.create("sqlite", database=str(file))
    if url.render_as_string() != f"sqlite:///{file}":
        # MLflow takes what follows sqlite:/// for a path as it stands, and makes its folder. It leaves this form alone.
        url = url.set(drivername="sqlite+pysqlite")
    return url.render_as_string()


def readable_url(file: AnyPath) -> str:
    """The URL of a ledger's SQLite database as this process may use it: only to read, where it may not write there."""
    if not file.exists() or os.access(str(file), os.W_OK) and os.access(str(file.parent), os.W_OK):
        return sqlite_url(file)
    # SQLite cannot share a database in WAL mode where it may write no files beside it: one that nobody has open does
    # not change, and of one that is open those files are there.
    shared = file.with_name(f"{file.name}-wal").exists()
    query = {"mode": "ro", "uri": "true"} | ({} if shared else {"immutable": "1"})
    return URL.create("sqlite", database=f"file:{quote(str(file))}", query=query).render_as_string()


_STORES = ("sqlite", "postgresql", "mysql", "mssql")


def refuse_unmirrored(given: str, uri: str | None) -> None:
    """UserError for what is no MLflow server and no database; `given` is the flag or the variable that says it.

    MLflow starts on no folder any more. At Databricks an experiment's name is a path, which ours is not.
    """
    scheme = (uri or "").partition(":")[0].partition("+")[0]
    if uri is None or (scheme in ("http", "https", *_STORES) and "://" in uri):
        return
    folder = uri.removeprefix("file://") if scheme == "file" or "://" not in uri else "/home/me"
    where = Path(folder).absolute() / "mlflow.db"
    raise UserError(f"{given} {uri}: runs go to an MLflow server, http://HOST:5000 for instance, or to a database, for "
                    f"instance sqlite:///{where}.")


def refuse_password(flag: str, url: str | None) -> None:
    """UserError for a URL with a password or a token in it, or one that is none."""
    try:
        parts = urlsplit(url or "")
    except ValueError as error:
        raise UserError(f"{flag} is no URL: {error}.") from None
    secret = [key for key in parse_qs(parts.query) if "pass" in key.lower() and key != "passfile"]
    if parts.password or secret or (parts.scheme in ("http", "https") and parts.username):
        raise UserError(f"{flag}: a password does not belong in a sweep's files; give it through the environment "
                        "(PGPASSWORD, ~/.pgpass, MLFLOW_TRACKING_PASSWORD).")


def refuse_unusable(flag: str, url: str | None) -> None:
    """The same, and UserError for an SQLite file that not every command would find."""
    refuse_password(flag, url)
    if re.match(r"sqlite(?!(\+\w+)?:////)", url or ""):
        raise UserError(f"{flag} {url}: give the file by its whole path, for instance sqlite:////home/me/sweeps.db; "
                        "every command has to find it.")


def tracking_uri(given: str | None) -> str | None:
    """MLflow's server or store: as given, else MLFLOW_TRACKING_URI; UserError, naming which of them, for none."""
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or None
    name = "--tracking-uri" if given else "MLFLOW_TRACKING_URI"
    refuse_unusable(name, uri)
    refuse_unmirrored(name, uri)
    return uri
