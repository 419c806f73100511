"""Removal of sweeps: everything of a sweep is removed, and nothing that another sweep needs."""

from pathlib import Path

import optuna
import pytest

from dynamos.errors import UserError
from results import sweep_names
from results.ledger.ledger import Ledger
from results.ledger.removal import removals
from results.ledger.sweep_file import LedgerLost
from tests.helpers.ledgers import ONE, complete, config, confirmed, driven


def remove(folder: Path, *names: str) -> None:
    for removal in removals(folder, names):
        removal.carry_out()


def test_a_sweep_goes_whole_and_its_name_is_free_again(tmp_path: Path) -> None:
    for name in ("s", "t"):
        with driven(Ledger.create(tmp_path, config(name, space=ONE), {})) as ledger:
            complete(ledger, 50.0)
    remove(tmp_path, "s")
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    Ledger.create(tmp_path, config("s", space=ONE), {})
    assert len(Ledger.open(tmp_path, "t").trials()) == 1


def test_a_study_in_a_database_goes_too_and_no_other(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/all.db"
    for name in ("s", "t"):
        Ledger.create(tmp_path, config(name, space=ONE, ledger_url=url), {"id": f"{name}0000000"})
    remove(tmp_path, "s")
    assert optuna.get_all_study_names(url) == ["t-t0000000"] and sweep_names(tmp_path) == ["t"]


def test_a_removal_that_was_killed_is_completed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/all.db"
    Ledger.create(tmp_path, config(ledger_url=url), {"id": "s0000000"}).remove_study()
    with pytest.raises(LedgerLost):
        Ledger.open(tmp_path, "s")
    remove(tmp_path, "s")
    assert sweep_names(tmp_path) == []


def test_a_sweep_without_its_ledger_can_be_removed(tmp_path: Path) -> None:
    Ledger.create(tmp_path, config(), {})
    (tmp_path / "s" / "ledger.db").unlink()
    remove(tmp_path, "s")
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_does_not_answer_keeps_its_sweeps(tmp_path: Path) -> None:
    folder = tmp_path / "away"
    folder.mkdir()
    Ledger.create(tmp_path, config(ledger_url=f"sqlite:///{folder}/all.db"), {})
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="unable to open database file"):
        removals(tmp_path, ["s"])
    assert (tmp_path / "s" / "sweep.yaml").exists()


def test_a_running_sweep_is_not_removed(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path, config(), {})
    with (
        ledger.driving(),
        pytest.raises(UserError, match="'s' is running .*; stop it first: dynamos-sweep stop s"),
    ):
        removals(tmp_path, ["s"])
    [found] = removals(tmp_path, ["s"])
    with (
        ledger.driving(),
        pytest.raises(UserError, match="another process is running the sweep 's'"),
    ):
        found.carry_out()  # it has begun since
    assert len(Ledger.open(tmp_path, "s").trials()) == 1


def test_a_sweep_that_another_one_needs_is_removed_with_it_or_stays(tmp_path: Path) -> None:
    confirmed(tmp_path, [50.0], [60.0])
    with driven(Ledger.open(tmp_path, "s")) as earlier:
        complete(earlier, 50.0)
    Ledger.create(tmp_path, config("later", space=ONE, warm_start="s"), {})
    with pytest.raises(
        UserError,
        match="later began with s and needs it; delete later first, or both: dynamos-sweep "
        "delete later s",
    ):
        removals(tmp_path, ["s"])
    with pytest.raises(UserError, match="s-confirm-1 confirms s"):
        removals(tmp_path, ["s", "later"])
    order = [r.config.name for r in removals(tmp_path, ["s", "later", "s-confirm-1"])]
    assert order == ["s-confirm-1", "later", "s"]
    remove(tmp_path, "s", "later", "s-confirm-1")
    assert list(tmp_path.iterdir()) == []
