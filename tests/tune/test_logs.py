import logging
from pathlib import Path

import pytest

from tune.logs import LogFile


def test_the_file_is_made_with_its_first_line(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log.txt")
    assert not (tmp_path / "log.txt").exists()
    log.emit(logging.makeLogRecord({"msg": "%s is here", "args": ("it",), "levelname": "WARNING", "name": "n"}))
    log.close()
    assert (tmp_path / "log.txt").read_text().endswith("WARNING n: it is here\n")


def test_a_full_disk_says_nothing_on_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    log = LogFile(Path("/dev/full"))
    log.emit(logging.makeLogRecord({"msg": "lost"}))
    log.close()
    assert capfd.readouterr() == ("", "")
