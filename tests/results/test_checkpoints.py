"""Checkpoints that a sweep needs stay; the others go."""

from pathlib import Path
from typing import Any

import pytest

from dynamos.files import TEMPORARY
from results import checkpoints
from results.checkpoints import amount, cleanable, needed, waste
from results.choice import choice_of
from results.definition.objectives import Objective
from results.definition.sweep_config import KEEP
from results.ledger.ledger import Ledger
from results.names import CHANNEL_USE, STOPPED
from results.sweep import ORDERS_OF, Sweep
from tests.helpers.ledgers import ONE, begun, config, confirmed, driven, lucky, result
from tune.cli.main import main
from tune.engine.losers import Losers

SIZE = 1000  # bytes of a checkpoint


def saved(ledger: Ledger, number: int, seeds: tuple[int, ...] = (42,), attempt: int = 1) -> None:
    """Write the files of a trial's attempt: two checkpoints for each seed, and what stays."""
    for seed in seeds:
        folder = ledger.trial_folder(number) / f"attempt-{attempt}" / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("checkpoint-000001.pt", "checkpoint-000002.pt", CHANNEL_USE):
            (folder / name).write_bytes(b"x" * SIZE)


def present(ledger: Ledger) -> set[int]:
    """The numbers of the trials that have checkpoints."""
    found = ledger.folder.glob("trials/*/attempt-*/seed-*/checkpoint-*")
    return {int(path.parts[-4]) for path in found}


