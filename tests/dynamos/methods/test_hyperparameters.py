"""Hyperparameters of a user's method: read from its file, given, checked and recorded."""

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dynamos.cli import main
from dynamos.config import TrainConfig, differing, parsed_settings, read_config
from dynamos.errors import UserError
from dynamos.methods.check import check
from dynamos.methods.hyperparameters import declared
from dynamos.trainer import Trainer
from tests.helpers.small import outcome, small

HEAD = """
import torch.nn.functional as F
from dynamos.methods.step import Loss

WIDTH = 3

def weighted(step, weight=1.0):
    output = step.forward(step.images.pixels, step.noise)
    value = weight * F.cross_entropy(output.logits, step.images.labels)
    return Loss(value, output, {"task": value})

class Mine:
    rehearses = False
    def __init__(self, run, weight: float = 1, *, width=WIDTH, mode="mean", flag=False, low=-2):
        self.values = dict(weight=weight, width=width, mode=mode, flag=flag, low=low)
    def loss(self, step):
        return weighted(step, self.values["weight"])

class Heir(Mine):
    pass
"""
DEFAULTS = {"weight": 1.0, "width": 3, "mode": "mean", "flag": False, "low": -2}


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(HEAD)
    return f"{tmp_path / 'mine.py'}:Mine"


def test_arguments_with_defaults_are_hyperparameters_with_types(mine: str) -> None:
    assert TrainConfig(model=mine).whole().method == DEFAULTS
    kinds = {one.name: one.kind for one in declared(mine)}
    assert kinds == {"weight": float, "width": int, "mode": str, "flag": bool, "low": int}
    assert type(TrainConfig(model=mine).whole().method["weight"]) is float
    assert declared(mine.replace("Mine", "Heir")) == declared(mine)
    assert [one.name for one in declared(mine.replace("Mine", "weighted"))] == ["weight"]
    assert declared(mine.replace("Mine", "Gone")) == () == declared("er")


def test_the_file_is_not_run_to_read_them(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit(3)\ndef mine(step, tau=0.5): pass")
    assert TrainConfig(model=f"{tmp_path}/mine.py:mine").whole().method == {"tau": 0.5}


def test_values_reach_the_method_and_are_recorded_with_the_defaults(mine: str) -> None:
    changed = {"method.weight": 2, "method.mode": "sum", "method.flag": True}
    trainer = Trainer(small(model=mine).replace(**changed))
    wanted = DEFAULTS | {"weight": 2.0, "mode": "sum", "flag": True}
    assert trainer._learner.loss.__self__.values == wanted  # type: ignore[attr-defined]
    assert trainer.config.method == wanted
    assert trainer.state_dict()["config"]["method.weight"] == 2.0
    function = mine.replace("Mine", "weighted")
    one, two = (
        outcome(Trainer(small(model=function, warmup=False, lr=lr, method={"weight": weight})))[0]
        for lr, weight in ((0.02, 2.0), (0.04, 1.0))
    )
    # twice the weight is twice the learning rate
    assert [r["class_il"] for r in one] == [r["class_il"] for r in two]


def test_a_configuration_is_written_read_compared_and_pickled(mine: str, tmp_path: Path) -> None:
    config = TrainConfig(model=mine, method={"width": 5}).whole()
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config.to_dict()))
    assert TrainConfig.from_dict(read_config(tmp_path / "c.yaml")) == config
    nested = {"model": mine, "method": {"width": 5}}
    assert TrainConfig.from_dict(nested).whole() == config == pickle.loads(pickle.dumps(config))
    other = config.replace(**{"method.width": 6})
    assert other.method["width"] == 6 and other != config and hash(other) == hash(config)
    assert differing(config.to_dict(), other.to_dict()) == ["method.width"]
    assert config.replace(method={"width": 6}) == other
    assert other.replace(model="er").method == {}
    assert read_yaml_number(tmp_path, "method.weight: 1e-3") == 0.001


