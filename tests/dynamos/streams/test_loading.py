from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from benchmarks.plain import rotate_singly
from dynamos.config import TrainConfig
from dynamos.data import Images
from dynamos.errors import UserError
from dynamos.streams import Stream, load_stream
from dynamos.streams.names import DATA, DATASETS, STREAMS, Data
from dynamos.streams.rotating import rotating_order
from dynamos.streams.rotation import rotate
from dynamos.streams.sources import read
from dynamos.streams.splits import VALIDATION, Split
from tests.helpers.data_files import write_every_data_set, write_mnist, write_svhn
from tests.helpers.real_data import REAL

CPU = torch.device("cpu")
Rotating = tuple[str, Images, str | None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    write_mnist(path / "MNIST" / "raw", np.random.default_rng(1), per_class=70)
    write_svhn(path / "SVHN", np.random.default_rng(1), per_class=30)
    return path


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Stream]]:
    """Load a stream of any data set; Tiny ImageNet has four classes."""
    root = tmp_path_factory.mktemp("every")
    paths = write_every_data_set(root, tiny_classes=4, per_class=20)

    def load(dataset: str, **values: Any) -> Stream:
        return stream(paths.get(STREAMS[dataset].data, root), dataset=dataset, **values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATA, "tinyimg", Data(4))
        yield load


@pytest.fixture(params=["digits-360", "mnist-360"])
def rotating(request: pytest.FixtureRequest) -> Rotating:
    """(name, the images of its files in order, data_path) of a rotating stream; the real MNIST, if
    it is available."""
    if request.param == "digits-360":
        whole = load_digits()
        pixels = torch.from_numpy(whole.images.astype(np.uint8))[:, None]
        return request.param, Images(pixels, torch.from_numpy(whole.target), 16), None
    if not (REAL / "MNIST").is_dir():
        pytest.skip(f"no MNIST in {REAL.name}; set DYNAMOS_TEST_DATA")
    parts = [read("mnist", REAL, test) for test in (False, True)]
    return (
        request.param,
        Images(torch.cat([p.pixels for p in parts]), torch.cat([p.labels for p in parts]), 255),
        str(REAL),
    )


def stream(folder: Path, **values: Any) -> Stream:
    return load_stream(TrainConfig(data_path=str(folder), **values), CPU)


def together(parts: Iterable[Images]) -> tuple[list[bytes], Tensor]:
    return [bytes(p.numpy()) for part in parts for p in part.pixels], torch.cat(
        [part.labels for part in parts]
    )


@pytest.mark.parametrize("dataset", ["seq-digits", "seq-mnist", "seq-svhn"])
def test_splits_are_disjoint_complete_and_stratified(dataset: str, folder: Path) -> None:
    for evaluate_on in ("validation", "test"):
        found = stream(folder, dataset=dataset, evaluate_on=evaluate_on)
        assert found.tasks == ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
        for part in (found.train, found.evaluation):
            assert [sorted(p.labels.unique().tolist()) for p in part] == [
                list(c) for c in found.tasks
            ]
        train, train_labels = together(found.train)
        held, held_labels = together(found.evaluation)
        if evaluate_on == "validation":
            every, _ = together([read(dataset[4:], folder)])
            assert sorted(train + held) == sorted(every)
            share = torch.bincount(held_labels) / torch.bincount(
                torch.cat([train_labels, held_labels])
            )
            assert (share - 0.1).abs().max() < 0.03
        if dataset != "seq-digits":  # random pixels: no two images are equal
            assert not set(train) & set(held)


def test_validation_is_fixed_whatever_the_seed_and_the_tasks(folder: Path) -> None:
    hashes = {
        stream(
            folder, dataset="seq-mnist", evaluate_on="validation", seed=seed, n_tasks=n
        ).split_hash
        for seed, n in ((1, 5), (2, 3))
    }
    assert len(hashes) == 1
    kept, held = VALIDATION.of(np.arange(10).repeat(70))
    assert sorted([*kept, *held]) == list(range(700)) and len(held) == 70


