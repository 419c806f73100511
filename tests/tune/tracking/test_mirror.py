"""MLflow agrees with the ledger after disturbances of either."""

import dataclasses
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing import Pipe, active_children
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from dynamos.metrics import EpochReading
from results.analysis.confirmation import enter_outcome
from results.choice import choice_of
from results.ledger.ledger import Ledger
from results.pages.best_config import write_views
from results.posterior import posterior
from results.sweep import Sweep
from results.trial import TrialRecord
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import (
    SEED,
    begun,
    complete,
    config,
    confirmed,
    driven,
    lucky,
    report,
    result,
)
from tests.helpers.processes import wait_for
from tests.helpers.servers import Server
from tests.helpers.sweeps import run
from tune.cli.main import main
from tune.tracking import live_mirror
from tune.tracking import mirror as tracking
from tune.tracking.live_mirror import LiveMirror, follow
from tune.tracking.mirror import SWEEP_TAG, TAG, Mirror
from tune.tracking.reader import served_sweep
from tune.tracking.store import make_store, mlflow_uri

Connect = Callable[[], Mirror]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store that all tests share, because making one takes seconds. All their sweeps have the
    same name."""
    folder = tmp_path_factory.mktemp("mlflow")
    made = f"sqlite:///{folder / 'mlflow.db'}"
    make_store(made)
    return made


def test_an_inactive_field_is_not_logged_and_is_read_back_as_missing(
    tmp_path: Path, uri: str
) -> None:
    fields = {
        "model": {"choices": ["dynamos", "multi_scale"]},
        "keep_ratio": {"low": 0.4, "high": 0.9, "when": {"model": "dynamos"}},
    }
    space = SearchSpace.from_dict("branches", {"parameters": fields})
    made = config(name="branches", space=space, points=({"model": "multi_scale"},))
    with driven(Ledger.create(tmp_path, made, {"id": "branches"})) as ledger:
        for _ in range(2):
            complete(ledger, 60.0, 70.0)
        write_views(ledger)
        Mirror(ledger, uri).sync()
        params = {tag: run.data.params for tag, run in found(ledger, uri).items()}
        assert params["branches/0"]["keep_ratio"] == "0.7"
        assert "keep_ratio" not in params["branches/1"] and "lr" in params["branches/1"]
        read = served_sweep(uri, "branches")
        assert [t.config for t in read.records] == [t.config for t in ledger.trials()]
        assert "keep_ratio" not in read.records[1].config


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with driven(Ledger.create(tmp_path, config(trials=9), {})) as made:
        yield made


@pytest.fixture
def connect(ledger: Ledger, uri: str, tmp_path: Path) -> Connect:
    return lambda: Mirror(ledger, uri)


def found(ledger: Ledger, uri: str) -> dict[str, Run]:
    """Return the sweep's runs by tag; assert that each tag has one run."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("dynamos")
    if experiment is None:
        return {}
    runs = client.search_runs(
        [experiment.experiment_id], f"tags.`{SWEEP_TAG}` = '{ledger.record['id']}'"
    )
    tags = [run.data.tags[TAG] for run in runs]
    assert len(tags) == len(set(tags)), "one run each"
    return dict(zip(tags, runs, strict=True))


def history(uri: str, run: Run, metric: str = "val_class_il") -> list[tuple[int, float]]:
    """Return (step, value) of every logged value of a metric."""
    logged = MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, metric)
    return sorted((m.step, m.value) for m in logged)


def agrees(ledger: Ledger, uri: str) -> bool:
    """Assert that MLflow has one run for each trial that has begun, with its state and every result
    once."""
    runs = found(ledger, uri)
    trials = [t for t in ledger.trials() if t.attempt > 0]
    assert set(runs) == {"s", *(f"s/{t.number}" for t in trials)}
    for trial in trials:
        run = runs[f"s/{trial.number}"]
        assert run.data.tags["state"] == trial.state
        assert run.data.tags["mlflow.parentRunId"] == runs["s"].info.run_id
        assert {"lr", "dataset"} <= set(run.data.params)
        wanted = [(r.task + 1, r.class_il) for r in trial.results[SEED]]
        assert history(uri, run) == wanted, trial.number
        assert len(history(uri, run, "seconds")) == (trial.ended_at is not None)
    return True


