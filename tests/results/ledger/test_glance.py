"""Summaries for a list equal the ledger's values."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest

from dynamos.errors import UserError
from results.definition.objectives import Constraint, Objective
from results.definition.urls import sqlite_url
from results.ledger.glance import Glance, glance
from results.ledger.ledger import Ledger
from results.ledger.study import DATABASE_ERRORS
from results.ledger.sweep_file import study_name
from results.sweep import Sweep
from tests.helpers.ledgers import ONE, complete, config, confirmed, driven, report


def read(folder: Path, name: str = "s") -> Glance:
    """Return the summary of `glance`, taken from the opened ledger."""
    with closing(Ledger.open(folder, name)) as there:
        trials = there.trials()
        own, found = [t for t in trials if not t.imported], Sweep.of(there).leader
        return Glance(
            name,
            there.config.base.stream_name,
            there.config.space.name,
            there.config.protocol,
            tuple(map(str, there.config.objectives)),
            there.config.confirms,
            there.state,
            sum(t.ended_at is not None for t in own),
            there.budget,
            None if found is None else found.value,
            there.tags,
            there.note,
            there.looks,
        )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"objectives": (Objective.parse("val_class_il:min"),)},
        {"constraints": (Constraint.parse("val_class_il<=75"),)},
        {"sampler": "grid", "space": ONE, "trials": 9},
        {"sampler": "grid", "space": ONE, "trials": 3},
    ],
)
def test_of_a_sweep_as_it_goes_on(changes: dict[str, Any], tmp_path: Path) -> None:
    made = Ledger.create(tmp_path, config(**({"sampler": "random"} | changes)), {})
    assert glance(tmp_path, "s") == read(tmp_path)
    with driven(made) as ledger:
        complete(ledger, 70, 80)
        complete(ledger, 60, 70)
        number = ledger.ask().number
        report(ledger, number, 99)
        ledger.finish(number, "PRUNED", "halving: too low")
        assert (
            glance(tmp_path, "s") == read(tmp_path)
            and glance(tmp_path, "s").state.name == "running"
        )
        ledger.extend(2)
        ledger.ask()
    ledger.label({"for": "paper"}, "a note")
    seen = glance(tmp_path, "s")
    assert (
        seen == read(tmp_path)
        and seen.ended == 3
        and seen.tags == {"for": "paper"}
        and seen.note == "a note"
    )


def test_of_imported_results_and_of_a_confirmation(tmp_path: Path) -> None:
    with driven(
        Ledger.create(tmp_path, config("old", sampler="random"), {"data_hash": "1"})
    ) as old:
        complete(old, 70, 80)
    Ledger.create(
        tmp_path, config("new", sampler="random", warm_start="old"), {"data_hash": "1"}
    ).close()
    assert glance(tmp_path, "new") == read(tmp_path, "new") and glance(tmp_path, "new").ended == 0
    confirmed(tmp_path, [80.0, 82.0], [70.0, 71.0])
    assert glance(tmp_path, "s-confirm-1") == read(tmp_path, "s-confirm-1")
    assert glance(tmp_path, "s-confirm-1").best is None
    assert glance(tmp_path, "s").looks == read(tmp_path).looks != {}


def test_trials_of_another_program_do_not_count(tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(sampler="random"), {})) as made:
        complete(made, 70, 80)
    study = optuna.load_study(
        study_name=study_name(made.config.name, made.record),
        storage=sqlite_url(made.folder / "ledger.db"),
    )
    study.add_trial(optuna.trial.create_trial(value=1e9))
    assert glance(tmp_path, "s") == read(tmp_path) and glance(tmp_path, "s").best == 80


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def newer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'v99'")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (Path.unlink, "has no ledger.db"),
        (cut, "malformed"),
        (newer, "of another version"),
        (lambda file: file.write_text("no database"), "not a database"),
        (lambda file: (file.parent / "sweep.yaml").write_text("name: s"), "is damaged"),
    ],
    ids=["lost", "cut", "newer", "other", "yaml"],
)
def test_a_damaged_sweep_says_why(
    harm: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    Ledger.create(tmp_path, config(), {}).close()
    with closing(sqlite3.connect(tmp_path / "s" / "ledger.db")) as database:
        database.execute("PRAGMA journal_mode=DELETE")
    harm(tmp_path / "s" / "ledger.db")
    with pytest.raises((UserError, *DATABASE_ERRORS), match=said):
        glance(tmp_path, "s")
    with pytest.raises((UserError, *DATABASE_ERRORS)):
        Ledger.open(tmp_path, "s").trials()


def test_a_sweep_of_another_user_is_read_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a %20b?c#d"
    with driven(Ledger.create(folder, config(space=ONE, sampler="random"), {})) as ledger:
        complete(ledger, 70, 80)
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
        assert glance(folder, "s") == read(folder) and read(folder).best == 80, (
            "while a driver has it open"
        )
    ledger.close()
    assert glance(folder, "s") == read(folder) and read(folder).best == 80
    with closing(Ledger.open(folder, "s")) as there, pytest.raises(DATABASE_ERRORS):
        there.label({"team": "vision"}, None)


def test_a_sweep_that_was_asked_to_stop_says_so_until_its_driver_ends(tmp_path: Path) -> None:
    made = Ledger.create(tmp_path, config(), {})
    with driven(made) as ledger:
        ledger.request_stop()
        for seen in (glance(tmp_path, "s").state, ledger.state):
            assert seen.name == "stopping" and str(seen) == f"stopping ({ledger.driver})"
    assert str(glance(tmp_path, "s").state) == f"stopped, {config().trials} left"
