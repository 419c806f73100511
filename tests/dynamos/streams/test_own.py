"""Streams that a user's function returns."""

from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dynamos.config import TEST_LOCK, TrainConfig
from dynamos.data import Images
from dynamos.errors import TestImagesLocked, UserError
from dynamos.streams import Stream, load_stream
from dynamos.streams.classes import has_made_test, most_tasks, with_tasks
from dynamos.trainer import Trainer
from tests.helpers.small import outcome, small

CPU = torch.device("cpu")
HEAD = """
import numpy as np

def images_of(labels, tasks=None, channels=3):
    # the first pixel of an image is its place, the second its class
    pixels = np.zeros((len(labels), 8, 8, channels), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 1, 0] = np.arange(len(labels)), labels
    return pixels

labels = np.tile(np.arange(4), 20)
tasks = np.repeat(np.arange(2), 40)
"""
DOMAINS = """
def mine(part):
    return images_of(labels), labels, tasks
"""


def written(folder: Path, body: str) -> str:
    (folder / "mine.py").write_text(HEAD + dedent(body))
    return f"{folder / 'mine.py'}:mine"


def loaded(dataset: str, **changes: object) -> Stream:
    return load_stream(TrainConfig(dataset=dataset).replace(**changes), CPU)


def places(part: Images) -> NDArray[np.uint8]:
    return np.sort(part.pixels[:, 0, 0, 0].numpy())


def test_a_function_of_nothing_is_cut_into_tasks_by_classes(tmp_path: Path) -> None:
    own = written(tmp_path, "def mine():\n    return images_of(labels), labels")
    stream = loaded(own)
    assert stream.tasks == ((0, 1), (2, 3)) and stream.has_task_il
    assert stream.image_shape == (3, 8, 8)
    assert [len(part) for part in stream.train] == [32, 32]  # a fifth is the test set
    assert [len(part) for part in stream.evaluation] == [8, 8]
    together = [places(part) for part in (*stream.train, *stream.evaluation)]
    assert np.array_equal(np.sort(np.concatenate(together)), np.arange(80))
    for part, classes in zip(stream.train, stream.tasks, strict=True):
        assert set(part.labels.tolist()) == set(classes)
        assert torch.equal(part.pixels[:, 0, 0, 1].long(), part.labels)
    ordered = loaded(own, classes_per_task=1, n_tasks=3, class_order_seed=1)
    assert len(ordered.tasks) == 3 and all(len(classes) == 1 for classes in ordered.tasks)


def test_a_function_of_the_part_is_called_for_the_parts_that_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = written(
        tmp_path,
        """
        def mine(part):
            with open(__file__ + ".calls", "a") as file:
                file.write(part + " ")
            return images_of(labels)[..., :1], labels[:, None]
        """,
    )
    calls = tmp_path / "mine.py.calls"
    stream = loaded(own, evaluate_on="validation")
    assert calls.read_text() == "train "  # once
    assert stream.image_shape == (1, 8, 8) and stream.split_hash is not None
    assert [len(part) for part in stream.evaluation] == [4, 4]
    monkeypatch.setenv(TEST_LOCK, "locked")
    with pytest.raises(TestImagesLocked):
        loaded(own)
    assert calls.read_text() == "train "
    monkeypatch.delenv(TEST_LOCK)
    assert [len(part) for part in loaded(own).evaluation] == [40, 40]
    assert calls.read_text() == "train train test "


def test_a_third_array_names_the_task_of_each_image(tmp_path: Path) -> None:
    own = written(tmp_path, DOMAINS)
    stream = loaded(own)
    assert stream.tasks == ((0, 1, 2, 3),) * 2
    assert not stream.has_task_il  # the task rules out no class
    for part in (stream.train, stream.evaluation):
        assert np.array_equal(places(part[0]), np.arange(40))
        assert np.array_equal(places(part[1]), np.arange(40, 80))
    assert len(loaded(own, n_tasks=1).tasks) == 1
    held_out = loaded(own, evaluate_on="validation")
    # a tenth of every task
    assert [len(part) for part in held_out.evaluation] == [4, 4]
    first = loaded(own, max_train_images_per_task=5).train
    assert [len(part) for part in first] == [5, 5]
    config = TrainConfig(dataset=own, classes_per_task=1)
    assert with_tasks(config).n_tasks == 2 == most_tasks(config)


def test_tasks_with_classes_of_their_own_have_task_il(tmp_path: Path) -> None:
    own = written(
        tmp_path,
        """
        def mine(part):
            order = np.argsort(labels, kind="stable")
            return images_of(labels)[order], labels[order], tasks
        """,
    )
    stream = loaded(own)
    assert stream.tasks == ((0, 1), (2, 3)) and stream.has_task_il


def test_the_hash_of_the_images_covers_their_tasks(tmp_path: Path) -> None:
    before = loaded(written(tmp_path, DOMAINS)).data_hash
    swapped = written(tmp_path, DOMAINS.replace("labels, tasks", "labels, 1 - tasks"))
    assert loaded(swapped).data_hash != before