def test_readings_within_tasks_have_steps_of_epochs(
    ledger: Ledger, uri: str, connect: Connect
) -> None:
    number = begun(ledger).number
    for epochs, value in ((2, 50.0), (4, 45.0)):
        reading = EpochReading(
            epochs=epochs, evaluated_on="validation", class_il=value, task_il=None
        )
        assert ledger.add_reading(number, 1, SEED, reading)
        connect().sync()
    connect().sync()
    logged = history(uri, found(ledger, uri)[f"s/{number}"], "val_class_il_by_epoch")
    assert logged == [(2, 50.0), (4, 45.0)]


def test_every_state_is_mirrored_and_a_second_comparison_changes_nothing(
    ledger: Ledger, uri: str, connect: Connect
) -> None:
    complete(ledger, 90, 80)
    for state in ("PRUNED", "FAIL"):
        number = begun(ledger).number
        report(ledger, number, 50)
        ledger.finish(number, state, "because\n" * 1000)
    running, interrupted = begun(ledger).number, begun(ledger).number
    report(ledger, running, 60)
    ledger.interrupt(interrupted)
    mirror = connect()
    assert mirror.sync() == 6
    runs = found(ledger, uri)
    assert agrees(ledger, uri)
    assert [runs[f"s/{n}"].info.status for n in range(5)] == [
        "FINISHED",
        "KILLED",
        "FAILED",
        "RUNNING",
        "SCHEDULED",
    ]
    assert runs["s/1"].data.tags["reason"].startswith("because")
    first = ledger.trial(0)
    assert first.started_at is not None and first.ended_at is not None
    assert runs["s/0"].info.start_time == int(first.started_at.timestamp() * 1000)
    assert runs["s/0"].info.end_time == int(first.ended_at.timestamp() * 1000)
    parent = runs["s"]
    assert (parent.info.status, parent.data.tags["best_trial"], parent.data.tags["space"]) == (
        "RUNNING",
        "0",
        "core",
    )
    assert parent.data.metrics == {
        "trials_complete": 1,
        "trials_pruned": 1,
        "trials_fail": 1,
        "best_val_class_il": 80,
    }
    assert mirror.sync() == 0
    assert connect().sync() == 0
    after = found(ledger, uri)
    assert {tag: run.to_dictionary() for tag, run in after.items()} == {
        tag: run.to_dictionary() for tag, run in runs.items()
    }


def test_the_number_of_runs_that_train_as_one_program_is_a_tag(
    ledger: Ledger, uri: str, connect: Connect
) -> None:
    for cohort, tag in ((8, "8"), (4, "8 4")):
        asked = ledger.ask()
        ledger.start(0, asked.attempt, cohort)
        assert connect().sync() > 0
        assert found(ledger, uri)["s/0"].data.tags["cohorts"] == tag
        report(ledger, 0, 50)
        ledger.interrupt(0)
    connect().sync()
    assert served_sweep(uri, "s").records[0].cohorts == (8, 4)


def test_the_sweep_s_run_has_the_choice_and_what_a_model_expects_of_it(tmp_path: Path) -> None:
    ledger, uri = lucky(tmp_path), f"sqlite:///{tmp_path / 'mlflow.db'}"
    Mirror(ledger, uri).sync()
    sweep = Sweep.of(ledger)
    best, model = choice_of(sweep), posterior(sweep)
    assert best is not None and best is not sweep.leader and model is not None
    parent, expected = found(ledger, uri)["s"].data, model.of(best)
    assert parent.tags["best_trial"] == str(best.number)
    assert sweep.leader is not None and parent.tags["luckiest_trial"] == str(sweep.leader.number)
    assert expected is not None and parent.metrics == {
        "trials_complete": 20,
        "trials_pruned": 0,
        "trials_fail": 0,
        "best_val_class_il": best.value,
        "best_val_class_il_expected": expected.expected,
        "best_val_class_il_expected_sd": expected.sd,
        "best_probability": expected.p_best,
    }


def test_later_results_are_sent_once_and_change_only_their_run(
    ledger: Ledger, uri: str, connect: Connect
) -> None:
    complete(ledger, 90, 80)
    number = begun(ledger).number
    report(ledger, number, 70)
    connect().sync()
    report(ledger, number, 75, first=1)
    assert connect().sync() == 1
    ledger.finish(number, "COMPLETE")
    (ledger.folder / "trials.csv").write_text("trial\n")
    assert connect().sync() == 2, "the trial's run and the parent"
    assert agrees(ledger, uri)
    parent = found(ledger, uri)["s"]
    assert (parent.info.status, parent.data.metrics["trials_complete"]) == ("KILLED", 2)
    files = MlflowClient(tracking_uri=uri).list_artifacts(parent.info.run_id)
    assert {file.path for file in files} == {"sweep.yaml", "trials.csv"}


