import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml

from dynamos import config as configuration
from dynamos import export, run
from dynamos.arguments import fields_given, merged
from dynamos.cli import main, train_parser
from dynamos.config import FIELDS, TrainConfig, preset, read_config
from dynamos.errors import UserError
from dynamos.metrics import TaskResult
from dynamos.network import build_network
from dynamos.provenance import git_revision
from dynamos.trainer import Trainer
from tests.dynamos.written import rows, scalars
from tests.helpers.small import outcome, small, small_flags

ROOT = Path(__file__).parents[2]
Trained = list[tuple[TrainConfig, dict[str, Any], Path]]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Collects the configurations that `dynamos` would train."""
    configs: Trained = []

    def instead(config: TrainConfig, options: dict[str, Any], folder: Path, **_: Any) -> int:
        configs.append((config, options, folder))
        return 0

    monkeypatch.setattr("dynamos.cli._run", instead)
    return configs


def one_line_error(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("dynamos: error: ") and error.endswith("\n")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--dataset", "seq-digit"], ["unknown dataset 'seq-digit'", "'seq-digits'?"]),
        (
            ["--dataset", "seq-mnist", "--data-path", "/nonexistent"],
            ["/nonexistent", "train-images-idx3-ubyte", "--download"],
        ),
        (
            ["--dataset", "seq-svhn", "--data-path", "/nonexistent"],
            ["train_32x32.mat", "--download"],
        ),
        (["--dataset", "seq-mnist"], ["--data-path"]),
        (["--keep_ratio", "1.5"], ["keep_ratio 1.5", "from 0 to 1"]),
        (["--policy_penalty", "5"], ["policy_penalty 5", "at most 0"]),
        (["--lr", "nan"], ["lr nan"]),
        (["--nf", "many"], ["nf 'many'", "whole number"]),
        (["--nf", "4"], ["hidden_dim_ratio 16", "at most 8"]),
        (["--kep-ratio", "0.5"], ["--kep-ratio", "Did you mean --keep-ratio?"]),
        (["--set", "kep_ratio=0.5"], ["'kep_ratio'", "'keep_ratio'?"]),
        (["--set", "lr"], ["field=value"]),
        (["--lr"], ["--lr"]),
        (["surplus"], ["'surplus'"]),
        (["--config", "/nonexistent.yaml"], ["/nonexistent.yaml"]),
        (["--resume", "/nonexistent"], ["/nonexistent", "config.yaml"]),
        (
            ["--preset", "--buffer-size", "300"],
            ["buffer_size 300", "seq-mnist 500", "mnist-360 100"],
        ),
        (["--preset", "--model", "sgd"], ["no preset for sgd"]),
        (["--validation", "--evaluate-on", "test"], ["--validation"]),
        (["--dataset", "digits-360", "--n-epochs", "2"], ["n_epochs 2", "digits-360"]),
        (["--device", "tpu"], ["'tpu'"]),
        (["--device", "cuda:99999999999999999999"], ["device", "cuda:N"]),
        (["--device", "cuda:\u0663"], ["device", "cuda:N"]),
        (["--buffer-size", "1" + 15 * "0"], ["buffer_size 1000000000000000", "from 1 to 1e+14"]),
        (["--nf", "10000000"], ["nf 10000000", "from 1 to 65536"]),
        (["--threads", "99999999999"], ["threads 99999999999", "from 1 to 1024"]),
        (["--class-order-seed", "9" * 400], ["class_order_seed 999", "from 0 to"]),
        (["--dataset", "seq-mnist", "--data-path", "~nosuchuser/x"], ["~nosuchuser/x"]),
        (["--resume", "~nosuchuser/x"], ["~nosuchuser/x"]),
        (["--config", "~nosuchuser/x"], ["~nosuchuser/x"]),
        (["--checkpoint-every", "0"], ["--checkpoint-every"]),
        (
            ["--warmup", "--warmup-steps", "30", "--max-train-images-per-task", "40"],
            ["warmup_steps 30", "4 steps"],
        ),
        (["export", "/nonexistent", "--to", "x"], ["/nonexistent"]),
        (["--notes", "caf\udce9"], [r"caf\udce9", "UTF-8"]),
        (["--exp-name", "caf\udce9"], ["UTF-8"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    flags: list[str],
    says: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(flags) == 2
    error = one_line_error(capsys)
    for text in says:
        assert text in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content, says",
    [
        ("a: [", "not readable YAML"),
        ("- 1", "mapping"),
        ("lr: fast", "lr 'fast'"),
        ("kep_ratio: 0.5", "keep_ratio"),
        ("config: 3", "'config'"),
        ("lr: 2020-13-45", "not readable YAML"),
        ("lr: 1" + 400 * "0", "lr 1000"),
        ("buffer_size: [1]", "buffer_size [1]"),
    ],
)
def test_a_bad_file_is_one_line_and_status_2(
    content: str, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    for flags in ([], ["--preset"]):
        assert main([*flags, "--config", str(path)]) == 2
        assert says in one_line_error(capsys)


def test_two_runs_that_start_together_do_not_share_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--save-path", str(tmp_path), "--exp-name", "e"]
    real = run.build

    def while_the_other_begins(config: TrainConfig, download: bool) -> Trainer:
        monkeypatch.setattr(run, "build", real)
        assert main([*small_flags(seed=2), *flags]) == 0
        return real(config, download)

    monkeypatch.setattr(run, "build", while_the_other_begins)
    assert main([*small_flags(seed=1), *flags]) == 2
    assert f"a run already exists in {tmp_path / 'e'}" in one_line_error(capsys)
    assert read_config(tmp_path / "e" / "config.yaml")["seed"] == 2
    assert json.loads((tmp_path / "e" / "result.json").read_text())["config"]["seed"] == 2


def test_runs_that_differ_in_their_seed_have_folders_of_their_own(trained: Trained) -> None:
    assert [main(["--seed", seed]) for seed in ("1", "2")] == [0, 0]
    for seed, (_, _, folder) in zip((1, 2), trained, strict=True):
        assert folder.name.startswith(f"seq-digits-dynamos-seed{seed}-")


def test_a_run_that_does_not_fit_into_memory_is_one_line_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*small_flags(), "--save-path", str(tmp_path)]
    monkeypatch.setattr(run, "build_run", lambda *_: torch.empty(2**50, dtype=torch.uint8))
    assert main(flags) == 1
    error = one_line_error(capsys)
    assert "not enough memory for nf 4, buffer_size 20, batch_size" in error and str(2**50) in error
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(run, "build_run", mock.Mock(side_effect=RuntimeError("a slip")))
    with pytest.raises(RuntimeError, match="a slip"):  # with its traceback
        main(flags)
    monkeypatch.undo()
    monkeypatch.setattr(Trainer, "run_task", mock.Mock(side_effect=MemoryError("no more")))
    assert main(flags) == 1
    assert "minibatch_size 10: no more" in one_line_error(capsys)


def test_a_run_that_fails_ends_with_status_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*small_flags(lr=1e30), "--save-path", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "non-finite in task 1" in error.splitlines()[-1]


def test_an_interrupted_run_ends_with_status_130_and_names_the_command_to_continue(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "run_task", mock.Mock(side_effect=KeyboardInterrupt))
    assert main([*small_flags(), "--save-path", str(tmp_path), "--exp-name", "e"]) == 130
    assert f"dynamos --resume {tmp_path / 'e'}" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["--resume", str(tmp_path / "e")]) == 0


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a run that has no checkpoint yet."""
    with monkeypatch.context() as patch:
        patch.setattr("dynamos.trainer.Trainer.run_task", mock.Mock(side_effect=KeyboardInterrupt))
        assert main([*small_flags(), "--save-path", str(tmp_path), "--exp-name", "e"]) == 130
    assert not (tmp_path / "e" / "checkpoints").exists()
    return tmp_path / "e"


