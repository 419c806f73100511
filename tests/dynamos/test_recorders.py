import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import main_policy
from dynamos import cli, metrics
from dynamos.display import Display
from dynamos.errors import UserError
from dynamos.metrics import TaskResult
from dynamos.recorders import append_row
from dynamos.trainer import Trainer
from tests.dynamos.test_flags import fields
from tests.dynamos.written import rows, scalars
from tests.helpers.small import small, small_flags

Written = tuple[Path, dict[str, Any]]
TABLE = "results/{}/seq-digits/dynamos/mean_accs.csv"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Return (folder of a run of three tasks with all its files, content of its result.json)."""
    folder = tmp_path_factory.mktemp("runs")
    flags = small_flags(
        n_tasks=3,
        n_epochs=3,
        evaluate_on="test",
        seed=5,
        max_train_images_per_task=100,
        nf=8,
        lr=0.1,
        buffer_size=60,
        warmup_steps=29,
        reward_weight=0,
        prototype_loss=0,
        policy_alpha=0,
    )
    flags += ["--csv-log", "--tensorboard", "--save-path", str(folder), "--exp-name", "e"]
    assert cli.main(flags) == 0
    return folder / "e", json.loads((folder / "e" / "result.json").read_text())


def matrix(content: dict[str, Any], setting: str) -> np.ndarray:
    return np.array(content["accuracy"][setting], dtype=float)  # null becomes NaN


@pytest.mark.parametrize("setting", ["class-il", "task-il"])
def test_a_csv_row_has_the_numbers_of_the_matrix(setting: str, written: Written) -> None:
    folder, content = written
    (row,) = rows(folder.parent / TABLE.format(setting))
    accuracy = matrix(content, setting)
    untrained = np.array(content["untrained"][setting.replace("-", "_")])
    wanted = {f"task{t + 1}": metrics.mean_accuracy(accuracy, t) for t in range(3)}
    wanted |= {
        "forward_transfer": metrics.forward_transfer(accuracy, untrained),
        "backward_transfer": metrics.backward_transfer(accuracy),
        "forgetting": metrics.forgetting(accuracy),
    }
    assert {name: float(row[name]) for name in wanted} == wanted
    assert len(set(wanted.values())) == len(wanted), "two are equal: swapped columns would pass"
    assert row == {
        name: "" if value is None else str(value)
        for name, value in {
            **{name: row[name] for name in wanted},
            **content["config"],
            "exp_name": "e",
            "notes": "",
            "tensorboard": True,
            "csv_log": True,
            "save_all": False,
            "checkpoint_every": None,
        }.items()
    }


def test_the_csv_row_agrees_with_the_task_results(written: Written) -> None:
    folder, content = written
    results = [TaskResult.from_dict(result) for result in content["results"]]
    by_setting = {
        setting: rows(folder.parent / TABLE.format(setting))[0]
        for setting in ("class-il", "task-il")
    }
    for result in results:
        assert float(by_setting["class-il"][f"task{result.task + 1}"]) == result.class_il
        assert float(by_setting["task-il"][f"task{result.task + 1}"]) == result.task_il
    for name in ("forward_transfer", "backward_transfer", "forgetting"):
        assert float(by_setting["class-il"][name]) == getattr(results[-1], name)


def test_the_curve_is_in_a_file_and_in_event_files(tmp_path: Path) -> None:
    flags = small_flags(log_every=3)
    assert cli.main([*flags, "--tensorboard", "--save-path", str(tmp_path), "--exp-name", "e"]) == 0
    trainer = Trainer(small(log_every=3))
    for _ in trainer:
        pass
    table = [
        {name: float(value) for name, value in row.items()}
        for row in rows(tmp_path / "e" / "curve.csv")
    ]
    assert (
        table == [{**point, "task": point["task"] + 1} for point in trainer.curve]
        and len(table) == 4
    )
    found = scalars(tmp_path / "e" / "tensorboard" / "task-il")
    for name in (
        "loss_task",
        "loss_policy",
        "loss_prototype",
        "loss_rehearsal",
        "keep_gate1",
        "keep_gate4",
    ):
        wanted: list[tuple[float, Any]] = [
            (point["steps"], pytest.approx(point[name])) for point in trainer.curve
        ]
        assert found[f"curve/{name}"] == wanted


def test_without_log_every_there_is_no_curve(written: Written) -> None:
    assert not (written[0] / "curve.csv").exists()


@pytest.mark.parametrize("setting", ["class-il", "task-il"])
def test_event_files_have_the_numbers_of_the_matrix(setting: str, written: Written) -> None:
    folder, content = written
    found = scalars(folder / "tensorboard" / setting)
    accuracy = matrix(content, setting)
    results = content["results"]

    def close(pairs: Iterable[tuple[int, float]]) -> list[tuple[int, Any]]:
        # they hold single precision
        return [(step, pytest.approx(value, rel=1e-6)) for step, value in pairs]

    wanted = {
        "accuracy/mean": [(i + 1, metrics.mean_accuracy(accuracy, i)) for i in range(3)],
        "gates/keep_fraction": [(i + 1, results[i]["keep_fraction"]) for i in range(3)],
    }
    for t in range(3):
        wanted[f"accuracy/task{t + 1}"] = [(i + 1, accuracy[i, t]) for i in range(t, 3)]
    epochs = ("train/loss", "train/accuracy", "train/keep_fraction")
    assert set(found) == {*wanted, *epochs}
    for name, pairs in wanted.items():
        assert found[name] == close(pairs), name
    assert all([step for step, _ in found[name]] == list(range(1, 10)) for name in epochs)
    # A TaskResult has the values of the last of its task's three epochs.
    for name in ("loss", "accuracy"):
        assert found[f"train/{name}"][2::3] == close(
            (3 * i + 3, results[i][f"train_{name}"]) for i in range(3)
        )


def test_the_result_file_says_what_code_began_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revisions = iter(["first", "later", "later still"])
    monkeypatch.setattr("dynamos.recorders.git_revision", lambda: next(revisions))
    real = Trainer.run_task

    def run_task(self: Trainer) -> TaskResult:
        monkeypatch.setattr("dynamos.recorders.environment", lambda *_: "later")
        return real(self)

    monkeypatch.setattr(Trainer, "run_task", run_task)
    assert cli.main([*small_flags(), "--save-path", str(tmp_path), "--exp-name", "e"]) == 0
    content = json.loads((tmp_path / "e" / "result.json").read_text())
    assert content["git_revision"] == "first" and content["environment"]["threads"] == 1


DAMAGES = {
    "a row longer than the header": b"task1,seed\r\n1,2,3\r\n",
    "other bytes than UTF-8": b"task1,s\xff\r\n1,2\r\n",
    "a value without end": b'task1,seed\r\n1,"' + b"2" * 200_000,
    "semicolons": b"task1;seed\r\n1,5;2\r\n",
    "tabs": b"task1\tseed\r\n1\t2\r\n",
    "another table": b"name,city\r\na,b\r\n",
    "a column twice": b"task1,seed,task1\r\n1,2,3\r\n",
    "UTF-16": "task1,seed\r\n1,2\r\n".encode("utf-16"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_table_is_a_user_error_and_stays_as_it_is(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mean_accs.csv"
    path.write_bytes(damage)
    with pytest.raises(UserError, match="mean_accs.csv is damaged: .* or move it"):
        append_row(path, {"task1": 1.0})
    assert path.read_bytes() == damage


@pytest.mark.parametrize(
    "saved",
    [
        b"\xef\xbb\xbftask1,seed\r\n1.5,2\r\n",
        b'\xef\xbb\xbf"task1",seed\n1.5,2\n',
        b"task1,seed\n1.5,2",
    ],
    ids=["mark", "mark, quotes, LF", "no end"],
)
def test_a_table_that_a_spreadsheet_saved_gets_its_row(saved: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mean_accs.csv"
    path.write_bytes(saved)
    append_row(path, {"task1": 3.5, "seed": 4}, once=True)
    append_row(path, {"task1": 3.5, "seed": 4}, once=True)
    assert rows(path) == [{"task1": "1.5", "seed": "2"}, {"task1": "3.5", "seed": "4"}]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_table_with_other_marks_between_its_columns_says_so(
    delimiter: str, tmp_path: Path
) -> None:
    (tmp_path / "mean_accs.csv").write_text(f"task1{delimiter}seed\n1{delimiter}2\n")
    with pytest.raises(
        UserError, match=f"separated by {delimiter!r} instead of commas".replace("\\", "\\\\")
    ):
        append_row(tmp_path / "mean_accs.csv", {"task1": 1.0})


@pytest.mark.parametrize("main", [cli.main, main_policy.main], ids=["dynamos", "main_policy"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_damaged_table_costs_no_result(
    when: str,
    main: Callable[[Sequence[str]], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = tmp_path / TABLE.format("task-il")
    real, trained = Trainer.run_task, []

    def damaged() -> None:
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_bytes(next(iter(DAMAGES.values())))

    def run_task(self: Trainer) -> TaskResult:
        trained.append(self.task)
        damaged()
        return real(self)

    monkeypatch.setattr(Trainer, "run_task", run_task)
    if when == "before":
        damaged()
    assert main([*fields(), "--csv-log", "--save-path", str(tmp_path), "--exp-name", "e"]) == 2
    error = capsys.readouterr().err
    assert f"error: {table} is damaged" in error and error.count("\n") == 1
    if when == "before":
        assert trained == []
        return
    (result,) = tmp_path.rglob("result.json")
    assert len(list(tmp_path.rglob("task_final.pth"))) == 1
    assert len(json.loads(result.read_text())["results"]) == 2
    if main is cli.main:
        table.unlink()
        assert main(["--resume", str(tmp_path / "e")]) == 0
        assert trained == [0, 1] and len(rows(table)) == 1
        assert len(rows(tmp_path / TABLE.format("class-il"))) == 1
        assert json.loads(result.read_text())["finished"] is not None


def test_the_progress_bar_moves_with_every_step() -> None:
    trainer, seen = Trainer(small(n_tasks=1)), []
    with Display(trainer) as display:

        def step(trainer: Trainer) -> None:
            display.step(trainer)
            seen.append(display.progress.tasks[0].completed)

        trainer.on_step = step
        trainer.run_task()
        assert display.progress.tasks[0].total == 4
    assert seen == [1, 2, 3, 4]
