"""A confirmation is extended: more seeds, pooled with those before, at the next look's error."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynamos.errors import UserError
from results import load_sweep
from results.analysis.confirmation import enter_outcome, finding, outcome, outcomes, trained
from results.choice import Choice
from results.ledger.attributes import latest_outcome
from results.ledger.ledger import Ledger
from results.ledger.removal import removals
from results.sweep import Sweep
from tests.helpers.ledgers import complete, config, driven, result
from tests.helpers.processes import Driver
from tests.helpers.sweeps import SMALL, run
from tests.tune.engine.test_retraining import created
from tune.cli.main import main
from tune.engine.extension import extension
from tune.engine.retraining import confirmation

CHECKPOINTS = "trials/*/attempt-1/seed-*/checkpoint-*.pt"


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps are created without the slow checks of machine and images."""
    if "slow" not in request.keywords:
        for module in ("retraining", "extension"):
            monkeypatch.setattr(f"tune.engine.{module}.create_sweep", created)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A sweep of two trials; the second is better."""
    with driven(Ledger.create(tmp_path, config(sampler="random", trials=2), {})) as made:
        for value in (60, 80):
            complete(made, 100, value)
    return made


def filled(there: Ledger, *rows: Sequence[float]) -> Ledger:
    """Complete a confirmation with these results by seed, the baseline's first."""
    with driven(there):
        for row in rows:
            number = there.ask().number
            for seed, value in zip(there.config.training_seeds, row, strict=True):
                there.add_result(number, 1, seed, result(test_class_il=value, compute=0.5))
            there.finish(number, "COMPLETE")
    return there


def first(ledger: Ledger, gains: Sequence[float], **more: Any) -> Ledger:
    """A confirmation whose choice is better than the baseline by these points."""
    there = confirmation(ledger, len(gains), 1, Choice(), None, {}, **more)
    return filled(there, [50.0] * len(gains), [50.0 + gain for gain in gains])


def further(ledger: Ledger, gains: Sequence[float]) -> Ledger:
    there = extension(ledger, len(gains), {})
    return filled(there, [50.0] * len(gains), [50.0 + gain for gain in gains])


def gain_of(there: Ledger) -> Any:
    return outcomes(Sweep.of(there))[0].against


def verdict_of(there: Ledger) -> str:
    found = outcome(Sweep.of(there))
    assert found is not None
    return str(found["verdict"])


def test_the_seeds_of_an_extension_are_fresh_and_pooled(ledger: Ledger) -> None:
    one = first(ledger, [1.0, 2.0, 3.0])
    two = further(ledger, [2.0, 4.0])
    assert (two.config.name, two.config.training_seeds) == ("s-confirm-2", (46, 47))
    assert one.config.training_seeds == (43, 44, 45)
    assert two.config.points == one.config.points and two.record["extends"] == "s-confirm-1"
    row = outcomes(Sweep.of(two))[0]
    assert list(row.trial.results) == [43, 44, 45, 46, 47]
    # 1, 2, 3, 2, 4: mean 2.4, deviation 1.140175, the table's t at 0.99375 is 4.3147 (4 degrees)
    assert row.against is not None and row.against.mean == pytest.approx(2.4)
    assert row.against.half_width == pytest.approx(4.3147 * 1.140175 / 5**0.5, rel=1e-4)
    # the table's t at 0.9875 is 6.2053 (2 degrees)
    assert gain_of(one).half_width == pytest.approx(6.20535 / 3**0.5, rel=1e-5)
    assert row.improves is not None and row.improves.level == 0.0125
    assert "This is look 2, with 1.25% of the error of 5%." in finding(Sweep.of(two))
    frame = pd.read_csv(str(enter_outcome(ledger, Sweep.of(two)))).set_index("configuration")
    assert list(frame.loc["trial 1", ["n", "confidence"]]) == [5, pytest.approx(0.9875)]