@pytest.fixture
def finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Folder of a finished run."""
    assert main([*small_flags(), "--save-path", str(tmp_path), "--exp-name", "e"]) == 0
    capsys.readouterr()
    return tmp_path / "e"


@pytest.mark.parametrize("flags", [["--lr", "0.5", "--seed", "3"], ["--set", "lr=0.5", "seed=3"]])
def test_resuming_before_the_first_checkpoint_with_other_values_is_refused(
    flags: list[str], interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (interrupted / "config.yaml").read_bytes()
    capsys.readouterr()
    assert main(["--resume", str(interrupted), *flags]) == 2
    assert "lr, seed" in one_line_error(capsys)
    assert (interrupted / "config.yaml").read_bytes() == before
    assert main(["--resume", str(interrupted), "--lr", str(small().lr)]) == 0  # as it is
    content = json.loads((interrupted / "result.json").read_text())
    assert content["config"] == small().to_dict() == read_config(interrupted / "config.yaml")


def test_resuming_elsewhere_is_refused(
    interrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["--resume", str(interrupted), "--save-path", str(tmp_path / "other")]) == 2
    assert "--save-path" in one_line_error(capsys)


def test_options_given_to_resume_are_kept(
    interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("dynamos.trainer.Trainer.run_task", mock.Mock(side_effect=KeyboardInterrupt))
        assert main(["--resume", str(interrupted), "--csv-log", "--notes", "later"]) == 130
    monkeypatch.chdir(interrupted)
    assert main(["--resume", "."]) == 0
    assert [row["notes"] for row in csv_rows(interrupted)] == ["later"]
    assert json.loads((interrupted / "result.json").read_text())["notes"] == "later"


def test_a_resumed_run_keeps_its_first_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(f"time {i}" for i in range(100))
    monkeypatch.setattr("dynamos.provenance.now_utc", lambda: next(times))
    real = Trainer.run_task
    for at in ("nothing done", "a task done"):

        def run_task(self: Trainer, at: str = at) -> TaskResult:
            if at == "nothing done" or self.results:
                raise KeyboardInterrupt
            return real(self)

        resumed = ["--resume", str(tmp_path / "e")]
        fresh = [*small_flags(), "--save-path", str(tmp_path), "--exp-name", "e"]
        with monkeypatch.context() as patch:
            patch.setattr("dynamos.trainer.Trainer.run_task", run_task)
            assert main(fresh if at == "nothing done" else resumed) == 130
    assert main(resumed) == 0
    content = json.loads((tmp_path / "e" / "result.json").read_text())
    assert content["started"] == "time 0" and content["finished"] is not None


@pytest.mark.parametrize(
    "says, change",
    [
        ("started", lambda content: content.pop("started")),
        ("checkpoint_every 0", dict(checkpoint_every=0)),
        ("checkpoint_every True", dict(checkpoint_every=True)),
        ("tensorboard 'yes'", dict(tensorboard="yes")),
        ("notes 3", dict(notes=3)),
        ("tracking_uri 3", dict(tracking_uri=3)),
        ("csv_log None", dict(csv_log=None)),
        ("lr 0.0", dict(config={"lr": 0})),
    ],
)
def test_the_content_of_a_runs_folder_is_checked(
    says: str,
    change: dict[str, Any] | Callable[[dict[str, Any]], object],
    interrupted: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = interrupted / "config.yaml"
    content = yaml.safe_load(path.read_text())
    change(content) if callable(change) else content.update(change)
    path.write_text(yaml.safe_dump(content))
    before = path.read_bytes()
    capsys.readouterr()
    assert main(["--resume", str(interrupted)]) == 2
    assert says in one_line_error(capsys)
    assert path.read_bytes() == before


def test_an_exported_network_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export.write(small(), build_network(small(), 10), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["--resume", str(tmp_path)]) == 2
    assert "no run in this folder" in one_line_error(capsys)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"results": [', b"\xff"])
def test_a_damaged_result_file_is_written_again(content: str | bytes, finished: Path) -> None:
    path = finished / "result.json"
    results = json.loads(path.read_text())["results"]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["--resume", str(finished)]) == 0
    after = json.loads(path.read_text())
    assert after["results"] == results and after["finished"] is not None


@pytest.mark.parametrize(
    "flags, named",
    [
        (["--csv-log", "--tensorboard", "--save-all"], "--tensorboard, --csv-log, --save-all"),
        (["--checkpoint-every", "3"], "--checkpoint-every"),
        (["--notes", "late"], "--notes"),
    ],
)
def test_options_that_would_have_no_effect_on_a_finished_run_are_refused(
    flags: list[str], named: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "config.yaml").read_bytes()
    assert main(["--resume", str(finished), *flags]) == 2
    assert f"is finished: {named} would have no effect" in one_line_error(capsys)
    assert (finished / "config.yaml").read_bytes() == before
    assert main(["--resume", str(finished), "--notes", ""]) == 0  # as it is


def csv_rows(folder: Path) -> list[dict[str, str]]:
    """Rows of the CSV tables beside a run's folder."""
    return rows(folder.parent / "results" / "class-il" / "seq-digits" / "dynamos" / "mean_accs.csv")


