"""Class orders of a confirmation, reported apart from its seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynamos.errors import UserError
from results.analysis.confirmation import enter_outcome, finding, outcome, outcomes, trained
from results.choice import Choice, train_config
from results.ledger.ledger import Ledger
from results.ledger.removal import removals
from results.pages.report import report
from results.sweep import Sweep
from tests.helpers.ledgers import complete, config, driven
from tests.helpers.small import together
from tests.helpers.sweeps import SMALL, run
from tests.tune.engine.test_extension import filled, first
from tests.tune.engine.test_retraining import created
from tune.cli.summary import confirmed
from tune.engine.class_orders import class_orders
from tune.engine.extension import extension
from tune.engine.retraining import confirmation


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps are created without the slow checks of machine and images."""
    if "slow" not in request.keywords:
        for module in ("retraining", "extension"):
            monkeypatch.setattr(f"tune.engine.{module}.create_sweep", created)


def swept(folder: Path, **changes: Any) -> Ledger:
    """A sweep of two trials; the second is better."""
    made = config(sampler="random", trials=2, **changes)
    with driven(Ledger.create(folder, made, {})) as ledger:
        for value in (60, 80):
            complete(ledger, 100, value)
    return ledger


def ordered(ledger: Ledger, gains: Sequence[float]) -> Ledger:
    """Class orders on which the choice is better than the baseline by these points."""
    there = class_orders(ledger, len(gains), {})
    return filled(there, [50.0] * len(gains), [50.0 + gain for gain in gains])


def test_the_table_of_orders_has_no_rows_of_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = swept(tmp_path)
    first(ledger, [1.0, 2.0, 3.0])
    assert confirmed(ledger, ordered(ledger, [4.0, -1.0, 3.0]), None)
    said = capsys.readouterr().out
    assert "3 other class orders each, mean ± standard deviation over orders;" in said
    assert "test_class_il - baseline's │ +2.00 ± 2.65" in said
    assert not any(row in said for row in ("interval", "p, paired t-test", "P(improvement)"))


def test_orders_are_apart_from_seeds_and_not_tested(tmp_path: Path) -> None:
    ledger = swept(tmp_path)
    one = first(ledger, [1.0, 2.0, 3.0])
    enter_outcome(ledger, Sweep.of(one))
    orders = ordered(ledger, [4.0, -1.0, 3.0])
    assert not set(orders.config.training_seeds) & set(one.config.training_seeds)
    row, base = outcomes(Sweep.of(orders))
    assert row.against is not None and row.against.mean == 2.0 and row.against.n == 3
    assert (row.against.p_value, row.against.half_width, row.improves) == (None, None, None)
    assert base.is_baseline and outcome(Sweep.of(orders)) is None
    # 54, 49, 53: mean 52, standard deviation 2.6458, as that of the differences
    assert finding(Sweep.of(orders)) == (
        "On 3 other class orders, apart from the seeds of s-confirm-1 and without a test: "
        "test_class_il of the baseline is 50.00 (standard deviation 0.00 over 3 orders). That of "
        "trial 1 is 52.00 (standard deviation 2.65 over 3 orders), +2.00 ± 2.65 by order, better "
        "in 2 of 3."
    )
    before = dict(ledger.looks)
    path = enter_outcome(ledger, Sweep.of(orders))
    assert path.name == "class_orders.csv" and ledger.looks == before
    assert ledger.looks["s-confirm-2"]["class_orders_of"] == "s-confirm-1"
    table = pd.read_csv(str(path)).set_index("configuration")
    assert list(table.loc["trial 1", ["n", "difference"]]) == [3, 2.0]
    page = report(ledger)
    assert "s-confirm-2: On 3 other class orders" in page and "s-confirm-1: Confirmed" not in page


def test_orders_are_no_look_at_the_seeds(tmp_path: Path) -> None:
    ledger = swept(tmp_path)
    first(ledger, [1.0, 2.0])
    ordered(ledger, [4.0, 5.0])
    two = extension(ledger, 2, {})
    assert (two.config.name, two.record["look"], two.record["extends"]) == (
        "s-confirm-3",
        2,
        "s-confirm-1",
    )
    found = trained(ledger, 1)
    assert found is not None and found[0].config.name == "s-confirm-1", "of the usual order"
    again = confirmation(ledger, 2, 1, Choice(), None, {})
    assert again.config.name == "s-confirm-1"


def test_as_many_orders_are_the_same_ones(tmp_path: Path) -> None:
    ledger = swept(tmp_path)
    first(ledger, [1.0, 2.0])
    assert class_orders(ledger, 2, {}).config.name == "s-confirm-2"
    assert class_orders(ledger, 2, {}).config.name == "s-confirm-2"
    assert class_orders(ledger, 3, {}).config.name == "s-confirm-3"
    with pytest.raises(UserError, match="s-confirm-2 has class orders of s-confirm-1 and needs it"):
        removals(tmp_path, ["s-confirm-1"])
    names = ["s-confirm-1", "s", "s-confirm-2", "s-confirm-3"]
    assert [r.config.name for r in removals(tmp_path, names)][2:] == ["s-confirm-1", "s"]


def test_class_orders_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    ledger = swept(tmp_path)
    with pytest.raises(UserError, match="'s' has no confirmation; begin one: "):
        class_orders(ledger, 2, {})
    confirmation(ledger, 2, 1, Choice(), None, {})
    with pytest.raises(UserError, match="s-confirm-1 has 2 configurations left; complete it first"):
        class_orders(ledger, 2, {})
    with pytest.raises(UserError, match="`class_orders` 0 is out of range"):
        class_orders(ledger, 0, {})
    base = config().base.replace(dataset="mnist-360", n_epochs=1, data_path=None)
    rotating = swept(tmp_path / "rotating", base=base)
    first(rotating, [1.0, 2.0])
    with pytest.raises(UserError, match="`class_orders` 2: mnist-360 has no class orders"):
        class_orders(rotating, 2, {})


@pytest.mark.slow
def test_each_order_is_that_of_its_seed(tmp_path: Path) -> None:
    sweep = ["--name", "s", "--storage", "runs", "--trials", "2", "--sampler", "random"]
    asked = ["--top", "1", "--seeds", "1"]
    for command in (
        ["run", *sweep, "--set", *SMALL],
        ["confirm", "s", "--storage", "runs", *asked],
        ["confirm", "s", "--storage", "runs", "--class-orders", "2"],
    ):
        done = run(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "On 2 other class orders" in done.stdout
    there = Ledger.open(tmp_path / "runs", "s-confirm-2")
    trial = there.trials()[0]
    assert len(trial.results) == 2
    train = train_config(there.config, trial)
    runs = together([train.replace(seed=seed, class_order_seed=seed) for seed in trial.results])
    for one, results in zip(runs, trial.results.values(), strict=True):
        assert [r.class_il for r in one.results] == [r.class_il for r in results]
