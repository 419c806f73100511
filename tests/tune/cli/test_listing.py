"""`list` reads what its lines need, and imports nothing heavy for them."""

import subprocess
import sys
from pathlib import Path

import pytest

from results.analysis.confirmation import enter_outcome
from results.definition.objectives import Objective
from results.ledger.ledger import Ledger
from results.sweep import Sweep
from tests.helpers.ledgers import complete, config, confirmed, driven
from tune.cli.listing import listing

HEAVY = {"optuna", "torch", "numpy", "pandas", "ray", "mlflow", "sqlalchemy", "alembic", "fsspec"}


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage with a sweep of two objectives, and one with a confirmation."""
    two = (Objective.parse("val_class_il"), Objective.parse("compute"))
    with driven(
        Ledger.create(tmp_path, config("two", sampler="tpe", objectives=two), {})
    ) as ledger:
        complete(ledger, 60, 70.5)
    sweep, confirmation = confirmed(tmp_path, [80.0, 82.0], [70.0, 71.0])
    enter_outcome(sweep, Sweep.of(confirmation))
    return tmp_path


def test_a_list_loads_nothing_heavy(storage: Path) -> None:
    code = (
        f"import sys; from tune.cli.main import main; main(['list', '--storage', {str(storage)!r}])"
        f"; print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *lines, heavy = done.stdout.splitlines()
    assert heavy == "[]" and len(lines) == 4
    assert "70.5" in next(line for line in lines if line.startswith("two"))


def test_a_confirmation_shows_its_verdict_with_and_without_its_sweep(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def verdict() -> str:
        listing(storage)
        lines = capsys.readouterr().out.splitlines()
        return next(line for line in lines if line.startswith("s-confirm-1")).split("finished")[1]

    entered = verdict()
    assert "refuted" in entered
    (storage / "s").rename(storage / ".s")
    assert verdict().split() == entered.split()