def ended(
    ledger: Ledger, value: float, state: str = "COMPLETE", reason: str | None = None, **of: Any
) -> int:
    number = begun(ledger).number
    saved(ledger, number)
    ledger.add_result(number, 1, 42, result(val_class_il=value, **of))
    if state in ("COMPLETE", "PRUNED", "FAIL"):
        ledger.finish(number, state, reason)
    return number


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Twelve complete trials, the worst are 0 and 1; then 12 pruned, 13 failed, 14 stopped by a
    user, 15 running; 16 runs trial 13 again and is interrupted."""
    made = config(space=ONE, sampler="random", trials=30)
    with driven(Ledger.create(tmp_path, made, {})) as there:
        for value in range(12):
            ended(there, 50.0 + value)
        ended(there, 99, "PRUNED", "halving: too low")
        ended(there, 99, "FAIL", "a bug")
        ended(there, 99, "PRUNED", STOPPED)
        ended(there, 99, "RUNNING")
        there.rerun([13])
        ended(there, 99, "RUNNING")
    return Ledger.open(tmp_path, "s")


@pytest.mark.parametrize(
    "keep, lost", [("all", []), ("best", [0, 1, 12]), ("none", [*range(12), 12])]
)
def test_losers_checkpoints_go_and_those_that_a_trial_continues_from_stay(
    ledger: Ledger, keep: str, lost: list[int]
) -> None:
    assert keep in KEEP and ledger.trial(16).reruns == 13
    found = waste(ledger, keep)
    assert found.trials == found.lost == lost
    assert (len(found.files), found.size) == (2 * len(lost), 2 * SIZE * len(lost))
    found.remove()
    assert present(ledger) == set(range(17)) - set(lost)
    kept = ledger.folder.glob(f"trials/*/attempt-1/seed-42/{CHANNEL_USE}")
    assert len(list(kept)) == 17, "only checkpoints go"
    assert waste(ledger, keep).files == [] and waste(ledger, keep).lost == lost


def test_once_its_rerun_has_ended_a_failed_trial_has_lost(ledger: Ledger) -> None:
    with driven(ledger):
        again = next(t for t in ledger.trials() if t.number == 16)
        while (asked := ledger.ask()).number != again.number:
            pass
        ledger.finish(16, "FAIL", "the same bug")
    assert {13, 16} <= needed(Sweep.of(ledger), "none"), "a rerun of the rerun starts from both"
    with driven(ledger):
        ledger.rerun([16])
        while (asked := ledger.ask()).reruns != 16:
            pass
        ledger.add_result(asked.number, asked.attempt, 42, result(val_class_il=50.0))
        ledger.finish(asked.number, "COMPLETE")
    assert {13, 16, asked.number} <= set(waste(ledger, "none").lost)


def test_clean_says_what_it_frees_and_a_dry_run_frees_nothing(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    scrap = ledger.trial_folder(0) / "attempt-1" / "seed-42" / f".checkpoint-000003.pt{TEMPORARY}"
    scrap.write_bytes(b"x" * 34)
    where = ["--storage", str(ledger.folder.parent)]
    text = "7 checkpoint files of 3 trials, 6.03 kB (6,034 bytes)\n"
    assert main(["clean", "s", "--dry-run", *where]) == 0
    assert capsys.readouterr().out == f"s: would free {text}"
    assert present(ledger) == set(range(17))
    assert main(["clean", "s", *where]) == 0
    assert capsys.readouterr().out == f"s: freed {text}"
    assert present(ledger) == set(range(17)) - {0, 1, 12} and not scrap.exists()
    assert main(["clean", "s", *where]) == 0
    assert capsys.readouterr().out == "s: freed 0 checkpoint files of 0 trials, 0 bytes\n"


def test_the_choice_of_a_model_stays_though_it_is_not_among_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "BEST", 1)
    there = lucky(tmp_path)
    sweep = Sweep.of(there)
    chosen, luckiest = choice_of(sweep), sweep.leader
    assert chosen is not None and luckiest is not None and chosen.number != luckiest.number
    for trial in sweep.records:
        saved(there, trial.number)
    cleanable(there).remove()
    assert present(there) == {chosen.number, luckiest.number}


def test_the_pareto_set_and_replicates_of_the_best_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "BEST", 1)
    both = (Objective.parse("val_class_il"), Objective.parse("compute"))
    made = config(space=ONE, sampler="random", objectives=both)
    with driven(Ledger.create(tmp_path, made, {})) as there:
        for value, compute in ((90, 0.9), (80, 0.5), (70, 0.8)):
            ended(there, value, compute=compute)
    assert needed(Sweep.of(there), "best") == {0, 1}


def test_a_confirmation_keeps_the_networks_that_the_registry_takes(tmp_path: Path) -> None:
    _, there = confirmed(tmp_path, [80.0, 82.0], [83.0, 84.5])
    seeds = there.config.training_seeds
    for number in (0, 1):
        saved(there, number, seeds)
    for keep in ("best", "none"):
        found = waste(there, keep)
        assert {path.parent.name for path, _ in found.files} == {f"seed-{seeds[1]}"}
    assert waste(there, "all").files == []
    there.record = there.record | {ORDERS_OF: "s-confirm-1"}
    assert len(waste(there, "none").files) == 8, "other class orders are never registered"


def test_a_kill_between_an_end_and_the_removal_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = config(space=ONE, sampler="random", keep_checkpoints="none")
    with driven(Ledger.create(tmp_path, made, {})) as there:
        losers = Losers(there)
        ended(there, 50)
        losers.drop()
        assert present(there) == set()
        ended(there, 60)
        unlink = Path.unlink

        def killed(path: Path, missing_ok: bool = False) -> None:
            unlink(path, missing_ok)
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):  # after the first of two files
            losers.drop()
        monkeypatch.undo()
        assert present(there) == {1}
        running = ended(there, 70, "RUNNING")
        again = Losers(there)
        again.drop()
        assert present(there) == {running}
        saved(there, 0)  # a worker that was told to stop late
        again.drop()
        assert present(there) == {0, running}, "a trial is looked at once"
        again.drop_late()
        assert present(there) == {running}


def test_a_folder_that_cannot_be_changed_does_not_end_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = config(space=ONE, sampler="random", keep_checkpoints="none")
    with driven(Ledger.create(tmp_path, made, {})) as there:
        ended(there, 50)

        def refused(path: Path, missing_ok: bool = False) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "unlink", refused)
        losers = Losers(there)
        losers.drop()
        assert "could not be removed: [Errno 13]" in caplog.text
        monkeypatch.undo()
        losers.drop()
        assert present(there) == set()


@pytest.mark.parametrize(
    "size, text",
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1 kB (1,000 bytes)"),
        (999_999, "1 MB (999,999 bytes)"),
        (45_210_000, "45.2 MB (45,210,000 bytes)"),
        (7 * 10**15, "7e+03 TB (7,000,000,000,000,000 bytes)"),
    ],
)
def test_bytes_are_written_rounded_and_exactly(size: int, text: str) -> None:
    assert amount(size) == text
