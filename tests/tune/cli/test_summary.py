"""Output of list, show and stop, and of the end of a session."""

import os
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from dynamos.metrics import EpochReading
from results.analysis.confirmation import enter_outcome
from results.choice import Choice
from results.definition.objectives import Constraint, Objective
from results.definition.sweep_config import SweepConfig
from results.ledger import holder, lease
from results.ledger.ledger import Ledger
from results.pages.best_config import export
from results.pages.report import write_report
from results.sweep import Sweep
from tests.helpers.ledgers import ONE, SEED, begun, config, confirmed, driven, result
from tune.cli.main import main, spell_out
from tune.cli.summary import ending, show_trial
from tune.machines import screen

HERE = f"{socket.gethostname()}:{os.getpid()}"
METRICS = {
    "val_task_il": 99.0,
    "val_learning_accuracy": 97.0,
    "forgetting": 5.0,
    "keep_fraction": 0.5,
    "compute": 0.4321,
}
# Brackets that rich would take for markup: one that it would drop and one that would raise an
# error.
REASON = "ValueError: [red] is not [/tmp/red] (attempt-1/traceback.txt)"
Say = Callable[..., str]


def enter(
    ledger: Ledger, value: float, state: str = "COMPLETE", reason: str | None = None, **metrics: Any
) -> None:
    number = begun(ledger).number
    collapse = {"warnings": ["policy collapse: [all] the gates keep 1.000"]}
    values = METRICS | collapse | {"val_class_il": value} | metrics
    ledger.add_result(number, 1, SEED, result(**values))
    ledger.finish(number, state, reason)


def small(**changes: Any) -> SweepConfig:
    return config(**dict[str, Any](space=ONE, sampler="random") | changes)


def tear(path: Path) -> None:
    """Overwrite the database page at which the table of trials begins."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [(page,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'trials'")
        [(size,)] = connection.execute("PRAGMA page_size")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 64)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder: `done` is finished, `half` is stopped, `new` has not begun; `hurt`, `lost`
    and `torn` are damaged."""
    folder = tmp_path_factory.mktemp("storage")
    with driven(Ledger.create(folder, small(name="done", trials=4), {})) as done:
        enter(done, 70.0)
        enter(done, 88.88888)
        enter(done, 95.0, "FAIL", REASON)
        enter(done, 99.0, "PRUNED", "halving: too low")
    sought = (Objective.parse("val_class_il"), Objective.parse("keep_fraction"))
    made = small(name="half", objectives=sought, constraints=(Constraint.parse("compute<=0.5"),))
    with driven(Ledger.create(folder, made, {})) as half:
        enter(half, 70.0, keep_fraction=0.5)
        enter(half, 60.0, keep_fraction=0.2)
        enter(half, 99.0, compute=0.9)
    Ledger.create(folder, small(name="new", seeds=2), {})
    Ledger.create(folder, small(name="hurt"), {})
    (folder / "hurt" / "ledger.db").unlink()
    Ledger.create(folder, small(name="lost"), {})
    (folder / "lost" / "sweep.yaml").unlink()
    Ledger.create(folder, small(name="torn"), {})
    tear(folder / "torn" / "ledger.db")
    return folder


