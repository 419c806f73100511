"""The benchmark of times to a first result."""

import sys
from pathlib import Path

import pytest

from benchmarks import first_result


def test_it_measures_a_list_and_a_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, number in (("REPORTED", 3), ("LISTED", 3), ("OF_LISTED", 2)):
        monkeypatch.setattr(first_result, name, number)
    monkeypatch.setattr(sys, "argv", ["first_result", "--commands", "list", "--repeats", "1"])
    first_result.main()
    assert capsys.readouterr().out.startswith("list ")


def test_a_command_is_timed_until_its_output_has_a_pattern(tmp_path: Path) -> None:
    code = "import time; print('trial 1  starting'); print('trial 1  0  3 '); time.sleep(60)"
    wall, cpu = first_result._timed([sys.executable, "-c", code], tmp_path, first_result.TRAINS)
    assert 0 < wall < 50 and 0 <= cpu < 50