def test_a_sweep_that_ended_early_is_not_finished(
    ledger: Ledger, uri: str, connect: Connect
) -> None:
    for number in range(9):
        complete(ledger, 90, 80)
        if number in (0, 8):
            connect().sync()
            assert found(ledger, uri)["s"].info.status == ("KILLED" if number == 0 else "FINISHED")
    ledger.extend(1)
    connect().sync()
    assert found(ledger, uri)["s"].info.status == "KILLED"


def test_a_resumed_trial_runs_again(ledger: Ledger, uri: str, connect: Connect) -> None:
    number = begun(ledger).number
    report(ledger, number, 70)
    ledger.interrupt(number)
    connect().sync()
    before = found(ledger, uri)
    assert (before["s"].info.status, before["s/0"].info.status) == ("KILLED", "SCHEDULED")
    begun(ledger)
    connect().sync()
    after = found(ledger, uri)
    assert (after["s"].info.status, after["s/0"].info.status) == ("RUNNING", "RUNNING")
    assert after["s/0"].data.tags["dynamos.attempt"] == "2"
    assert agrees(ledger, uri)


def test_a_trial_that_has_not_begun_or_was_run_by_another_sweep_has_no_run(
    ledger: Ledger, uri: str, connect: Connect
) -> None:
    mirror = connect()
    mirror.sync_trial(ledger.trial(0))
    mirror.sync_trial(
        dataclasses.replace(ledger.trial(complete(ledger, 90, 80)), source="imported:other/3")
    )
    assert found(ledger, uri) == {}


@pytest.mark.parametrize("call", ["create_run", "log_batch", "set_terminated"])
def test_a_crash_between_two_requests_is_made_up_for(
    call: str, ledger: Ledger, uri: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(MlflowClient, call)
    for carried_out in (False, True):
        calls: list[object] = []

        def fail_at_the_second(
            *args: object,
            calls: list[object] = calls,
            carried_out: bool = carried_out,
            **kwargs: object,
        ) -> object:
            calls.append(args)
            if len(calls) != 2:
                return real(*args, **kwargs)
            if carried_out:
                real(*args, **kwargs)
            raise MlflowException("killed here")

        complete(ledger, 90, 80)
        complete(ledger, 70, 60)
        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, call, fail_at_the_second)
            with pytest.raises(MlflowException, match="killed here"):
                connect().sync()
        assert connect().sync() > 0
        assert agrees(ledger, uri)
        assert connect().sync() == 0


