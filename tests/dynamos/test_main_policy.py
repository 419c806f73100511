import json
from datetime import datetime, tzinfo
from pathlib import Path
from typing import NoReturn, Self

import numpy as np
import pytest
import torch

import main_policy
from dynamos.config import FIELDS, TrainConfig, preset, preset_names
from dynamos.network import build_network, load_original
from dynamos.run import alone
from dynamos.streams.names import ROTATING
from dynamos.trainer import Trainer
from tests.dynamos.written import rows, scalars
from tests.helpers.data_files import write_mnist, write_svhn

COMMON = (
    "--model dynamos --tensorboard --csv_log --exp-name EXP --buffer_size 500 --seed 42".split()
)
BEST = ["--load_best_args"]
EXPLICIT = (
    "--n_epochs 1 --batch_size 10 --lr 0.07 --alpha 0.2 --beta 2.0 --minibatch_size 10 --nf 32 "
    "--policy-alpha 0.2 --prototype-loss 0.3 --policy-penalty -500 --reward-weight 0.5 "
    "--keep-ratio 0.7"
).split()
# Flags that the documented commands lack: a network and a stream that are small enough for a test.
SHORT = (
    "--max-train-images-per-task 60 --hidden-dim-ratio 4 --nf 4 --n-tasks 2 --warmup-steps 2"
).split()


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Collects the configurations that main_policy would train."""
    found = []

    def load_stream(config: TrainConfig, device: torch.device, download: bool) -> NoReturn:
        found.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr("dynamos.run.load_stream", load_stream)
    return found


@pytest.mark.parametrize("dataset", dict.fromkeys(name for name, _ in preset_names()))
def test_both_documented_commands_are_understood_on_every_stream(
    dataset: str, configs: list[TrainConfig], tmp_path: Path
) -> None:
    common = [
        *COMMON,
        "--dataset",
        dataset,
        "--data-path",
        str(tmp_path),
        "--save-path",
        str(tmp_path),
    ]
    assert [main_policy.main([*common, *BEST]), main_policy.main([*common, *EXPLICIT])] == [
        130,
        130,
    ]
    best, explicit = configs
    wanted = preset(dataset, 500) | {
        "data_path": str(tmp_path.resolve()),
        "seed": 42,
        "evaluate_on": "test",
    }
    assert wanted.items() <= best.to_dict().items()
    assert explicit == TrainConfig(
        dataset=dataset, data_path=str(tmp_path.resolve()), buffer_size=500
    )


def test_an_explicit_flag_wins_over_load_best_args(configs: list[TrainConfig]) -> None:
    main_policy.main(
        [*COMMON, *BEST, "--dataset", "seq-mnist", "--policy_alpha", "0.9", "--no-warmup"]
    )
    assert (configs[0].policy_alpha, configs[0].warmup, configs[0].beta) == (0.9, False, 2.0)


def test_best_args_elsewhere_are_an_error_that_lists_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        main_policy.main(
            "--model sgd --dataset seq-mnist --buffer_size 500 --load_best_args".split()
        )
        == 2
    )
    error = capsys.readouterr().err
    assert error.startswith("main_policy: error: no preset for sgd") and "mnist-360 200" in error
    assert error.count("\n") == 1


def test_the_originals_outputs(tmp_path: Path) -> None:
    flags = [
        *COMMON,
        *EXPLICIT,
        *SHORT,
        "--dataset",
        "seq-digits",
        "--save-path",
        str(tmp_path),
        "--n_epochs",
        "2",
        "--notes",
        "a, remark",
    ]
    assert main_policy.main([*flags, "--save-all"]) == 0
    models = tmp_path / "models" / "seq-digits" / "dynamos" / "buf_500" / "EXP"
    assert sorted(p.name for p in models.glob("[!.]*")) == [
        "result.json",
        "task_01.pth",
        "task_final.pth",
    ]
    assert main_policy.main([*flags, "--validation", "--seed", "1"]) == 0
    network = build_network(TrainConfig(nf=4, hidden_dim_ratio=4), 10)
    load_original(network, torch.load(models / "task_final.pth"))
    for setting in ("class-il", "task-il"):
        first, second = rows(
            tmp_path / "results" / setting / "seq-digits" / "dynamos" / "mean_accs.csv"
        )
        assert list(first)[:5] == [
            "task1",
            "task2",
            "forward_transfer",
            "backward_transfer",
            "forgetting",
        ]
        assert (first["evaluate_on"], second["evaluate_on"]) == ("test", "validation")
        assert (first["seed"], second["seed"], first["notes"], first["exp_name"]) == (
            "42",
            "1",
            "a, remark",
            "EXP",
        )
        assert first["task2"] != second["task2"]
        options = {name for name in vars(main_policy._parser().parse([])) if name not in FIELDS}
        assert {"download", "validation", "save_path"} < options
        assert set(first) == {*list(first)[:5], *FIELDS, *options}
        assert (first["validation"], second["validation"], second["download"]) == (
            "False",
            "True",
            "False",
        )
        folder = tmp_path / "results" / setting / "seq-digits" / "dynamos"
        assert [p.name for p in folder.iterdir() if not p.name.startswith(".")] == ["mean_accs.csv"]
        assert float(first["forgetting"]) >= 0
    class_il, task_il = (
        rows(tmp_path / "results" / s / "seq-digits" / "dynamos" / "mean_accs.csv")[0]
        for s in ("class-il", "task-il")
    )
    assert float(task_il["task2"]) >= float(class_il["task2"])


def test_more_tasks_stand_before_the_arguments(tmp_path: Path) -> None:
    flags = [*COMMON, *EXPLICIT, *SHORT, "--dataset", "seq-digits", "--save-path", str(tmp_path)]
    for n in ("1", "3", "2"):
        assert main_policy.main([*flags, "--n-tasks", n]) == 0
    found = rows(tmp_path / "results" / "class-il" / "seq-digits" / "dynamos" / "mean_accs.csv")
    assert list(found[0])[:7] == [
        "task1",
        "task2",
        "task3",
        "forward_transfer",
        "backward_transfer",
        "forgetting",
        "model",
    ]
    assert [[name for name in ("task1", "task2", "task3") if row[name]] for row in found] == [
        ["task1"],
        ["task1", "task2", "task3"],
        ["task1", "task2"],
    ]
    assert [row["n_tasks"] for row in found] == ["1", "3", "2"]


def test_a_collapsed_policy_is_recorded_in_a_file(tmp_path: Path) -> None:
    flags = [*COMMON, *EXPLICIT, *SHORT, "--dataset", "seq-digits", "--save-path", str(tmp_path)]
    assert main_policy.main([*flags, "--inf-thresh", "0", "--temperature", "20"]) == 0
    path = tmp_path / "models" / "seq-digits" / "dynamos" / "buf_500" / "EXP" / "result.json"
    content = json.loads(path.read_text())
    assert [len(result["warnings"]) for result in content["results"]] == [1, 1]
    assert "policy collapse" in content["results"][0]["warnings"][0] and content["finished"]


class AtOnce(datetime):
    """A clock that always shows the same time."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)