@pytest.fixture
def say(storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """Return the whole output of a command in a pipe; assert that its exit status is 0."""
    monkeypatch.setenv("COLUMNS", "40")

    def said(*arguments: str, status: int = 0) -> str:
        assert main([*arguments, "--storage", str(storage)]) == status
        captured = capsys.readouterr()
        assert (captured.err == "") == (status == 0)
        return captured.out if status == 0 else captured.err

    return said


@contextmanager
def left_by(ledger: Ledger, owner: str | None) -> Iterator[None]:
    """Set the owner of the sweep's lease while the context lasts."""
    before = lease.read(ledger._storage, ledger._study_id)
    ledger._storage.set_study_user_attr(ledger._study_id, holder.LEASE, before | {"owner": owner})
    yield
    ledger._storage.set_study_user_attr(ledger._study_id, holder.LEASE, before)


def columns(line: str) -> list[str]:
    return [part.strip() for part in line.split("  ") if part.strip()]


def test_list_has_a_line_per_sweep_and_a_damaged_one_hides_none(say: Say) -> None:
    head, *lines = say("list").splitlines()
    assert columns(head) == [
        "sweep",
        "stream",
        "space",
        "protocol",
        "state",
        "trials",
        "best",
        "objective",
        "error",
    ]
    done, half, hurt, lost, new, torn, *_ = lines
    assert columns(done) == [
        "done",
        "seq-digits",
        "one",
        "val-all-seen",
        "finished",
        "4/4",
        "88.89",
        "val_class_il:max",
    ]
    assert columns(half) == [
        "half",
        "seq-digits",
        "one",
        "val-all-seen",
        "stopped, 1 left",
        "3/4",
        "70",
        "val_class_il:max keep_fraction:min",
    ]
    assert columns(hurt)[:2] == ["hurt", "damaged"] and "has no ledger.db" in hurt
    assert columns(lost)[:2] == ["lost", "damaged"] and "sweep.yaml is missing" in lost
    assert columns(torn)[:2] == ["torn", "damaged"] and "Traceback" not in torn
    assert columns(new) == [
        "new",
        "seq-digits",
        "one",
        "val-all-seen",
        "stopped, 4 left",
        "0/4",
        "val_class_il:max",
    ]


def test_list_names_a_folder_that_it_may_not_look_into(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name != "half" and access(path, mode)
    )
    # The content of such a folder cannot be seen.
    monkeypatch.setattr("tune.cli.listing.sweep_names", lambda storage: ["done"])
    head, *lines = say("list").splitlines()
    assert [columns(line)[0] for line in lines] == ["done", "half"]
    assert columns(lines[1])[1] == "closed" and lines[1].endswith("half: Permission denied")


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_word_is_broken_at_any_width_and_nothing_is_cut(
    width: int, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = (["list"], ["show", "done"], ["show", "half"], ["show", "done", "--trial", "2"])
    whole = [say(*command) for command in commands]
    monkeypatch.setenv(screen.SCREEN, str(width))
    for command, text in zip(commands, whole, strict=True):
        said = say(*command)
        # headings of columns
        words = set(text.replace(",", " ").split()) - {"parameters", "why", "error"}
        assert words <= set(said.replace(",", " ").split()), command
        longest = max(map(len, text.split()))
        assert all(len(line.rstrip()) <= max(width, longest + 4) for line in said.splitlines()), (
            command
        )


@pytest.mark.parametrize("width", [20, 40, 80])
def test_the_end_is_whole_on_a_narrow_screen(
    width: int, storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ending(Ledger.open(storage, "half"), "the time budget is spent")
    whole = set(re.sub("[,━┃┡╇┩│┏┳┓├┼┤└┴┘─]", " ", capsys.readouterr().out).split())
    monkeypatch.setenv(screen.SCREEN, str(width))
    ending(Ledger.open(storage, "half"), "the time budget is spent")
    assert whole <= set(re.sub("[,━┃┡╇┩│┏┳┓├┼┤└┴┘─]", " ", capsys.readouterr().out).split())


def test_a_row_that_is_too_wide_becomes_a_paragraph(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(screen.SCREEN, "62")
    said = say("show", "done").splitlines()
    start = next(i for i, line in enumerate(said) if line.startswith("trial "))
    assert columns(said[start]) == ["trial", "state", "source", "tasks", "val_class_il", "seconds"]
    assert columns(said[start + 1]) == ["1", "complete (best)", "sampler", "1/1", "88.89", "0"]
    assert said[start + 2].startswith("    keep_ratio 0.")
    monkeypatch.setenv(screen.SCREEN, "40")
    assert "trial 1, state complete (best), source" in say("show", "done").splitlines()


@pytest.mark.parametrize(
    "command", [["show", "torn"], ["report", "torn"], ["show", "torn", "--trial", "0"]]
)
def test_a_damaged_ledger_is_told_in_one_line(command: list[str], say: Say) -> None:
    said = say(*command, status=1)
    assert (
        said.startswith("dynamos-sweep: error: ")
        and len(said.splitlines()) == 1
        and "malformed" in said
    )


def test_a_sync_without_an_mlflow_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Ledger.create(tmp_path, small(tracking_uri="http://127.0.0.1:9"), {})
    assert main(["sync", "s", "--storage", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert (
        said.startswith("dynamos-sweep: error: MLflow cannot be synchronised with s: ")
        and "127.0.0.1" in said
    )
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "owner, state",
    [(HERE, f"running ({HERE})"), ("elsewhere:1", "running (elsewhere:1)")],
    ids=["here", "elsewhere"],
)
def test_the_driver_of_a_sweep_is_named(owner: str, state: str, storage: Path, say: Say) -> None:
    with left_by(Ledger.open(storage, "half"), owner):
        assert state in say("list") and state in say("show", "half")


def test_a_sweep_whose_driver_was_killed_is_called_so(
    storage: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, "gone", lambda held: held["owner"] == "here:7")
    with left_by(Ledger.open(storage, "half"), "here:7"):
        assert "killed (here:7 is gone)" in say("list")


def test_an_empty_storage_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--storage", str(tmp_path)]) == 2
    assert (
        capsys.readouterr().err
        == f"dynamos-sweep: error: no sweep in {tmp_path}. Start one: dynamos-sweep run\n"
    )


def test_show_begins_with_the_best_and_says_why_others_ended(say: Say) -> None:
    said = say("show", "done").splitlines()
    assert (
        said[0] == "done: finished; seq-digits, space one, protocol val-all-seen, val_class_il:max"
    )
    assert re.fullmatch(
        r"4 trials: 2 complete, 1 pruned, 1 fail; CPU time \d+s, GPU time 0s", said[1]
    )
    assert said[2].startswith("Trial 1 is best with val_class_il 88.89, better by 18.89 than")
    assert columns(said[3]) == [
        "trial",
        "state",
        "source",
        "tasks",
        "val_class_il",
        "seconds",
        "parameters",
        "why",
    ]
    rows = [columns(line) for line in said[4:8]]
    assert [row[:5] for row in rows] == [
        ["1", "complete (best)", "sampler", "1/1", "88.89"],
        ["0", "complete", "preset", "1/1", "70"],
        ["2", "fail", "sampler", "1/1", "95"],
        ["3", "pruned", "sampler", "1/1", "99"],
    ]
    assert all(row[6].startswith("keep_ratio 0.") for row in rows), "whatever became of it"
    assert said[-1] == "Space one: keep_ratio 0.1 to 0.9."
    assert [row[7:] for row in rows] == [[], [], [REASON], ["halving: too low"]]


def test_one_trial_is_not_called_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with driven(Ledger.create(tmp_path, small(name="one", trials=1), {})) as one:
        enter(one, 70.0)
    assert main(["show", "one", "--storage", str(tmp_path)]) == 0
    assert "\n1 trial: 1 complete; " in capsys.readouterr().out


def test_show_lists_so_many_trials_and_says_how_many_more(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.cli.tables.SHOWN_TRIALS", 3)
    said = say("show", "done")
    assert "halving" not in said and "... and 1 more in " in said


def test_show_says_what_is_sought(say: Say) -> None:
    said = say("show", "half").splitlines()
    assert said[0] == (
        "half: stopped, 1 left; seq-digits, space one, protocol val-all-seen, val_class_il:max "
        "keep_fraction:min with compute<=0.5"
    )
    assert said[2].startswith("Trial 0 is best with val_class_il 70.00")
    assert columns(said[3])[3:8] == ["tasks", "val_class_il", "keep_fraction", "compute", "seconds"]
    rows = [columns(line) for line in said[4:7]]
    assert [row[0] for row in rows] == ["0", "1", "2"], "the last one breaks the constraint"
    assert [row[4:7] for row in rows] == [
        ["70", "0.5", "0.4321"],
        ["60", "0.2", "0.4321"],
        ["99", "0.5", "0.9"],
    ]
    assert [row[9:] for row in rows] == [[], [], ["infeasible: compute<=0.5"]]


def test_show_of_a_trial_has_its_readings_within_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with driven(Ledger.create(tmp_path, config(), {})) as ledger:
        number = begun(ledger).number
        for epochs, value in ((4, 45.0), (2, 50.0)):
            reading = EpochReading(
                epochs=epochs, evaluated_on="validation", class_il=value, task_il=99.5
            )
            ledger.add_reading(number, 1, 42, reading)
        show_trial(ledger, number)
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if "epochs" in line)
    assert [columns(line) for line in lines[first : first + 3]] == [
        ["seed", "epochs", "val_class_il", "val_task_il"],
        ["42", "2", "50", "99.5"],
        ["42", "4", "45", "99.5"],
    ]


def test_show_of_a_trial_is_whole(storage: Path, say: Say) -> None:
    said = say("show", "done", "--trial", "2")
    assert said.startswith(
        "trial 2 of done: fail, 1 of 1 tasks, from sampler, attempt 1, 0 s\nwhy: " + REASON
    )
    assert columns(said.splitlines()[3]) == [
        "seed",
        "task",
        "val_class_il",
        "val_task_il",
        "val_learning_accuracy",
        "forgetting",
        "keep_fraction",
        "compute",
    ]
    assert columns(said.splitlines()[4]) == ["42", "1", "95", "99", "97", "5", "0.5", "0.4321"]
    assert "warning: policy collapse: [all] the gates keep 1.000" in said
    assert f"files: {storage / 'done' / 'trials' / '0002'}" in said
    assert say("show", "new", "--trial", "0").startswith(
        "trial 0 of new: waiting, from preset, attempt 0, 0 s"
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["show", "don"],
            "unknown sweep 'don'. Did you mean 'done'? Allowed: done, half, hurt, lost, new",
        ),
        (["show", "done", "--trial", "4"], "--trial 4: done has trials 0 to 3."),
        (["show", "done", "--trial", "-1"], "--trial -1: done has trials 0 to 3."),
        (["show", "hurt"], "has no ledger.db."),
        (["show", "lost"], "lost is damaged: sweep.yaml is missing. "),
        (["stop", "lost"], "lost is damaged: sweep.yaml is missing. "),
        (
            ["stop", "new"],
            "the sweep 'new' is not running. Continue it: dynamos-sweep resume new",
        ),
        (["stop", "new", "--trial", "0"], "the sweep 'new' is not running."),
    ],
)
def test_missing_sweeps_and_trials_are_refused(
    arguments: list[str], message: str, say: Say
) -> None:
    said = say(*arguments, status=2)
    assert message in said and len(said.splitlines()) == 1


def test_a_killed_sweep_is_not_waited_for(
    storage: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, "gone", lambda held: held["owner"] == "here:7")
    with left_by(Ledger.open(storage, "half"), "here:7"):
        said = say("stop", "half", status=2)
    assert (
        "the sweep 'half' is not running, here:7 was killed. Continue it: dynamos-sweep resume "
        "half" in said
    )


@pytest.mark.parametrize(
    "number, message",
    [
        (0, "trial 0 of half is not running: it is complete."),
        (9, "--trial 9: half has trials 0 to 2."),
    ],
)
def test_only_a_running_trial_is_stopped(
    number: int, message: str, storage: Path, say: Say
) -> None:
    with left_by(Ledger.open(storage, "half"), HERE):
        assert message in say("stop", "half", "--trial", str(number), status=2)


@pytest.mark.parametrize("trial", [None, 0])
def test_stop_asks_the_driver_and_waits_until_it_has_obeyed(
    trial: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.create(tmp_path, small(), {})
    running, obeyed = threading.Event(), threading.Event()

    def drive() -> None:
        with driven(ledger):
            begun(ledger)
            running.set()
            while not (ledger.trial_folder(0) / "stop").exists() and not ledger.stop_requested():
                time.sleep(0.01)
            obeyed.set()
            if trial is not None:
                ledger.finish(0, "PRUNED", "stopped on request")

    driver = threading.Thread(target=drive)
    driver.start()
    assert running.wait(60)
    which = [] if trial is None else ["--trial", "0"]
    assert main(["stop", "s", *which, "--storage", str(tmp_path)]) == 0 and obeyed.is_set()
    driver.join()
    assert capsys.readouterr().out == (
        "trial 0 of s has stopped\n"
        if which
        else f"sweep s has stopped; continue with: dynamos-sweep resume s --storage {tmp_path}\n"
    )


def test_stop_does_not_wait_for_ever(
    storage: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.cli.main.PATIENCE_SECONDS", 0.1)
    with left_by(Ledger.open(storage, "half"), "elsewhere:1"):
        said = say("stop", "half", status=1)
    assert (
        "sweep half has not stopped yet, because its driver (elsewhere:1) does not answer" in said
    )


def said_at_the_end(
    ledger: Ledger, over: str | None, capsys: pytest.CaptureFixture[str]
) -> tuple[bool, str]:
    found = ending(ledger, over)
    return found, capsys.readouterr().out


def test_the_end_says_that_the_base_breaks_a_constraint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with driven(
        Ledger.create(tmp_path, small(constraints=(Constraint.parse("compute<=0.5"),)), {})
    ) as ledger:
        enter(ledger, 90.0, compute=0.9)
        enter(ledger, 70.0)
    found, said = said_at_the_end(ledger, None, capsys)
    assert found and "\nThe preset breaks compute<=0.5.\n" in said and "optimistic" not in said


def test_beside_a_preset_that_did_not_complete_there_is_no_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with driven(Ledger.create(tmp_path, small(), {})) as ledger:
        enter(ledger, 90.0, "PRUNED", "halving: too low")
        enter(ledger, 70.0)
    found, said = said_at_the_end(ledger, None, capsys)
    assert (
        found
        and "compared with the preset:" in said
        and "optimistic" not in said
        and "breaks" not in said
    )


@pytest.mark.parametrize(
    "changes, flags",
    [
        ({}, ""),
        ({"target": 95.0}, ""),
        ({"target": 80.0}, " --target ..."),
        ({"cpu_budget_seconds": 3600.0}, ""),
        ({"cpu_budget_seconds": 1e-9}, " --cpu-budget ..."),
        ({"target": 80.0, "cpu_budget_seconds": 1e-9}, " --cpu-budget ... --target ..."),
    ],
)
def test_the_end_says_which_limits_have_to_move(
    changes: dict[str, float], flags: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with driven(Ledger.create(tmp_path, small(**changes), {})) as ledger:
        enter(ledger, 90.0)
    said = said_at_the_end(ledger, "it is over", capsys)[1]
    assert "It is over; 3 trials are left. Continue: " in said
    assert f"dynamos-sweep resume s --storage {tmp_path}{flags}\n" in said


def test_the_end_shows_the_best_beside_the_preset_and_what_to_do_next(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.open(storage, "done")
    export(ledger, ledger.trial(1), Choice())
    found, said = said_at_the_end(ledger, None, capsys)
    assert (
        found
        and "Best configuration on validation images by val_class_il:max, compared with the preset:"
        in said
    )
    assert (
        "best (trial 1)" in said
        and "preset (trial 0)" in said
        and "88.89" in said
        and "70.00" in said
    )
    assert "Chosen among 2 trials with one seed each: the best value is optimistic" in said
    for command in (
        "dynamos --config",
        "dynamos-sweep confirm done",
        "mlflow ui",
        "dynamos-sweep report done",
    ):
        assert command in said, command
    assert "Pareto" not in said


def test_a_refuted_choice_is_not_recommended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, there = confirmed(tmp_path, [80.0, 82.0, 81.0], [73.0, 74.5, 74.0], of={"1": 1})
    with driven(sweep):
        enter(sweep, 70.0)
        enter(sweep, 88.0)
    assert "retrain it" in said_at_the_end(sweep, None, capsys)[1]
    enter_outcome(sweep, Sweep.of(there))
    said = said_at_the_end(sweep, None, capsys)[1]
    assert said.strip().startswith(
        "Refuted on test images: trial 1, which the sweep chose, is worse than the baseline"
    )
    assert "retrain it" not in said and "confirm it" in said
    assert main(["list", "--storage", str(tmp_path)]) == 0
    [row] = [
        columns(line) for line in capsys.readouterr().out.splitlines() if line.startswith("s  ")
    ]
    assert row[-3:] == ["88", "refuted", "val_class_il:max"]


@pytest.mark.parametrize(
    "rows, verdict, finding",
    [
        (
            ([80.0, 82.0, 81.0], [83.0, 84.5, 84.0]),
            "confirmed",
            "Confirmed on test images: trial 1",
        ),
        (([80.0], "FAIL"), None, "No answer yet: trial 11 has failed"),
    ],
)
def test_a_confirmation_tells_what_it_confirms_and_its_verdict(
    rows: tuple[list[float] | str, ...],
    verdict: str | None,
    finding: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    confirmed(tmp_path, *rows)
    assert main(["show", "s-confirm-1", "--storage", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert " ".join(said.split()).startswith(f"s-confirm-1 confirms s: {finding}")
    assert "pruning" not in said
    assert main(["list", "--storage", str(tmp_path)]) == 0
    [row] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("s-confirm-")]
    assert (verdict is None) == ("confirmed" not in columns(row))


def test_a_stream_that_lacks_the_sign_has_it_spelt_out() -> None:
    for encoding, written in (("ascii", b"80.50 +- 0.71 ?"), ("latin-1", b"80.50 \xb1 0.71 \xe9")):
        content = BytesIO()
        stream = TextIOWrapper(content, encoding=encoding)
        spell_out(stream)
        stream.write("80.50 ± 0.71 é")
        stream.flush()
        assert content.getvalue() == written


def test_the_end_shows_the_pareto_set_and_how_to_go_on(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, said = said_at_the_end(Ledger.open(storage, "half"), "the time budget is spent", capsys)
    assert (
        found
        and "The time budget is spent; 1 trial is left." in said
        and "resume half --storage" in said
    )
    assert "with compute<=0.5, which is the preset:" in said
    table = said[said.index("Pareto set: 2 trials") :].splitlines()
    assert columns(table[1]) == ["trial", "val_class_il:max", "keep_fraction:min", "parameters"]
    assert [columns(line)[:3] for line in table[2:4]] == [
        ["0", "70.00", "0.5"],
        ["1", "60.00", "0.2"],
    ]
    assert "pareto.csv" in said


def test_the_end_of_a_sweep_without_a_choice_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = small(constraints=(Constraint.parse("compute<=0.1"),))
    with driven(Ledger.create(tmp_path, made, {})) as ledger:
        assert (
            said_at_the_end(ledger, None, capsys)[1].strip().startswith("No trial of s completed.")
        )
        enter(ledger, 50.0, "FAIL", REASON)
        found, said = said_at_the_end(ledger, None, capsys)
        assert not found and f"No trial of s completed:\n  1 trial: {REASON}\nFiles" in said
        enter(ledger, 90.0)
        found, said = said_at_the_end(ledger, None, capsys)
        assert not found and "None of the 1 completed trials of s keeps compute<=0.1" in said


def test_the_most_frequent_of_many_reasons_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with driven(Ledger.create(tmp_path, small(trials=20), {})) as ledger:
        for reason in ["rare", *["often"] * 3, *["twice"] * 2, *map(str, range(5))]:
            enter(ledger, 50.0, "FAIL", reason)
        said = said_at_the_end(ledger, None, capsys)[1]
    assert (
        "No trial of s completed:\n  3 trials: often\n  2 trials: twice\n  1 trial: rare\n" in said
    )
    assert "  1 trial: 1\n  and 3 other reasons, in trials.csv\n" in said


def test_list_leaves_no_file_open(storage: Path, say: Say) -> None:
    say("list")
    before = len(os.listdir("/proc/self/fd"))
    say("list")
    assert len(os.listdir("/proc/self/fd")) <= before


def test_failures_of_one_reason_are_told_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with driven(Ledger.create(tmp_path, small(name="many", trials=5), {})) as many:
        enter(many, 70.0)
        for reason in ("out of luck", "out of memory", "out of luck"):
            enter(many, 50.0, "FAIL", reason)
    assert main(["show", "many", "--storage", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("Failed:")
    assert lines[place + 1 : place + 3] == ["  2 trials: out of luck", "  1 trial: out of memory"]
    section = write_report(many).read_text().rpartition("Failed trials")[2].partition("<h2")[0]
    assert section.count("out of luck") == 1 and "1, 3" in section