def test_classes_and_tasks_are_configurable(folder: Path) -> None:
    found = stream(folder, dataset="seq-mnist", classes_per_task=3, n_tasks=2, class_order_seed=4)
    order = np.random.default_rng(4).permutation(10).tolist()
    assert found.tasks == (tuple(order[:3]), tuple(order[3:6]))
    assert set(found.train[1].labels.tolist()) == set(order[3:6])
    assert stream(folder, dataset="seq-mnist", classes_per_task=3).tasks[-1] == (6, 7, 8)
    with pytest.raises(UserError, match="at most 3"):
        stream(folder, dataset="seq-mnist", classes_per_task=3, n_tasks=4)
    with pytest.raises(UserError, match="classes_per_task 11"):
        stream(folder, dataset="seq-mnist", classes_per_task=11)


def test_every_epoch_is_a_new_order_of_every_image_with_a_partial_batch(folder: Path) -> None:
    config = TrainConfig(dataset="seq-mnist", data_path=str(folder), batch_size=9)
    found = load_stream(config, CPU)
    orders = []
    for task, epoch in ((0, 0), (0, 1), (1, 0)):
        batches = found.batches(task, epoch, config)
        assert [len(b.index) for b in batches] == [9] * 15 + [5]
        orders.append(torch.cat([b.index for b in batches]).tolist())
        assert sorted(orders[-1]) == list(range(140))
    assert orders[0] != orders[1] != orders[2] != orders[0]
    again = torch.cat([b.index for b in found.batches(0, 1, config)]).tolist()
    assert again == orders[1]
    assert (
        torch.cat([b.index for b in found.batches(0, 1, config.replace(seed=1))]).tolist()
        != orders[1]
    )


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (7, 12), (5, 1)])
def test_rotation_is_pils(size: tuple[int, int]) -> None:
    draws = np.random.default_rng(0)
    pixels = torch.from_numpy(draws.integers(1, 256, (200, 1, *size), dtype=np.uint8))
    degrees = torch.from_numpy(draws.uniform(-400, 800, 200))
    wanted = rotate_singly(pixels, degrees)
    agree = (rotate(pixels, degrees) == wanted).float().mean()
    assert agree > 0.999  # the rest are ties on a pixel's edge
    assert torch.equal(
        rotate(pixels.expand(-1, 3, -1, -1), degrees)[:, 2:], rotate(pixels, degrees)
    )
    assert torch.equal(rotate(pixels[7:8], degrees[7:8]), rotate(pixels, degrees)[7:8])


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (9, 4)])
def test_rotation_takes_the_nearest_pixel(size: tuple[int, int]) -> None:
    """Every pixel of the result is compared with its source, computed one pixel at a time."""
    draws = np.random.default_rng(1)
    degrees = np.concatenate([np.arange(0, 360, 15), draws.uniform(0, 360, 6)])
    height, width = size
    pixels = draws.integers(1, 256, (len(degrees), 1, height, width), dtype=np.uint8)
    turned = rotate(torch.from_numpy(pixels), torch.from_numpy(degrees)).numpy()
    for i, angle in enumerate(np.deg2rad(degrees)):
        cos, sin = np.cos(angle), np.sin(angle)
        for r, c in np.ndindex(size):
            right, down = c + 0.5 - width / 2, r + 0.5 - height / 2
            x, y = (
                cos * right + (width / 2 + 1) - sin * down,
                sin * right + (height / 2 + 1) + cos * down,
            )
            at = (int(np.floor(y)) - 1, int(np.floor(x)) - 1)
            inside = 0 <= at[0] < height and 0 <= at[1] < width
            assert turned[i, 0, r, c] == (pixels[i, 0][at] if inside else 0), (degrees[i], r, c)


