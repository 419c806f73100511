"""Images in .npy files, which are mapped into memory."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch

from dynamos.config import TEST_LOCK, TrainConfig
from dynamos.data import Images
from dynamos.errors import TestImagesLocked, UserError
from dynamos.streams import Stream, load_stream
from dynamos.streams.stream import cumulative
from dynamos.trainer import Trainer
from tests.helpers.small import outcome, resumed, small, together
from tune.machines.images import raw_images

DRAWS = np.random.default_rng(0)
IMAGES = DRAWS.integers(0, 256, (80, 9, 8, 3), dtype=np.uint8)
LABELS = DRAWS.permutation(np.arange(80) % 4)
WHOLE = {"images": IMAGES, "labels": LABELS}
APART = {f"train_{name}": array for name, array in WHOLE.items()} | {
    f"test_{name}": array[::2] for name, array in WHOLE.items()
}


def saved(folder: Path, **arrays: Any) -> tuple[str, str]:
    """(a folder of mapped files, a file that is read whole) with the same arrays."""
    (folder / "npy").mkdir()
    for name, array in arrays.items():
        np.save(folder / "npy" / f"{name}.npy", array)
    np.savez(folder / "whole.npz", **arrays)
    return str(folder / "npy"), str(folder / "whole.npz")


def loaded(path: str, **changes: Any) -> Stream:
    config = TrainConfig(dataset="arrays", data_path=path, **changes)
    return load_stream(config, torch.device("cpu"))


def mapped(part: Images) -> bool:
    """True if the part holds the file's own memory."""
    return part.rows is not None and not part.pixels.is_contiguous()


@pytest.mark.parametrize("arrays", [WHOLE, APART], ids=["whole", "apart"])
@pytest.mark.parametrize("evaluate_on", ["validation", "test"])
def test_a_mapped_stream_is_the_stream_of_the_images_read_whole(
    arrays: dict[str, Any], evaluate_on: str, tmp_path: Path
) -> None:
    ours, theirs = (
        loaded(path, evaluate_on=evaluate_on, max_train_images_per_task=9)
        for path in saved(tmp_path, **arrays)
    )
    assert (ours.data_hash, ours.split_hash) == (theirs.data_hash, theirs.split_hash)
    assert ours.tasks == theirs.tasks and ours.image_shape == theirs.image_shape == (3, 9, 8)
    for mine, other in zip(
        (*ours.train, *ours.evaluation), (*theirs.train, *theirs.evaluation), strict=True
    ):
        assert mapped(mine) and len(mine) == len(other)
        assert torch.equal(mine.read().pixels, other.pixels)
        assert torch.equal(mine.labels, other.labels)
        parts = list(mine.parts(4))
        assert [len(part) for part in parts[:-1]] == [4] * (len(parts) - 1)
        assert torch.equal(torch.cat([part.pixels for part in parts]), other.pixels)
    for mine, other in zip(cumulative(ours).train, cumulative(theirs).train, strict=True):
        assert mapped(mine) and torch.equal(mine.read().pixels, other.pixels)