def test_each_look_is_counted_and_the_latest_answer_heads_the_sweep(ledger: Ledger) -> None:
    one = first(ledger, [1.0, 2.0, 4.0, 2.5])
    enter_outcome(ledger, Sweep.of(one))
    assert verdict_of(one) == "not confirmed", "p is 0.03, and the first look has 0.025"
    two = extension(ledger, 4, {})
    found = latest_outcome(ledger.looks)
    assert found is not None and found["confirmation"] == "s-confirm-1", "it has no answer yet"
    filled(two, [50.0] * 4, [51.0, 52.0, 53.0, 52.0])
    enter_outcome(ledger, Sweep.of(two))
    assert [look["look"] for look in ledger.looks.values()] == [1, 2]
    found = latest_outcome(ledger.looks)
    assert found is not None and found["verdict"] == "confirmed"
    assert found["metrics"]["confirmed_seeds"] == 8 and "2 confirmations" not in found["finding"]
    assert found["metrics"]["confirmed_difference_low"] > 0


def test_a_verdict_that_a_look_has_reached_stands(ledger: Ledger) -> None:
    one = first(ledger, [2.0, 2.1, 2.2])
    assert verdict_of(one) == "confirmed"
    two = further(ledger, [-9.0, 9.0])
    assert gain_of(two).could_be_chance and verdict_of(two) == "confirmed"
    assert "Look 1 has found more than chance, and its verdict stands." in finding(Sweep.of(two))


def test_a_further_extension_is_the_next_look_at_all_seeds(ledger: Ledger) -> None:
    first(ledger, [1.0, 2.0])
    further(ledger, [3.0, 1.0])
    three = further(ledger, [2.0])
    assert (three.record["extends"], three.record["look"]) == ("s-confirm-2", 3)
    assert (gain_of(three).n, gain_of(three).level) == (5, 0.00625)


def test_an_extension_that_has_not_ended_is_continued(ledger: Ledger) -> None:
    first(ledger, [1.0, 2.0])
    begun = extension(ledger, 3, {})
    again = extension(ledger, 3, {})
    assert again.config.name == begun.config.name == "s-confirm-2"
    with pytest.raises(UserError, match="s-confirm-2 has 2 configurations left; complete it first"):
        extension(ledger, 4, {})


def test_a_kill_between_an_extension_and_its_count_counts_it_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    first(ledger, [1.0, 2.0])

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "enter_look", killed)
        with pytest.raises(KeyboardInterrupt):
            extension(ledger, 2, {})
    assert list(ledger.looks) == ["s-confirm-1"]
    # `resume` ends it
    there = Ledger.open(ledger.folder.parent, "s-confirm-2")
    enter_outcome(ledger, Sweep.of(filled(there, [50.0] * 2, [51.0] * 2)))
    assert ledger.looks["s-confirm-2"]["look"] == 2 and "outcome" in ledger.looks["s-confirm-2"]
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "enter_look", killed)
        with pytest.raises(KeyboardInterrupt):
            extension(ledger, 2, {})
    # the same command goes on with it
    assert extension(ledger, 2, {}).config.name == "s-confirm-3"
    assert [look["look"] for look in ledger.looks.values()] == [1, 2, 3]


def test_an_extension_needs_what_it_extends_and_counts_after_its_removal(ledger: Ledger) -> None:
    first(ledger, [1.0, 2.0])
    further(ledger, [1.0, 3.0])
    storage = ledger.folder.parent
    with pytest.raises(UserError, match="s-confirm-2 extends s-confirm-1 and needs it"):
        removals(storage, ["s-confirm-1"])
    assert [r.config.name for r in removals(storage, ["s-confirm-1", "s", "s-confirm-2"])] == [
        "s-confirm-2",
        "s-confirm-1",
        "s",
    ]
    shutil.rmtree(str(storage / "s-confirm-2"))
    there = extension(ledger, 2, {})
    assert (there.config.name, there.record["look"], there.record["extends"]) == (
        "s-confirm-3",
        3,
        "s-confirm-1",
    )
    assert there.config.base.seed == 47, "the seeds of the deleted one are not fresh"


