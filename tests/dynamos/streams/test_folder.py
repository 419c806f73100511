from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dynamos.config import TrainConfig
from dynamos.errors import UserError
from dynamos.streams import Stream, load_stream
from dynamos.streams.classes import has_made_test, with_tasks
from dynamos.streams.folder import class_names
from dynamos.streams.pictures import decoded
from tests.helpers.data_files import write_pictures

CPU = torch.device("cpu")
CLASSES = ["cat", "ant", "bee", "dog"]


def config(folder: Path, **values: Any) -> TrainConfig:
    return TrainConfig(dataset="folder", data_path=str(folder), **values)


def loaded(folder: Path, **values: Any) -> Stream:
    return load_stream(config(folder, **values), CPU)


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    draws = np.random.default_rng(0)
    for part in ("train", "test"):
        write_pictures(tmp_path / part, draws, CLASSES)
    return tmp_path


def test_classes_are_numbered_by_name(apart: Path) -> None:
    found = loaded(apart)
    assert class_names(apart) == ["ant", "bee", "cat", "dog"]
    assert found.tasks == ((0, 1), (2, 3)) and found.image_shape == (3, 12, 10)
    cat = np.asarray(Image.open(apart / "train" / "cat" / "cat_0.png"))
    assert torch.equal(found.train[1].pixels[0], torch.from_numpy(cat.transpose(2, 0, 1).copy()))
    assert found.train[1].labels.tolist() == [2] * 10 + [3] * 10
    assert not has_made_test(config(apart)) and with_tasks(config(apart)).n_tasks == 2


def test_a_folder_without_train_and_test_gives_a_fixed_fifth(tmp_path: Path) -> None:
    write_pictures(tmp_path, np.random.default_rng(0), CLASSES)
    (tmp_path / ".git").mkdir()
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "cat" / "._cat_0.png").write_bytes(b"x")
    (tmp_path / "read me.txt").write_text("x")
    found = loaded(tmp_path)
    assert [len(part) for part in found.train] == [16, 16]
    assert [len(part) for part in found.evaluation] == [4, 4]
    assert has_made_test(config(tmp_path))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".PNG", ".ppm"])
def test_grey_pictures_have_one_channel_unless_others_are_coloured(
    suffix: str, tmp_path: Path
) -> None:
    draws = np.random.default_rng(0)

    write_pictures(tmp_path, draws, ["a", "b"], colour=False, suffix=suffix)
    assert loaded(tmp_path).image_shape == (1, 12, 10)
    write_pictures(tmp_path, draws, ["c"], suffix=suffix)
    mixed = loaded(tmp_path, classes_per_task=3)
    assert mixed.image_shape == (3, 12, 10)
    grey = mixed.train[0].pixels[0]
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[0], grey[2])


def test_palettes_and_transparency_become_colours(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 2, (9, 9, 3), dtype=np.uint8) * 255
    picture = Image.fromarray(colours)
    picture.quantize(8).save(tmp_path / "a.png")
    picture.convert("RGBA").save(tmp_path / "b.png")
    found = decoded([tmp_path / "a.png", tmp_path / "b.png"])
    assert np.array_equal(found[0], colours.transpose(2, 0, 1))
    assert np.array_equal(found[1], colours.transpose(2, 0, 1))


def test_faults_of_a_folder_are_told_in_one_line(apart: Path) -> None:
    def refused(said: str, of: Path = apart, **values: Any) -> None:
        with pytest.raises(UserError, match=said) as raised:
            loaded(of, **values)
        assert "\n" not in str(raised.value)

    write_pictures(apart / "train", np.random.default_rng(0), ["cat"], 1, size=(12, 11))
    refused("train/cat/cat_0.png has 11x12 pixels and .*ant_0.png 10x12; all images must have one")
    (apart / "train" / "cat" / "cat_0.png").write_bytes(b"nonsense")
    refused("train/cat/cat_0.png is not a picture that Pillow can read")
    whole = (apart / "train" / "ant" / "ant_0.png").read_bytes()
    (apart / "train" / "cat" / "cat_0.png").write_bytes(whole[: len(whole) // 2])
    refused("cannot read the picture .*cat_0.png: ")
    deep = Image.fromarray(np.zeros((12, 10), np.uint16))
    deep.save(apart / "train" / "cat" / "cat_0.png")
    refused("cat_0.png has pixels of mode I;16; save it with 8 bits")
    (apart / "train" / "cat" / "cat_0.png").unlink()
    (apart / "train" / "eel").mkdir()
    refused("train/eel has no pictures; names of pictures end in .png, .jpg")
    (apart / "train" / "eel").rmdir()
    (apart / "test" / "fox").mkdir()
    refused("test/fox is of a class that the training images lack")
    assert len(loaded(apart, evaluate_on="validation").tasks) == 2  # test/ is not read
    (apart / "test").rename(apart / "other")
    refused("has the folder train but no folder test")
    (apart / "empty").mkdir()
    refused("empty has no subfolders; it needs one for each class", apart / "empty")
    refused("gone is not a folder", apart / "gone")
    with pytest.raises(UserError, match="folder needs data_path"):
        load_stream(TrainConfig(dataset="folder"), CPU)


def test_a_class_with_one_picture_is_told(tmp_path: Path) -> None:
    write_pictures(tmp_path, np.random.default_rng(0), ["a", "b"])
    write_pictures(tmp_path, np.random.default_rng(0), ["c"], 1)
    with pytest.raises(UserError, match="21 images are too few for a test set of a fifth.*class 2"):
        loaded(tmp_path)
