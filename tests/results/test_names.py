"""Names of sweeps: allowed names, conversion of a text to one, and folders with unusual names."""

import threading
from contextlib import closing
from pathlib import Path

import pytest

from dynamos.errors import UserError
from results.ledger.ledger import Ledger, NameTaken
from results.names import LONGEST, PATTERN, allowed_name, check_name, comparison_page
from tests.helpers.ledgers import config, driven

ODD = 'what? now #1 100% {x} "q" it\'s $HOME \u00fcn\u00ef.'


@pytest.mark.parametrize(
    "name", ["a", "7", "mnist-360_v1.2", "Trained", "mlflow", "compare", "x" * LONGEST, "a."]
)
def test_names_that_a_sweep_may_have(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".hidden",
        "-x",
        "_x",
        "a b",
        "a/b",
        "..",
        "what?",
        "s\u00fc\u00df",
        "x" * (LONGEST + 1),
        "a\n",
    ],
)
def test_any_other_is_refused_in_words_with_one_that_is_like_it(name: str) -> None:
    with pytest.raises(
        UserError, match="has 1 to 120 letters .*, digits, .*; for instance "
    ) as raised:
        check_name(name)
    assert PATTERN not in str(raised.value) and check_name(str(raised.value).split("'")[-2])


@pytest.mark.parametrize(
    "name", ["mlflow.db", "MLflow.db", "mlflow.db-wal", "mlartifacts", "compare-a.html", "train"]
)
def test_names_of_other_files_in_a_storage_folder_are_reserved(name: str) -> None:
    with pytest.raises(UserError, match="this name is reserved"):
        check_name(name)
    assert check_name(allowed_name(name)).endswith(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("seq-digits-space (1)", "seq-digits-space-1-7"),
        ("\u00fcn\u00ef", "uni-7"),
        ("a.", "a.-7"),
        ("\u65e5\u672c", "sweep-7"),
        ("", "sweep-7"),
        ("train", "train-7"),
        ("x" * 300, "x" * (LONGEST - 2) + "-7"),
        (".a?", "a-7"),
    ],
)
def test_a_text_becomes_an_allowed_name(text: str, name: str) -> None:
    assert allowed_name(text, "-7") == name == check_name(name)


def test_the_page_of_many_sweeps_has_a_name_that_a_file_may_have(tmp_path: Path) -> None:
    assert comparison_page(["a", "b"]) == "compare-a-b.html"
    (tmp_path / comparison_page(["x" * LONGEST, "y" * LONGEST])).touch()


def test_a_ledger_lies_in_its_folder_whatever_the_path_holds(tmp_path: Path) -> None:
    storage = tmp_path / ODD
    with driven(Ledger.create(storage, config(), {})) as made:
        made.ask()
    assert sorted(path.name for path in tmp_path.iterdir()) == [ODD]
    assert (storage / "s" / "ledger.db").stat().st_size > 0
    with closing(Ledger.open(storage, "s")) as there:
        assert len(there.trials()) == 1


def test_no_ledger_has_another_name(tmp_path: Path) -> None:
    for name in ("what? now", "mlflow.db"):
        with pytest.raises(UserError, match="for instance"):
            Ledger.create(tmp_path, config(name), {})
    assert list(tmp_path.iterdir()) == []


def test_one_of_several_processes_makes_a_sweep_of_one_name(tmp_path: Path) -> None:
    ready, ends = threading.Barrier(4), list[str]()

    def make() -> None:
        ready.wait()
        try:
            Ledger.create(tmp_path, config(), {}).close()
            ends.append("made")
        except NameTaken:
            ends.append("taken")

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["made", "taken", "taken", "taken"]
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