def test_runs_without_a_name_that_start_in_the_same_second_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("main_policy.datetime", AtOnce)
    flags = [
        *EXPLICIT,
        *SHORT,
        "--dataset",
        "seq-digits",
        "--model",
        "sgd",
        "--save-path",
        str(tmp_path),
    ]
    assert [main_policy.main([*flags, "--seed", seed]) for seed in ("1", "2")] == [0, 0]
    models = tmp_path / "models" / "seq-digits" / "sgd"
    assert sorted(p.name for p in models.iterdir()) == [
        "20260102-030405-seed1",
        "20260102-030405-seed2",
    ]
    before = {path: path.read_bytes() for path in models.rglob("*.*") if path.is_file()}
    capsys.readouterr()
    assert main_policy.main([*flags, "--seed", "2", "--alpha", "1"]) == 1
    error = capsys.readouterr().err
    assert (
        error.startswith("main_policy: error: ")
        and "20260102-030405-seed2" in error
        and error.count("\n") == 1
    )
    assert {path: path.read_bytes() for path in before} == before


def test_help_says_that_a_name_is_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main_policy.main(["--help"])
    assert "an earlier run's files of that name are overwritten" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_name_given_again_leaves_nothing_of_the_earlier_run(tmp_path: Path) -> None:
    flags = [
        *COMMON,
        *EXPLICIT,
        *SHORT,
        "--dataset",
        "seq-digits",
        "--save-path",
        str(tmp_path),
        "--save-all",
    ]
    assert main_policy.main([*flags, "--n_tasks", "3"]) == 0
    assert main_policy.main([*flags, "--n_tasks", "2"]) == 0
    models = tmp_path / "models" / "seq-digits" / "dynamos" / "buf_500" / "EXP"
    assert sorted(path.name for path in models.glob("*.pth")) == ["task_01.pth", "task_final.pth"]
    found = scalars(
        tmp_path / "tensorboard_runs" / "class-il" / "seq-digits" / "dynamos" / "buf_500" / "EXP"
    )
    assert [task for task, _ in found["accuracy/mean"]] == [1, 2]