def test_rotation_is_counter_clockwise_exact_at_right_angles_and_black_outside() -> None:
    pixels = torch.arange(1, 76, dtype=torch.uint8).reshape(1, 3, 5, 5).expand(4, -1, -1, -1)
    turned = rotate(pixels, torch.tensor([0.0, 90.0, 180.0, 270.0], dtype=torch.float64))
    for i in range(4):
        assert torch.equal(turned[i], torch.rot90(pixels[i], i, (1, 2)))
    assert rotate(pixels[:1], torch.tensor([45.0]))[0, :, 0, 0].tolist() == [0, 0, 0]
    assert Image.fromarray(pixels[0, 0].numpy()).rotate(90).getpixel((0, 0)) == turned[1, 0, 0, 0]


def grey(counts: Sequence[int]) -> Images:
    labels = torch.cat([torch.full((n,), j) for j, n in enumerate(counts)])
    return Images(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels, 255)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_the_rotating_order_is_the_methods(batch_size: int) -> None:
    counts = [60, 71, 64, 50, 97, 60, 83, 55, 41]
    images = grey(counts)
    batches = rotating_order(images, batch_size, np.random.default_rng(0))
    labels = images.labels.numpy()
    every = torch.cat([b.index for b in batches]).numpy()
    assert len(set(every)) == len(every)  # each image once at most
    angles = torch.cat([b.degrees for b in batches if b.degrees is not None]).numpy()
    # a digit turns with each of its images, whatever images lie between
    for j, n in enumerate(counts):
        own = angles[labels[every] == j]
        np.testing.assert_allclose(own, (j - 1) * 60 + np.arange(len(own)) * 360 / n)

    # The rules, written out: three rounds of nine pairs, the last chunk first; a visit ends when
    # either chunk is used up.
    left = [
        [list(range(at, min(at + n // 6 + 1, n))) for at in range(0, n, n // 6 + 1)] for n in counts
    ]
    at = 0
    start = np.concatenate([[0], np.cumsum(counts)])
    for visit in range(27):
        a, b = visit % 9, (visit + 1) % 9
        chunks = {j: {start[j] + i for i in left[j].pop()} for j in (a, b)}
        r0, r1 = len(chunks[a]), len(chunks[b])
        while r0 and r1:
            n = min(round(r0 / (r0 + r1) * batch_size), r0)
            m = min(batch_size - n, r1)
            index = batches[at].index.numpy()
            assert (labels[index] == np.array([a] * n + [b] * m)).all()
            assert set(index) <= chunks[a] | chunks[b]
            r0, r1, at = r0 - n, r1 - m, at + 1
    assert at == len(batches)
    assert all(not rest for rest in left)


def test_the_order_within_a_chunk_is_random() -> None:
    orders = [
        torch.cat(
            [b.index for b in rotating_order(grey([60] * 9), 4, np.random.default_rng(s))]
        ).tolist()
        for s in (0, 1)
    ]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])


def left_out(every: Images, train: Images) -> Images:
    """Return the images of 0 to 8 in `every` that are not in `train`, in order; all of `train` must
    be in `every`."""
    trained = Counter(bytes(p.numpy()) for p in train.pixels)
    index = []
    for i, (pixels, label) in enumerate(zip(every.pixels, every.labels.tolist(), strict=True)):
        if label == 9:
            continue
        if trained[bytes(pixels.numpy())]:
            trained[bytes(pixels.numpy())] -= 1
        else:
            index.append(i)
    assert not +trained
    return every.take(torch.tensor(index))


@pytest.mark.parametrize("evaluate_on", ["test", "validation"])
def test_rotating_evaluation_shows_every_image_not_trained_on_once_through_a_full_turn(
    evaluate_on: str, rotating: Rotating
) -> None:
    name, every, path = rotating
    found = load_stream(TrainConfig(dataset=name, data_path=path, evaluate_on=evaluate_on), CPU)
    (train,), (shown,) = found.train, found.evaluation
    if evaluate_on == "validation":  # of the training file alone
        every = read(name.partition("-")[0], REAL)
    others = left_out(every, train)
    assert found.num_classes == 9 and shown.labels.tolist() == sorted(others.labels.tolist())
    at = 0
    for j in range(9):
        own = others.take((others.labels == j).nonzero().ravel())
        wanted = rotate(own.pixels, torch.arange(len(own), dtype=torch.float64) * (360 / len(own)))
        assert torch.equal(shown.pixels[at : at + len(own)], wanted), j
        at += len(own)
    assert at == len(shown)


def test_a_rotating_stream_trains_on_no_evaluation_image(rotating: Rotating) -> None:
    name, every, path = rotating
    parts = {
        evaluate_on: load_stream(
            TrainConfig(dataset=name, data_path=path, evaluate_on=evaluate_on), CPU
        ).train[0]
        for evaluate_on in ("test", "validation")
    }
    data = name.partition("-")[0]
    sets = {key: {bytes(p.numpy()) for p in part.pixels} for key, part in parts.items()}
    tested = {bytes(p.numpy()) for p in read(data, REAL, test=True).pixels}
    training = read(data, REAL)
    held = torch.from_numpy(VALIDATION.of(training.labels.numpy())[1])
    validated = {bytes(p.numpy()) for p in training.take(held).pixels}
    assert not sets["test"] & tested
    assert not sets["validation"] & (tested | validated)
    assert sets["validation"] < sets["test"]


def test_batches_of_a_rotating_stream_are_rotated_images(folder: Path) -> None:
    config = TrainConfig(dataset="mnist-360", data_path=str(folder), batch_size=16)
    found = load_stream(config, CPU)
    batch = found.batches(0, 0, config)[5]
    assert batch.degrees is not None
    images = found.images(0, batch)
    assert torch.equal(images.pixels, rotate(found.train[0].pixels[batch.index], batch.degrees))
    assert not torch.equal(images.pixels, found.train[0].pixels[batch.index])
    assert torch.equal(images.labels, found.train[0].labels[batch.index])


@pytest.mark.parametrize("dataset", DATASETS)
def test_shortened_streams_keep_their_tasks(dataset: str, every: Callable[..., Stream]) -> None:
    found = every(dataset, max_train_images_per_task=18)
    whole = every(dataset)
    assert [len(part) for part in found.train] == [18] * len(found.tasks)
    assert found.data_hash == whole.data_hash
    if found.rotating:
        assert torch.bincount(found.train[0].labels).tolist() == [2] * 9
    assert [len(part) for part in found.evaluation] == [len(part) for part in whole.evaluation]


@pytest.mark.parametrize("dataset", DATASETS)
def test_nothing_is_held_out_if_test_images_are_evaluated(
    dataset: str, every: Callable[..., Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(self: Split, labels: np.ndarray) -> NoReturn:
        raise AssertionError("a validation split was asked for")

    # arrays and folder have a test set of their own here
    if dataset not in ("seq-digits", "digits-360"):
        monkeypatch.setattr(Split, "of", asked)
    assert every(dataset, evaluate_on="test").split_hash is None


@pytest.mark.parametrize("per_class", [1, 3])
def test_a_file_too_small_for_a_validation_split_still_serves_for_test(
    per_class: int, tmp_path: Path
) -> None:
    write_svhn(tmp_path / "SVHN", np.random.default_rng(0), per_class)
    found = stream(tmp_path, dataset="seq-svhn")
    assert [len(part) for part in found.train] == [2 * per_class] * 5
    with pytest.raises(UserError, match=f"{10 * per_class} training images are too few"):
        stream(tmp_path, dataset="seq-svhn", evaluate_on="validation")


def test_a_class_without_images_is_a_user_error(tmp_path: Path) -> None:
    write_mnist(tmp_path / "raw", np.random.default_rng(0), per_class=1)
    path = tmp_path / "raw" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-10] + bytes([0, 1, 2, 3, 3, 5, 6, 7, 8, 9]))
    with pytest.raises(UserError, match="test images of seq-mnist have no image of class 4"):
        stream(tmp_path, dataset="seq-mnist")
    assert len(stream(tmp_path, dataset="seq-mnist", n_tasks=2).tasks) == 2
