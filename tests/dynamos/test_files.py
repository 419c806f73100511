import sys
from pathlib import Path

import pytest
from upath import UPath

from dynamos import checkpoints
from dynamos.errors import UserError
from dynamos.files import any_path, local_path, write_whole


def test_a_path_is_absolute_and_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert any_path("runs") == tmp_path / "runs" and isinstance(any_path("runs"), Path)
    assert any_path("~") == Path.home()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "s4://bucket/runs",
            "bucket/runs: unknown kind of object store 's4'. Did you mean 's3'? Allowed: s3, gs, "
            "az.",
        ),
        ("file:///runs", "unknown kind of object store 'file'"),
        (
            "gs://bucket/runs",
            "gs://bucket/runs needs a package that is not installed: pip install gcsfs",
        ),
    ],
)
def test_a_url_that_cannot_be_used_is_an_error_in_one_line(
    url: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError) as caught:
        any_path(url)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("store", ["disk", "objects"])
def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(store: str, tmp_path: Path) -> None:
    folder = tmp_path if store == "disk" else UPath("memory:///files")
    path = folder / "deep" / "file"
    assert write_whole(path, "one") == path and path.read_text() == "one"
    write_whole(path, b"two")
    assert path.read_bytes() == b"two" and [other.name for other in path.parent.iterdir()] == [
        "file"
    ]


@pytest.mark.parametrize("text", ["~nosuchuser/x", "a\0b"])
def test_an_impossible_path_is_a_user_error(text: str) -> None:
    for path in (any_path, local_path):
        with pytest.raises(UserError, match="is not a path"):
            path(text)


def test_a_path_that_is_not_utf_8_is_a_user_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a\udcff").mkdir()
    monkeypatch.chdir(tmp_path / "a\udcff")
    for text in (str(tmp_path / "\udcff"), "b"):
        for path in (any_path, local_path):
            with pytest.raises(UserError, match="is not UTF-8"):
                path(text)


def test_a_new_file_does_not_replace_an_existing_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_whole(path, "one", new=True)
    with pytest.raises(FileExistsError):
        write_whole(path, "two", new=True)
    assert path.read_text() == "one" and [other.name for other in path.parent.iterdir()] == ["file"]


def test_checkpoints_in_an_object_store() -> None:
    folder = UPath("memory:///checkpoints/seed-1")
    assert checkpoints.latest(folder) is None
    for i in range(1, 6):
        checkpoints.save({"i": i}, folder)
        assert checkpoints.latest(folder) == {"i": i}
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint-000004.pt",
        "checkpoint-000005.pt",
    ]
    write_whole(folder / "checkpoint-000006.pt", "damaged")
    assert checkpoints.latest(folder) == {"i": 5}
