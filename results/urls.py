"""URLs of ledgers and MLflow servers, which stand in files and command lines for all to read."""

from urllib.parse import parse_qs, urlsplit

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