def test_the_confirmation_to_extend_may_be_named(ledger: Ledger) -> None:
    one = first(ledger, [1.0, 2.0])
    other = first(ledger, [1.0, 2.0, 3.0])
    assert extension(ledger, 2, {}).record["extends"] == other.config.name
    assert extension(one, 2, {}).record["extends"] == one.config.name


def test_what_cannot_be_extended_is_refused(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="'s' has no confirmation; begin one: "):
        extension(ledger, 2, {})
    begun = confirmation(ledger, 2, 1, Choice(), None, {})
    with pytest.raises(UserError, match="s-confirm-1 has 2 configurations left; complete it first"):
        extension(ledger, 2, {})
    with driven(begun):
        for _ in range(2):
            begun.finish(begun.ask().number, "PRUNED", "non-finite: logits")
    with pytest.raises(UserError, match="s-confirm-1 cannot be extended. No answer yet: "):
        extension(ledger, 2, {})
    first(ledger, [1.0, 2.0, 3.0], final=True)
    with pytest.raises(UserError, match="s-confirm-2 was tested with the whole error of 5 %"):
        extension(ledger, 2, {})
    storage = ["--storage", str(ledger.folder.parent)]
    assert main(["confirm", "s", "--extend", "+2", "--top", "2", *storage]) == 2
    assert "--top is for a new confirmation; --extend keeps" in capsys.readouterr().err
    assert main(["confirm", "s", "--extend", "0", *storage]) == 2


def test_a_final_confirmation_has_the_whole_error(ledger: Ledger) -> None:
    usual, final = (
        first(ledger, [1.0, 2.0, 4.0, 2.5]),
        first(ledger, [1.0, 2.0, 4.0, 2.5], final=True),
    )
    assert (usual.config.name, final.config.name) == ("s-confirm-1", "s-confirm-2")
    assert (gain_of(usual).level, gain_of(final).level) == (0.025, 0.05)
    assert (verdict_of(usual), verdict_of(final)) == ("not confirmed", "confirmed")
    assert "look" not in finding(Sweep.of(final))
    again = confirmation(ledger, 4, 1, Choice(), None, {})
    assert again.config.name == "s-confirm-1"


def test_the_network_to_register_is_the_extensions(ledger: Ledger) -> None:
    first(ledger, [1.0, 2.0])
    further(ledger, [1.0, 3.0])
    found = trained(ledger, 1)
    assert found is not None and found[0].config.name == "s-confirm-2"
    assert len(found[1].results) == 4


@pytest.mark.slow
def test_an_extension_that_is_killed_and_resumed_equals_an_undisturbed_one(
    tmp_path: Path,
) -> None:
    hit, whole = (tmp_path / name for name in ("hit", "whole"))
    whole.mkdir()
    asked = ["confirm", "s", "--storage", "runs"]
    for command in (
        ["run", "--name", "s", "--storage", "runs", "--trials", "2", "--set", *SMALL],
        [*asked, "--top", "2", "--seeds", "2"],
    ):
        done = run(*command, cwd=whole)
        assert done.returncode == 0, done.stderr
    shutil.copytree(whole, hit)
    with Driver(*asked, "--extend", "+2", cwd=hit) as driver:
        driver.until(lambda: any(hit.glob(f"runs/s-confirm-2/{CHECKPOINTS}")))
        driver.kill()
    done = run("resume", "s-confirm-2", "--storage", "runs", cwd=hit)
    assert done.returncode == 0, done.stderr
    done = run(*asked, "--extend", "+2", cwd=whole)
    assert done.returncode == 0, done.stderr
    assert "4 fresh seeds each" in done.stdout
    hit_table, table = (
        pd.read_csv(folder / "runs" / "s" / "confirm.csv") for folder in (hit, whole)
    )
    pd.testing.assert_frame_equal(hit_table, table)
    assert table["n"].tolist() == [4, 4]
    looks = [load_sweep("s", folder / "runs").looks for folder in (hit, whole)]
    assert list(looks[0]) == list(looks[1]) == ["s-confirm-1", "s-confirm-2"]
    assert all("outcome" in look for look in looks[0].values())
    assert [look["look"] for look in looks[0].values()] == [1, 2]
