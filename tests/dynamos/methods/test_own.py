"""Methods in a user's file, and their check."""

import os
import re
from pathlib import Path
from textwrap import dedent

import pytest
import torch
import yaml

from dynamos.cli import main
from dynamos.config import TrainConfig, unused
from dynamos.errors import UserError
from dynamos.methods import METHODS, method_of
from dynamos.methods.check import check
from dynamos.methods.own import facts
from dynamos.trainer import Trainer
from dynamos.user_code import changed_code, code_hashes, code_of
from tests.helpers.small import outcome, small

EXAMPLE = Path(__file__).parents[3] / "examples" / "own_method.py"
HEAD = """
import random, numpy, torch
import torch.nn.functional as F
from dynamos.methods.step import Loss

def plain(step):
    output = step.forward(step.images.pixels, step.noise)
    value = F.cross_entropy(output.logits, step.images.labels)
    return Loss(value, output, {"task": value})
"""


def written(folder: Path, body: str) -> str:
    (folder / "mine.py").write_text(HEAD + dedent(body))
    return f"{folder / 'mine.py'}:Mine"


def faults(model: str) -> list[str]:
    return [fault for _, fault in check(model) if fault is not None]


@pytest.mark.parametrize("model", METHODS)
def test_every_method_of_the_package_passes_the_check(model: str) -> None:
    own = bool(METHODS[model].hyperparameters)
    assert [fault for _, fault in check(model)] == [None] * (4 + own)


def test_the_example_passes_the_check() -> None:
    assert [fault for _, fault in check(f"{EXAMPLE}:MeanER")] == [None] * 5


def test_a_function_is_a_method(tmp_path: Path) -> None:
    model = written(tmp_path, "")[: -len("Mine")] + "plain"
    assert faults(model) == []
    own, sgd = (Trainer(small(model=m, warmup=False)) for m in (model, "sgd"))
    assert outcome(own)[0] == outcome(sgd)[0]


def test_facts_are_attributes_of_the_class(tmp_path: Path) -> None:
    model = written(
        tmp_path,
        """
        class Mine:
            rehearses, cumulative = False, True
            def __init__(self, run): pass
            def loss(self, step): return plain(step)
        """,
    )
    assert facts(model).cumulative and not facts(model).rehearses
    assert Trainer(small(model=model)).buffer.capacity == 0
    assert "keep_ratio" in unused(model) and "alpha" not in unused(model)
    config = TrainConfig(model=model)
    assert config.method_name == "Mine" and not method_of(model).gated


CLASS = """
class Mine:
    def __init__(self, run): self.run, self.count = run, 0
    def loss(self, step):
        found = plain(step)
        {step}
        return found
    {more}
"""


@pytest.mark.parametrize(
    "step, more, said",
    [
        ("return found.value", "", "`loss` returns Tensor; it must return dynamos.methods.step"),
        ("found = Loss(found.value[None], *found[1:])", "", r"is \(1,\); it must be a scalar"),
        ("found = Loss(found.value.detach(), *found[1:])", "", "has no gradient"),
        ("found = Loss(found.value / 0, *found[1:])", "", "the value of the loss is inf"),
        ("found = Loss(found.value, found.output, {'ce': found.value})", "", "terms has 'ce'"),
        ("found = Loss(2 * found.value, *found[1:])", "", "the terms add up to"),
        ("torch.rand(1)", "", "draws from torch's global generator; draw from `run.generator`"),
        ("numpy.random.rand()", "", "draws from numpy.random"),
        ("random.random()", "", "draws from random;"),
        ("1 / 0", "", r"it raises ZeroDivisionError: division by zero \(.*mine.py, line 15\)"),
        (
            "self.count += 1; found = Loss(found.value * self.count, found.output, "
            "{'task': found.value * self.count})",
            "",
            "a run resumed after task 1 ends with another network: conv.weight differs by up to",
        ),
        ("", "def state_dict(self): return {'run': self.run}", "tensors and plain values only"),
        (
            "from dynamos.streams.sources import read; read('digits', None, test=True)",
            "",
            "it reads test images, which a sweep does not allow",
        ),
    ],
)
def test_a_fault_is_told_in_words(step: str, more: str, said: str, tmp_path: Path) -> None:
    model = written(tmp_path, CLASS.format(step=step or "pass", more=more))
    (found,) = faults(model)
    assert re.search(said, found), found


