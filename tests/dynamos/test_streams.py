import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.plain import rotate_singly
from dynamos.config import DATASETS, TrainConfig
from dynamos.data import SOURCES, Images, digits
from dynamos.errors import UserError
from dynamos.streams import load_stream, rotate, rotating_order, validation_split
from tests.dynamos.files import write_mnist, write_svhn

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    write_mnist(path / "MNIST" / "raw", np.random.default_rng(1), per_class=70)
    write_svhn(path / "SVHN", np.random.default_rng(1), per_class=30)
    return path


def stream(folder, **values):
    return load_stream(TrainConfig(data_path=str(folder), **values), CPU)


def together(parts):
    return [bytes(p.numpy()) for part in parts for p in part.pixels], torch.cat([part.labels for part in parts])


@pytest.mark.parametrize("dataset", ["seq-digits", "seq-mnist", "seq-svhn"])
def test_splits_are_disjoint_complete_and_stratified(dataset, folder):
    for evaluate_on in ("validation", "test"):
        found = stream(folder, dataset=dataset, evaluate_on=evaluate_on)
        assert found.tasks == ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
        for part in (found.train, found.evaluation):
            assert [sorted(p.labels.unique().tolist()) for p in part] == [list(c) for c in found.tasks]
        train, train_labels = together(found.train)
        held, held_labels = together(found.evaluation)
        if evaluate_on == "validation":
            every, _ = together([SOURCES[dataset[4:]](folder, False, False)])
            assert sorted(train + held) == sorted(every)
            share = torch.bincount(held_labels) / torch.bincount(torch.cat([train_labels, held_labels]))
            assert (share - 0.1).abs().max() < 0.03
        if dataset != "seq-digits":  # random pixels: no two images are equal
            assert not set(train) & set(held)


def test_validation_is_fixed_whatever_the_seed_and_the_tasks(folder):
    hashes = {stream(folder, dataset="seq-mnist", evaluate_on="validation", seed=seed, n_tasks=n).split_hash
              for seed, n in ((1, 5), (2, 3))}
    assert len(hashes) == 1
    kept, held = validation_split(torch.arange(10).repeat_interleave(70))
    assert sorted(torch.cat([kept, held]).tolist()) == list(range(700)) and len(held) == 70


def test_classes_and_tasks_are_configurable(folder):
    found = stream(folder, dataset="seq-mnist", classes_per_task=3, n_tasks=2, class_order_seed=4)
    order = np.random.default_rng(4).permutation(10).tolist()
    assert found.tasks == (tuple(order[:3]), tuple(order[3:6]))
    assert set(found.train[1].labels.tolist()) == set(order[3:6])
    assert stream(folder, dataset="seq-mnist", classes_per_task=3).tasks[-1] == (6, 7, 8)
    with pytest.raises(UserError, match="at most 3"):
        stream(folder, dataset="seq-mnist", classes_per_task=3, n_tasks=4)
    with pytest.raises(UserError, match="classes_per_task 11"):
        stream(folder, dataset="seq-mnist", classes_per_task=11)


def test_every_epoch_is_a_new_order_of_every_image_with_a_partial_batch(folder):
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
    assert torch.cat([b.index for b in found.batches(0, 1, config.replace(seed=1))]).tolist() != orders[1]


@pytest.mark.parametrize("size", [8, 28])
def test_rotation_is_pils(size):
    draws = np.random.default_rng(0)
    pixels = torch.from_numpy(draws.integers(1, 256, (200, 1, size, size), dtype=np.uint8))
    degrees = torch.from_numpy(draws.uniform(-400, 800, 200))
    agree = (rotate(pixels, degrees) == rotate_singly(pixels, degrees)).float().mean()
    assert agree > 0.999  # the rest are ties on a pixel's edge