def test_more_metrics_than_one_request_takes_are_whole_only_once_all_are_there(
    ledger: Ledger, uri: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = begun(ledger).number
    names = [f"keep_gate{n + 1}" for n in range(600)]
    for task in range(2):
        told = result(task, 2, val_class_il=50.0 + task, keep_per_gate=[1.0] * 600)
        ledger.add_result(number, 1, SEED, told)
    ledger.finish(number, "COMPLETE")
    real = MlflowClient.log_batch
    batches: list[object] = []

    def fail_at_the_second(*args: Any, **kwargs: Any) -> None:
        batches.append(args)
        if len(batches) == 2:
            raise MlflowException("killed here")
        real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", fail_at_the_second)
        with pytest.raises(MlflowException, match="killed here"):
            connect().sync()
    assert connect().sync() == 2
    assert agrees(ledger, uri)
    assert set(names) <= set(found(ledger, uri)["s/0"].data.metrics)


def test_the_parent_says_what_a_confirmation_found(tmp_path: Path, uri: str) -> None:
    sweep, there = confirmed(tmp_path, [80.0, 82.0, 81.0], [73.0, 74.5, 74.0], of={"1": 1})
    with driven(sweep):
        for value in (60, 70):
            complete(sweep, 100, value)
    assert Mirror(sweep, uri).sync() > 0
    assert "verdict" not in found(sweep, uri)["s"].data.tags
    enter_outcome(sweep, Sweep.of(there))
    assert Mirror(there, uri).sync() == 4, "the confirmation's three runs, and the sweep's"
    parent = found(sweep, uri)["s"]
    assert (parent.data.tags["verdict"], parent.data.tags["confirmation"]) == (
        "refuted",
        "s-confirm-1",
    )
    assert parent.data.tags["headline"].startswith(
        "Refuted on test images: trial 1, which the sweep chose, is worse"
    )
    assert parent.data.metrics["confirmed_test_class_il"] == pytest.approx(221.5 / 3)
    assert parent.data.metrics["baseline_test_class_il"] == 81
    assert parent.data.metrics["confirmed_difference"] == pytest.approx(-21.5 / 3)
    assert parent.data.metrics["best_val_class_il"] == 70
    client = MlflowClient(tracking_uri=uri)
    own = client.search_runs([parent.info.experiment_id], "tags.`dynamos.id` = 's-confirm-1'")[0]
    assert (
        own.data.tags["confirms"] == "s"
        and own.data.tags["headline"] == parent.data.tags["headline"]
    )
    assert (
        own.data.metrics["confirmed_test_class_il"]
        == parent.data.metrics["confirmed_test_class_il"]
    )
    for each in (parent, own):
        assert "confirm.csv" in [file.path for file in client.list_artifacts(each.info.run_id)]
    client.delete_tag(parent.info.run_id, "verdict")
    assert (
        Mirror(sweep, uri).sync() == 1 and found(sweep, uri)["s"].data.tags["verdict"] == "refuted"
    )
    assert Mirror(sweep, uri).sync() == Mirror(there, uri).sync() == 0
    # A later confirmation with fewer results: the values that were logged last count.
    look = sweep.looks["s-confirm-1"]
    later = look["outcome"] | {
        "at": "2999-01-01T00:00:00+00:00",
        "confirmation": "s-confirm-2",
        "metrics": {"confirmed_test_class_il": 50.0},
    }
    sweep.enter_look("s-confirm-2", look | {"at": "or later", "outcome": later})
    Mirror(sweep, uri).sync()
    parent = found(sweep, uri)["s"]
    assert parent.data.metrics["confirmed_test_class_il"] == 50
    assert parent.data.tags["confirmation"] == "s-confirm-2"


def test_a_run_that_is_missing_or_said_to_run_for_ever_is_repaired(
    ledger: Ledger, uri: str, connect: Connect
) -> None:
    for _ in range(3):
        complete(ledger, 90, 80)
    connect().sync()
    client, runs = MlflowClient(tracking_uri=uri), found(ledger, uri)
    client.delete_run(runs["s/0"].info.run_id)
    client.update_run(runs["s/1"].info.run_id, "RUNNING")
    client.update_run(runs["s"].info.run_id, "RUNNING")
    assert connect().sync() == 3
    assert agrees(ledger, uri)
    repaired = found(ledger, uri)
    assert {tag: run.info.status for tag, run in repaired.items()} == {
        "s": "KILLED",
        **{f"s/{n}": "FINISHED" for n in range(3)},
    }
    assert repaired["s/0"].info.run_id != runs["s/0"].info.run_id
    assert client.get_run(runs["s/0"].info.run_id).info.lifecycle_stage == "deleted"
    client.delete_run(runs["s"].info.run_id)
    assert connect().sync() == 4, "a new parent, and three children that are under it"
    assert agrees(ledger, uri)


@pytest.mark.parametrize("tag", ["s", "s/0"])
@pytest.mark.parametrize("later_ms", [0, 60_000])
def test_of_two_runs_with_one_tag_the_older_stays(
    tag: str, later_ms: int, ledger: Ledger, uri: str, connect: Connect
) -> None:
    complete(ledger, 90, 80)
    connect().sync()
    client, runs = MlflowClient(tracking_uri=uri), found(ledger, uri)
    older = runs[tag].info
    twin = client.create_run(
        older.experiment_id,
        older.start_time + later_ms,
        {TAG: tag, SWEEP_TAG: ledger.record["id"]},
        "twin",
    )
    assert connect().sync() == 1
    assert found(ledger, uri)[tag].info.run_id == older.run_id
    assert client.get_run(twin.info.run_id).info.lifecycle_stage == "deleted"
    assert agrees(ledger, uri)


def test_another_sweep_of_the_same_name_is_left_alone(
    ledger: Ledger, uri: str, connect: Connect, tmp_path: Path
) -> None:
    complete(ledger, 90, 80)
    connect().sync()
    with driven(Ledger.create(tmp_path / "elsewhere", config(), {})) as other:
        complete(other, 10, 20)
        Mirror(other, uri).sync()
        assert agrees(other, uri)
    assert agrees(ledger, uri)
    assert connect().sync() == 0


def test_more_runs_than_one_answer_holds(
    ledger: Ledger, uri: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "RUNS_PER_PAGE", 2)
    for n in range(4):
        complete(ledger, n, n)
    connect().sync()
    assert connect().sync() == 0
    assert agrees(ledger, uri)


def test_a_param_that_differs_in_mlflow_does_not_hold_up_the_rest(
    ledger: Ledger, uri: str, connect: Connect
) -> None:
    number = begun(ledger).number
    mirror = connect()
    mirror.sync_trial(ledger.trial(number))
    client, run = MlflowClient(tracking_uri=uri), found(ledger, uri)["s/0"]
    client.delete_run(run.info.run_id)
    other = client.create_run(run.info.experiment_id, run.info.start_time, dict(run.data.tags))
    client.log_param(other.info.run_id, "lr", "of an earlier version")
    report(ledger, number, 90, 80)
    connect().sync()
    assert agrees(ledger, uri)


def test_of_several_seeds_the_mean_and_its_spread_are_there_once_all_have_reported(
    tmp_path: Path, uri: str
) -> None:
    with driven(Ledger.create(tmp_path, config(seeds=3), {})) as ledger:
        number = begun(ledger).number

        def logged() -> Run:
            Mirror(ledger, uri).sync()
            return found(ledger, uri)["s/0"]

        report(ledger, number, 90, 60, seed=42)
        report(ledger, number, 80, seed=43)
        run = logged()
        assert history(uri, run) == [] and history(uri, run, "seed_42/val_class_il") == [
            (1, 90),
            (2, 60),
        ]
        report(ledger, number, 73, seed=44)
        run = logged()
        assert history(uri, run) == [(1, 81)]
        spread: Any = pytest.approx(statistics.stdev([90, 80, 73]))
        assert history(uri, run, "val_class_il_std") == [(1, spread)]
        report(ledger, number, 70, seed=43, first=1)
        report(ledger, number, 80, seed=44, first=1)
        ledger.finish(number, "COMPLETE")
        run = logged()
        assert history(uri, run) == [(1, 81), (2, 70)]
        assert history(uri, run, "val_class_il_std") == [(1, pytest.approx(8.5440037)), (2, 10)]
        assert history(uri, run, "seed_44/val_class_il") == [(1, 73), (2, 80)]
        assert (
            history(uri, run, "steps") == [(1, 10), (2, 10)]
            and history(uri, run, "steps_std") == []
        )
        latest = [times[0] for times in ledger.trial(number).recorded_at.values()]
        first = MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, "val_class_il")[
            0
        ]
        assert first.timestamp == int(max(latest) * 1000)
        assert Mirror(ledger, uri).sync() == 0


