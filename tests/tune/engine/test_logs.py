import logging
from pathlib import Path

import pytest
from upath import UPath

from tune.engine.logs import log_file


def test_the_file_is_made_with_its_first_line(tmp_path: Path) -> None:
    log = log_file(tmp_path / "log.txt")
    assert not (tmp_path / "log.txt").exists()
    log.emit(
        logging.makeLogRecord(
            {"msg": "%s is here", "args": ("it",), "levelname": "WARNING", "name": "n"}
        )
    )
    log.close()
    assert (tmp_path / "log.txt").read_text().endswith("WARNING n: it is here\n")


def test_a_full_disk_says_nothing_on_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    log = log_file(Path("/dev/full"))
    log.emit(logging.makeLogRecord({"msg": "lost"}))
    log.close()
    assert capfd.readouterr() == ("", "")


def test_in_an_object_store_each_line_is_there_at_once_after_what_was() -> None:
    path = UPath("memory:///logs/log.txt")
    for text in ("one", "two"):
        log = log_file(path)
        assert path.exists() == (text == "two")
        log.emit(logging.makeLogRecord({"msg": text, "levelname": "WARNING", "name": "n"}))
        assert path.read_text().endswith(f"WARNING n: {text}\n")
        log.close()
    assert len(path.read_text().splitlines()) == 2


def test_a_store_that_is_away_says_nothing_on_the_screen(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = UPath("memory:///away/log.txt")
    monkeypatch.setattr(path.fs, "pipe_file", lambda *_: 1 / 0)
    log_file(path).emit(logging.makeLogRecord({"msg": "lost"}))
    assert capfd.readouterr() == ("", "")
