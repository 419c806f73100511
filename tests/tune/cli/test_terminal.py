import io
import threading
import time
from typing import Any

import pytest
from rich.console import Console

from tune.cli import terminal


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The text that a terminal shows on stderr."""
    shown = io.StringIO()

    def console(**_: Any) -> Console:
        return Console(file=shown, force_terminal=True, width=80)

    monkeypatch.setattr(terminal, "Console", console)
    return shown


def test_one_slow_item_shows_its_progress(
    screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "QUIET_SECONDS", 0.0)
    for item in terminal.progress(["slow"], "reading the sweeps"):
        # the line is drawn by the threads of the timer and of the display, while this item lasts
        while "reading the sweeps" not in screen.getvalue():
            time.sleep(0.01)
        assert item == "slow"
    assert "0/1" in screen.getvalue()


def test_fast_items_show_nothing_and_leave_no_thread(screen: io.StringIO) -> None:
    before = threading.active_count()
    assert list(terminal.progress(["a", "b"], "reading the sweeps")) == ["a", "b"]
    assert screen.getvalue() == "" and threading.active_count() <= before
