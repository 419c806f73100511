import gzip
from collections.abc import Callable
from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch

from dynamos.config import TEST_LOCK, TrainConfig
from dynamos.data import as_input
from dynamos.errors import RunError, TestImagesLocked, UserError
from dynamos.streams import load_stream
from dynamos.streams.sources import read
from tests.helpers.data_files import write_mnist, write_svhn
from tests.helpers.real_data import REAL

CPU = torch.device("cpu")


def test_digits_are_a_fixed_stratified_cut() -> None:
    train, test = read("digits", None), read("digits", None, test=True)
    assert (len(train), len(test)) == (1437, 360)
    for images in (train, test):
        share = torch.bincount(images.labels, minlength=10) / len(images)
        assert (share - 0.1).abs().max() < 0.01
    every = np.concatenate([train.pixels.numpy(), test.pixels.numpy()]).reshape(1797, -1)
    from sklearn.datasets import load_digits

    assert sorted(map(bytes, every)) == sorted(
        bytes(row.astype(np.uint8)) for row in load_digits().data
    )


def packed(path: Path) -> None:
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


@pytest.mark.parametrize("pack", ["", "*", "*labels*"])
@pytest.mark.parametrize(
    "place", ["MNIST/raw", "raw", "MNIST/MNIST/raw", "MNIST/MyMNIST/raw", "MNIST", "."]
)
def test_mnist_is_found_in_either_layout(place: str, pack: str, tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    write_mnist(tmp_path / place, draws)
    for path in list((tmp_path / place).glob(pack)) if pack else ():
        packed(path)
    again = np.random.default_rng(0).integers(0, 256, (120, 28, 28), dtype=np.uint8)
    images = read("mnist", tmp_path)
    assert torch.equal(images.pixels[:, 0], torch.from_numpy(again))
    assert torch.equal(images.labels, torch.arange(120) % 10)


@pytest.mark.parametrize("place, pack", [("SVHN", False), (".", False), ("SVHN", True)])
def test_svhn_in_the_published_layout(place: str, pack: bool, tmp_path: Path) -> None:
    write_svhn(tmp_path / place, np.random.default_rng(0))
    for path in list((tmp_path / place).iterdir()) if pack else ():
        packed(path)
    # (H, W, C, N)
    raw = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 120), dtype=np.uint8)
    images = read("svhn", tmp_path)
    assert images.pixels.shape == (120, 3, 32, 32)
    assert images.pixels[7, 2, 5, 9] == raw[5, 9, 2, 7]
    assert images.labels.tolist() == [d % 10 for d in range(1, 11) for _ in range(12)]  # 10 means 0
    stream = load_stream(TrainConfig(dataset="seq-svhn", data_path=str(tmp_path)), CPU)
    assert [len(t) for t in stream.train] == [24] * 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b"",
        lambda b: b[:-1],
        lambda b: b"nonsense",
        gzip.compress,
        lambda b: b[:3] + b"\x09" + b[4:],
    ],
)
def test_a_damaged_mnist_file_is_a_user_error(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    write_mnist(tmp_path / "raw", np.random.default_rng(0))
    path = tmp_path / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="train-images-idx3-ubyte"):
        read("mnist", tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:-9], lambda b: b"nonsense", lambda b: b[:99] + b[:99]]
)
@pytest.mark.parametrize(
    "source, place", [("mnist", "raw/train-labels-idx1-ubyte"), ("svhn", "SVHN/train_32x32.mat")]
)
def test_a_damaged_packed_file_is_a_user_error(
    source: str, place: str, damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (write_mnist if source == "mnist" else write_svhn)(
        (tmp_path / place).parent, np.random.default_rng(0)
    )
    packed(tmp_path / place)
    path = tmp_path / f"{place}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"{path.name} is not"):
        read(source, tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:-9], lambda b: b[:200], lambda b: b"nonsense" * 99]
)
def test_a_damaged_svhn_file_is_a_user_error(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    write_svhn(tmp_path / "SVHN", np.random.default_rng(0), per_class=2)
    path = tmp_path / "SVHN" / "train_32x32.mat"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="train_32x32.mat"):
        read("svhn", tmp_path)


def test_swapped_images_and_labels_of_mnist_are_a_user_error(tmp_path: Path) -> None:
    write_mnist(tmp_path / "raw", np.random.default_rng(0))
    images, labels = (
        tmp_path / "raw" / f"train-{name}-ubyte" for name in ("images-idx3", "labels-idx1")
    )
    was = images.read_bytes()
    images.write_bytes(labels.read_bytes())
    with pytest.raises(UserError, match="train-images-idx3-ubyte .* rank 3"):
        read("mnist", tmp_path)
    images.write_bytes(was)
    labels.write_bytes(was)
    with pytest.raises(UserError, match="train-labels-idx1-ubyte .* rank 1"):
        read("mnist", tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"X": np.zeros((32, 32, 1, 10), np.uint8), "y": np.ones((10, 1), np.uint8)},
        {"X": np.zeros((10, 32, 32, 3), np.uint8), "y": np.ones((10, 1), np.uint8)},
        {"X": np.zeros((32, 32, 3, 10), np.uint8), "y": "ten labels"},
    ],
)
def test_arrays_of_another_form_than_svhns_are_a_user_error(
    content: dict[str, Any], tmp_path: Path
) -> None:
    from scipy.io import savemat

    savemat(tmp_path / "train_32x32.mat", content)
    with pytest.raises(UserError, match="train_32x32.mat is not an SVHN file"):
        read("svhn", tmp_path)


