from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.config import TEST_LOCK, TrainConfig
from dynamos.errors import TestImagesLocked, UserError
from dynamos.streams import Stream, load_stream
from dynamos.streams.arrays import array_images
from dynamos.streams.classes import has_made_test, with_tasks

CPU = torch.device("cpu")
DRAWS = np.random.default_rng(0)
IMAGES = DRAWS.integers(0, 256, (40, 9, 8, 3), dtype=np.uint8)
LABELS = np.tile(np.arange(4), 10)
BOTH = {"images": IMAGES, "labels": LABELS}
APART = {
    "train_images": IMAGES,
    "train_labels": LABELS,
    "test_images": IMAGES[:8],
    "test_labels": LABELS[:8],
}


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


def loaded(path: Path, **values: Any) -> Stream:
    return load_stream(TrainConfig(dataset="arrays", data_path=str(path), **values), CPU)


def test_images_of_a_file_become_tasks_of_their_classes(tmp_path: Path) -> None:
    path = saved(tmp_path, **APART)
    found = loaded(path)
    assert found.tasks == ((0, 1), (2, 3)) and found.num_classes == 4
    assert found.image_shape == (3, 9, 8)
    first = found.train[0]
    assert torch.equal(first.pixels[1], torch.from_numpy(IMAGES[1]).permute(2, 0, 1))
    assert first.labels.tolist() == [0, 1] * 10 and first.white == 255
    assert [len(part) for part in found.evaluation] == [4, 4]
    assert not has_made_test(TrainConfig(dataset="arrays", data_path=str(path)))


@pytest.mark.parametrize("evaluate_on, held", [("validation", 0.1), ("test", 0.2)])
def test_a_file_without_test_images_gives_a_fixed_stratified_fifth(
    evaluate_on: str, held: float, tmp_path: Path
) -> None:
    labels = np.repeat(np.arange(3), 100)
    images = np.arange(300).astype(np.uint16).view(np.uint8).reshape(300, 1, 2)
    path = saved(tmp_path, images=np.tile(images, (1, 8, 4)), labels=labels)
    config = TrainConfig(
        dataset="arrays", data_path=str(path), classes_per_task=1, evaluate_on=evaluate_on
    )
    assert has_made_test(config)
    ids: dict[str, set[bytes]] = {}
    for on in ("validation", "test"):
        found = load_stream(config.replace(evaluate_on=on), CPU)
        for name, parts in ((f"train {on}", found.train), (on, found.evaluation)):
            ids[name] = {bytes(p.numpy()) for part in parts for p in part.pixels}
        if on == evaluate_on:
            whole = 300 if on == "test" else 240
            assert [len(part) for part in found.evaluation] == [round(held * whole / 3)] * 3
    assert not ids["test"] & (ids["validation"] | ids["train validation"] | ids["train test"])
    assert ids["train test"] == ids["validation"] | ids["train validation"]


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.lists(st.integers(0, 255), min_size=64, max_size=64),
)
def test_floats_of_whole_grey_values_come_back_exactly(kind: type, grey: list[int]) -> None:
    import tempfile

    values = np.asarray(grey, np.uint8).reshape(1, 8, 8).repeat(10, 0)
    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder), images=(values / 255).astype(kind), labels=np.arange(10) % 2)
        pixels = array_images(path, False, False)[0]
    assert pixels.shape == (8, 1, 8, 8) and np.array_equal(pixels[:, 0], values[:8])


def test_keras_names_and_column_labels_are_understood(tmp_path: Path) -> None:
    path = saved(
        tmp_path,
        x_train=IMAGES,
        y_train=LABELS[:, None],
        x_test=IMAGES[:8],
        y_test=LABELS[:8, None].astype(np.uint8),
    )
    assert [len(part) for part in loaded(path).train] == [20, 20]


def changed(**arrays: Any) -> dict[str, Any]:
    return BOTH | arrays