def test_rotation_is_counter_clockwise_exact_at_right_angles_and_black_outside():
    pixels = torch.arange(1, 76, dtype=torch.uint8).reshape(1, 3, 5, 5).expand(4, -1, -1, -1)
    turned = rotate(pixels, torch.tensor([0., 90., 180., 270.], dtype=torch.float64))
    for i in range(4):
        assert torch.equal(turned[i], torch.rot90(pixels[i], i, (1, 2)))
    assert rotate(pixels[:1], torch.tensor([45.]))[0, :, 0, 0].tolist() == [0, 0, 0]
    assert Image.fromarray(pixels[0, 0].numpy()).rotate(90).getpixel((0, 0)) == turned[1, 0, 0, 0]


def grey(counts):
    labels = torch.cat([torch.full((n,), j) for j, n in enumerate(counts)])
    return Images(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels, 255)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_the_rotating_order_is_the_methods(batch_size):
    counts = [60, 71, 64, 50, 97, 60, 83, 55, 41]
    images = grey(counts)
    batches = rotating_order(images, batch_size, np.random.default_rng(0))
    labels = images.labels.numpy()
    every = torch.cat([b.index for b in batches]).numpy()
    assert len(set(every)) == len(every)  # each image once at most
    angles = torch.cat([b.degrees for b in batches]).numpy()
    for j, n in enumerate(counts):  # a digit turns at every image of it drawn, whatever lies between
        own = angles[labels[every] == j]
        np.testing.assert_allclose(own, (j - 1) * 60 + np.arange(len(own)) * 360 / n)

    # Written out: three rounds of nine pairs, last chunk first, a visit over when either chunk is used up.
    left = [[list(range(at, min(at + n // 6 + 1, n))) for at in range(0, n, n // 6 + 1)] for n in counts]
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


def test_the_order_within_a_chunk_is_random():
    orders = [torch.cat([b.index for b in rotating_order(grey([60] * 9), 4, np.random.default_rng(s))]).tolist()
              for s in (0, 1)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])


@pytest.mark.parametrize("evaluate_on", ["test", "validation"])
def test_rotating_evaluation_shows_every_image_once_through_a_full_turn(evaluate_on):
    found = load_stream(TrainConfig(dataset="digits-360", evaluate_on=evaluate_on), CPU)
    (shown,) = found.evaluation
    if evaluate_on == "test":
        source = digits(None, True, False)
    else:
        source = digits(None, False, False)
        source = source.take(validation_split(source.labels)[1])
    assert found.num_classes == 9 and shown.labels.tolist() == sorted(x for x in source.labels.tolist() if x < 9)
    at = 0
    for j in range(9):
        own = source.take((source.labels == j).nonzero().ravel())
        for i in range(len(own)):
            wanted = rotate(own.pixels[i:i + 1], torch.tensor([i * 360 / len(own)], dtype=torch.float64))
            assert torch.equal(shown.pixels[at:at + 1], wanted)
            at += 1
    assert at == len(shown)


def test_batches_of_a_rotating_stream_are_rotated_images(folder):
    config = TrainConfig(dataset="mnist-360", data_path=str(folder), batch_size=16)
    found = load_stream(config, CPU)
    batch = found.batches(0, 0, config)[5]
    images = found.images(0, batch)
    assert torch.equal(images.pixels, rotate(found.train[0].pixels[batch.index], batch.degrees))
    assert not torch.equal(images.pixels, found.train[0].pixels[batch.index])
    assert torch.equal(images.labels, found.train[0].labels[batch.index])


@pytest.mark.parametrize("dataset", DATASETS)
def test_shortened_streams_keep_their_tasks(dataset, folder):
    found = stream(folder, dataset=dataset, max_train_images_per_task=18)
    whole = stream(folder, dataset=dataset)
    assert [len(part) for part in found.train] == [18] * len(found.tasks)
    assert found.data_hash == whole.data_hash
    if found.rotating:
        assert torch.bincount(found.train[0].labels).tolist() == [2] * 9
    assert [len(part) for part in found.evaluation] == [len(part) for part in whole.evaluation]
