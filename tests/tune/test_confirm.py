"""A sweep's choice confirmed on test images, by real runs of the command line."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest

from dynamos.trainer import Trainer
from results.best import reported_config, train_config
from results.ledger import Ledger
from tests.tune.sweeps import SMALL, run

SWEEP = ["--name", "s", "--storage", "runs", "--trials", "3", "--sampler", "random", "--set", *SMALL]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """(folder, the confirmation's output): a sweep of three trials on two of three tasks, two of them confirmed."""
    folder = tmp_path_factory.mktemp("confirm")
    done = run("run", *SWEEP, "--protocol", "first-k", "--first-k", "2", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "confirm s" in done.stdout
    confirmed = run("confirm", "s", "--storage", "runs", "--seeds", "2", "--top", "2", cwd=folder)
    assert confirmed.returncode == 0, confirmed.stderr
    return folder, confirmed


def test_a_sweeps_trials_saw_the_first_tasks_and_no_test_image(swept: tuple[Path, object]) -> None:
    ledger = Ledger.open(swept[0] / "runs", "s")
    for trial in ledger.trials():
        [results] = trial.results.values()
        assert trial.state == "COMPLETE" and len(results) == 2
        assert {r["evaluated_on"] for r in results} == {"validation"}


def test_a_confirmation_is_what_training_the_configurations_gives(swept: tuple[Path, object]) -> None:
    ledger, there = (Ledger.open(swept[0] / "runs", name) for name in ("s", "s-confirm-1"))
    assert there.config.training_seeds == (43, 44), "fresh: the sweep had 42"
    trials, table = there.trials(), pd.read_csv(ledger.folder / "confirm.csv").set_index("configuration")
    assert {t.state for t in trials} == {"COMPLETE"}
    for number, of in there.record["chosen"].items():
        for seed, results in trials[int(number)].results.items():
            train = reported_config(ledger.config, ledger.trials()[of]).replace(evaluate_on="test", seed=seed)
            assert train.n_tasks == 3, "the whole stream"
            again = list(Trainer(train))
            assert [r.class_il for r in again] == [r["class_il"] for r in results]
        assert train_config(there.config, trials[int(number)]).evaluate_on == "test"
        row = table[table["trial"] == of].iloc[0]
        assert row["test_class_il"] == pytest.approx(trials[int(number)].value) and row["n"] == 2


def test_it_says_what_it_found_and_each_look_is_counted(swept: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, confirmed = swept
    assert "2 fresh seeds each" in confirmed.stdout and "the baseline is the preset" in confirmed.stdout
    assert "Test images were looked at in 1 confirmation of this sweep." in confirmed.stdout
    ledger = Ledger.open(folder / "runs", "s")
    again = run("confirm", "s", "--storage", "runs", "--seeds", "2", "--top", "2", cwd=folder)
    assert again.returncode == 0 and list(ledger.looks) == ["s-confirm-1"], "the same one, and nothing trained"
    assert again.stdout.split("Test results")[1] == confirmed.stdout.split("Test results")[1]
    assert ledger.looks["s-confirm-1"]["seeds"] == [43, 44]


@pytest.mark.slow
def test_another_confirmation_has_fresh_seeds_again(swept: tuple[Path, object]) -> None:
    folder = swept[0]
    more = run("confirm", "s", "--storage", "runs", "--seeds", "1", "--top", "1", cwd=folder)
    assert more.returncode == 0, more.stderr
    assert "looked at in 2 confirmations" in more.stdout
    assert Ledger.open(folder / "runs", "s-confirm-2").config.training_seeds == (45,)


@pytest.mark.parametrize("arguments, message", [
    (["s-confirm-1"], "'s-confirm-1' is itself a confirmation, of 's'."),
    (["s", "--seeds", "0"], "--seeds 0 is out of range"), (["s", "--top", "0"], "--top 0 is out of range"),
    (["s", "--choose", "one-se"], "--choose one-se needs the spread over seeds"),
    (["s", "--baseline", "nowhere.yaml"], "no file nowhere.yaml"),
    (["t"], "unknown sweep 't'"),
])
def test_what_cannot_be_confirmed(swept: tuple[Path, object], arguments: list[str], message: str,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    from tune.cli import main

    assert main(["confirm", *arguments, "--storage", str(swept[0] / "runs")]) == 2
    assert message in capsys.readouterr().err


def test_a_confirmation_is_not_extended_and_stands_in_its_sweeps_report(
        swept: tuple[Path, object], capsys: pytest.CaptureFixture[str]) -> None:
    from tune.cli import main

    assert main(["extend", "s-confirm-1", "--trials", "+1", "--storage", str(swept[0] / "runs")]) == 2
    assert "for more seeds or configurations: dynamos-sweep confirm s" in capsys.readouterr().err
    assert main(["report", "s-confirm-1", "--storage", str(swept[0] / "runs")]) == 2
    assert "it is in the report of 's'" in capsys.readouterr().err
    assert main(["report", "s", "--storage", str(swept[0] / "runs")]) == 0
    page = (swept[0] / "runs" / "s" / "report.html").read_text()
    assert "s-confirm-1: Trial" in page and "of the first tasks, then applied to the whole stream" in page
