"""The version of the tables that this Optuna reads, without importing Optuna or Alembic."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def known_tables() -> str:
    """Version of the tables that this Optuna reads: the last of its migrations."""
    found = find_spec("optuna")
    assert found is not None and found.origin is not None
    folder = Path(found.origin).parent / "storages" / "_rdb" / "alembic" / "versions"
    text = "\n".join(file.read_text() for file in folder.glob("*.py"))
    versions, earlier = (
        set(re.findall(rf'^{name} = "(.+)"$', text, re.MULTILINE))
        for name in ("revision", "down_revision")
    )
    (last,) = versions - earlier
    return str(last)