KILLED_AT_THE_END = """
import os, signal, sys
from dynamos import cli, recorders
getattr(recorders, sys.argv[1]).end = lambda self, trainer: os.kill(os.getpid(), signal.SIGKILL)
cli.main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    "recorder",
    [
        "ResultFile",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("ModelFiles", "CsvRow")),
    ],
)
def test_a_run_killed_after_its_last_checkpoint_is_completed(recorder: str, tmp_path: Path) -> None:
    flags = [*small_flags(), "--csv-log", "--save-path", str(tmp_path), "--exp-name", "e"]
    child = subprocess.run(
        [sys.executable, "-c", KILLED_AT_THE_END, recorder, *flags], cwd=ROOT, capture_output=True
    )
    assert child.returncode == -signal.SIGKILL
    folder = tmp_path / "e"
    before = json.loads((folder / "result.json").read_text())
    assert len(before["results"]) == 2 and before["finished"] is None
    for _ in range(2):  # the second time there is nothing left to do
        assert main(["--resume", str(folder)]) == 0
        after = json.loads((folder / "result.json").read_text())
        assert after["finished"] is not None and after["results"] == before["results"]
        assert after["started"] == before["started"]
        assert (folder / "models" / "task_final.pth").is_file()
        assert [row["exp_name"] for row in csv_rows(folder)] == ["e"]


KILLED_IN_THE_LAST_EPOCH = """
import os, signal, sys
from dynamos import cli, recorders
real = recorders.Checkpoints.step
def step(self, trainer):
    real(self, trainer)
    if trainer.steps == 15:
        os.kill(os.getpid(), signal.SIGKILL)
