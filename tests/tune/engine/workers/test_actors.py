"""Sweeps whose workers train several trials each, in real processes."""

from pathlib import Path

from joblib import cpu_count

from results.choice import train_config
from results.ledger.ledger import Ledger
from results.ledger.stored_trial import repeatable
from results.trial import TrialRecord
from tests.helpers.small import in_slot
from tests.helpers.sweeps import SMALL, run


def check_places(ledger: Ledger, places: int, trials: list[TrialRecord]) -> None:
    """Assert that the results of complete trials are those of their places, whoever else trained,
    for a sweep in deterministic order with one seed per trial."""
    for trial in trials:
        train = train_config(ledger.config, trial)
        expected = in_slot(train, trial.number % places, places)
        (found,) = trial.results.values()
        assert [*map(repeatable, found)] == [*map(repeatable, expected.results)], trial.number


def test_trials_of_one_worker_train_as_one_program(tmp_path: Path) -> None:
    flags = ["--trials=4", "--cohort=2", f"--cpus-per-trial={cpu_count()}", "--deterministic-order"]
    fields = [*SMALL, "n_tasks=2", "threads=1"]
    done = run("run", "--name=two", *flags, "--set", *fields, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    ledger = Ledger.open(tmp_path / "runs", "two")
    trials = ledger.trials()
    assert {t.state for t in trials} == {"COMPLETE"} and {t.cohorts for t in trials} == {(2,)}
    check_places(ledger, 2, trials)
    first, second, *_ = trials
    assert first.started_at is not None and second.ended_at is not None
    assert second.started_at is not None and first.ended_at is not None
    assert first.started_at < second.ended_at and second.started_at < first.ended_at