def test_the_command_prints_checks_and_the_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = written(tmp_path, CLASS.format(step="torch.rand(1)", more=""))
    assert main(["check", model]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok: a step returns a loss of the right form"
    assert lines[1] == "fault: no random numbers from outside the run" and len(lines) == 3
    assert main(["check", "er"]) == 0


@pytest.mark.parametrize(
    "text, said",
    [
        ("x = ", "mine.py fails to import: SyntaxError"),
        ("import nothing_of_that_name", "fails to import: ModuleNotFoundError: No module named"),
        ("exit(3)", "fails to import: SystemExit: 3"),
        ("def Mime(step): pass", "unknown method of .*mine.py 'Mine'. Did you mean 'Mime'"),
        ("Mine = 3", "unknown method of .*mine.py 'Mine'. There is none"),
        ("class Mine:\n    def __init__(self, run): pass", r"has no method `loss\(self, step\)`"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError, match=said) as raised:
        Trainer(small(model=f"{tmp_path / 'mine.py'}:Mine"))
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_one_line_and_readable_configurations_need_none(tmp_path: Path) -> None:
    model = f"{tmp_path / 'gone.py'}:Mine"
    assert TrainConfig.from_dict(TrainConfig(model=model).to_dict()).model == model
    with pytest.raises(UserError, match=r"no file .*gone.py\."):
        Trainer(small(model=model))
    with pytest.raises(UserError, match="unknown model 'gone.py:'"):
        TrainConfig(model="gone.py:")
    assert code_of("dynamos") is None and code_hashes(["dynamos"]) == {}


def test_a_changed_file_is_read_again_and_has_another_hash(tmp_path: Path) -> None:
    model = written(tmp_path, "class Mine:\n    draws = 1\n    def loss(self, step): pass")
    before = code_hashes([model, "dynamos"])
    assert [*before] == [model] and changed_code(before) == []
    assert facts(model).draws == 1
    model = written(tmp_path, "class Mine:\n    draws = 2\n    def loss(self, step): pass")
    os.utime(tmp_path / "mine.py", (1, 1))
    assert facts(model).draws == 2 and changed_code(before) == [model]


def test_a_changed_file_cannot_resume_a_checkpoint(tmp_path: Path) -> None:
    model = written(tmp_path, CLASS.format(step="pass", more=""))
    state = Trainer(small(model=model)).state_dict()
    Trainer(small(model=model)).load_state_dict(state)
    written(tmp_path, CLASS.format(step="self.count = 1", more=""))
    with pytest.raises(UserError, match=r"the file of .*mine.py:Mine has changed since the check"):
        Trainer(small(model=model)).load_state_dict(state)
    older = {name: value for name, value in state.items() if name != "code"}
    Trainer(small(model=model)).load_state_dict(older)


def test_a_run_of_the_command_line_is_named_by_the_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(EXAMPLE.read_text())
    flags = ["--n-tasks=1", "--nf=4", "--max-train-images-per-task=20"]
    assert main(["--model", "mine.py:MeanER", *flags]) == 0
    (run,) = (tmp_path / "runs" / "train").iterdir()
    assert run.name.startswith("seq-digits-MeanER-seed42-")
    assert "MeanER on seq-digits" in capsys.readouterr().out
    # the file is found from every folder
    config = yaml.safe_load((run / "config.yaml").read_text())["config"]
    assert config["model"] == f"{tmp_path / 'mine.py'}:MeanER"


def test_the_state_of_a_method_is_saved() -> None:
    trainer = Trainer(small(model=f"{EXAMPLE}:MeanER"))
    first = trainer.state_dict()["method"]["slow"]["conv.weight"].clone()
    assert torch.equal(first, trainer.network.conv.weight)
    trainer.run_task()
    slow, fast = trainer.state_dict()["method"]["slow"]["conv.weight"], trainer.network.conv.weight
    assert 0 < (slow - first).norm() < (fast - first).norm()
    assert Trainer(small(model="er")).state_dict()["method"] is None