recorders.Checkpoints.step = step
cli.main(sys.argv[1:])
"""


def test_a_killed_run_has_every_epoch_in_its_event_files(tmp_path: Path) -> None:
    flags = [
        *small_flags(n_tasks=1, n_epochs=4, log_every=1),
        "--tensorboard",
        "--checkpoint-every",
        "1",
        "--save-path",
        str(tmp_path),
        "--exp-name",
        "e",
    ]
    child = subprocess.run(
        [sys.executable, "-c", KILLED_IN_THE_LAST_EPOCH, *flags], cwd=ROOT, capture_output=True
    )
    assert child.returncode == -signal.SIGKILL
    assert main(["--resume", str(tmp_path / "e")]) == 0
    means = scalars(tmp_path / "e" / "tensorboard" / "class-il")["train/loss"]
    assert [epoch for epoch, _ in means] == [1, 2, 3, 4]
    assert [int(row["steps"]) for row in rows(tmp_path / "e" / "curve.csv")] == list(range(1, 17))


def test_a_run_resumed_within_the_same_second_begins_no_event_file_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorboardX.event_file_writer.time.time", lambda: 1e9)
    flags = [*small_flags(), "--tensorboard", "--save-path", str(tmp_path), "--exp-name", "e"]
    real = Trainer.run_task
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_task", lambda self: real(self) if not self.results else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(flags)
    assert main(["--resume", str(tmp_path / "e")]) == 0
    means = scalars(tmp_path / "e" / "tensorboard" / "class-il")["accuracy/mean"]
    assert [task for task, _ in means] == [1, 2]


def test_a_running_run_is_not_resumed_by_a_second_process(
    interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    with run.alone(interrupted):
        assert main(["--resume", str(interrupted)]) == 2
        assert "is running in another process" in one_line_error(capsys)
    assert main(["--resume", str(interrupted)]) == 0


def test_a_finished_run_without_its_checkpoints_keeps_its_results(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(finished / "checkpoints")
    before = (finished / "result.json").read_bytes()
    assert main(["--resume", str(finished)]) == 2
    assert "is finished and has no checkpoints left" in one_line_error(capsys)
    assert (finished / "result.json").read_bytes() == before


def test_a_finished_run_whose_newest_checkpoint_is_damaged_has_one_row(tmp_path: Path) -> None:
    assert main([*small_flags(), "--csv-log", "--save-path", str(tmp_path), "--exp-name", "e"]) == 0
    rows = csv_rows(tmp_path / "e")
    newest = max((tmp_path / "e" / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    assert main(["--resume", str(tmp_path / "e")]) == 0
    assert csv_rows(tmp_path / "e") == rows and len(rows) == 1
    assert json.loads((tmp_path / "e" / "result.json").read_text())["finished"] is not None
    # The row of a run with another name is added, even if it differs in the name only.
    assert main([*small_flags(), "--csv-log", "--save-path", str(tmp_path), "--exp-name", "f"]) == 0
    assert [row["exp_name"] for row in csv_rows(tmp_path / "e")] == ["e", "f"]


def test_help_needs_no_torch() -> None:
    code = (
        "import sys, dynamos.cli\n"
        "try: dynamos.cli.main(['--help'])\n"
        "except SystemExit as e: assert e.code == 0\n"
        "assert dynamos.cli.main(['--lr', 'x']) == 2\n"
        "heavy = {'torch', 'numpy', 'sklearn', 'scipy', 'tensorboardX'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    for name, spec in FIELDS.items():
        assert f"--{name.replace('_', '-')}" in text
        assert " ".join(spec.help.split()[:4]) in text, name
    assert "a fixed 10 % of the training images" in text  # a bare % is no format


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_a_flag_with_dash_or_underscore(name: str, trained: Trained) -> None:
    values = {
        "model": "sgd",
        "dataset": "seq-svhn",
        "evaluate_on": "validation",
        "infer_mode": "sample",
        "augment": "crop-flip",
        "network": "resnet18",
        "gated_stages": "1,2",
        "device": "cpu",
        "precision": "bf16",
        "step_mode": "compile",
        "policy_penalty": "-3e2",
        "data_path": "/d",
        "keep_ratio": "0.25",
        "inf_thresh": "0.25",
        "average_decay": "0.25",
        "readings": "4",
        "nf": "64",
    }
    also = {"readings": ["--evaluate-on", "validation"]}.get(name, [])
    kind, _ = configuration.field_type(name)
    words = [*([] if kind is bool else [values.get(name, "7")]), *also]
    for flag in (f"--{name}", f"--{name.replace('_', '-')}"):
        assert main([flag, *words]) == 0
    first, second = trained
    assert first[0] == second[0]
    changed = {
        key for key, value in first[0].to_dict().items() if value != configuration.default(key)
    }
    assert changed == {name} | ({"evaluate_on"} if also else set())


def test_a_later_value_of_a_field_wins_over_an_earlier_one(
    trained: Trained, tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("lr: 0.01\nalpha: 0.9\nbeta: 0.8\n")
    flags = ["--preset", "--dataset", "seq-svhn", "--buffer-size", "500", "--config", str(path)]
    assert main([*flags, "--set", "alpha=0.6", "lr=0.02", "--lr", "0.03"]) == 0
    config = trained[0][0]
    assert (config.lr, config.alpha, config.beta) == (0.03, 0.6, 0.8)  # flag, --set, file
    assert (
        config.policy_alpha
        == preset("seq-svhn", 500)["policy_alpha"]
        != configuration.default("policy_alpha")
    )
    assert config.inf_thresh == configuration.default("inf_thresh")


def test_an_explicit_default_wins_over_the_preset(trained: Trained) -> None:
    assert (
        main(
            [
                "--preset",
                "--dataset",
                "seq-svhn",
                "--buffer-size",
                "500",
                "--alpha",
                "0.2",
                "--no-warmup",
            ]
        )
        == 0
    )
    config = trained[0][0]
    assert preset("seq-svhn", 500)["alpha"] != 0.2
    assert (config.alpha, config.warmup) == (0.2, False)


def test_preset_without_a_size_takes_the_streams_smallest(trained: Trained) -> None:
    assert main(["--preset"]) == 0
    assert main(["--preset", "--dataset", "mnist-360", "--data-path", "/d"]) == 0
    assert [run[0].buffer_size for run in trained] == [200, 100]


def test_a_relative_data_path_is_kept_absolute(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--data-path", "data"]) == 0
    assert trained[0][0].data_path == str(tmp_path.resolve() / "data")


def test_a_run_leaves_its_configuration_results_and_origin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [*small_flags(), "--save-path", str(tmp_path), "--exp-name", "e", "--notes", "a remark"]
        )
        == 0
    )
    shown = capsys.readouterr().out
    folder = tmp_path / "e"
    trainer = Trainer(small())
    results, _ = outcome(trainer)
    assert TrainConfig.from_dict(read_config(folder / "config.yaml")) == small()
    content = json.loads((folder / "result.json").read_text())
    assert content["accuracy"]["class-il"] == [
        list(results[0]["class_il_row"]),
        list(results[1]["class_il_row"]),
    ]
    assert content["accuracy"]["task-il"][1] == list(results[1]["task_il_row"])
    assert content["untrained"] == trainer.untrained
    assert content["notes"] == "a remark"
    assert content["environment"]["versions"]["torch"] and content["environment"]["threads"] == 1
    assert content["finished"] is not None and content["git_revision"] == git_revision()
    for i, result in enumerate(results):
        line = next(line for line in shown.splitlines() if line.startswith(f"task {i + 1}/2"))
        assert f"{result['class_il']:.2f}" in line and f"{result['task_il']:.2f}" in line
    assert "computes all channels" in shown
    by_task = (
        [
            f"{c:.2f} / {t:.2f}"
            for c, t in zip(r["class_il_row"][: i + 1], r["task_il_row"], strict=False)
        ]
        for i, r in enumerate(results)
    )
    for i, cells in enumerate(by_task):
        line = next(line for line in shown.splitlines() if re.match(rf"\W+{i + 1}\W", line))
        assert re.findall(r"[\d.]+ / [\d.]+", line)[:-1] == cells
    last = results[-1]
    assert (
        f"forgetting {last['forgetting']:.2f}, backward transfer {last['backward_transfer']:.2f}, "
        f"forward transfer {last['forward_transfer']:.2f}"
    ) in shown

    # A second run does not take over the folder. The finished run is shown, and not trained again.
    assert main([*small_flags(), "--save-path", str(tmp_path), "--exp-name", "e"]) == 2
    assert f"--resume {folder}" in capsys.readouterr().err
    before = (folder / "result.json").read_bytes()
    assert main(["--resume", str(folder)]) == 0
    assert (folder / "result.json").read_bytes() == before


def test_a_best_config_repeats_what_the_trainer_gave(tmp_path: Path) -> None:
    best = tmp_path / "best_config.yaml"
    best.write_text(
        yaml.safe_dump({"value": 1.0, "config": small(lr=0.1, policy_penalty=-77.5).to_dict()})
    )
    assert main(["--config", str(best), "--save-path", str(tmp_path), "--exp-name", "again"]) == 0
    results, _ = outcome(Trainer(small(lr=0.1, policy_penalty=-77.5)))
    content = json.loads((tmp_path / "again" / "result.json").read_text())
    assert [r["class_il"] for r in content["results"]] == [r["class_il"] for r in results]
    assert content["evaluated_on"] == "validation"


def test_resuming_with_another_value_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*small_flags(), "--save-path", str(tmp_path), "--exp-name", "e"]) == 0
    capsys.readouterr()
    assert main(["--resume", str(tmp_path / "e"), "--lr", "0.5"]) == 2
    assert "lr" in one_line_error(capsys)
    assert main(["--resume", str(tmp_path / "e"), "--preset"]) == 2
    assert "--preset" in one_line_error(capsys)


def test_parser_raises_and_does_not_exit() -> None:
    with pytest.raises(UserError):
        train_parser().parse(["--nonsense=3"])


def test_a_preset_is_the_papers_or_tuned(capsys: pytest.CaptureFixture[str]) -> None:
    def config(*words: str) -> TrainConfig:
        parsed = train_parser().parse(["--dataset", "mnist-360", "--buffer-size", "500", *words])
        return merged(use_preset=parsed.preset, layers=[fields_given(parsed)])

    assert config("--preset") == config("--preset", "paper") == config("--load-best-args")
    assert config("--preset", "tuned").lr == 0.2 and config("--preset").lr == 0.07
    assert main(["--preset", "tunned", "--dataset", "mnist-360"]) == 2
    assert "unknown preset 'tunned'. Did you mean 'tuned'?" in capsys.readouterr().err
    assert main(["--preset", "tuned", "--dataset", "seq-svhn"]) == 2
    assert "seq-svhn has no tuned preset" in capsys.readouterr().err
