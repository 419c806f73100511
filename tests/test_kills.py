"""The benchmark of kills: a campaign passes, and it finds what it looks for."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.kills.__main__ import main
from benchmarks.kills.faults import (
    changed_faults,
    ledger_faults,
    mirror_faults,
    training_faults,
)
from results.ledger.ledger import Ledger
from tests.helpers.ledgers import ONE, SEED, begun, config, driven, result
from tune.tracking.mirror import SWEEP_TAG, TAG, Mirror


@pytest.mark.slow
def test_a_short_campaign_loses_doubles_and_blocks_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kills.json"
    asked = ["--kills=3", "--seed=1", "--again=2", f"--json={file}"]
    status = main([*asked, "--targets", "driver", "worker", "mirror"])
    shown = capsys.readouterr().out
    assert status == 0 and "nothing is lost, doubled or stuck" in shown, shown
    told = json.loads(file.read_text())
    assert sorted(kill["target"] for kill in told["struck"]) == ["driver", "mirror", "worker"]
    assert told["faults"] == [] and told["kills"] == 3 and told["attempts"] > told["trials"]
    assert any(kill["running"] for kill in told["struck"])


def finished(folder: Path, trials: int) -> Ledger:
    """A sweep whose trials have all ended."""
    ledger = Ledger.create(folder, config(space=ONE, sampler="random", trials=trials), {})
    with driven(ledger):
        for value in range(trials):
            number = begun(ledger).number
            ledger.add_result(number, 1, SEED, result(val_class_il=50.0 + value))
            ledger.finish(number, "COMPLETE")
    return ledger


def test_a_stuck_failed_or_short_trial_is_a_fault_of_a_ledger(tmp_path: Path) -> None:
    ledger = finished(tmp_path, 2)
    assert ledger_faults(ledger) == []
    with driven(ledger):
        ledger.extend(3)
        stuck, failed, short = (begun(ledger).number for _ in range(3))
        ledger.finish(failed, "FAIL", "because")
        ledger.add_result(short, 1, SEED, result(0, 2))
        ledger.finish(short, "COMPLETE")
        assert ledger_faults(ledger) == [
            f"trial {stuck} is stuck: running",
            f"trial {failed} ended FAIL: because",
            f"trial {short}, seed {SEED}: results of tasks [0]",
        ]
        ledger.extend(1)
        assert ledger_faults(ledger)[0] == "trials are [0, 1, 2, 3, 4]", "one has not begun"


def test_what_an_earlier_look_had_is_missed(tmp_path: Path) -> None:
    trials = finished(tmp_path, 3).trials()
    assert changed_faults(trials, trials) == []
    now = [replace(trials[0], state="RUNNING", ended_at=None), replace(trials[1], results={})]
    assert changed_faults(trials, now) == [
        "trial 0 ended COMPLETE and is RUNNING",
        f"trial 1, seed {SEED} lost a result, or has another one",
        "trial 2 is lost",
    ]


@pytest.mark.slow
def test_a_doubled_or_missing_run_is_a_fault_of_mlflow(tmp_path: Path) -> None:
    ledger, uri = finished(tmp_path, 2), f"sqlite:///{tmp_path / 'mlflow.db'}"
    mirror = Mirror(ledger, uri)
    mirror.sync()
    trials, client = ledger.trials(), mirror._client
    assert mirror_faults("s", trials, uri) == []
    tags = {TAG: "s/0", SWEEP_TAG: str(ledger.record["id"])}
    double = client.create_run(mirror._experiment, 0, tags)
    assert "1 MLflow runs are doubled" in mirror_faults("s", trials, uri)
    client.delete_run(double.info.run_id)
    assert mirror._runs is not None
    client.log_metric(mirror._runs["s/1"].run_id, "val_class_il", 1.0, step=2)
    client.update_run(mirror._runs["s/0"].run_id, "RUNNING")
    assert mirror_faults("s", trials, uri) == [
        "the run of trial 0 is RUNNING",
        "the run of trial 1 has the values [(1, 51.0), (2, 1.0)]",
    ]
    client.delete_run(mirror._runs["s/1"].run_id)
    assert "lacks the runs ['s/1']" in mirror_faults("s", trials, uri)[0]


def test_a_training_that_does_not_repeat_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = finished(tmp_path, 1)
    trials = ledger.trials()
    same = trials[0].results[SEED]
    monkeypatch.setattr("benchmarks.kills.faults.Trainer", lambda config: same)
    assert training_faults(ledger.config, trials, random.Random(0), 5) == []
    monkeypatch.setattr("benchmarks.kills.faults.Trainer", lambda config: [])
    assert training_faults(ledger.config, trials, random.Random(0), 5) == [
        f"trial 0, seed {SEED} does not repeat"
    ]
