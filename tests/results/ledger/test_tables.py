"""The version of Optuna's tables, which is read from its migrations as text."""

from pathlib import Path

import optuna
from alembic.script import ScriptDirectory

from results.ledger.tables import known_tables


def test_the_version_is_the_head_of_the_migrations() -> None:
    folder = Path(optuna.__file__).parent / "storages" / "_rdb" / "alembic"
    assert known_tables() == ScriptDirectory(folder).get_current_head()
