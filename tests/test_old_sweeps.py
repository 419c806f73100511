"""Sweeps of earlier versions are read and continued."""

import json
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest

from dynamos import checkpoints
from results import load_sweep
from results.ledger.ledger import Ledger
from results.ledger.stored_trial import stored_result
from tests.helpers.sweeps import run

MADE = Path(__file__).parent / "fixtures"


@pytest.fixture(params=["0.1.0"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A storage folder with a sweep of an earlier version."""
    with tarfile.open(MADE / f"sweep-{request.param}.tar.gz") as packed:
        packed.extractall(tmp_path / "runs", filter="data")
    return tmp_path / "runs"


def test_it_is_read_whole(storage: Path) -> None:
    sweep = load_sweep("old", storage)
    assert [*sweep.trials["state"]] == ["COMPLETE", "COMPLETE", "RUNNING"]
    assert [*sweep.trials["val_class_il"]][:2] == pytest.approx([28.6590038315, 33.3333333333])
    assert sweep.best()["lr"] == sweep.trials["lr"][1]
    state = checkpoints.latest(storage / "old" / "trials" / "0002" / "attempt-1" / "seed-43")
    assert state is not None and len(state["results"]) == 1


def test_metrics_that_it_stored_beside_its_results_are_theirs(storage: Path) -> None:
    with closing(Ledger.open(storage, "old")) as ledger:
        records = ledger.trials()
    stored = optuna.load_study(study_name=None, storage=f"sqlite:///{storage}/old/ledger.db").trials
    entries = {
        (trial.number, *key.split("/")[1:]): entry
        for trial in stored
        for key, entry in trial.user_attrs.items()
        if key.startswith("result/")
    }
    read = {
        (trial.number, str(seed), str(result.task)): (result, at)
        for trial in records
        for seed, results in trial.results.items()
        for result, at in zip(results, trial.recorded_at[seed], strict=True)
    }
    assert read.keys() == entries.keys() and len(read) > 9
    later: dict[str, Any] = {"class_il_median": None, "class_il_unaveraged": None, "readings": []}
    for key, (result, at) in read.items():
        assert result.metrics() == entries[key]["metrics"] and at == entries[key]["recorded_at"]
        assert json.loads(json.dumps(stored_result(result, at))) == later | {
            name: value for name, value in entries[key].items() if name != "metrics"
        }


def test_commands_show_it(storage: Path) -> None:
    shown = run("show", "old", cwd=storage.parent)
    assert shown.returncode == 0 and "3 trials: 2 complete, 1 running" in shown.stdout, shown
    assert "team=cl" in shown.stdout and "made with 0.1.0" in shown.stdout
    drawn = run("report", "old", cwd=storage.parent)
    assert drawn.returncode == 0 and (storage / "old" / "report.html").is_file(), drawn


@pytest.mark.slow
def test_it_goes_on_from_its_checkpoints(storage: Path) -> None:
    done = run("resume", "old", cwd=storage.parent)
    assert done.returncode == 0, done
    trials = load_sweep("old", storage).trials
    assert [*trials["state"]] == ["COMPLETE"] * 3 and [*trials["attempts"]] == [1, 1, 2]
    again = storage / "old" / "trials" / "0002" / "attempt-2"
    saved = {seed: max(again.glob(f"seed-{seed}/checkpoint-*.pt")).name for seed in (42, 43)}
    assert saved == {42: "checkpoint-000001.pt", 43: "checkpoint-000002.pt"}, (
        "no saved task is trained again"
    )
