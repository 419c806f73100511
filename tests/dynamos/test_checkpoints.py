import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dynamos import checkpoints
from dynamos.cli import main
from dynamos.config import TrainConfig
from dynamos.errors import UserError
from dynamos.files import AnyPath
from dynamos.trainer import Trainer
from tests.helpers.small import TIMINGS, assert_same_outcome, small, small_flags


def saved_at(config: TrainConfig, step: int, folder: Path) -> dict[str, Any]:
    """Return the state of a run after `step` steps, written to a file and read back."""

    class Reached(Exception):
        pass

    def on_step(trainer: Trainer) -> None:
        if trainer.steps == step:
            checkpoints.save(trainer.state_dict(), folder)
            raise Reached

    with pytest.raises(Reached):
        for _ in Trainer(config, on_step=on_step):
            pass
    state = checkpoints.latest(folder)
    assert state is not None
    return state


# Steps 1 and 2 are warm-up, 4 is an epoch's last, 8 the first task's last, 9 the second task's
# first.
@pytest.mark.parametrize("step", [1, 2, 4, 8, 9, 15])
def test_resumed_after_any_step_as_if_never_stopped(step: int, tmp_path: Path) -> None:
    config = small(n_epochs=2)
    resumed = Trainer(config)
    resumed.load_state_dict(saved_at(config, step, tmp_path))
    assert resumed.steps == step
    assert_same_outcome(Trainer(config), resumed)


def test_resumed_in_a_warm_up_longer_than_an_epoch(tmp_path: Path) -> None:
    config = small(n_epochs=3, warmup_steps=7)
    resumed = Trainer(config)
    resumed.load_state_dict(saved_at(config, 5, tmp_path))
    assert_same_outcome(Trainer(config), resumed)


@pytest.mark.parametrize(
    "changes",
    [
        dict(model="multi_scale"),
        dict(model="dynamos_sgd"),
        dict(infer_mode="sample"),
        dict(precision="bf16"),
        dict(deterministic=True),
        dict(dataset="digits-360", n_tasks=None, max_train_images_per_task=180),
    ],
)
def test_every_kind_of_run_resumes(changes: dict[str, Any], tmp_path: Path) -> None:
    config = small(**changes)
    resumed = Trainer(config)
    resumed.load_state_dict(saved_at(config, 3, tmp_path))
    assert_same_outcome(Trainer(config), resumed)


def test_resumed_at_a_task_border(tmp_path: Path) -> None:
    config = small()
    first = Trainer(config)
    first.run_task()
    checkpoints.save(first.state_dict(), tmp_path)
    resumed = Trainer(config)
    state = checkpoints.latest(tmp_path)
    assert state is not None
    resumed.load_state_dict(state)
    assert len(resumed.results) == 1
    assert_same_outcome(first, resumed)


def test_a_state_of_other_configuration_or_data_is_refused() -> None:
    state = Trainer(small()).state_dict()
    with pytest.raises(UserError, match="alpha, lr"):
        Trainer(small(lr=0.01, alpha=3)).load_state_dict(state)
    with pytest.raises(UserError, match="other images"):
        Trainer(small()).load_state_dict(state | {"data": ["0" * 16, "0" * 16]})


def test_a_state_of_another_kind_of_device_is_refused() -> None:
    state = Trainer(small()).state_dict()
    state["generator"] = state["generator"][:16]  # as long as a CUDA generator's
    with pytest.raises(UserError, match="another kind of device than cpu"):
        Trainer(small()).load_state_dict(state)


def test_the_folder_of_the_data_may_change() -> None:
    other = Trainer(small(data_path="elsewhere"))
    other.load_state_dict(Trainer(small()).state_dict())


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for i in range(5):
        checkpoints.save({"i": i}, tmp_path)
        assert checkpoints.latest(tmp_path) == {"i": i}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-000004.pt",
        "checkpoint-000005.pt",
    ]


def test_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path) is None
    assert checkpoints.latest(tmp_path / "missing") is None


def flip_a_bit(path: AnyPath) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        lambda p: p.write_bytes(p.read_bytes()[:-1]),
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"nonsense" * 100),
    ],
)
def test_a_damaged_newest_is_passed_over_with_a_warning(
    damage: Callable[[AnyPath], object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints.save({"i": 1}, tmp_path)
    damage(checkpoints.save({"i": 2, "weights": torch.zeros(100)}, tmp_path))
    with caplog.at_level(logging.WARNING):
        assert checkpoints.latest(tmp_path) == {"i": 1}
    assert "checkpoint-000002.pt is damaged" in caplog.text
    # The damaged file does not count as one of the last two.
    checkpoints.save({"i": 3}, tmp_path)
    assert checkpoints.latest(tmp_path) == {"i": 3}


def test_a_file_holds_no_code(tmp_path: Path) -> None:
    payload = io.BytesIO()
    torch.save({"i": Path("x")}, payload)  # an object, which weights_only refuses to build
    path = checkpoints.save({"i": Path("x")}, tmp_path)
    with pytest.raises(Exception, match="[Ww]eights.only"):
        checkpoints._read(path)


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from dynamos import checkpoints
checkpoints.save({"i": 1}, Path(sys.argv[1]))
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
checkpoints.save({"i": 2}, Path(sys.argv[1]))
"""


def test_killed_while_writing(tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path)], check=False)
    assert child.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2  # the complete file and the temporary one
    assert checkpoints.latest(tmp_path) == {"i": 1}
    checkpoints.save({"i": 3}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-000001.pt",
        "checkpoint-000002.pt",
    ]


def test_a_run_killed_for_real_and_resumed_repeats_the_uninterrupted_one(tmp_path: Path) -> None:
    flags = [
        *small_flags(n_epochs=5),
        "--checkpoint-every",
        "4",
        "--save-path",
        str(tmp_path),
        "--exp-name",
    ]
    child = subprocess.Popen(
        [sys.executable, "-m", "dynamos.cli", *flags, "killed"],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        while not list((tmp_path / "killed" / "checkpoints").glob("checkpoint-*3.pt")):
            assert child.poll() is None, "it ended before it was killed"
            time.sleep(0.002)
    finally:
        child.kill()
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "models" / "task_final.pth").exists()

    assert main(["--resume", str(tmp_path / "killed")]) == 0
    assert main([*flags, "whole"]) == 0

    def numbers(name: str) -> tuple[Any, ...]:
        content = json.loads((tmp_path / name / "result.json").read_text())
        results = [{k: v for k, v in r.items() if k not in TIMINGS} for r in content["results"]]
        return (
            results,
            content["accuracy"],
            content["untrained"],
            content["data_hash"],
            content["split_hash"],
        )

    assert numbers("killed") == numbers("whole")
    killed, whole = (
        torch.load(tmp_path / name / "models" / "task_final.pth") for name in ("killed", "whole")
    )
    assert killed.keys() == whole.keys()
    assert all(torch.equal(killed[name], whole[name]) for name in whole)
