"""Data sets in published layouts other than MNIST's and SVHN's, and domain-incremental streams."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dynamos.config import TrainConfig
from dynamos.errors import UserError
from dynamos.streams import load_stream
from dynamos.streams.classes import count_shown_classes
from dynamos.streams.domains import DOMAIN_SEED
from dynamos.streams.names import DATA, DATASETS, DOMAINS, STREAMS, Data, metrics_missing
from dynamos.streams.rotation import rotate
from dynamos.streams.sources import read
from dynamos.trainer import Trainer
from tests.helpers.data_files import write_cifar, write_idx, write_mnist, write_tinyimg

CPU = torch.device("cpu")


@pytest.mark.parametrize("classes, place", [(10, "cifar-10-batches-py"), (100, "cifar-100-python")])
def test_cifar_is_read_as_published(classes: int, place: str, tmp_path: Path) -> None:
    write_cifar(tmp_path / place, np.random.default_rng(0), classes, per_class=2)
    first = np.random.default_rng(0).integers(0, 256, (2 * classes, 3072), dtype=np.uint8)
    found = read(f"cifar{classes}", tmp_path)
    # a row holds the red values line by line, then the green and the blue ones
    assert found.pixels[3, 2, 5, 9] == first[3, 2 * 1024 + 5 * 32 + 9]
    assert found.labels[: 2 * classes].tolist() == [*range(classes)] * 2
    assert len(found) == (10 * classes if classes == 10 else 2 * classes)
    assert len(read(f"cifar{classes}", tmp_path, test=True)) == 2 * classes


class Harmless:
    def __reduce__(self) -> Any:
        return print, ("a pickle ran code",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        pickle.dumps({b"data": np.zeros((2, 9), np.uint8), b"labels": [0, 1]}),
        pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8)}),
        pickle.dumps([1]),
        pickle.dumps(Harmless()),
    ],
)
def test_other_files_than_cifars_are_user_errors_and_run_no_code(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cifar(tmp_path, np.random.default_rng(0), 10, per_class=1)
    (tmp_path / "data_batch_3").write_bytes(content)
    with pytest.raises(UserError, match="data_batch_3 is not a CIFAR file"):
        read("cifar10", tmp_path)
    assert capsys.readouterr().out == ""


def test_emnist_is_upright_and_has_47_classes(tmp_path: Path) -> None:
    stems = "emnist-balanced-train", "emnist-balanced-test"
    write_idx(tmp_path / "EMNIST" / "raw", np.random.default_rng(0), 47, stems, per_class=2)
    raw = np.random.default_rng(0).integers(0, 256, (94, 28, 28), dtype=np.uint8)
    assert np.array_equal(read("emnist", tmp_path).pixels[:, 0], raw.transpose(0, 2, 1))
    stream = load_stream(TrainConfig(dataset="seq-emnist", data_path=str(tmp_path)), CPU)
    assert len(stream.tasks) == 23 and stream.num_classes == 47


@pytest.mark.parametrize("data, name", [("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_relatives_of_mnist_have_folders_of_their_own(data: str, name: str, tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", np.random.default_rng(1))
    with pytest.raises(UserError, match=f"no {name} under"):
        read(data, tmp_path)
    write_mnist(tmp_path / name / "raw", np.random.default_rng(2))
    assert torch.equal(read(data, tmp_path).pixels[0, 0], wanted_of(2))


def wanted_of(seed: int) -> torch.Tensor:
    raw = np.random.default_rng(seed).integers(0, 256, (120, 28, 28), dtype=np.uint8)
    return torch.from_numpy(raw[0])


def test_tiny_imagenet_is_tested_on_its_validation_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tinyimg(tmp_path / "tiny-imagenet-200", np.random.default_rng(0), classes=3)
    with pytest.raises(UserError, match="has 3 classes, Tiny ImageNet has 200"):
        read("tinyimg", tmp_path)
    monkeypatch.setitem(DATA, "tinyimg", Data(3))
    train, test = read("tinyimg", tmp_path), read("tinyimg", tmp_path, test=True)
    assert train.pixels.shape == (30, 3, 64, 64) and train.labels.tolist() == sorted([0, 1, 2] * 10)
    assert test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.raises(UserError, match=r"Unpack http.*tiny-imagenet-200.zip"):
        read("tinyimg", tmp_path / "tiny-imagenet-200" / "val")


@pytest.mark.parametrize("dataset", DOMAINS)
def test_domain_streams_show_all_images_of_all_classes_in_every_task(
    dataset: str, tmp_path: Path
) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", np.random.default_rng(0), per_class=3)
    config = TrainConfig(dataset=dataset, data_path=str(tmp_path))
    stream, raw = load_stream(config, CPU), read("mnist", tmp_path)
    assert len(stream.tasks) == 20 and set(stream.tasks) == {tuple(range(10))}
    assert len(load_stream(config.replace(n_tasks=3), CPU).tasks) == 3
    tests = read("mnist", tmp_path, test=True)
    for task in (0, 7):
        draws = np.random.default_rng([DOMAIN_SEED, task])
        batch = stream.batches(task, 0, config)[1]
        if dataset == "perm-mnist":
            order = draws.permutation(784)
            wanted = raw.pixels.reshape(30, 784)[:, order].reshape(30, 1, 28, 28)
            shown = tests.pixels.reshape(30, 784)[:, order].reshape(30, 1, 28, 28)
        else:
            angle = torch.tensor(draws.uniform(0, 180), dtype=torch.float64).repeat(30)
            wanted, shown = rotate(raw.pixels, angle), rotate(tests.pixels, angle)
        found = stream.images(task, batch)
        assert torch.equal(found.pixels, wanted[batch.index])
        assert torch.equal(found.labels, raw.labels[batch.index])
        assert torch.equal(stream.evaluation[task].pixels, shown)
    for name, value in (("classes_per_task", 3), ("class_order_seed", 1)):
        with pytest.raises(UserError, match=f"{name} {value} does not apply to {dataset}, which"):
            config.replace(**{name: value})
    with pytest.raises(UserError, match="n_tasks 21.* has 20 tasks"):
        load_stream(config.replace(n_tasks=21), CPU)


def test_a_domain_stream_has_no_task_il(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", np.random.default_rng(0), per_class=3)
    config = TrainConfig(
        dataset="rot-mnist", data_path=str(tmp_path), n_tasks=2, nf=2, hidden_dim_ratio=4
    )
    first, last = Trainer(config)
    assert last.task_il is None and last.task_il_row == ()
    assert last.forgetting is not None and len(last.class_il_row) == 2
    assert first.class_il_row[1] is not None  # forward transfer needs it
    assert "test_task_il" not in last.metrics() and "test_class_il" in last.metrics()


def test_every_stream_names_a_known_data_set_and_its_missing_metrics() -> None:
    assert {of.data for of in STREAMS.values()} == {*DATA}
    assert {name: metrics_missing(name) for name in DATASETS if metrics_missing(name)} == {
        "digits-360": ("task_il", "learning_accuracy", "forgetting"),
        "mnist-360": ("task_il", "learning_accuracy", "forgetting"),
        "perm-mnist": ("task_il",),
        "rot-mnist": ("task_il",),
    }


def test_shown_classes_are_those_of_the_tasks(tmp_path: Path) -> None:
    def shown(**values: Any) -> int:
        return count_shown_classes(TrainConfig(**values))

    assert shown(dataset="seq-mnist") == 10
    assert shown(dataset="seq-mnist", classes_per_task=3) == 9
    assert shown(dataset="seq-mnist", classes_per_task=3, n_tasks=2) == 6
    assert shown(dataset="mnist-360") == 9
    assert shown(dataset="perm-mnist", n_tasks=2) == 10
    assert shown(dataset="seq-cifar100", classes_per_task=10) == 100
