import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dynamos import provenance

Repository = tuple[Path, Callable[..., str]]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Return (root of a repository whose package `dynamos` is the running code, a function that
    runs git in it)."""

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    (tmp_path / "dynamos").mkdir()
    (tmp_path / "dynamos" / "provenance.py").write_text("one")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "dynamos" / "provenance.py"))
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    return tmp_path, git


def test_the_revision_is_the_commit_and_says_whether_files_differ(repository: Repository) -> None:
    root, git = repository
    commit = git("rev-parse", "HEAD")
    assert len(commit) == 40 and provenance.git_revision() == commit
    (root / "untracked").write_text("")
    assert provenance.git_revision() == commit
    (root / "dynamos" / "provenance.py").write_text("two")
    assert provenance.git_revision() == f"{commit}+changes"


def test_a_repository_that_merely_contains_the_code_says_nothing(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = repository
    deeper = root / "environment" / "dynamos"
    deeper.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(deeper / "provenance.py"))
    assert provenance.git_revision() is None