@pytest.fixture
def live(ledger: Ledger, uri: str, tmp_path: Path) -> Iterator[LiveMirror]:
    made = LiveMirror(ledger, uri)
    made.start()
    yield made
    made.close(120)


@pytest.mark.slow
def test_a_live_mirror_repairs_what_an_earlier_driver_left_and_follows(
    ledger: Ledger, uri: str, connect: Connect, tmp_path: Path
) -> None:
    complete(ledger, 90, 80)
    connect().sync()
    client = MlflowClient(tracking_uri=uri)
    client.update_run(found(ledger, uri)["s/0"].info.run_id, "RUNNING")
    complete(ledger, 70, 60)  # of which MLflow never heard
    live = LiveMirror(ledger, uri)
    live.start()
    for value in range(3):
        complete(ledger, value, value)
    (ledger.folder / "trials.csv").write_text("trial\n")
    live.close(120)
    assert live.error is None
    assert agrees(ledger, uri)
    assert {tag: run.info.status for tag, run in found(ledger, uri).items()} == {
        "s": "KILLED",
        **{f"s/{n}": "FINISHED" for n in range(5)},
    }
    assert connect().sync() == 0


def test_a_trial_runs_in_mlflow_while_it_runs(ledger: Ledger, uri: str, live: LiveMirror) -> None:
    number = begun(ledger).number
    wait_for(lambda: "s/0" in found(ledger, uri))
    report(ledger, number, 90)
    wait_for(lambda: bool(history(uri, found(ledger, uri)["s/0"])))
    runs = found(ledger, uri)
    assert {run.info.status for run in runs.values()} == {"RUNNING"}
    ledger.interrupt(number)
    live.close(120)
    runs = found(ledger, uri)
    assert (live.error, runs["s"].info.status, runs["s/0"].info.status) == (
        None,
        "KILLED",
        "SCHEDULED",
    )


