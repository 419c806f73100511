"""Trainers in a user's file, as runs."""

import random
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from dynamos import checkpoints
from dynamos.cli import main
from dynamos.config import TrainConfig
from dynamos.errors import NonFiniteError, UserError
from dynamos.methods.check import check
from dynamos.methods.hyperparameters import declared, is_trainer
from dynamos.own_trainer import OwnRun
from dynamos.runs import build_run
from dynamos.streams import load_stream
from dynamos.trainer import Trainer
from tests.helpers.small import facts, small

EXAMPLE = f"{Path(__file__).parents[2] / 'examples' / 'own_trainer.py'}:Loop"
METHOD = EXAMPLE.replace("own_trainer.py:Loop", "own_method.py:MeanER")
CPU = torch.device("cpu")


def run_of(model: str = EXAMPLE, **changes: Any) -> OwnRun:
    config = small(model=model, **changes)
    run = build_run(config, load_stream(config, CPU))
    assert isinstance(run, OwnRun)
    return run


def written(folder: Path, body: str) -> str:
    """A trainer whose function gives each image the class of its number, or as `body` has it."""
    text = f"""
import random, numpy, torch

class Mine:
    def __init__(self, config, stream, shift=0):
        self.stream, self.shift, self.task, self.drawn = stream, shift, 0, []
    def __iter__(self):
        while self.task < len(self.stream.tasks):
            self.task += 1
            self.drawn += [random.random(), numpy.random.rand(), float(torch.rand(()))]
            yield self.predict
    def predict(self, images):
        guess = torch.eye(10)[torch.arange(len(images)) % 10].roll(self.shift, 1)
        return guess + sum(self.drawn)
    def state_dict(self):
        return {{"task": self.task, "drawn": self.drawn}}
    def load_state_dict(self, state):
        self.task, self.drawn = state["task"], list(state["drawn"])
{dedent(body)}
"""
    (folder / "mine.py").write_text(text)
    return f"{folder / 'mine.py'}:Mine"


def test_a_class_with_iter_is_a_trainer_and_its_further_arguments_are_hyperparameters(
    tmp_path: Path,
) -> None:
    model = written(tmp_path, "class Heir(Mine): pass")
    assert is_trainer(model) and is_trainer(model.replace("Mine", "Heir"))
    assert not is_trainer("er") and not is_trainer(
        str(Path(EXAMPLE).with_name("own_method.py:MeanER"))
    )
    assert {one.name: one.default for one in declared(EXAMPLE)} == {"hidden": 100, "momentum": 0.0}
    run = run_of(method={"hidden": 7})
    assert run.config.method == {"hidden": 7, "momentum": 0.0}
    assert run._trainer.network[1].out_features == 7  # type: ignore[attr-defined]


def test_results_are_measured_by_this_package(tmp_path: Path) -> None:
    run = run_of(written(tmp_path, ""), n_tasks=3, method={"shift": 1})
    results = list(run)
    assert [r.task for r in results] == [0, 1, 2] and run.done
    guess = [(torch.arange(len(part)) + 1) % 10 for part in run.stream.evaluation]
    rows = [
        100 * float((g == part.labels).double().mean())
        for g, part in zip(guess, run.stream.evaluation, strict=True)
    ]
    assert results[2].class_il_row == pytest.approx(rows[:3])
    assert results[0].class_il_row == pytest.approx(rows[:2])  # with the next task
    assert results[2].class_il == pytest.approx(np.mean(rows[:3]))
    assert results[2].forgetting == 0 and results[2].forward_transfer is None
    assert results[2].keep_fraction == 1 and results[2].compute == 1
    assert "val_class_il" in results[2].metrics() and "train_loss" not in results[2].metrics()


def test_multiply_accumulates_are_counted() -> None:
    result = run_of(method={"hidden": 11}).run_task()
    assert result.macs == 3 * 8 * 8 * 11 + 11 * 10


def test_a_run_repeats_and_resumes_beside_others(tmp_path: Path) -> None:
    model = written(tmp_path, "")
    whole, other = run_of(model), run_of(model, seed=7)
    for _ in range(2):  # in turns, as the seeds of a trial train
        whole.run_task()
        other.run_task()
    drawn = whole.state_dict()["trainer"]["drawn"]
    assert drawn != other.state_dict()["trainer"]["drawn"] and len({*drawn}) == 6
    first = run_of(model)
    first.run_task()
    checkpoints.save(first.state_dict(), tmp_path / "c")
    random.random(), np.random.rand(), torch.rand(3)
    resumed = run_of(model)
    state = checkpoints.latest(tmp_path / "c")
    assert state is not None
    resumed.load_state_dict(state)
    before = random.getstate(), torch.get_rng_state()
    resumed.run_task()
    assert random.getstate() == before[0] and torch.equal(torch.get_rng_state(), before[1])
    assert resumed.state_dict()["trainer"]["drawn"] == drawn
    assert [facts(r) for r in resumed.results] == [facts(r) for r in whole.results]


