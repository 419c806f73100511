"""Mammoth's arguments, written and read."""

import shlex
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dynamos.cli import main
from dynamos.config import TrainConfig
from dynamos.errors import UserError
from dynamos.mammoth import ARGUMENTS, MODELS, STREAMS, arguments_of, fields_in
from tests.helpers.sweeps import run

# What Mammoth's parsers take (utils/args.py and each method's get_parser), beside their names.
TAKES = {"sgd": (), "er": (), "er_ace": (), "agem_r": (), "joint": ()} | {
    "der": ("alpha",),
    "derpp": ("alpha", "beta"),
    "lwf": ("alpha", "softmax_temp"),
    "ewc_on": ("e_lambda", "gamma"),
}
REHEARSE = ("er", "er_ace", "agem_r", "der", "derpp")
ALWAYS = ("model", "dataset", "lr", "batch_size", "n_epochs", "seed")


def written(folder: Path, content: Any) -> Path:
    (folder / "mammoth.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "mammoth.yaml"


@pytest.mark.parametrize("model", MODELS)
def test_the_arguments_are_those_that_mammoth_takes(model: str) -> None:
    found = arguments_of(TrainConfig(model=model, dataset="seq-mnist", device="cpu")).values
    theirs = MODELS[model]
    buffer = ("buffer_size", "minibatch_size") if theirs in REHEARSE else ()
    assert {*found} == {*ALWAYS, "device", *buffer, *TAKES[theirs]}
    assert found["model"] == theirs


configurations = st.builds(
    lambda model, dataset, more: TrainConfig.from_dict(
        {"model": model, "dataset": dataset, "classes_per_task": STREAMS[dataset] or 2, **more}
    ),
    st.sampled_from([m for m in MODELS if m != "joint"]),
    st.sampled_from([*STREAMS]),
    st.fixed_dictionaries(
        {
            "lr": st.floats(1e-6, 10),
            "batch_size": st.integers(1, 512),
            "seed": st.integers(0, 2**31),
            "evaluate_on": st.sampled_from(["test", "validation"]),
            "precision": st.sampled_from(["fp32", "bf16"]),
            "device": st.sampled_from(["auto", "cpu", "cuda:1"]),
        }
    ),
)


@given(configurations)
def test_what_is_written_is_read_as_the_same_configuration(config: TrainConfig) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = fields_in(written(Path(folder), arguments_of(config).values))
    assert found.left_out == () and TrainConfig.from_dict(found.values) == config


@pytest.mark.parametrize(
    "model, values",
    [
        ("derpp", {"alpha": 0.3, "beta": 0.5, "buffer_size": 200, "minibatch_size": 32}),
        ("lwf", {"alpha": 1.5, "method.temperature": 3.0}),
        ("ewc_on", {"method.e_lambda": 0.7, "method.gamma": 1.0}),
        ("er", {"dataset": "seq-cifar10", "n_epochs": 50, "n_tasks": 3}),
        ("joint", {"n_epochs": 3}),
    ],
)
def test_methods_keep_their_hyperparameters(
    model: str, values: dict[str, Any], tmp_path: Path
) -> None:
    config = TrainConfig.from_dict({"dataset": "seq-mnist", "model": model} | values)
    translated = arguments_of(config)
    again = fields_in(written(tmp_path, translated.values))
    assert TrainConfig.from_dict(again.values) == config
    # a number of images for the Fisher information is ours
    extra = ("method.fisher_images 1000",) if model == "ewc_on" else ()
    assert translated.left_out == ("the network (nf 32)", *extra)
    assert translated.values.get("stop_after") == values.get("n_tasks")


def test_what_has_no_counterpart_is_named() -> None:
    config = TrainConfig(
        model="der", dataset="seq-cifar100", average_decay=0.9, class_order_seed=3, nf=20, threads=2
    )
    assert arguments_of(config).left_out == (
        "the network (nf 20)",
        "class_order_seed 3",
        "average_decay 0.9",
        "classes_per_task 2 (Mammoth has 10)",
    )
    for wrong, said in (
        ({"model": "dynamos"}, "unknown method of Mammoth 'dynamos'"),
        ({"model": "er", "dataset": "seq-digits"}, "unknown stream of Mammoth 'seq-digits'. Did"),
    ):
        with pytest.raises(UserError, match=said):
            arguments_of(TrainConfig.from_dict(wrong))


def test_a_file_of_arguments_is_read_with_what_it_means_here(tmp_path: Path) -> None:
    content = {
        "model": "er-ace",
        "dataset": "seq-cifar100",
        "lr": "1e-1",
        "validation": 0.1,
        "optim_mom": 0.9,
        "optim_wd": 0.0,
        "optimizer": "sgd",
        "lr_scheduler": "multisteplr",
        "notes": "mine",
        "code_optimization": 1,
        "seed": None,
        "debug_mode": 0,
        "gamma": 0.5,
    }
    found = fields_in(written(tmp_path, content))
    assert found.values == {
        "model": "er_ace",
        "classes_per_task": 10,
        "dataset": "seq-cifar100",
        "lr": 0.1,
        "evaluate_on": "validation",
    }
    assert found.left_out == (
        "optim_mom 0.9",
        "lr_scheduler multisteplr",
        "code_optimization 1",
        "gamma 0.5",
    )


BEST = {
    "default": {"n_epochs": 2, "model": "derpp"},
    "seq-cifar100": {500: {"alpha": 0.3, "beta": 0.5, "lr": 0.03}, 2000: {"alpha": 0.1}},
    "seq-mnist": {"lr": 0.1, 200: {"alpha": 1.0}},
}


def test_a_file_of_best_arguments_is_chosen_by_stream_and_buffer(tmp_path: Path) -> None:
    file = written(tmp_path, BEST)
    found = fields_in(file, "seq-cifar100", 500).values
    assert found == {
        "model": "derpp",
        "classes_per_task": 10,
        "n_epochs": 2,
        "dataset": "seq-cifar100",
        "alpha": 0.3,
        "beta": 0.5,
        "lr": 0.03,
        "buffer_size": 500,
    }
    assert fields_in(file, "seq-mnist").values["buffer_size"] == 200
    for chosen, said in (
        ((None, None), "it has several values of dataset; choose one of seq-cifar100, seq-mnist"),
        (("seq-cifar100", None), "several values of buffer_size; choose one of 500, 2000"),
        (("seq-cifar10", None), "unknown dataset 'seq-cifar10'. Did you mean 'seq-cifar100'"),
    ):
        with pytest.raises(UserError, match=f"mammoth.yaml: .*{said}"):
            fields_in(file, *chosen)


@pytest.mark.parametrize(
    "content, said",
    [
        ({"model": "derp"}, "unknown method 'derp'. Did you mean 'derpp'"),
        (
            {"model": "er", "dataset": "seq-minst"},
            "unknown stream 'seq-minst'. Did you mean",
        ),
    ],
)
def test_what_this_package_lacks_is_one_line(
    content: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        fields_in(written(tmp_path, content))


def test_the_commands_write_and_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(model="derpp", dataset="seq-mnist", alpha=0.3, average_decay=0.9)
    Path("best.yaml").write_text(yaml.safe_dump({"config": config.to_dict()}))
    assert main(["export", "best.yaml", "--as", "mammoth", "--to", "out"]) == 0
    told = capsys.readouterr()
    arguments = shlex.split(told.out)
    assert "--model=derpp" in arguments and "--alpha=0.3" in arguments
    assert told.err == (
        "dynamos: not in Mammoth, left out: the network (nf 32), average_decay 0.9\n"
    )
    assert yaml.safe_load(Path("out/mammoth.yaml").read_text()) == arguments_of(config).values
    assert (
        main(
            [
                "--mammoth",
                "out/mammoth.yaml",
                "--dataset",
                "seq-digits",
                "--n-tasks=1",
                "--max-train-images-per-task=20",
                "--nf=4",
                "--exp-name=a",
            ]
        )
        == 0
    )
    made = yaml.safe_load(Path("runs/train/a/config.yaml").read_text())["config"]
    assert made["model"] == "derpp" and made["alpha"] == 0.3 and made["dataset"] == "seq-digits"
    assert main(["--mammoth", "out/mammoth.yaml", "--config", "best.yaml"]) == 2
    assert "--config and --mammoth both name a file" in capsys.readouterr().err
    assert main(["export", "best.yaml", "--as", "mamoth"]) == 2
    assert "Did you mean 'mammoth'?" in capsys.readouterr().err
    assert main(["export", "best.yaml"]) == 2
    assert "--to DIR is missing" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_starts_at_them(tmp_path: Path) -> None:
    content = {"model": "derpp", "lr": 0.05, "alpha": 0.3, "beta": 0.5, "optim_mom": 0.9}
    written(tmp_path, content)
    dry = ["run", "--mammoth", "mammoth.yaml", "--space", "replay", "--trials", "2", "--dry-run"]
    found = run(*dry, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "mammoth.yaml: not in dynamos, left out: optim_mom 0.9" in found.stderr
    assert "0.05" in found.stdout and "derpp" in found.stdout
    both = run(*dry, "--config", "mammoth.yaml", cwd=tmp_path)
    assert both.returncode == 2 and "--config and --mammoth" in both.stderr


def test_every_argument_names_a_field() -> None:
    fields = {*TrainConfig().to_dict(), "method.temperature", "method.e_lambda", "method.gamma"}
    assert {*ARGUMENTS.values()} <= fields
