"""URLs of ledgers and MLflow servers, which stand in files and command lines for all to read."""

from urllib.parse import parse_qs, urlsplit

from dynamos.errors import UserError


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