def test_only_what_has_changed_is_looked_at_again(
    ledger: Ledger, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete(ledger, 90, 80)
    second = begun(ledger).number
    mirror = connect()
    mirror.sync()
    sent: list[tuple[int, int]] = []
    real = Mirror.sync_trial

    def noted(self: Mirror, trial: TrialRecord) -> None:
        sent.append((trial.number, trial.tasks_done))
        real(self, trial)

    monkeypatch.setattr(Mirror, "sync_trial", noted)
    mirror.sync_changes()
    for task in range(2):
        report(ledger, second, 50, first=task)
    mirror.sync_changes()
    mirror.sync_changes()
    assert sent == [(1, 2)]


def test_results_that_a_failing_server_missed_are_sent_when_it_answers_again(
    ledger: Ledger, uri: str, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_mirror, "FIRST_PAUSE_SECONDS", 0.05)
    down = threading.Event()

    def unless_down(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if down.is_set() and threading.current_thread().name == "mlflow":
                raise MlflowException(
                    "no server\nthere at http://me:my-secret@host:5000/x?password=other"
                )
            return real(*args, **kwargs)

        return call

    for name in ("search_runs", "create_run", "log_batch", "set_terminated", "update_run"):
        monkeypatch.setattr(MlflowClient, name, unless_down(getattr(MlflowClient, name)))

    pipe, its_end = Pipe()
    answered_at = SimpleNamespace(value=0.0)
    mirror = threading.Thread(
        target=follow, name="mlflow", args=(its_end, answered_at, ledger.folder, uri)
    )
    mirror.start()
    complete(ledger, 90, 80)
    wait_for(lambda: "s/0" in found(ledger, uri))
    assert 0 < answered_at.value < time.monotonic() and not pipe.poll()
    down.set()
    for value in range(3):
        complete(ledger, value, value)
    assert pipe.recv() == "MlflowException: no server there at http://***@host:5000/x?password=***"
    down.clear()
    assert pipe.recv() is None
    assert agrees(ledger, uri), "without another word from the sweep"
    pipe.send(time.monotonic() + 120)
    mirror.join()
    assert not pipe.poll() and connect().sync() == 0


def test_a_store_s_broken_pipe_is_not_taken_for_the_driver_s(
    ledger: Ledger, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_mirror, "FIRST_PAUSE_SECONDS", 0.05)
    failures = [BrokenPipeError("while it was written to"), EOFError("while it was read")]
    real = Mirror.sync
    monkeypatch.setattr(
        Mirror, "sync", lambda self: real(self) if not failures else raised(failures.pop(0))
    )
    complete(ledger, 90, 80)
    pipe, its_end = Pipe()
    mirror = threading.Thread(
        target=follow, args=(its_end, SimpleNamespace(value=0.0), ledger.folder, uri)
    )
    mirror.start()
    assert [pipe.recv() for _ in range(3)] == [
        "BrokenPipeError: while it was written to",
        "EOFError: while it was read",
        None,
    ]
    pipe.close()  # as when the driver is killed
    mirror.join(60)
    assert not mirror.is_alive() and agrees(ledger, uri)


def raised(error: Exception) -> None:
    raise error


def test_a_mirror_that_dies_is_said(ledger: Ledger, uri: str, live: LiveMirror) -> None:
    wait_for(lambda: "s" in found(ledger, uri))
    [process] = [child for child in active_children() if child.name == "mlflow"]
    process.kill()
    live.close()
    assert live.error == "the mirror's process ended with status -9"


@pytest.mark.slow
def test_neither_ctrl_c_nor_sigterm_ends_the_mirror_before_the_sweep(
    ledger: Ledger, uri: str, live: LiveMirror
) -> None:
    [process] = [child for child in active_children() if child.name == "mlflow"]
    assert process.pid is not None
    for kind in (signal.SIGINT, signal.SIGTERM):
        os.kill(process.pid, kind)
    complete(ledger, 90, 80)
    live.close(120)
    assert live.error is None and agrees(ledger, uri)


@pytest.mark.parametrize("listening", [False, True])
def test_a_server_that_is_dead_or_never_answers_holds_up_nothing(
    listening: bool, ledger: Ledger, tmp_path: Path
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listening:
            server.listen()
        started = time.monotonic()
        live = LiveMirror(ledger, f"http://me:my-secret@127.0.0.1:{server.getsockname()[1]}")
        live.start()
        complete(ledger, 90, 80)
        live.close(2)
        assert time.monotonic() - started < 60
        assert live.error is not None and "my-secret" not in live.error and "\n" not in live.error
    assert ledger.trial(0).state == "COMPLETE"


@pytest.mark.slow
def test_sweeps_that_make_a_store_at_the_same_time_share_it(tmp_path: Path) -> None:
    storage, database = tmp_path / "runs", tmp_path / "mlflow.db"
    code = (
        "import sys; from pathlib import Path; from results.ledger.ledger import Ledger;"
        "from tune.tracking.mirror import Mirror;"
        "storage, name, database = sys.argv[1:]; ledger = Ledger.open(Path(storage), name);"
        "print(Mirror(ledger, 'sqlite:///' + database).sync())"
    )
    ledgers = [Ledger.create(storage, config(name), {}) for name in ("a", "b", "c")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(storage), ledger.config.name, str(database)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for ledger in ledgers
    ]
    said = [process.communicate(timeout=300) for process in processes]
    assert [out for out, _ in said] == ["1\n"] * 3, said
    for ledger in ledgers:
        assert set(found(ledger, f"sqlite:///{database}")) == {ledger.config.name}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".mlflow.db")]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as made:
        yield made


@pytest.mark.slow
def test_a_server_killed_and_started_again_in_mid_sweep_lacks_nothing_at_the_end(
    ledger: Ledger, server: Server, tmp_path: Path
) -> None:
    live = LiveMirror(ledger, server.uri)
    live.start()

    def run_trial(value: float) -> None:
        number = begun(ledger).number
        for task in range(2):
            report(ledger, number, value, first=task)
        ledger.finish(number, "COMPLETE")

    run_trial(50)
    run_trial(51)
    wait_for(lambda: bool(found(ledger, server.uri)))
    run_trial(52)  # it is probably handling a request
    server.kill()
    for value in range(53, 58):
        run_trial(value)
    wait_for(lambda: live.error is not None)
    server.start()
    for value in range(58, 63):
        run_trial(value)
    (ledger.folder / "trials.csv").write_text("trial\n")
    server.wait()
    live.close(120)
    assert live.error is None
    assert agrees(ledger, server.uri)
    runs = found(ledger, server.uri)
    assert {run.info.status for run in runs.values()} == {"FINISHED"} and len(runs) == 14
    client = MlflowClient(tracking_uri=server.uri)
    assert {f.path for f in client.list_artifacts(runs["s"].info.run_id)} == {
        "sweep.yaml",
        "trials.csv",
    }
    everything = client.search_runs([runs["s"].info.experiment_id], run_view_type=ViewType.ALL)
    assert len(everything) == 14, "nor was any made twice and deleted"
    assert Mirror(ledger, server.uri).sync() == 0


@pytest.mark.slow
def test_runs_that_a_killed_driver_left_in_mlflow_are_repaired_by_the_next_driver(
    server: Server, tmp_path: Path
) -> None:
    code = """
import os, signal, sys, time
from pathlib import Path
from results.ledger.ledger import Ledger
from tests.helpers.ledgers import begun, driven, report
from tests.helpers.processes import wait_for
from tests.tune.tracking.test_mirror import found
from tune.tracking.live_mirror import LiveMirror
ledger = Ledger.open(Path(sys.argv[1]), "s")
with driven(ledger):
    live = LiveMirror(ledger, sys.argv[2])
    live.start()
    for n in range(6):
        number = begun(ledger).number
        report(ledger, number, n, n)
        if n < 5:
            ledger.finish(number, "COMPLETE")
    wait_for(lambda: found(ledger, sys.argv[2]))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    Ledger.create(tmp_path, config(trials=6), {})
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), server.uri],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    ledger = Ledger.open(tmp_path, "s")
    with driven(ledger):
        live = LiveMirror(ledger, server.uri)
        live.start()
        number = begun(ledger).number
        assert number == 5
        ledger.finish(number, "COMPLETE")
        live.close(120)
        assert live.error is None
        assert agrees(ledger, server.uri)
        assert {run.info.status for run in found(ledger, server.uri).values()} == {"FINISHED"}


@pytest.mark.slow
@pytest.mark.parametrize("transfer", [Path.rename, shutil.copytree], ids=["moved", "copied"])
def test_the_files_of_a_storage_that_was_moved_or_copied_are_those_beside_it(
    transfer: Any, tmp_path: Path
) -> None:
    old, new = tmp_path / "runs", tmp_path / "what? now"
    with driven(Ledger.create(old, config(), {})) as there:
        complete(there, 70, 80)
    uri = mlflow_uri(there)
    Mirror(there, uri).sync()
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    trial = found(there, uri)["s/0"].info
    client.log_text(trial.run_id, "weights", "model/data")
    client.create_registered_model("m")
    client.create_model_version("m", f"{trial.artifact_uri}/model", trial.run_id)
    transfer(old, new)

    (new / "s" / "trials.csv").write_text("anew")
    # each in a process of its own: MLflow remembers where files are
    for changed in ("1 run updated", "agreed"):
        done = run("sync", "s", "--storage", str(new), cwd=tmp_path)
        assert done.returncode == 0 and changed in done.stdout, done.stderr
    with closing(Ledger.open(new, "s")) as there:
        uri = mlflow_uri(there)
        runs = found(there, uri)
    for tag, path, content in (("s", "trials.csv", "anew"), ("s/0", "model/data", "weights")):
        location = runs[tag].info.artifact_uri
        assert location.startswith(new.as_uri())
        assert Path(url2pathname(urlsplit(location).path), path).read_text() == content
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    assert client.get_model_version_download_uri("m", "1").startswith(new.as_uri())
    assert [e.artifact_location for e in client.search_experiments() if e.name == "dynamos"] == [
        (new / "mlartifacts").as_uri()
    ]
    assert old.exists() == (transfer is shutil.copytree)


def test_a_store_keeps_files_elsewhere_where_somebody_has_said_so(tmp_path: Path) -> None:
    elsewhere = (tmp_path / "elsewhere" / "mlartifacts").as_uri()
    with driven(Ledger.create(tmp_path, config(), {})) as there:
        complete(there, 70, 80)
    uri = mlflow_uri(there)
    make_store(uri)
    MlflowClient(tracking_uri=uri).create_experiment("dynamos", artifact_location=elsewhere)
    assert Mirror(there, uri).sync() == 2
    assert all(run.info.artifact_uri.startswith(elsewhere) for run in found(there, uri).values())


def test_the_parent_says_where_the_best_is_from(ledger: Ledger, uri: str, connect: Connect) -> None:
    def told() -> tuple[str | None, str | None]:
        tags = found(ledger, uri)["s"].data.tags
        return tags.get("best_trial"), tags.get("best_source")

    connect().sync()
    assert told() == (None, None), "nothing is best yet"
    complete(ledger, 70)
    connect().sync()
    assert told() == ("0", "preset")
    complete(ledger, 80)
    connect().sync()
    assert told() == ("1", "sampler")


def test_sync_with_a_tracking_uri_moves_the_sweep_to_that_store_for_good(
    tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["sync", "s", "--storage", str(tmp_path)]
    with driven(Ledger.create(tmp_path, config(), {})) as there:
        complete(there, 70, 80)
        assert main([*asked, "--tracking-uri", uri]) == 2
    said = capsys.readouterr().err
    assert (
        "the sweep 's' is running" in said
        and "stop it first" in said
        and len(said.splitlines()) == 1
    )
    for more, words in ((["--tracking-uri", uri], "2 runs updated"), ([], "agreed")):
        assert main([*asked, *more]) == 0 and words in capsys.readouterr().out
    with closing(Ledger.open(tmp_path, "s")) as moved:
        assert moved.config.tracking_uri == mlflow_uri(moved) == uri
        assert agrees(moved, uri)
    assert not (tmp_path / "mlflow.db").exists(), "no store was made beside the sweep"


def test_a_sweep_stays_with_its_mlflow_where_the_new_one_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Ledger.create(tmp_path, config(), {}).close()
    before = (tmp_path / "s" / "sweep.yaml").read_bytes()
    (tmp_path / "file").write_text("no folder")
    assert (
        main(
            [
                "sync",
                "s",
                "--storage",
                str(tmp_path),
                "--tracking-uri",
                f"sqlite:///{tmp_path}/file/mlflow.db",
            ]
        )
        > 0
    )
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "s" / "sweep.yaml").read_bytes() == before
