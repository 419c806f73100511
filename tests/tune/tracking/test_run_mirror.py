"""A single run of `dynamos` in MLflow, by the command line and a real store."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from dynamos.cli import main
from dynamos.config import FIELDS
from dynamos.metrics import TaskResult
from dynamos.trainer import Trainer
from tests.helpers.small import small_flags
from tune.tracking.store import make_store

TASKS = 2


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store that all tests share, because making one takes seconds."""
    made = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    make_store(made)
    return made


def trained(*flags: str, **changes: Any) -> int:
    return main([*small_flags(**changes), "--save-path", ".", "--exp-name", "e", *flags])


def found(uri: str) -> Run:
    """The only MLflow run of the test's run."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("dynamos")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id], f"tags.folder = '{Path('e').resolve()}'")
    return run


def steps(uri: str, run: Run, metric: str) -> list[int]:
    """Return the steps of every logged value of a metric."""
    return [
        m.step for m in MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, metric)
    ]


def fails_after_a_task(patch: pytest.MonkeyPatch, error: BaseException) -> None:
    real = Trainer.run_task

    def run_task(self: Trainer) -> TaskResult:
        if self.results:
            raise error
        return real(self)

    patch.setattr(Trainer, "run_task", run_task)


def test_a_run_has_its_parameters_metrics_origin_and_files(uri: str) -> None:
    assert trained("--tracking-uri", uri, "--notes", "a remark", lr=0.1) == 0
    run, result = found(uri), json.loads(Path("e/result.json").read_text())
    assert (run.info.status, run.info.run_name) == ("FINISHED", "e")
    assert run.data.params == {
        name: str(value) for name, value in result["config"].items()
    } and set(FIELDS) == set(run.data.params)
    last = TaskResult.from_dict(result["results"][-1]).metrics()
    assert run.data.metrics == pytest.approx(last)
    assert all(
        steps(uri, run, name) == [1, 2] for name in ("val_class_il", "compute", "train_seconds")
    )
    assert (
        run.data.tags.items()
        >= {
            "mlflow.note.content": "a remark",
            "torch": result["environment"]["versions"]["torch"],
            "device": "cpu",
            "data_hash": result["data_hash"],
            "validation_hash": result["split_hash"],
        }.items()
    )
    client = MlflowClient(tracking_uri=uri)
    assert {f.path for f in client.list_artifacts(run.info.run_id)} == {
        "config.yaml",
        "result.json",
    }
    assert main(["--resume", "e"]) == 0
    again = found(uri)
    assert again.info.run_id == run.info.run_id and steps(uri, again, "val_class_il") == [1, 2]


@pytest.mark.parametrize(
    "error, status, code",
    [(KeyboardInterrupt(), "KILLED", 130), (OSError(28, "No space left on device"), "FAILED", 1)],
)
def test_a_run_that_is_broken_off_says_so_and_goes_on_in_the_same_mlflow_run(
    uri: str, error: BaseException, status: str, code: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fails_after_a_task(patch, error)
        assert trained("--tracking-uri", uri) == code
    before = found(uri)
    assert before.info.status == status and steps(uri, before, "val_class_il") == [1]
    assert before.data.tags["reason"] == (str(error) or "KeyboardInterrupt")
    assert main(["--resume", "e"]) == 0
    after = found(uri)
    assert (after.info.run_id, after.info.status, after.data.tags["reason"]) == (
        before.info.run_id,
        "FINISHED",
        "",
    )
    assert all(steps(uri, after, name) == [1, 2] for name in ("val_class_il", "train_seconds"))


def test_metrics_that_were_sent_before_a_kill_are_not_doubled(uri: str) -> None:
    """The tag that counts sent results is written last, so a kill may leave metrics without it."""
    with pytest.MonkeyPatch.context() as patch:
        fails_after_a_task(patch, KeyboardInterrupt())
        assert trained("--tracking-uri", uri) == 130
    MlflowClient(tracking_uri=uri).delete_tag(found(uri).info.run_id, "dynamos.results")
    assert main(["--resume", "e"]) == 0
    assert all(steps(uri, found(uri), name) == [1, 2] for name in ("val_class_il", "train_seconds"))


def test_a_server_that_is_away_costs_no_training_and_is_made_up_for(
    uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert trained("--tracking-uri", "http://127.0.0.1:9") == 0
    [warning] = [r.getMessage() for r in caplog.records if "MLflow" in r.getMessage()]
    assert (
        "lacks the latest results of this run" in warning
        and "dynamos --resume" in warning
        and "\n" not in warning
    )
    assert main(["--resume", "e", "--tracking-uri", uri]) == 0
    assert found(uri).info.status == "FINISHED" and steps(uri, found(uri), "val_class_il") == [1, 2]


@pytest.mark.parametrize(
    "given, why",
    [
        ("./mlruns", "MLflow does not support a folder"),
        ("file:///tmp/x", "MLflow does not support a folder"),
        ("http://me:secret@host", "a sweep's files must not contain a password"),
        ("sqlite:///mlflow.db", "absolute path"),
    ],
)
@pytest.mark.parametrize("by", ["--tracking-uri", "MLFLOW_TRACKING_URI"])
def test_a_place_where_no_run_can_be_kept_is_refused_before_training(
    given: str,
    why: str,
    by: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given if by.isupper() else "")
    assert trained(*([] if by.isupper() else [by, given])) == 2
    error = capsys.readouterr().err
    assert (
        why in error
        and f"error: {by}" in error
        and "secret" not in error
        and error.count("\n") == 1
    )
    assert not Path("e").exists()


def test_the_environments_server_counts(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert trained() == 0
    assert found(uri).info.status == "FINISHED"


def test_without_one_nothing_of_mlflow_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynamos.recorders.entry_points", lambda **_: pytest.fail("asked"))
    assert trained() == 0
