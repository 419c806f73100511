"""Sweeps whose workers train several trials each, in real processes, some of which are killed."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from joblib import cpu_count

from results.choice import train_config
from results.ledger.ledger import Ledger
from results.ledger.stored_trial import repeatable
from results.trial import TrialRecord
from tests.helpers.crashes import LONG, SHORT, TASKS, Watched, check_mirrored, disturbed, endless
from tests.helpers.processes import Driver, sweep
from tests.helpers.small import in_slot
from tests.helpers.sweeps import SMALL, run

# One worker on this machine, and the place of each trial follows from its number.
ONE_WORKER = [f"--cpus-per-trial={cpu_count()}", "--deterministic-order"]
THREADS = "threads=1"


@pytest.fixture
def seen(tmp_path: Path) -> Watched:
    """The sweep that a test disturbs."""
    return Watched(tmp_path / "runs", "hit")


def check_places(ledger: Ledger, places: int, trials: Sequence[TrialRecord]) -> None:
    """Assert that complete trials have the results of their places, whoever else trained, for a
    sweep in deterministic order with one seed per trial."""
    for trial in trials:
        if trial.state == "COMPLETE":
            train = train_config(ledger.config, trial)
            expected = in_slot(train, trial.number % places, places, ledger.config.base)
            (found,) = trial.results.values()
            assert [*map(repeatable, found)] == [*map(repeatable, expected.results)], trial.number


def test_trials_of_one_worker_train_as_one_program(tmp_path: Path) -> None:
    flags = ["--trials=4", "--cohort=2", *ONE_WORKER]
    fields = [*SMALL, "n_tasks=2", THREADS]
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


@pytest.mark.slow
def test_the_trials_of_a_killed_host_go_on_from_their_checkpoints(
    seen: Watched, tmp_path: Path
) -> None:
    flags = ["--trials=3", "--cohort=3", *ONE_WORKER, "--set", *LONG, THREADS]
    with Driver("run", "--name=hit", *flags, cwd=tmp_path) as driver:
        driver.until(lambda: len(seen.running(tasks=1)) == 3)
        (host,) = driver.hosts()
        os.kill(host, signal.SIGKILL)
        driver.until(lambda: driver.hosts() not in ([], [host]))
        ended = driver.end()
    assert ended.status == 0 and not ended.errors, ended
    trials = seen.trials()
    assert [(t.state, t.attempt, t.losses) for t in trials] == [("COMPLETE", 2, 1)] * 3
    check_places(seen.ledger, 3, trials)
    check_mirrored(seen, seen.store)
    assert seen.tasks_saved() <= 3 * TASKS, "a task that was saved was not trained again"


@pytest.mark.slow
def test_a_trial_whose_own_process_is_killed_goes_on_alone(seen: Watched, tmp_path: Path) -> None:
    flags = ["--trials=4", "--cohort=2", *ONE_WORKER, "--set", *LONG, THREADS]
    with Driver("run", "--name=hit", *flags, cwd=tmp_path) as driver:
        driver.until(lambda: len(seen.running(tasks=1)) == 2)
        hosts = driver.hosts()
        os.kill(driver.workers()[0], signal.SIGKILL)
        driver.until(lambda: any(t.attempt == 2 and t.state == "RUNNING" for t in seen.trials()))
        assert driver.hosts() == hosts
        ended = driver.end()
    assert ended.status == 0 and not ended.errors, ended
    trials = seen.trials()
    assert {t.state for t in trials} == {"COMPLETE"}
    assert sorted((t.attempt, t.losses) for t in trials) == [(1, 0)] * 3 + [(2, 1)]
    check_places(seen.ledger, 2, trials)


@pytest.mark.slow
def test_a_sweep_of_cohorts_that_is_killed_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    flags = ["--cohort=2", "--deterministic-order", "--pruner=none", "--sampler=tpe"]
    seen, struck = disturbed(2, tmp_path, seed=7, flags=flags)
    assert any(kill.running for kill in struck)
    trials = seen.trials()
    assert len(trials) == 6 and {t.state for t in trials} == {"COMPLETE"}
    assert {t.cohorts for t in trials} == {(2,)}
    check_places(seen.ledger, 2, trials)
    check_mirrored(seen, seen.store)
    (apart := tmp_path / "apart").mkdir()
    batch = f"--max-concurrent={seen.ledger.batch_size(0)}"
    whole = sweep("run", "--name=hit", *flags, batch, "--trials=6", "--set", *SHORT, cwd=apart)
    assert whole.status == 0, whole
    undisturbed = Watched(apart / "runs", "hit").trials()
    assert [(t.config, t.seed, t.value) for t in trials] == [
        (t.config, t.seed, t.value) for t in undisturbed
    ]


@pytest.mark.slow
def test_a_trial_that_diverges_and_one_that_is_pruned_leave_the_others_alone(
    seen: Watched, tmp_path: Path
) -> None:
    (tmp_path / "wide.yaml").write_text("parameters:\n  lr: {low: 1.0e-9, high: 1.0e+31}\n")
    rates = [0.1, 0.11, 0.12, 0.13, 0.14, 1e-9, 1e30]
    (tmp_path / "points.yaml").write_text(yaml.safe_dump({"points": [{"lr": r} for r in rates]}))
    flags = ["--space=wide.yaml", "--points=points.yaml", "--trials=8", "--pruner=median"]
    flags += ["--cohort=2", *ONE_WORKER, "--set", *SHORT, "n_epochs=6", THREADS, "lr=0.09"]
    ended = sweep("run", "--name=hit", *flags, cwd=tmp_path)
    assert ended.status == 0 and not ended.errors, ended
    trials = seen.trials()
    pruned, diverged = trials[6:]
    assert pruned.state == "PRUNED" and str(pruned.reason).startswith("median: "), pruned.reason
    assert diverged.state == "PRUNED" and str(diverged.reason).startswith("non-finite: ")
    assert [t.state for t in trials[:6]] == ["COMPLETE"] * 6
    check_places(seen.ledger, 2, trials)
    check_mirrored(seen, seen.store)


@pytest.mark.slow
def test_a_trial_is_stopped_and_its_place_is_free(seen: Watched, tmp_path: Path) -> None:
    flags = [*endless(tmp_path, others=3), THREADS, "--cohort=2", ONE_WORKER[0]]
    with Driver("run", "--name=hit", *flags, cwd=tmp_path) as driver:
        driver.until(lambda: seen.at_work(0) and seen.state(1) == "COMPLETE")
        assert sweep("stop", "hit", "--trial=0", cwd=tmp_path).status == 0
        ended = driver.end()
    assert ended.status == 0 and not ended.errors, ended
    trials = seen.trials()
    assert [t.state for t in trials] == ["PRUNED", *["COMPLETE"] * 3]
    assert trials[0].reason == "stopped on request"