@pytest.mark.parametrize("method", ["dynamos", "er", "joint"])
def test_methods_train_on_domains_and_have_no_task_il(method: str, tmp_path: Path) -> None:
    own = written(tmp_path, DOMAINS)
    results, _ = outcome(Trainer(small(dataset=own, model=method)))
    assert [result["task_il"] for result in results] == [None, None]
    assert results[-1]["forgetting"] is not None
    assert outcome(Trainer(small(dataset=own, model=method)))[0] == results


@pytest.mark.parametrize(
    "body, said",
    [
        ("def mine(a, b): pass", "must be a function of nothing, or of the part"),
        ("def mine(): return images_of(labels)", "returns a ndarray; it must return"),
        ("def mine(): return 1, 2, 3, 4", "returns a tuple of 4; it must return"),
        ("def mine(): return 1 / 0", "raises ZeroDivisionError: division by zero"),
        ("def mine(): exit(1)", "raises SystemExit: 1"),
        ("def mine(): return images_of(labels) / 300, 1.5 * labels", "labels is float64 of shape"),
        ("def mine(): return images_of(labels) * np.nan, labels", "images has NaN; floats must"),
        ("def mine(): return images_of(labels) - 1.0, labels", "images has values from -1 to"),
        ("def mine(): return images_of(labels)[0], labels", r"images has shape \(8, 8, 3\)"),
        ("def mine(): return [[[1]], [[1, 2]]], labels", "returns no arrays: ValueError"),
        ("def mine(): return images_of(labels), labels[1:]", "80 images and 79 labels for them"),
        ("def mine(): return images_of(labels), labels, tasks[1:]", "80 images and 79 tasks"),
        ("def mine(): return images_of(labels), labels * 2", "labels skips class 1; the classes"),
        ("def mine(): return images_of(labels), labels, tasks * 2", "tasks skips task 1; the task"),
        ("def mine(): return images_of(labels), labels - 1", "has the class -1; classes begin"),
        ("def mine(): return images_of(labels), labels, tasks - 1", "the task -1; tasks begin"),
        (
            "def mine(): return images_of([0, 1, 1]), np.array([0, 1, 1])",
            "3 images are too few for a test set of a fifth of every class: class 0 has one",
        ),
        (
            "def mine(part): return (images_of(labels, channels=1 + 2 * (part == 'test')), labels)",
            r"training images are \(1, 8, 8\) and test images \(3, 8, 8\)",
        ),
        (
            "def mine(part): return images_of(labels), labels + (part == 'test')",
            "a test image has class 4, and the training labels end at 3",
        ),
        (
            "def mine(part): return (images_of(labels), labels, tasks)[:2 + (part == 'test')]",
            "returns tasks for one part only",
        ),
        (
            "def mine(part): return images_of(labels), labels, tasks * (part == 'train')",
            "has no test images of task 1",
        ),
        (
            "def mine(part): return (images_of(labels), np.sort(labels) if part == 'train' else "
            "labels, tasks)",
            "the test images of task 0 have class 2, its training images do not",
        ),
        ("import nothing_of_that_name", "mine.py fails to import: ModuleNotFoundError"),
        ("def mime(): pass", "unknown stream of .*mine.py 'mine'. Did you mean 'mime'"),
    ],
)
def test_what_is_no_stream_is_one_line(body: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as raised:
        loaded(written(tmp_path, body))
    assert "\n" not in str(raised.value)


def test_fields_that_cut_tasks_do_not_apply_to_given_tasks(tmp_path: Path) -> None:
    own = written(tmp_path, DOMAINS)
    for changes in ({"classes_per_task": 4}, {"class_order_seed": 1}):
        with pytest.raises(UserError, match="does not apply to .*mine.py:mine, which returns"):
            loaded(own, **changes)
    with pytest.raises(UserError, match="n_tasks 3: .*mine.py:mine has 2 tasks"):
        loaded(own, n_tasks=3)
    with pytest.raises(UserError, match="classes_per_task 5 is more than the 4 classes"):
        loaded(
            written(tmp_path, "def mine(): return images_of(labels), labels"), classes_per_task=5
        )


def test_a_configuration_names_the_stream_without_its_file(tmp_path: Path) -> None:
    gone = TrainConfig(dataset=f"{tmp_path / 'gone.py'}:mine")
    assert gone.stream_name == "mine" and TrainConfig().stream_name == "seq-digits"
    assert TrainConfig.from_dict(gone.to_dict()) == gone
    with pytest.raises(UserError, match=r"no file .*gone\.py\."):
        load_stream(gone, CPU)
    with pytest.raises(UserError, match="unknown dataset 'gone.py:'"):
        TrainConfig(dataset="gone.py:")


def test_a_made_test_set_is_known(tmp_path: Path) -> None:
    assert not has_made_test(TrainConfig(dataset=written(tmp_path, DOMAINS)))
    own = written(tmp_path, "def mine(): return images_of(labels), labels")
    (tmp_path / "mine.py").rename(tmp_path / "other.py")
    assert has_made_test(TrainConfig(dataset=own.replace("mine.py", "other.py")))
