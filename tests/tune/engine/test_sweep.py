"""All steps through real Ray, Optuna and MLflow: sweep, export, retrain."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import yaml

from dynamos.metrics import TaskResult
from results.ledger.ledger import Ledger
from results.ledger.stored_trial import repeatable
from results.sweep import Sweep
from tests.helpers.crashes import Watched, endless
from tests.helpers.ledgers import config
from tests.helpers.processes import Driver, Session
from tests.helpers.sweeps import SMALL, command, run, runs_of
from tests.helpers.workers import made_once
from tune.engine.sweep import run_sweep
from tune.machines.slots import Departures, Node
from tune.tracking.mirror import Mirror


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(working folder, output) of a sweep of three trials."""

    def make(folder: Path) -> str:
        done = run("run", "--name", "tiny", "--trials", "3", "--set", *SMALL, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return made_once(tmp_path_factory, "sweep", make)


@pytest.fixture
def ledger(swept: tuple[Path, str]) -> Ledger:
    return Ledger.open(swept[0] / "runs", "tiny")


def test_every_trial_is_whole_and_the_first_is_the_base(ledger: Ledger) -> None:
    trials = ledger.trials()
    assert [t.state for t in trials] == ["COMPLETE"] * 3
    assert [t.source for t in trials] == ["base", "sampler", "sampler"]
    assert all(t.tasks_done == 3 for t in trials)
    assert len({json.dumps(t.config) for t in trials}) == 3
    assert all(t.value == t.final("val_class_il") for t in trials)


def test_the_files_are_there_and_nothing_of_rays(swept: tuple[Path, str]) -> None:
    folder = swept[0] / "runs" / "tiny"
    names = {p.name for p in folder.iterdir() if p.name != "sweep.log"}
    wanted = {"sweep.yaml", "ledger.db", "trials.csv", "best_config.yaml", "best_args.py", "trials"}
    assert wanted <= names <= wanted | {"ledger.db-wal", "ledger.db-shm", "report.html"}
    assert {p.name for p in swept[0].iterdir()} == {"runs"}
    record = yaml.safe_load((folder / "sweep.yaml").read_text())["record"]
    assert (
        len(record["data_hash"]) == len(record["validation_hash"]) == 16
        and "ray" in record["versions"]
    )


def test_the_end_says_what_was_found_and_what_to_do_next(swept: tuple[Path, str]) -> None:
    folder, said = swept[0] / "runs" / "tiny", swept[1]
    assert "val_class_il" in said and "the base" in said and str(folder) in said
    commands = [
        line.split("  ")[-1].strip()
        for line in said.split("\nNext:\n")[1].splitlines()
        if line.startswith("  ")
    ]
    assert len(commands) == 4 and f"dynamos --config {folder}/best_config.yaml" in commands[0]
    assert "mlflow ui --backend-store-uri sqlite:///" in commands[2]
    done = subprocess.run(
        commands[3],
        shell=True,
        cwd=swept[0],
        env={"PATH": os.environ["PATH"], "HOME": "/tmp"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and (folder / "report.html").exists(), done.stderr


def test_mlflow_has_one_parent_and_one_child_per_trial(
    swept: tuple[Path, str], ledger: Ledger
) -> None:
    client, runs = runs_of(f"sqlite:///{swept[0] / 'runs' / 'mlflow.db'}")
    assert set(runs) == {"tiny", "tiny/0", "tiny/1", "tiny/2"}
    parent = runs["tiny"]
    assert parent.info.status == "FINISHED"
    assert {f.path for f in client.list_artifacts(parent.info.run_id)} == {
        "best_args.py",
        "best_config.yaml",
        "sweep.yaml",
        "trials.csv",
    }
    for trial in ledger.trials():
        child = runs[f"tiny/{trial.number}"]
        assert (
            child.info.status == "FINISHED"
            and child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        )
        assert float(child.data.params["policy_penalty"]) == trial.config["policy_penalty"]
        assert child.data.params["dataset"] == "seq-digits"
        history = client.get_metric_history(child.info.run_id, "val_class_il")
        assert [(m.step, m.value) for m in history] == [
            (r.task + 1, r.class_il) for r in next(iter(trial.results.values()))
        ]
        assert child.data.metrics["seconds"] > 0


def test_a_second_comparison_with_mlflow_changes_nothing(
    swept: tuple[Path, str], ledger: Ledger
) -> None:
    store = swept[0] / "runs" / "mlflow.db"
    client, before = runs_of(f"sqlite:///{store}")
    mirror = Mirror(ledger, f"sqlite:///{store}")
    for trial in ledger.trials():
        mirror.sync_trial(trial)
    _, after = runs_of(f"sqlite:///{store}")
    assert {t: r.data.metrics for t, r in before.items()} == {
        t: r.data.metrics for t, r in after.items()
    }
    assert len(client.get_metric_history(after["tiny/1"].info.run_id, "val_class_il")) == 3


@pytest.mark.parametrize("which", [pytest.param("best", marks=pytest.mark.slow), "sampled"])
def test_a_configuration_retrained_gives_the_trials_numbers_to_the_last_digit(
    which: str, swept: tuple[Path, str], ledger: Ledger, tmp_path: Path
) -> None:
    exported = swept[0] / "runs" / "tiny" / "best_config.yaml"
    number = yaml.safe_load(exported.read_text())["provenance"]["trial"]
    if which == "sampled":  # values of many digits, whoever is best
        number = 2
        exported = swept[0] / "runs" / "tiny" / "trials" / "0002" / "attempt-1" / "config.yaml"
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from dynamos.cli import main; sys.exit(main())",
            "--config",
            str(exported),
            "--save-path",
            str(tmp_path),
            "--exp-name",
            "again",
        ],
        check=True,
        capture_output=True,
        cwd=tmp_path,
    )
    again = json.loads((tmp_path / "again" / "result.json").read_text())["results"]
    assert len(again) == 3
    assert [repeatable(TaskResult.from_dict(one)) for one in again] == [
        repeatable(one) for one in next(iter(ledger.trial(number).results.values()))
    ]


def test_the_next_one_of_that_name_is_refused(swept: tuple[Path, str]) -> None:
    done = run("run", "--name", "tiny", "--trials", "3", cwd=swept[0])
    assert (
        done.returncode == 2
        and "dynamos-sweep extend tiny" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )


def test_the_report_is_written(swept: tuple[Path, str]) -> None:
    done = run("report", "tiny", cwd=swept[0])
    assert done.returncode == 0 and Path(done.stdout.strip()).read_text().count("<h2 ") >= 5


class OneNode:
    """Stands for the nodes of a cluster."""

    departures = Departures()

    def __call__(self) -> list[Node]:
        return [Node("n", "host", 1, 0)]


def test_mlflow_is_told_the_end_whatever_went_wrong_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Ledger) -> None:
        raise ValueError("no view can be made")

    ended: list[bool] = []
    mirror = SimpleNamespace(start=None, close=lambda: ended.append(True), error=None)
    monkeypatch.setattr("tune.engine.sweep.connected", lambda *_: nullcontext(OneNode()))
    monkeypatch.setattr("tune.engine.sweep.LiveMirror", lambda *_: mirror)
    monkeypatch.setattr("tune.engine.sweep._tuner", lambda *_: SimpleNamespace(fit=lambda: None))
    monkeypatch.setattr("tune.engine.sweep.write_views", fail)
    with patch.dict(os.environ), pytest.raises(ValueError, match="no view can be made"):
        run_sweep(Ledger.create(tmp_path, config(), {}))
    assert ended == [True]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, send",
    [
        (signal.SIGTERM, Session.send),
        (signal.SIGTERM, Session.send_all),
        (signal.SIGINT, Session.send_group),
    ],
)
def test_a_signal_early_in_a_session_leaves_a_sweep_to_resume(
    kind: signal.Signals, send: Callable[[Session, signal.Signals], None], tmp_path: Path
) -> None:
    def driven() -> bool:
        return (tmp_path / "runs" / "cut" / "sweep.yaml").exists() and (
            Ledger.open(tmp_path / "runs", "cut").driver is not None
        )

    with Driver("run", "--name", "cut", "--trials", "1", "--set", *SMALL, cwd=tmp_path) as driver:
        driver.until(driven)
        send(driver, kind)
        ended = driver.end()  # and nothing that it started is left
    # Ray starts before the sweep is made. It may be ready when the signal comes; then the session
    # ends in order.
    if ended.errors:
        assert ended.errors == [
            "dynamos-sweep: interrupted; continue with: dynamos-sweep resume cut"
        ]
    else:
        assert "Interrupted; 1 trial is left. Continue: " in ended.out
        assert "dynamos-sweep resume cut\n" in ended.out
    assert ended.status == 130, ended
    ledger = Ledger.open(tmp_path / "runs", "cut")
    assert (str(ledger.state), ledger.driver) == ("stopped, 1 left", None)
    assert [t.state for t in ledger.trials()] in (["WAITING"], ["INTERRUPTED"])
    done = run("resume", "cut", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_ctrl_c_marks_what_ran_and_resume_and_extend_finish_it(tmp_path: Path) -> None:
    storage = tmp_path / "runs"

    def one_is_under_way() -> bool:
        if not (storage / "cut" / "sweep.yaml").exists():
            return False
        trials = Ledger.open(storage, "cut").trials()
        return any(t.state == "RUNNING" and t.tasks_done >= 1 for t in trials)

    # Long enough tasks that a trial is still at work when the signal comes.
    long = [s for s in SMALL if not s.startswith("n_epochs")] + ["n_epochs=30", "warmup_epochs=2"]
    with Driver("run", "--name", "cut", "--trials", "3", "--set", *long, cwd=tmp_path) as driver:
        driver.until(one_is_under_way)
        driver.send_group(signal.SIGINT)
        ended = driver.end()
    said = ended.out + ended.err
    assert ended.status == 130 and "dynamos-sweep resume cut" in said and "Traceback" not in said, (
        said
    )
    ledger = Ledger.open(storage, "cut")
    before = {t.number: t for t in ledger.trials()}
    assert "INTERRUPTED" in {t.state for t in before.values()}
    assert "RUNNING" not in {t.state for t in before.values()}
    with (storage / "cut" / "trials.csv").open() as file:
        assert "INTERRUPTED" in {row["state"] for row in csv.DictReader(file)}

    done = run("resume", "cut", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("extend", "cut", "--trials", "+1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    frame = Sweep.of(Ledger.open(storage, "cut")).trials
    assert list(frame["state"]) == ["COMPLETE"] * 4
    assert list(frame["attempts"])[3] == 1 and max(frame["attempts"]) == 2
    for trial in Ledger.open(storage, "cut").trials():
        if trial.number in before and before[trial.number].tasks_done:
            assert {seed: of_seed[0] for seed, of_seed in trial.results.items()} == {
                seed: of_seed[0] for seed, of_seed in before[trial.number].results.items()
            }, "what was reported stands"
    assert set(runs_of(f"sqlite:///{storage / 'mlflow.db'}")[1]) == {
        "cut",
        "cut/0",
        "cut/1",
        "cut/2",
        "cut/3",
    }


@pytest.mark.slow
@pytest.mark.parametrize("send", [Session.send_group, Session.send_all])
def test_sigterm_to_all_of_its_processes_leaves_a_sweep_to_resume(
    send: Callable[[Session, signal.Signals], None], tmp_path: Path
) -> None:
    seen = Watched(tmp_path / "runs", "hit")
    with Driver("run", "--name=hit", *endless(tmp_path, others=1), cwd=tmp_path) as driver:
        driver.until(lambda: seen.at_work(0) and seen.state(1) == "COMPLETE")
        send(driver, signal.SIGTERM)
        ended = driver.end()  # and nothing that it started is left
    assert ended.status == 130 and not ended.errors, ended
    assert "dynamos-sweep resume hit" in ended.out
    assert [t.state for t in seen.trials()] == ["INTERRUPTED", "COMPLETE"]
    assert seen.ledger.driver is None
    with Driver("resume", "hit", cwd=tmp_path) as driver:
        driver.until(lambda: seen.at_work(0, attempt=2))


@pytest.mark.slow
def test_trials_cannot_read_test_images(tmp_path: Path) -> None:
    # A sweep whose trial tries to evaluate on test images, by a mistake in the code.
    code = (
        "import ray.tune; from tune.engine.trainable import SweepTrial; from dynamos.config import "
        "TrainConfig; made = ray.tune.with_parameters(SweepTrial, "
        "base=TrainConfig(evaluate_on='validation'), seeds=1, images=None, hashes={});import "
        "json; changes = json.dumps({'evaluate_on': 'test'});trial = {'number': 0, 'attempt': 1, "
        "'folders': json.dumps(['f/attempt-1']), 'changes': changes, 'seed': 42};trial = "
        "made(trial); trial.train(); print(trial.train()['report'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"RAY_AIR_NEW_OUTPUT": "0"},
    )
    report = json.loads(done.stdout.strip().splitlines()[-1])
    assert (
        report["state"] == "FAIL"
        and "test images cannot be read during a sweep" in report["reason"]
    )
    assert report["results"] == {}


@pytest.mark.slow
def test_a_non_finite_trial_is_pruned_with_its_reason_and_the_sweep_goes_on(tmp_path: Path) -> None:
    (tmp_path / "wild.yaml").write_text("parameters:\n  lr: {low: 1.0e+30, high: 1.0e+31}\n")
    # Enough trials for the sampler to learn from failed ones; it starts to learn after ten.
    done = run(
        "run",
        "--name",
        "wild",
        "--space",
        "wild.yaml",
        "--trials",
        "13",
        "--set",
        "lr=2e30",
        *SMALL,
        cwd=tmp_path,
    )
    assert (
        done.returncode == 1
        and "non-finite" in done.stdout
        and "Traceback" not in done.stdout + done.stderr
    )
    trials = Ledger.open(tmp_path / "runs", "wild").trials()
    assert [t.state for t in trials] == ["PRUNED"] * 13
    assert len({t.config["lr"] for t in trials}) == 13
    assert all("task 1, step" in (t.reason or "") for t in trials)


@pytest.mark.slow
def test_on_a_terminal_the_picture_outlives_ray_and_the_end_is_said(tmp_path: Path) -> None:
    line = shlex.join(command("run", "--name", "seen", "--trials", "2", "--set", *SMALL))
    done = subprocess.run(
        ["script", "--quiet", "--return", "--command", line, "/dev/null"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"TERM": "xterm"},
    )
    assert done.returncode == 0 and "Traceback" not in done.stdout, done.stdout
    assert "running" in done.stdout and "Next:" in done.stdout