@pytest.mark.parametrize("changes", [{}, {"model": "joint"}, {"readings": 1}])
def test_training_on_a_mapped_file_gives_the_same_network(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    ours, theirs = (
        outcome(Trainer(small(dataset="arrays", data_path=path, batch_size=3, **changes)))
        for path in saved(tmp_path, **WHOLE)
    )
    assert ours[0] == theirs[0]
    assert all(torch.equal(value, theirs[1][name]) for name, value in ours[1].items())


def test_runs_on_a_mapped_file_resume_and_train_together(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, **WHOLE)
    config = small(dataset="arrays", data_path=path)
    whole, again = resumed(config, 5, tmp_path / "checkpoints")
    assert outcome(whole)[0] == outcome(again)[0]
    runs = together([config, config.replace(seed=1)])
    assert runs[0].results[-1].class_il == whole.results[-1].class_il


def test_a_stream_of_ones_own_may_return_mapped_images(tmp_path: Path) -> None:
    path, whole = saved(tmp_path, **WHOLE)
    (tmp_path / "mine.py").write_text(
        dedent(
            f"""
            import numpy as np

            def mine():
                images = np.load({path!r} + "/images.npy", mmap_mode="r")
                labels = np.load({path!r} + "/labels.npy")
                return images, labels

            def domains(part):
                return *mine(), np.arange(80) // 40
            """
        )
    )
    ours = load_stream(TrainConfig(dataset=f"{tmp_path}/mine.py:mine"), torch.device("cpu"))
    assert ours.data_hash == loaded(whole).data_hash
    assert all(mapped(part) for part in (*ours.train, *ours.evaluation))
    domains = load_stream(TrainConfig(dataset=f"{tmp_path}/mine.py:domains"), torch.device("cpu"))
    wanted = torch.from_numpy(IMAGES[40:]).permute(0, 3, 1, 2)
    assert mapped(domains.train[1]) and torch.equal(domains.train[1].read().pixels, wanted)


def test_mapped_images_are_not_sent_to_other_machines(tmp_path: Path) -> None:
    path, whole = saved(tmp_path, **WHOLE)
    assert raw_images(small(dataset="arrays", data_path=path)) is None
    assert raw_images(small(dataset="arrays", data_path=whole)) is not None


def test_test_images_are_not_opened_in_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = saved(tmp_path, **APART)
    for name in ("images", "labels"):
        (tmp_path / "npy" / f"test_{name}.npy").write_bytes(b"unreadable")
    monkeypatch.setenv(TEST_LOCK, "locked")
    assert len(loaded(path, evaluate_on="validation").train) == 2
    with pytest.raises(TestImagesLocked):
        loaded(path)
    monkeypatch.delenv(TEST_LOCK)
    with pytest.raises(UserError, match=r"cannot read .*test_images\.npy as a file of np\.save"):
        loaded(path)


@pytest.mark.parametrize(
    "arrays, said",
    [
        ({}, "has no files images.npy and labels.npy"),
        ({"images": IMAGES}, "has no array labels; it needs images and labels"),
        ({"image": IMAGES}, "unknown array 'image'. Did you mean 'images'"),
        ({"images": IMAGES / 255, "labels": LABELS}, "has type float64; images that are mapped"),
        ({"images": IMAGES[:, :4], "labels": LABELS}, "of 8 to 224 pixels a side"),
        ({"images": IMAGES, "labels": LABELS[1:]}, "80 images and labels 79 labels"),
        ({"images": IMAGES, "labels": LABELS * 2}, "labels skips class 1"),
    ],
)
def test_other_folders_are_one_line(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    path, _ = saved(tmp_path, **arrays)
    with pytest.raises(UserError, match=said) as raised:
        loaded(path)
    assert "\n" not in str(raised.value)


LIMITED = """
import resource, sys
from dynamos.config import TrainConfig
from dynamos.trainer import Trainer

path, megabytes = sys.argv[1], int(sys.argv[2])
tiny = dict(nf=2, hidden_dim_ratio=4, n_tasks=2, device="cpu", evaluate_on="validation")
tiny |= dict(max_train_images_per_task=60)
for _ in Trainer(TrainConfig(**tiny)):  # what torch loads at its first step is not counted
    pass
with open("/proc/self/status") as status:
    used = next(int(line.split()[1]) for line in status if line.startswith("VmData")) * 1024
limit = used + megabytes * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    results = list(Trainer(TrainConfig(**tiny, dataset="arrays", data_path=path)))
except (MemoryError, RuntimeError) as error:
    sys.exit(f"no memory: {error}")
print(len(results), "tasks")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts mapped files elsewhere")
def test_images_larger_than_the_memory_allowed_are_trained_on(tmp_path: Path) -> None:
    count, megabytes = 25_000, 120
    path = tmp_path / "npy"
    path.mkdir()
    images = np.lib.format.open_memmap(
        path / "images.npy", mode="w+", dtype=np.uint8, shape=(count, 64, 64, 3)
    )
    images[:, 0] = DRAWS.integers(0, 256, (count, 64, 3), dtype=np.uint8)
    images.flush()
    assert images.nbytes > 2 * megabytes * 2**20
    np.save(path / "labels.npy", np.arange(count) % 4)
    np.savez(tmp_path / "whole.npz", images=images, labels=np.arange(count) % 4)
    del images

    def trained(data: Path) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", LIMITED, str(data), str(megabytes)]
        return subprocess.run(words, capture_output=True, text=True, timeout=600)

    whole = trained(tmp_path / "whole.npz")
    assert whole.returncode == 1 and "no memory" in whole.stderr, whole.stderr
    found = trained(path)
    assert found.returncode == 0 and found.stdout == "2 tasks\n", found.stderr
