"""A sweep loses nothing in a crash. Real processes are really killed."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from dynamos.cohort import Cohort
from dynamos.trainer import Trainer
from results.choice import train_config
from tests.helpers.crashes import (
    LONG,
    SHORT,
    TASKS,
    Watched,
    check_mirrored,
    check_undisturbed,
    check_whole,
    disturbed,
    endless,
)
from tests.helpers.processes import Driver, Session, send, sweep
from tests.helpers.sweeps import runs_of

ROOT = Path(__file__).parents[3]
PRIVATE = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--mount"]


@pytest.fixture
def seen(tmp_path: Path) -> Watched:
    """The sweep that a test disturbs."""
    return Watched(tmp_path / "runs", "hit")


@pytest.mark.parametrize(
    "kills", [pytest.param(3, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.long)]
)
def test_a_sweep_killed_again_and_again_ends_as_if_nothing_had_been(
    kills: int, tmp_path: Path
) -> None:
    seen, struck = disturbed(kills, tmp_path, seed=kills)
    check_whole(seen, trials=kills + 4)
    assert len(struck) == kills and any(kill.running for kill in struck)


@pytest.mark.slow
def test_trials_whose_seeds_train_together_are_killed_and_end_as_if_nothing_had_been(
    tmp_path: Path,
) -> None:
    seen, struck = disturbed(2, tmp_path, seed=2, flags=["--seeds=3", "--pruner=none"])
    trials = seen.trials()
    assert len(trials) == 6 and {t.state for t in trials} == {"COMPLETE"}
    assert {len(t.results) for t in trials} == {3} and {t.cohorts for t in trials} == {(3,)}
    check_undisturbed(seen)
    assert any(kill.running for kill in struck)


@pytest.mark.slow
def test_a_killed_sweep_whose_losers_checkpoints_go_continues_as_if_nothing_had_been(
    seen: Watched, tmp_path: Path
) -> None:
    flags = ["--trials=5", "--max-concurrent=2", "--keep-checkpoints=none", "--set", *LONG]
    with Driver("run", "--name=hit", *flags, cwd=tmp_path) as driver:
        driver.until(lambda: bool(seen.running(tasks=2)) and any(t.ended_at for t in seen.trials()))
        driver.kill()
    assert any(t.ended_at is None and seen.checkpoints(t.number) for t in seen.trials())
    ended = sweep("resume", "hit", cwd=tmp_path)
    assert ended.status == 0 and not ended.errors, ended
    check_whole(seen, trials=5)
    assert not any(seen.checkpoints(t.number) for t in seen.trials())


@pytest.mark.slow
def test_a_race_that_is_killed_goes_on_as_if_nothing_had_been(
    seen: Watched, tmp_path: Path
) -> None:
    flags = ["--trials=12", "--race=2", "--replicates=0.2", "--deterministic-order"]
    flags += ["--max-concurrent=2", "--set", *SHORT]
    (apart := tmp_path / "apart").mkdir()
    assert sweep("run", "--name=hit", *flags, cwd=apart).status == 0
    whole = Watched(apart / "runs", "hit").trials()
    with Driver("run", "--name=hit", *flags, cwd=tmp_path) as driver:
        driver.until(lambda: any(t.races and seen.at_work(t.number) for t in seen.trials()))
        driver.kill()
    assert any(t.races and t.ended_at is None for t in seen.trials()), "it was in the race"
    ended = sweep("resume", "hit", cwd=tmp_path)
    assert ended.status == 0 and not ended.errors, ended
    check_whole(seen, trials=12, states=("COMPLETE", "PRUNED"))
    found = seen.trials()
    assert [(t.source, t.config, t.seed) for t in found] == [
        (t.source, t.config, t.seed) for t in whole
    ]
    assert [t.value for t in found] == [t.value for t in whole]
    *_, one, other, last = found
    assert one.races and other.races and last.races and one.seed == other.seed != last.seed


@pytest.mark.slow
def test_a_sweep_whose_space_changes_is_killed_and_goes_on_as_if_nothing_had_been(
    seen: Watched, tmp_path: Path
) -> None:
    fields = {
        "lr": {"low": 0.01, "high": 0.5, "log": True, "mean": 0.1, "sd": 0.7},
        "model": {"choices": ["dynamos", "multi_scale"], "weights": [3, 1]},
        "keep_ratio": {"low": 0.4, "high": 0.9, "step": 0.1, "when": {"model": "dynamos"}},
    }
    first = {"parameters": fields, "fixed": {"minibatch_size": 8}}
    first["forbid"] = ["lr > 0.3 and keep_ratio > 0.75"]
    then = first | {"parameters": fields | {"lr": {"low": 0.1, "high": 0.3}}}
    for name, content in (("first", first), ("then", then)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    flags = ["--trials=6", "--sampler=tpe", "--deterministic-order", "--max-concurrent=2"]
    asked = ["run", "--name=hit", *flags, f"--space={tmp_path / 'first.yaml'}", "--set", *SHORT]
    further = ["extend", "hit", "--trials=+6", f"--space={tmp_path / 'then.yaml'}"]
    (apart := tmp_path / "apart").mkdir()
    assert sweep(*asked, cwd=apart).status == 0
    shutil.copytree(apart / "runs", tmp_path / "runs")
    assert sweep(*further, cwd=apart).status == 0
    whole = Watched(apart / "runs", "hit").trials()
    # a file, because a reader of before does not know the changed space
    working = seen.folder / "trials/0008/attempt-1/config.yaml"
    with Driver(*further, cwd=tmp_path) as driver:
        driver.until(working.exists)
        driver.kill()
    ended = sweep("resume", "hit", cwd=tmp_path)
    assert ended.status == 0 and not ended.errors, ended
    seen = Watched(seen.storage, "hit")
    found = seen.trials()
    assert [(t.source, t.config, t.seed, t.value) for t in found] == [
        (t.source, t.config, t.seed, t.value) for t in whole
    ]
    space = seen.ledger.config.space
    assert space.since == 6 and all(space.fits(t.config) for t in found[6:])
    check_mirrored(seen, seen.store)


@pytest.mark.slow
def test_a_killed_worker_s_trial_goes_on_from_its_checkpoint(seen: Watched, tmp_path: Path) -> None:
    with Driver(
        "run", "--name=hit", "--trials=2", "--max-concurrent=1", "--set", *LONG, cwd=tmp_path
    ) as driver:
        driver.until(lambda: bool(seen.running(tasks=1)))
        [trial], [worker] = seen.running(tasks=1), driver.workers()
        os.kill(worker, signal.SIGKILL)
        driver.until(lambda: driver.workers() not in ([], [worker]))
        ended = driver.end()
    assert ended.status == 0 and not ended.errors, ended
    check_whole(seen, trials=2)
    assert (seen.trials()[trial.number].attempt, seen.trials()[trial.number].losses) == (2, 1)
    assert seen.tasks_saved() == 2 * TASKS, "a task trained twice would have been saved twice"


@pytest.mark.slow
def test_a_trial_that_loses_every_worker_fails_alone(seen: Watched, tmp_path: Path) -> None:
    with Driver(
        "run",
        "--name=hit",
        *endless(tmp_path, others=1),
        "--max-concurrent=1",
        "--retries=1",
        cwd=tmp_path,
    ) as driver:
        killed: set[int] = set()  # as the system does where memory is short

        def over() -> bool:
            for worker in set(driver.workers()) - killed if seen.at_work(0) else ():
                killed.add(worker)
                send(worker, signal.SIGKILL)
            return seen.state(0) == "FAIL"

        driver.until(over)
        ended = driver.end()
    assert ended.status == 0 and not ended.errors, ended
    check_whole(seen, trials=2, states=("COMPLETE", "FAIL"))
    assert str(seen.trials()[0].reason).startswith("its worker or node was lost 2 times")
    assert len(killed) == 2


@pytest.mark.slow
def test_a_sweep_killed_between_epochs_ends_as_if_nothing_had_been(
    seen: Watched, tmp_path: Path
) -> None:
    flags = ["--trials=5", "--pruner=halving", "--grace-epochs=4", "--sampler=random"]
    with Driver("run", "--name=hit", *flags, "--set", *LONG, cwd=tmp_path) as driver:
        driver.until(
            lambda: any(t.epochs_read and t.tasks_done == 0 for t in seen.running(tasks=0)),
            poll_seconds=0.01,
        )
        driver.kill()
    struck = [t for t in seen.trials() if t.attempt and t.ended_at is None]
    assert any(t.epochs_read for t in struck)
    ended = sweep("resume", "hit", cwd=tmp_path)
    assert ended.status == 0 and not ended.errors, ended
    check_whole(seen, trials=5, states=("COMPLETE", "PRUNED"))
    trials, (client, runs) = seen.trials(), runs_of(seen.store)
    assert any(str(t.reason).startswith("halving: ") and t.epochs_read for t in trials)
    for trial in trials:
        [(seed, found)] = trial.epoch_readings.items()
        train = train_config(seen.ledger.config, trial).replace(seed=seed)
        run = Trainer(train, read_epochs=[4, 8, 16, 32, 64])
        list(Cohort([run]))
        whole = {reading.epochs: reading for reading in run.epoch_readings}
        assert sorted(whole) == [4, 8, 16, 32, 64]
        assert {at: one for at, (one, _) in found.items()} == {at: whole[at] for at in found}
        assert sorted(found) == sorted(whole)[: len(found)], trial.number
        mirrored = client.get_metric_history(
            runs[f"hit/{trial.number}"].info.run_id, "val_class_il_by_epoch"
        )
        assert sorted(m.step for m in mirrored) == sorted(found), "each once"
    # no report differed from the ledger
    assert not (seen.folder / "sweep.log").exists()


@pytest.mark.slow
def test_damaged_checkpoints_are_passed_over(seen: Watched, tmp_path: Path) -> None:
    command = ["run", "--name=hit", "--trials=1", "--set", *LONG]
    for attempt, damaged in ((1, "the newest"), (2, "all")):
        with Driver(*command, cwd=tmp_path) as driver:
            driver.until(lambda: bool(seen.running(tasks=attempt + 1)))  # noqa: B023
            if attempt == 1:
                # the driver alone, as the system does where memory is short
                driver.send(signal.SIGKILL)
                assert driver.end().status == -signal.SIGKILL
            else:
                driver.kill()
        files = seen.checkpoints(0)
        files[-1].write_bytes(files[-1].read_bytes()[:-100])
        if damaged == "all":
            for file in files[:-1]:
                content = bytearray(file.read_bytes())
                content[len(content) // 2] ^= 1
                file.write_bytes(bytes(content))
        command = ["resume", "hit"]
    ended = sweep("resume", "hit", cwd=tmp_path)
    assert ended.status == 0 and not ended.errors, ended
    check_whole(seen, trials=1)
    logs = [
        (seen.ledger.trial_folder(0) / f"attempt-{attempt}" / "log.txt").read_text()
        for attempt in (2, 3)
    ]
    assert logs[0].count("is damaged") == 1 and logs[1].count("is damaged") == len(files)
    # Repeated tasks gave the results that the ledger already had, and no other warning was logged.
    assert not (seen.folder / "sweep.log").exists()


@pytest.mark.slow
def test_a_ledger_that_another_process_locks_is_waited_for(seen: Watched, tmp_path: Path) -> None:
    lock = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None, "
        "timeout=60);c.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.read(); "
        "c.execute('ROLLBACK')"
    )
    with Driver("run", "--name=hit", "--trials=3", "--set", *LONG, cwd=tmp_path) as driver:
        driver.until(lambda: bool(seen.running(tasks=1)))
        with subprocess.Popen(
            [sys.executable, "-c", lock, str(seen.folder / "ledger.db")],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as holder:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            # The trials continue until they have something to report. That takes longer than the
            # driver waits.
            driver.until(lambda: any(seen.saved(t) > t.tasks_done for t in seen.running(tasks=0)))
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                sqlite3.connect(str(seen.folder / "ledger.db"), timeout=10).execute(
                    "BEGIN IMMEDIATE"
                )
            assert driver.alive
            holder.communicate("")
        ended = driver.end()
    assert ended.status == 0 and not ended.errors, ended
    check_whole(seen, trials=3)


@pytest.mark.slow
def test_out_of_memory_fails_its_trial_alone(seen: Watched, tmp_path: Path) -> None:
    absurd = 10**13  # images in the buffer: more bytes than addresses
    (tmp_path / "space.yaml").write_text(
        yaml.safe_dump(
            {
                "parameters": {
                    "lr": {"low": 0.01, "high": 0.2},
                    "buffer_size": {"choices": [200, absurd]},
                }
            }
        )
    )
    (tmp_path / "points.yaml").write_text(
        yaml.safe_dump({"points": [{"buffer_size": absurd}, {"lr": 0.1}]})
    )
    ended = sweep(
        "run",
        "--name=hit",
        "--space=space.yaml",
        "--points=points.yaml",
        "--trials=3",
        "--set",
        *SHORT,
        cwd=tmp_path,
    )
    assert ended.status == 0 and not ended.errors, ended
    check_whole(seen, trials=3, states=("COMPLETE", "FAIL"))
    trials = seen.trials()
    assert [t.state for t in trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert str(trials[1].reason).startswith("out of memory: ")
    assert "Traceback" in (seen.ledger.trial_folder(1) / "attempt-1" / "traceback.txt").read_text()


@pytest.mark.parametrize(
    "kind",
    [
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("trials", "ledger")),
        pytest.param("both", marks=pytest.mark.long),
    ],
)
def test_a_full_disk_ends_the_session_in_one_line_and_loses_nothing(
    kind: str, tmp_path: Path
) -> None:
    probe = subprocess.run(
        [*PRIVATE, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True, text=True
    )
    if probe.returncode:
        pytest.skip(f"no disk of one's own can be mounted here: {probe.stderr.strip()}")
    done = subprocess.run(
        [*PRIVATE, sys.executable, "-m", "tests.helpers.full_disk", kind, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_two_drivers(seen: Watched, tmp_path: Path) -> None:
    with Driver("run", "--name=hit", *endless(tmp_path, others=3), cwd=tmp_path) as first:
        first.until(lambda: seen.at_work(0) and seen.state(1) == "COMPLETE")
        refused = sweep("resume", "hit", cwd=tmp_path)
        assert refused.status == 2 and len(refused.err.splitlines()) == 1, refused
        assert f"{socket.gethostname()}:{first.pid}" in refused.err
        first.send(signal.SIGSTOP)
        with Driver("resume", "hit", cwd=tmp_path) as second:
            second.until(lambda: seen.at_work(0, attempt=2))
            first.send(signal.SIGCONT)
            ended = first.end()
            assert ended.status == 1 and len(ended.errors) == 1, ended
            assert (
                "another process has taken over" in ended.errors[0] and "Traceback" not in ended.err
            )
            assert second.alive and seen.at_work(0, attempt=2)
            assert sweep("stop", "hit", "--trial=0", cwd=tmp_path).status == 0
            ended = second.end()
            assert ended.status == 0 and not ended.errors, ended
    check_whole(seen, trials=4, states=("PRUNED", "COMPLETE"))
    assert [t.state for t in seen.trials()] == ["PRUNED", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert [t.attempt for t in seen.trials()][:2] == [2, 1]


@pytest.mark.slow
def test_a_sweep_and_a_trial_are_stopped_from_outside_in_the_middle_of_a_task(
    seen: Watched, tmp_path: Path
) -> None:
    with Driver("run", "--name=hit", *endless(tmp_path, others=12), cwd=tmp_path) as driver:
        driver.until(lambda: seen.at_work(0) and seen.state(1) == "COMPLETE")
        stopped = sweep("stop", "hit", cwd=tmp_path)
        ended = driver.end()
    assert (stopped.status, ended.status) == (0, 0) and not stopped.err and not ended.errors, (
        stopped,
        ended,
    )
    assert "dynamos-sweep resume hit" in stopped.out and "dynamos-sweep resume hit" in ended.out
    states = [t.state for t in seen.trials()]
    assert states[:2] == ["INTERRUPTED", "COMPLETE"] and "RUNNING" not in states
    with Driver("resume", "hit", "--max-concurrent=1", cwd=tmp_path) as driver:
        driver.until(lambda: seen.at_work(0, attempt=2))
        assert "COMPLETE" != seen.state(12), "with one place, what was left waits"
        stopped = sweep("stop", "hit", "--trial=0", cwd=tmp_path)
        ended = driver.end()
    assert (stopped.status, ended.status) == (0, 0) and not stopped.err and not ended.errors, (
        stopped,
        ended,
    )
    check_whole(seen, trials=13, states=("PRUNED", "COMPLETE"))
    trial = seen.trials()[0]
    assert (trial.state, trial.reason, trial.tasks_done) == ("PRUNED", "stopped on request", 0)


@pytest.mark.slow
def test_an_mlflow_server_that_dies_and_comes_back(seen: Watched, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"

    def mirrored() -> bool:
        if seen.state(1) != "COMPLETE":
            return False
        # the process that mirrors starts with the first training trial, and may start late
        made = MlflowClient(tracking_uri=uri).get_experiment_by_name("dynamos") is not None
        return made and "hit/1" in runs_of(uri)[1]

    with Driver(
        "run", "--name=hit", f"--tracking-uri={uri}", *endless(tmp_path, others=3), cwd=tmp_path
    ) as driver:
        with server(tmp_path, port):
            driver.until(mirrored)
        driver.until(lambda: seen.state(2) == seen.state(3) == "COMPLETE")
        with server(tmp_path, port):
            assert sweep("stop", "hit", "--trial=0", cwd=tmp_path).status == 0
            ended = driver.end()
            assert ended.status == 0 and "Traceback" not in ended.err, ended
            if ended.errors:  # the mirror had not seen that the server was back
                assert "dynamos-sweep sync hit" in ended.errors[0], ended
                assert sweep("sync", "hit", cwd=tmp_path).status == 0
            check_undisturbed(seen)
            check_mirrored(seen, uri)


@contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """A real MLflow server that answers; it is killed at the end, with all its workers."""
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host=127.0.0.1",
        f"--port={port}",
        "--workers=1",
        f"--backend-store-uri=sqlite:///{folder / 'server.db'}",
        f"--artifacts-destination={folder / 'artifacts'}",
    ]
    # Without its job runner, which is seven more processes.
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with Session(command, folder, quiet) as process:
        process.until(lambda: answers(f"http://127.0.0.1:{port}/health"))
        yield


def answers(url: str) -> bool:
    """True if a server answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
