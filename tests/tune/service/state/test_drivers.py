"""Drivers that the service starts as processes, and the reported reasons of their ends."""

from pathlib import Path

import pytest

from tests.helpers.processes import wait_for
from tune.service.state.drivers import Drivers


def test_why_a_driver_ended_is_told_and_nothing_in_the_services_folder_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tune.py").write_text("raise RuntimeError('of another project')")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    drivers = Drivers(tmp_path, None)
    drivers.start("resume", "a", [], 0)
    assert drivers.starting("a", 0) and not drivers.starting("a", 1)
    wait_for(lambda: not drivers.alive("a"))
    told = Drivers(tmp_path, None).error("a", 0)  # by a service started since, too
    assert told is not None and told.startswith("unknown sweep 'a'.")


@pytest.mark.parametrize(
    "sessions, told", [(0, None), (1, "the first"), (2, "the first"), (3, None)]
)
def test_an_error_is_the_last_drivers_however_much_it_said(
    sessions: int, told: str | None, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "driver-2.log").write_text(
        "a trial\n" * 10_000 + 'dynamos-sweep-status: {"error": "the first"}\n'
    )
    assert Drivers(tmp_path, None).error("a", sessions) == told
