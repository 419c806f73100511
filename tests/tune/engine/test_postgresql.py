"""A sweep whose ledger and MLflow store are PostgreSQL databases: a real server, and a driver that
is really killed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kills.postgresql import Server, programs
from tests.helpers.crashes import check_mirrored, check_undisturbed, disturbed
from tests.helpers.processes import sweep


@pytest.fixture
def server() -> Iterator[str]:
    """URL of two empty databases; {} stands for the name, "postgres" or "mlflow"."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    with Server("mlflow") as started:
        yield started.url("{}")


@pytest.mark.slow
def test_a_killed_sweep_goes_on_from_its_database(server: str, tmp_path: Path) -> None:
    ledger, store = server.format("postgres"), server.format("mlflow")
    seen, struck = disturbed(
        1, tmp_path, seed=5, flags=[f"--ledger-url={ledger}", f"--tracking-uri={store}"]
    )
    assert [t.state for t in seen.trials()] == ["COMPLETE"] * 5
    check_undisturbed(seen)
    check_mirrored(seen, store)
    assert len(struck) == 1 and not (seen.folder / "ledger.db").exists()
    kept = {path.name for path in tmp_path.rglob("*.csv")}
    assert {p.name for p in tmp_path.iterdir()} == {"runs"} and "trials.csv" in kept
    listed = sweep("show", "hit", cwd=tmp_path)
    assert listed.status == 0 and "5 complete" in listed.out, listed


# Stores 900 metrics of a run, of which 800 are stored already.
TWICE = """
import sys
from tune.tracking.store import prepare
prepare()
from mlflow import MlflowClient
from mlflow.entities import Metric
client = MlflowClient(tracking_uri=sys.argv[1])
run = client.create_run("0").info.run_id
metrics = [Metric(f"m{number}", number, 5, 0) for number in range(900)]
client.log_batch(run, metrics=metrics[:800])
client.log_batch(run, metrics=metrics)
print(len(client.get_run(run).data.metrics))
"""


@pytest.mark.slow
def test_metrics_that_are_stored_twice_leave_no_message(server: str, tmp_path: Path) -> None:
    stored = subprocess.run(
        [sys.executable, "-c", TWICE, server.format("mlflow")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert stored.stdout == "900\n"
    # MLflow itself says that it makes its tables
    assert [line for line in stored.stderr.splitlines() if " INFO mlflow.store." not in line] == []