@pytest.mark.parametrize(
    "arrays, said",
    [
        ({"images": IMAGES}, "has no array labels; it needs images and labels, or train_images"),
        (changed(image=IMAGES), "unknown array 'image'. Did you mean 'images'"),
        (changed(**APART), "give images and labels alone"),
        ({k: v for k, v in APART.items() if k != "test_labels"}, "has no array test_labels"),
        (changed(labels=LABELS[:-1]), "has 40 images and labels 39 labels"),
        (changed(labels=LABELS * 2), r"labels skips class 1.*np.unique\(labels, return_inverse"),
        (changed(labels=LABELS + 1), "labels skips class 0"),
        (changed(labels=LABELS - 1), "labels has the class -1; classes begin at 0"),
        (changed(labels=LABELS + 0.5), "labels is float64 of shape"),
        (changed(labels=np.zeros((40, 2), int)), r"labels is int64 of shape \(40, 2\)"),
        (changed(images=IMAGES.transpose(0, 3, 1, 2)), r"images.transpose\(0, 2, 3, 1\)"),
        (changed(images=IMAGES[..., :2]), r"shape \(40, 9, 8, 2\); it must be \(N, H, W\)"),
        (changed(images=IMAGES[:, :7]), "8 to 224 pixels a side"),
        (changed(images=np.zeros((40, 225, 8))), "8 to 224 pixels a side"),
        (changed(images=IMAGES.astype(np.int64)), "type int64; it must be uint8, or float"),
        (changed(images=IMAGES / 128), "values from 0 to 1.99219; floats must be from 0 to 1"),
        (changed(images=-(IMAGES / 255)), "values from -1 to -?0; floats must be from 0 to 1"),
        (changed(images=np.full((40, 8, 8), np.nan)), "images has NaN"),
        (changed(labels=np.array([None] * 40)), "cannot read .* as a file of np.savez"),
        (changed(labels=np.r_[LABELS[:-1], 4]), "class 4 has one image"),
        ({**APART, "test_labels": LABELS[:8] + 1}, "has class 4, and the training labels end at 3"),
        (
            {**APART, "test_labels": LABELS[:8] * 0},
            "test images of arrays have no image of class 1",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_told_in_one_line(
    arrays: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said) as raised:
        loaded(saved(tmp_path, **arrays))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda b: b[:-30], "cannot read"),
        (lambda b: b"nonsense", "cannot read"),
        (lambda b: b"", "cannot read"),
        (lambda b: b[:300] + bytes(200) + b[500:], "cannot read"),
    ],
)
def test_a_damaged_file_is_a_user_error(
    damage: Callable[[bytes], bytes], said: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, **BOTH)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=said):
        loaded(path)


def test_other_files_than_archives_of_arrays_are_user_errors(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", IMAGES)
    with pytest.raises(UserError, match="holds one array"):
        loaded(tmp_path / "one.npy")
    with pytest.raises(UserError, match=r"no file .*gone\.npz"):
        loaded(tmp_path / "gone.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(UserError, match=r"cannot read .*text\.npz"):
        loaded(tmp_path / "text.npz")
    with pytest.raises(UserError, match="arrays needs data_path"):
        load_stream(TrainConfig(dataset="arrays"), CPU)


def test_the_number_of_tasks_is_read_from_the_labels_and_kept(tmp_path: Path) -> None:
    path = saved(tmp_path, **BOTH)
    config = TrainConfig(dataset="arrays", data_path=str(path))
    assert with_tasks(config).n_tasks == 2
    assert with_tasks(config.replace(classes_per_task=4)).n_tasks == 1
    assert with_tasks(config.replace(n_tasks=1)).n_tasks == 1
    with pytest.raises(UserError, match="classes_per_task 5 is more than the 4 classes of arrays"):
        load_stream(with_tasks(config.replace(classes_per_task=5)), CPU)


def test_test_arrays_are_not_read_in_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = APART | {"test_images": np.zeros(1), "test_labels": np.zeros(1)}
    path = saved(tmp_path, **broken)
    monkeypatch.setenv(TEST_LOCK, "locked")
    assert len(loaded(path, evaluate_on="validation").train) == 2
    with pytest.raises(TestImagesLocked):
        loaded(path)
