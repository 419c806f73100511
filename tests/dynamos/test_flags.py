"""Flags of both commands that are not fields: the files that each flag writes, and no others."""

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

import main_policy
from dynamos import cli
from dynamos.metrics import TaskResult
from dynamos.trainer import Trainer
from tests.helpers.data_files import write_mnist, write_svhn
from tests.helpers.small import SMALL, small_flags

# By command: its main function, and the folders of a run `e` under --save-path.
COMMANDS = {
    "dynamos": (cli.main, "e/models", "e/tensorboard/class-il"),
    "main_policy": (
        main_policy.main,
        "models/seq-digits/dynamos/buf_20/e",
        "tensorboard_runs/class-il/seq-digits/dynamos/buf_20/e",
    ),
}
Command = tuple[Callable[[Sequence[str]], int], Path, Path]
Asked = tuple[str, bool | str, bool]  # of torchvision: (data set, which part, download)
SETTINGS = ("class-il", "task-il")


def fields(**changes: Any) -> list[str]:
    """Flags of small runs that both commands accept."""
    values = SMALL | changes
    flags = [f"--{name}={value}" for name, value in values.items() if not isinstance(value, bool)]
    return [*flags, *(f"--{name}" for name, value in values.items() if value is True)]


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest, tmp_path: Path) -> Command:
    """(main, folder of model files, folder of event files) of a command."""
    main, models, events = COMMANDS[request.param]
    return main, tmp_path / models, tmp_path / events


@pytest.mark.parametrize("flag", [None, "--save-all", "--csv-log", "--tensorboard"])
def test_a_flag_writes_its_files_and_no_others(
    flag: str | None, command: Command, tmp_path: Path
) -> None:
    main, models, events = command
    assert (
        main(
            [*fields(), "--save-path", str(tmp_path), "--exp-name", "e", *([flag] if flag else [])]
        )
        == 0
    )
    intermediate = ["task_01.pth"] if flag == "--save-all" else []
    assert sorted(p.name for p in models.glob("*.pth")) == [*intermediate, "task_final.pth"]
    written = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.csv"))
    assert written == (
        [f"results/{s}/seq-digits/dynamos/mean_accs.csv" for s in SETTINGS]
        if flag == "--csv-log"
        else []
    )
    found = {p.parent for p in tmp_path.rglob("events.out.tfevents.*")}
    assert found == (
        {Path(str(events).replace("class-il", s)) for s in SETTINGS}
        if flag == "--tensorboard"
        else set()
    )


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the test fail if anything is trained."""
    run_task = mock.Mock()
    monkeypatch.setattr(Trainer, "run_task", run_task)
    yield
    run_task.assert_not_called()


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert ": error: " in error and error.count("\n") == 1
    return error


@pytest.mark.parametrize("place", ["/proc/x", "file"])
def test_an_impossible_folder_is_refused_before_training(
    place: str,
    command: Command,
    tmp_path: Path,
    untrained: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    main, *_ = command
    (tmp_path / "file").write_text("")
    assert main([*fields(), "--save-path", str(tmp_path / place), "--exp-name", "e"]) == 1
    assert place in one_line(capsys)


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    command: Command,
    tmp_path: Path,
    untrained: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main, *_ = command
    monkeypatch.setattr(
        "dynamos.recorders.TemporaryFile",
        mock.Mock(side_effect=PermissionError(errno.EACCES, "No")),
    )
    assert main([*fields(), "--save-path", str(tmp_path), "--exp-name", "e"]) == 1
    one_line(capsys)


def test_a_disk_that_fills_up_is_one_line_and_status_1(
    command: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main, *_ = command
    real = Trainer.run_task

    def run_task(self: Trainer) -> TaskResult:
        monkeypatch.setattr(
            os, "fsync", mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
        )
        return real(self)

    monkeypatch.setattr(Trainer, "run_task", run_task)
    assert main([*fields(), "--save-path", str(tmp_path), "--exp-name", "e"]) == 1
    assert "No space left on device" in one_line(capsys)


@pytest.mark.parametrize("name", ["a/b", "/a", "a/", ".."])
def test_the_name_of_a_run_is_no_path(
    name: str, command: Command, tmp_path: Path, untrained: None, capsys: pytest.CaptureFixture[str]
) -> None:
    main, *_ = command
    assert main([*fields(), "--save-path", str(tmp_path / "out"), "--exp-name", name]) == 2
    assert f"--exp-name {name!r}" in one_line(capsys) and not list(tmp_path.iterdir())


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """Collects the requests to a fake torchvision that needs no network."""
    asked: list[Asked] = []

    def mnist(folder: str, train: bool, download: bool) -> None:
        asked.append(("MNIST", train, download))
        if not (Path(folder) / "MNIST").exists():
            write_mnist(Path(folder) / "MNIST" / "raw", np.random.default_rng(0))

    def svhn(folder: str, split: str, download: bool) -> None:
        asked.append(("SVHN", split, download))
        write_svhn(Path(folder), np.random.default_rng(0))

    package: Any = ModuleType("torchvision")
    datasets: Any = ModuleType("torchvision.datasets")
    package.datasets, datasets.MNIST, datasets.SVHN = datasets, mnist, svhn
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
    return asked


@pytest.mark.parametrize(
    "dataset, asks", [("seq-mnist", ("MNIST", True, True)), ("seq-svhn", ("SVHN", "train", True))]
)
def test_data_is_downloaded_only_on_request(
    dataset: str,
    asks: Asked,
    command: Command,
    torchvision: list[Asked],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    main, models, _ = command
    flags = [
        *fields(dataset=dataset),
        "--data-path",
        str(tmp_path / "data"),
        "--save-path",
        str(tmp_path),
        "--exp-name",
        "e",
    ]
    assert main(flags) == 2
    assert "--download" in capsys.readouterr().err and torchvision == []
    assert main([*flags, "--download"]) == 0
    assert torchvision == [asks]
    assert main([*flags[:-1], "again"]) == 0  # now the data exists
    assert torchvision == [asks]


def test_only_downloading_needs_a_matching_torchvision(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    package = tmp_path / "site" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    monkeypatch.syspath_prepend(package.parent)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    main, *_ = command
    flags = [
        *fields(dataset="seq-mnist"),
        "--data-path",
        str(tmp_path / "data"),
        "--save-path",
        str(tmp_path / "out"),
        "--exp-name",
        "e",
        "--download",
    ]
    assert main(flags) == 2
    said = one_line(capsys)
    assert (
        f"with torch {torch.__version__} (operator torchvision::nms does not exist). Install the"
        in said
    )
    write_mnist(tmp_path / "data" / "MNIST" / "raw", np.random.default_rng(0))
    assert main(flags) == 0
    assert not [name for name in sys.modules if name.partition(".")[0] == "torchvision"]


def test_resuming_downloads_too(torchvision: list[Asked], tmp_path: Path) -> None:
    flags = [
        *small_flags(dataset="seq-mnist", data_path=tmp_path / "data"),
        "--save-path",
        str(tmp_path),
    ]
    assert cli.main([*flags, "--exp-name", "e", "--download"]) == 0
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert cli.main(["--resume", str(tmp_path / "e")]) == 2
    assert cli.main(["--resume", str(tmp_path / "e"), "--download"]) == 0
