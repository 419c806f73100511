"""Output of `logs` for a sweep on this machine, and when it ends."""

import threading
from pathlib import Path

import pytest

from results.ledger.ledger import Ledger
from tests.helpers.ledgers import config, driven
from tests.helpers.processes import wait_for
from tune.cli.main import main


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A sweep with one trial, which failed in its second attempt."""
    with driven(Ledger.create(tmp_path, config(), {})) as ledger:
        ledger.interrupt(ledger.ask().number)
        ledger.ask()
        ledger.finish(0, "FAIL", "ValueError")
    for name, text in (
        ("attempt-1/log.txt", "first\n"),
        ("attempt-2/log.txt", "second\n"),
        ("attempt-2/traceback.txt", "Traceback\nValueError"),
    ):
        path = ledger.trial_folder(0) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return ledger


def said(ledger: Ledger, capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    assert main(["logs", "s", "--storage", str(ledger.folder.parent), *more]) == 0
    return [line.replace(f"{ledger.folder}/", "") for line in capsys.readouterr().out.splitlines()]


def test_a_sweeps_log_and_its_newest_drivers_are_printed(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(ledger, capsys)[0].startswith("s has no log: no problem occurred")
    (ledger.folder / "sweep.log").write_text("a warning\n")
    (ledger.folder / "driver-9.log").write_text("old\n")
    (ledger.folder / "driver-10.log").write_text(
        'begins\ndynamos-sweep-status: {"began": true}\nends'
    )
    assert said(ledger, capsys) == [
        "== sweep.log ==",
        "a warning",
        "== driver-10.log ==",
        "begins",
        "ends",
    ]
    assert said(ledger, capsys, "-f") == said(ledger, capsys), (
        "of a sweep that does not run nothing is waited for"
    )


def test_a_trials_logs_and_traceback_are_printed(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(ledger, capsys, "--trial", "0") == [
        "== trials/0000/attempt-1/log.txt ==",
        "first",
        "== trials/0000/attempt-2/log.txt ==",
        "second",
        "== trials/0000/attempt-2/traceback.txt ==",
        "Traceback",
        "ValueError",
    ]
    assert main(["logs", "s", "--trial", "1", "--storage", str(ledger.folder.parent)]) == 2
    assert "--trial 1: s has trials 0 to 0." in capsys.readouterr().err


def test_a_log_is_followed_until_the_driver_has_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, log, out = Ledger.create(tmp_path, config(), {}), tmp_path / "s" / "driver-1.log", ""

    def seen(text: str) -> bool:
        nonlocal out
        out += capsys.readouterr().out
        return text in out

    with ledger.driving():
        reading = threading.Thread(
            target=main, args=(["logs", "s", "-f", "--storage", str(tmp_path)],)
        )
        reading.start()
        log.write_text("one\ntw")
        wait_for(lambda: seen("one\n"))
        with log.open("a") as file:
            file.write("o\n")
        wait_for(lambda: seen("two\n"))
        assert reading.is_alive()
    reading.join(60)
    assert not reading.is_alive() and out.count("==") == 2


def test_a_sweep_of_another_machine_is_looked_for_at_the_job_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["logs", "far", "--storage", str(tmp_path)]
    assert main(asked) == 2 and "unknown sweep 'far'" in capsys.readouterr().err
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    assert main(asked) == 1
    assert "the job server at http://127.0.0.1:1 cannot be used" in capsys.readouterr().err
