"""Tags and notes are set with a sweep or later, shown with it everywhere, and removed again."""

from pathlib import Path

import pytest

from results.ledger.ledger import Ledger
from results.pages.report import report
from tests.helpers.ledgers import ONE, complete, config, driven
from tests.helpers.sweeps import runs_of
from tune.cli.main import main
from tune.tracking.mirror import sync


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    with driven(
        Ledger.create(tmp_path, config(space=ONE, sampler="random", trials=1), {})
    ) as ledger:
        complete(ledger, 50.0)
    return tmp_path


def said(
    storage: Path, capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0
) -> str:
    assert main([*arguments, "--storage", str(storage)]) == status
    told = capsys.readouterr()
    return told.err if status else told.out


def test_tags_and_a_note_are_shown_and_changed(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(storage, capsys, "tag", "s") == "s has no tags\n"
    assert said(storage, capsys, "note", "s") == "s has no note\n"
    assert said(storage, capsys, "tag", "s", "team=vision", "run=a b") == "run=a b team=vision\n"
    assert said(storage, capsys, "note", "s", "Try <b> again") == "Try <b> again\n"
    assert "tags: run=a b team=vision\nnote: Try <b> again\n" in said(storage, capsys, "show", "s")
    head, line = said(storage, capsys, "list").splitlines()
    assert "tags" in head and "run=a b team=vision  Try <b> again" in line
    with Ledger.open(storage, "s").driving():  # any process may, at any time
        assert said(storage, capsys, "tag", "s", "run=", "team=audio") == "team=audio\n"
    page = report(Ledger.open(storage, "s"))
    assert "team=audio" in page and "Try &lt;b&gt; again" in page
    assert said(storage, capsys, "note", "s", "") == "s has no note\n"
    assert "note" not in said(storage, capsys, "list")


def test_after_a_change_that_no_driver_mirrors_the_command_for_it_is_printed(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def hinted(*arguments: str) -> bool:
        assert main([*arguments, "--storage", str(storage)]) == 0
        hint = f"To update MLflow: dynamos-sweep sync s --storage {storage}\n"
        return capsys.readouterr().err == hint

    assert hinted("tag", "s", "team=vision") and hinted("note", "s", "look")
    assert not hinted("tag", "s") and not hinted("note", "s")
    with Ledger.open(storage, "s").driving():
        assert not hinted("tag", "s", "team=audio") and not hinted("note", "s", "again")


@pytest.mark.parametrize(
    "tag, why",
    [
        ("team", "is not of the form NAME=VALUE"),
        ("a b=c", "the tag's name 'a b'"),
        ("dataset=x", "choose another"),
        ("mlflow.user=x", "choose another"),
        ("best_source=x", "choose another"),
        ("a=\x1b[2J", "the tag a contains '\\x1b', which is not allowed in text"),
        ("a=" + "x" * 501, "has 501 characters; at most 500"),
    ],
)
def test_a_wrong_tag_is_refused(
    tag: str, why: str, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["tag", "s", tag], ["run", "--name", "t", "--tag", tag]):
        error = said(storage, capsys, *command, status=2)
        assert why in error and len(error.splitlines()) == 1
    assert not (storage / "t").exists() and Ledger.open(storage, "s").tags == {}


def test_mlflow_has_the_tags_and_the_note(storage: Path) -> None:
    ledger = Ledger.open(storage, "s")
    ledger.label({"team": "vision", "old": "x"}, "look")

    def tags() -> dict[str, str]:
        sync(ledger)
        assert "already" in sync(ledger)
        return {
            name: value
            for name, value in runs_of(f"sqlite:///{storage}/mlflow.db")[1]["s"].data.tags.items()
            if name in ("team", "old", "mlflow.note.content")
        }

    assert tags() == {"team": "vision", "old": "x", "mlflow.note.content": "look"}
    ledger.label({"old": ""}, "")
    assert tags() == {"team": "vision", "mlflow.note.content": ""}


def test_a_deleted_sweep_is_gone_from_mlflow_too(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with driven(Ledger.create(storage, config("other", space=ONE), {})) as other:
        complete(other, 50.0)
    uri = f"sqlite:///{storage}/mlflow.db"
    for name in ("s", "other"):
        sync(Ledger.open(storage, name))
    error = said(storage, capsys, "delete", "s", status=2)
    assert "use --yes" in error and (storage / "s").exists()
    told = said(storage, capsys, "delete", "s", "--yes")
    assert told.startswith(f"s: 1 trial, {storage}/s, 2 MLflow runs at {uri}\n") and told.endswith(
        "s is deleted\n"
    )
    assert not (storage / "s").exists() and set(runs_of(uri)[1]) == {"other", "other/0"}