def test_a_state_of_another_configuration_or_other_code_is_refused(tmp_path: Path) -> None:
    model = written(tmp_path, "")
    state = run_of(model).state_dict()
    with pytest.raises(UserError, match="these differ: method.shift"):
        run_of(model, method={"shift": 2}).load_state_dict(state)
    written(tmp_path, "# new")
    with pytest.raises(UserError, match="mine.py:Mine has changed since the checkpoint"):
        run_of(model).load_state_dict(state)


@pytest.mark.parametrize(
    "body, said",
    [
        (
            "Mine.predict = lambda self, images: torch.zeros(len(images), 3)",
            r"\(\d+, 3\) for \d+ images",
        ),
        (
            "Mine.predict = lambda self, images: 3",
            r"returns int for \d+ images; it must return logits",
        ),
        ("Mine.__iter__ = lambda self: iter([self.predict])", "ends after 1 of 2 tasks"),
        ("del Mine.state_dict", "has no method `state_dict`"),
    ],
)
def test_a_trainer_that_does_not_fit_is_one_line(body: str, said: str, tmp_path: Path) -> None:
    model = written(tmp_path, body)
    with pytest.raises(UserError, match=said) as raised:
        list(run_of(model))
    assert "\n" not in str(raised.value)


def test_logits_that_are_not_finite_end_the_run(tmp_path: Path) -> None:
    model = written(tmp_path, "Mine.predict = lambda self, x: torch.full((len(x), 10), torch.nan)")
    with pytest.raises(NonFiniteError, match="logits became non-finite in task 1"):
        run_of(model).run_task()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("average_decay", 0.5),
        ("readings", 1),
        ("log_every", 1),
        ("augment", "crop-flip"),
        ("network", "resnet18"),
        ("gated_stages", "all"),
    ],
)
def test_fields_of_our_own_steps_and_networks_are_refused(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{field} {value} has no effect with the trainer .*Loop"):
        run_of(EXAMPLE, **{field: value})


def test_our_own_run_is_the_trainer() -> None:
    config = small()
    assert isinstance(build_run(config, load_stream(config, CPU)), Trainer)


def test_the_example_and_a_fault_in_the_check(tmp_path: Path) -> None:
    assert [fault for _, fault in check(EXAMPLE)] == [None] * 4
    resumed = "a run resumed after task 1 ends with another network: its logits differ by up to"
    for body, said in (
        ("Mine.load_state_dict = lambda self, state: None", resumed),
        ("Mine.load_state_dict = lambda self, s: setattr(self, 'task', s['task'])", resumed),
        ("Mine.state_dict = lambda self: {'run': self}", "tensors and plain values only"),
        (
            "import time\nMine.predict = lambda self, x: "
            "torch.zeros(len(x), 10) + time.perf_counter_ns() % 999",
            "the second run ends with another network",
        ),
    ):
        found = [fault for _, fault in check(written(tmp_path, body)) if fault is not None]
        assert len(found) == 1 and said in found[0], found


def test_a_run_of_the_command_line_is_resumed_and_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "")
    flags = ["--trainer", "mine.py:Mine", "--n-tasks=2", "--max-train-images-per-task=20"]
    assert main([*flags, "--exp-name=a", "--set", "method.shift=3"]) == 0
    assert "task 2/2  class-il" in capsys.readouterr().out
    stored = yaml.safe_load(Path("runs/train/a/config.yaml").read_text())["config"]
    assert stored["model"] == f"{tmp_path / 'mine.py'}:Mine" and stored["method.shift"] == 3
    assert main(["--resume", "runs/train/a"]) == 0
    assert main(["export", "runs/train/a", "--to", "out"]) == 2
    assert "has the state of the trainer" in capsys.readouterr().err
    for more, said in (
        (["--model", "er"], "--model and --trainer both name what trains"),
        (["--csv-log"], "--csv-log needs a network and steps of this package"),
        (["--checkpoint-every", "3"], "is saved after every task only"),
    ):
        assert main([*flags, "--exp-name=b", *more]) == 2
        assert said in capsys.readouterr().err
    for wrong, said in (
        ("er", "is not of the form FILE.py:NAME"),
        ("mine.py:Min", "no class with"),
    ):
        assert main(["--trainer", wrong]) == 2
        assert said in capsys.readouterr().err


def test_a_configuration_reads_without_the_file(tmp_path: Path) -> None:
    gone = f"{tmp_path / 'gone.py'}:Mine"
    assert TrainConfig.from_dict(TrainConfig(model=gone).to_dict()).model == gone