def test_a_name_whose_run_goes_on_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*COMMON, *EXPLICIT, *SHORT, "--dataset", "seq-digits", "--save-path", str(tmp_path)]
    assert main_policy.main(flags) == 0
    models = tmp_path / "models" / "seq-digits" / "dynamos" / "buf_500" / "EXP"
    before = (models / "task_final.pth").read_bytes()
    capsys.readouterr()
    with alone(models):
        assert main_policy.main(flags) == 2
    assert "is running in another process" in capsys.readouterr().err
    assert (models / "task_final.pth").read_bytes() == before


def test_tensorboard_has_the_means_of_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [
        *COMMON,
        *EXPLICIT,
        *SHORT,
        "--dataset",
        "seq-digits",
        "--save-path",
        str(tmp_path),
        "--n_epochs",
        "3",
    ]
    means = []
    import dynamos.recorders as recorders

    real = recorders.TensorBoard.epoch

    def epoch(self: recorders.TensorBoard, trainer: Trainer, m: dict[str, float]) -> None:
        means.append(dict(m))
        real(self, trainer, m)

    monkeypatch.setattr(
        recorders.TensorBoard,
        "epoch",
        epoch,
    )
    assert main_policy.main(flags) == 0
    found = scalars(
        tmp_path / "tensorboard_runs" / "task-il" / "seq-digits" / "dynamos" / "buf_500" / "EXP"
    )
    assert [step for step, _ in found["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [value for _, value in found["train/accuracy"]] == pytest.approx(
        [m["accuracy"] for m in means]
    )
    assert [step for step, _ in found["accuracy/mean"]] == [1, 2]
    # 60 images in batches of 10: an epoch's accuracy is a multiple of 1/60, not of a batch's tenth
    # alone.
    assert all(
        m["accuracy"] * 60 / 100 == pytest.approx(round(m["accuracy"] * 60 / 100), abs=1e-3)
        for m in means
    )


def test_a_rotating_stream_and_a_method_without_buffer(tmp_path: Path) -> None:
    flags = "--model sgd --dataset digits-360 --csv_log --tensorboard --exp-name E".split()
    flags += "--nf 4 --hidden-dim-ratio 4".split()
    assert (
        main_policy.main(
            [*flags, "--save-path", str(tmp_path), "--max-train-images-per-task", "360"]
        )
        == 0
    )
    assert (tmp_path / "models" / "digits-360" / "sgd" / "E" / "task_final.pth").is_file()
    (row,) = rows(
        tmp_path / "results" / "general-continual" / "digits-360" / "sgd" / "mean_accs.csv"
    )
    assert 0 <= float(row["task1"]) <= 100
    assert row["forward_transfer"] == row["backward_transfer"] == row["forgetting"] == ""
    assert [p.name for p in (tmp_path / "tensorboard_runs").iterdir()] == ["general-continual"]


def test_the_smallest_svhn_runs_where_test_images_are_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_svhn(tmp_path / "SVHN", np.random.default_rng(0), per_class=1)
    flags = "--model sgd --dataset seq-svhn --exp-name E --nf 4 --csv-log".split()
    flags += ["--data-path", str(tmp_path), "--save-path", str(tmp_path)]
    assert main_policy.main(flags) == 0
    assert len(rows(tmp_path / "results" / "class-il" / "seq-svhn" / "sgd" / "mean_accs.csv")) == 1
    capsys.readouterr()
    assert main_policy.main([*flags, "--validation"]) == 2
    error = capsys.readouterr().err
    assert "10 training images are too few" in error and error.count("\n") == 1


@pytest.mark.parametrize("dataset", ["seq-svhn", "seq-mnist", "mnist-360"])
def test_the_published_streams_run_from_files(dataset: str, tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    write_svhn(tmp_path / "SVHN", draws)
    write_mnist(tmp_path / "MNIST" / "MyMNIST" / "raw", draws)
    rotating = dataset in ROTATING
    short = [] if rotating else ["--n-tasks", "2"]
    assert (
        main_policy.main(
            [
                *COMMON,
                *EXPLICIT,
                "--dataset",
                dataset,
                "--data-path",
                str(tmp_path),
                *short,
                "--save-path",
                str(tmp_path),
                "--nf",
                "4",
                "--hidden-dim-ratio",
                "4",
            ]
        )
        == 0
    )
    setting = "general-continual" if rotating else "class-il"
    (row,) = rows(tmp_path / "results" / setting / dataset / "dynamos" / "mean_accs.csv")
    assert row["dataset"] == dataset and row["buffer_size"] == "500"