def test_labels_that_do_not_fit_the_images_are_a_user_error(tmp_path: Path) -> None:
    write_mnist(tmp_path / "raw", np.random.default_rng(0))
    write_mnist(tmp_path / "other", np.random.default_rng(0), per_class=3)
    labels = "train-labels-idx1-ubyte"
    (tmp_path / "raw" / labels).write_bytes((tmp_path / "other" / labels).read_bytes())
    with pytest.raises(UserError, match="120 images.*30 labels"):
        read("mnist", tmp_path)


def test_a_folder_that_cannot_be_named_is_a_user_error() -> None:
    with pytest.raises(UserError, match="~nosuchuser/x"):
        read("mnist", Path("~nosuchuser/x"), test=True)


def test_missing_data_names_folder_files_and_flag(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read("mnist", tmp_path, test=True)
    for text in (
        str(tmp_path),
        "t10k-images-idx3-ubyte",
        ".gz",
        str(tmp_path / "MNIST/raw"),
        "--download",
    ):
        assert text in str(error.value)
    with pytest.raises(UserError, match="nowhere, which is not a folder"):
        read("mnist", tmp_path / "nowhere", test=True)


def test_download_goes_through_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Torchvision:
        @staticmethod
        def MNIST(folder: str, train: bool, download: bool) -> None:  # noqa: N802
            write_mnist(Path(folder) / "MNIST" / "raw", np.random.default_rng(0))

        @staticmethod
        def SVHN(folder: str, split: str, download: bool) -> None:  # noqa: N802
            write_svhn(Path(folder), np.random.default_rng(0))

    monkeypatch.setattr("dynamos.streams.files.torchvision", lambda: Torchvision)
    assert len(read("mnist", tmp_path, download=True)) == 120
    assert len(read("svhn", tmp_path, test=True, download=True)) == 120


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Error downloading train-images-idx3-ubyte.gz"),
        URLError("no route to host"),
        IncompleteRead(b"half"),
        EOFError("Compressed file ended before the end-of-stream marker was reached"),
        gzip.BadGzipFile("Not a gzip"),
    ],
)
@pytest.mark.parametrize("source, files", [("mnist", "MNIST"), ("svhn", "SVHN")])
def test_a_failed_download_says_what_failed(
    error: Exception, source: str, files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Torchvision:
        @staticmethod
        def MNIST(*_: Any, **__: Any) -> None:  # noqa: N802
            raise error

        SVHN = MNIST

    monkeypatch.setattr("dynamos.streams.files.torchvision", lambda: Torchvision)
    with pytest.raises(RunError) as raised:
        read(source, tmp_path, download=True)
    for text in (files, str(tmp_path), str(error)):
        assert text in str(raised.value)


@pytest.mark.parametrize("dataset", ["seq-digits", "digits-360"])
def test_a_sweeps_process_cannot_read_test_images(
    dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TEST_LOCK, "locked")
    with pytest.raises(TestImagesLocked):
        load_stream(TrainConfig(dataset=dataset, evaluate_on="test"), CPU)
    with pytest.raises(TestImagesLocked):
        read("digits", None, test=True)
    load_stream(TrainConfig(dataset=dataset, evaluate_on="validation"), CPU)


def test_the_test_file_is_not_opened_for_validation(tmp_path: Path) -> None:
    write_mnist(tmp_path / "raw", np.random.default_rng(0))
    for path in (tmp_path / "raw").glob("t10k-*"):
        path.unlink()
    load_stream(
        TrainConfig(dataset="seq-mnist", data_path=str(tmp_path), evaluate_on="validation"), CPU
    )


@pytest.mark.parametrize(
    "source, shape, white", [("digits", (3, 8, 8), 16), ("mnist", (3, 28, 28), 255)]
)
def test_input_is_three_channels_from_zero_to_one(
    source: str, shape: tuple[int, ...], white: int, tmp_path: Path
) -> None:
    write_mnist(tmp_path / "raw", np.random.default_rng(0))
    images = read(source, tmp_path)
    taken = as_input(images.pixels, images.white)
    assert images.white == white and taken.shape[1:] == shape
    assert taken.min() == 0 and taken.max() == 1
    assert torch.equal(taken[:, 0], taken[:, 2])


@pytest.mark.skipif(
    not (REAL / "MNIST").is_dir(), reason=f"no MNIST in {REAL.name}; set DYNAMOS_TEST_DATA"
)
def test_the_real_mnist() -> None:
    stream = load_stream(TrainConfig(dataset="seq-mnist", data_path=str(REAL)), CPU)
    assert [len(t) for t in stream.train] == [12665, 12089, 11263, 12183, 11800]
    assert [len(t) for t in stream.evaluation] == [2115, 2042, 1874, 1986, 1983]
    turning = load_stream(TrainConfig(dataset="mnist-360", data_path=str(REAL)), CPU)
    assert (len(turning.train[0]), len(turning.evaluation[0])) == (60000 - 5949, 10000 - 1009)