def read_yaml_number(folder: Path, text: str) -> Any:
    (folder / "n.yaml").write_text(text)
    return read_config(folder / "n.yaml")["method.weight"]


@pytest.mark.parametrize(
    "given, said",
    [
        (
            {"method.widht": 3},
            "'method.widht'. Did you mean 'method.width'\\? Allowed: method.weight",
        ),
        ({"method.width": 2.5}, "method.width 2.5 is not a whole number."),
        ({"method.mode": 3}, "method.mode 3 is not a text."),
        ({"method.flag": 1}, "method.flag 1 is not true or false."),
        ({"method.weight": float("nan")}, "method.weight nan is not a finite number."),
        ({"method.weight": [1]}, r"method.weight \[1\] is not a number"),
        ({"method": 3}, "method 3 does not hold a mapping of names to values."),
        ({"width": 3}, "unknown field 'width'.*A hyperparameter of a method is named method.NAME"),
    ],
)
def test_a_name_or_value_that_does_not_fit_is_one_line(
    given: dict[str, Any], said: str, mine: str
) -> None:
    with pytest.raises(UserError, match=said) as raised:
        TrainConfig.from_dict({"model": mine} | given).whole()
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=said):
        TrainConfig(model=mine).whole().replace(**given)


def test_a_method_of_the_package_without_hyperparameters_refuses_them() -> None:
    with pytest.raises(UserError, match="unknown hyperparameter of er 'method.tau'. There is none"):
        TrainConfig(model="er", method={"tau": 1.0})


@pytest.mark.parametrize(
    "signature, said",
    [
        ("step, tau", "mine.py:mine, argument tau: a hyperparameter needs a default"),
        ("step, tau=None", "the default None is not a number, a text"),
        ("step, tau=2 * 3", r"the default 2 \* 3 is not a number, a text"),
        ("step, tau=GONE", "the default GONE is not a number"),
        ("step, tau: int = 0.5", "argument tau 0.5 is not a whole number"),
        ("step, tau=", "mine.py fails to import: SyntaxError"),
    ],
)
def test_a_signature_that_does_not_fit_is_one_line(
    signature: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(f"def mine({signature}): pass")
    with pytest.raises(UserError, match=said):
        TrainConfig(model=f"{tmp_path}/mine.py:mine").whole()


def test_values_of_the_command_line(
    mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["method.a=3", "method.b=1e-3", "method.c=true", "method.d_e=mean", "method.low=-2"]
    assert parsed_settings(texts) == {
        "method.a": 3,
        "method.b": 0.001,
        "method.c": True,
        "method.d_e": "mean",
        "method.low": -2,
    }
    monkeypatch.chdir(tmp_path)
    flags = ["--model", "mine.py:Mine", "--n-tasks=1", "--nf=4", "--max-train-images-per-task=20"]
    assert main([*flags, "--set", "method.width=7", "--exp-name=a"]) == 0
    folder = tmp_path / "runs" / "train" / "a"
    assert yaml.safe_load((folder / "config.yaml").read_text())["config"]["method.width"] == 7
    assert main(["--resume", str(folder), "--set", "method.width=8"]) == 2
    assert "these differ: method.width" in capsys.readouterr().err
    assert main([*flags, "--set", "method.wdth=7"]) == 2
    told = capsys.readouterr().err
    assert "Did you mean 'method.width'?" in told and len(told.splitlines()) == 1


def test_the_check_names_hyperparameters_and_finds_another_default(
    mine: str, tmp_path: Path
) -> None:
    (first, fault), *rest = check(mine)
    assert fault is None and [f for _, f in rest] == [None] * 4
    assert first == (
        "hyperparameters: method.weight 1.0, method.width 3, method.mode 'mean', "
        "method.flag False, method.low -2"
    )
    (tmp_path / "mine.py").write_text(HEAD + "\nMine.__init__.__kwdefaults__['width'] = 9")
    found = [fault for _, fault in check(mine)]
    assert re.search("gives width the default 3, and after its import .* is 9", str(found[0]))
