from pathlib import Path

import pytest
import torch

from dynamos import checkpoints, export
from dynamos.cli import main
from dynamos.errors import CheckpointError, UserError
from dynamos.trainer import Trainer
from tests.helpers.small import small


@pytest.mark.parametrize("model", ["dynamos", "sgd"])
def test_an_exported_network_predicts_as_the_trained_one(model: str, tmp_path: Path) -> None:
    trainer = Trainer(small(model=model, n_tasks=1))
    trainer.run_task()
    checkpoints.save(trainer.state_dict(), tmp_path / "run" / "checkpoints")
    assert main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "out")]) == 0
    network = export.load(tmp_path / "out")
    images = torch.rand(7, 3, 8, 8)
    with torch.inference_mode():
        ours, theirs = network(images), trainer.network.eval()(images)
    assert torch.equal(ours.logits, theirs.logits) and torch.equal(ours.actions, theirs.actions)


def test_a_run_that_is_not_finished_is_exported_as_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, said = Trainer(small()), []
    for _ in range(3):
        checkpoints.save(trainer.state_dict(), tmp_path / "run" / "checkpoints")
        assert main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "out")]) == 0
        said.append(capsys.readouterr().out.partition("; ")[2])
        if not trainer.done:
            trainer.run_task()
    assert said == [
        f"the run is not finished, the network has learned {n} of 2 tasks\n" for n in (0, 1)
    ] + [""]


def test_a_place_that_cannot_be_written_is_one_line_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = Trainer(small())
    checkpoints.save(trainer.state_dict(), tmp_path / "run" / "checkpoints")
    (tmp_path / "file").write_text("")
    assert main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "file")]) == 1
    error = capsys.readouterr().err
    assert (
        error.startswith("dynamos: error: ")
        and str(tmp_path / "file") in error
        and error.count("\n") == 1
    )


def test_errors_of_export_and_load(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        export.newest_checkpoint(tmp_path)
    with pytest.raises(UserError, match="config.yaml"):
        export.load(tmp_path)
    trainer = Trainer(small())
    export.write(small(), trainer.network, tmp_path)
    (tmp_path / export.WEIGHTS).write_bytes(b"nonsense")
    with pytest.raises(UserError, match="model.safetensors"):
        export.load(tmp_path)
