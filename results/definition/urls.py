"""URLs of ledgers and MLflow servers. They are public: files and command lines hold them."""

import os
import re
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

from dynamos.errors import UserError
from dynamos.files import AnyPath


def sqlite_url(file: AnyPath) -> str:
    """Return the URL of an SQLite database; its path may hold ?, #, % and any other character."""
    from sqlalchemy import URL  # heavy: a list of sweeps needs none

    url = URL.create("sqlite", database=str(file))
    if url.render_as_string() != f"sqlite:///{file}":
        # MLflow takes the text after sqlite:/// literally for a path and makes its folder. It
        # leaves this form unchanged.
        url = url.set(drivername="sqlite+pysqlite")
    return url.render_as_string()


def readable_url(file: AnyPath) -> str:
    """Return the URL of a SQLite ledger, read-only if this process may not write there."""
    path, read_only = readable_file(file)
    if not read_only:
        return sqlite_url(file)

    from sqlalchemy import URL

    name, _, query = path.partition("?")
    values = {"uri": "true"} | dict(parse_qsl(query))
    return URL.create("sqlite", database=name, query=values).render_as_string()


def readable_file(file: AnyPath) -> tuple[str, bool]:
    """Return (path, False) of a SQLite ledger, or (URI, True) if this process may not write there.

    The URI opens it read-only.
    """
    if not file.exists() or os.access(str(file), os.W_OK) and os.access(str(file.parent), os.W_OK):
        return str(file), False
    # To share a database in WAL mode, SQLite needs files beside it. If another process has the
    # database open, these files exist. Otherwise the database does not change.
    shared = file.with_name(f"{file.name}-wal").exists()
    return f"file:{quote(str(file))}?mode=ro" + ("" if shared else "&immutable=1"), True


_STORES = ("sqlite", "postgresql", "mysql", "mssql")


def refuse_unmirrored(given: str, uri: str | None) -> None:
    """Raise UserError for a URI that names neither an MLflow server nor a database.

    `given` is the flag or the variable that holds the URI.

    MLflow no longer starts on a folder. Databricks wants paths as names of experiments, which
    Dynamos does not use.
    """
    scheme = (uri or "").partition(":")[0].partition("+")[0]
    if uri is None or (scheme in ("http", "https", *_STORES) and "://" in uri):
        return
    folder = uri.removeprefix("file://") if scheme == "file" or "://" not in uri else "/home/me"
    where = Path(folder).absolute() / "mlflow.db"
    raise UserError(
        f"{given} {uri}: MLflow needs a server, for instance http://HOST:5000, or a "
        f"database, for instance sqlite:///{where}."
    )


def refuse_password(flag: str, url: str | None) -> None:
    """Raise UserError for an invalid URL and for one that holds a password or a token."""
    try:
        parts = urlsplit(url or "")
    except ValueError as error:
        raise UserError(f"{flag} is not a URL: {error}.") from None
    secret = [key for key in parse_qs(parts.query) if "pass" in key.lower() and key != "passfile"]
    if parts.password or secret or (parts.scheme in ("http", "https") and parts.username):
        raise UserError(
            f"{flag}: a sweep's files must not contain a password; set it in the "
            "environment (PGPASSWORD, ~/.pgpass, MLFLOW_TRACKING_PASSWORD)."
        )


def refuse_unusable(flag: str, url: str | None) -> None:
    """Raise UserError as `refuse_password` does, and for an SQLite file with a relative path."""
    refuse_password(flag, url)
    if re.match(r"sqlite(?!(\+\w+)?:////)", url or ""):
        raise UserError(
            f"{flag} {url}: give the absolute path of the file, for instance "
            "sqlite:////home/me/sweeps.db, so that every command finds it."
        )


def tracking_uri(given: str | None) -> str | None:
    """Return the URI of MLflow: as given, else MLFLOW_TRACKING_URI, else None.

    Raises UserError for a URI that cannot be used.
    """
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or None
    name = "`tracking_uri`" if given else "MLFLOW_TRACKING_URI"
    refuse_unusable(name, uri)
    refuse_unmirrored(name, uri)
    return uri
