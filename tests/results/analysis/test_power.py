import math
from pathlib import Path

import pytest

from results.analysis.power import detectable, plan, power, seeds_for
from results.definition.objectives import Objective
from results.ledger.ledger import Ledger
from results.sweep import Sweep
from tests.helpers.ledgers import begun, config, driven, result


@pytest.mark.parametrize("effect, seeds", [(0.5, 34), (0.8, 15), (1.0, 10)])
def test_the_power_is_that_of_published_tables(effect: float, seeds: int) -> None:
    # pairs for a power of 0.8 at 5 %, two-sided: Cohen's effects of 0.5, 0.8 and 1
    assert power(effect, seeds) >= 0.8 > power(effect, seeds - 1)
    assert seeds_for(effect * 7, 7) == seeds


def test_without_a_difference_the_power_is_the_error() -> None:
    assert power(0.0, 5) == pytest.approx(0.05)
    assert power(0.0, 5, 0.0125) == pytest.approx(0.0125)


@pytest.mark.parametrize("seeds", [2, 5, 30])
def test_the_detectable_difference_has_the_wanted_power(seeds: int) -> None:
    found = detectable(4.0, seeds)
    assert power(found / 4.0, seeds) == pytest.approx(0.8)
    assert seeds_for(found * 1.001, 4.0) == seeds
    assert detectable(8.0, seeds) == pytest.approx(2 * found)


def test_more_seeds_than_anybody_trains_are_none() -> None:
    assert seeds_for(0.001, 10.0) is None


def swept(folder: Path, *trials: list[float]) -> Sweep:
    made = config(seeds=len(trials[0]), trials=len(trials))
    with driven(Ledger.create(folder, made, {})) as there:
        for values in trials:
            number = begun(there).number
            for seed, value in enumerate(values, start=42):
                there.add_result(number, 1, seed, result(val_class_il=value))
            there.finish(number, "COMPLETE")
    return Sweep.of(there)


def test_a_plan_says_what_the_seeds_find(tmp_path: Path) -> None:
    # variances 2 and 8, so the standard deviation of one run is the root of 5
    sweep = swept(tmp_path, [50.0, 52.0], [60.0, 64.0])
    found = detectable(math.sqrt(10), 5)
    assert plan(sweep, 5) == (
        "The standard deviation over seeds of the best trials is 2.24. With it, 5 seeds find a "
        f"difference of {found:.2f} with a probability of 80% at an error of 5%. For half of that, "
        f"take {seeds_for(found / 2, math.sqrt(10))} seeds."
    )
    strict = detectable(math.sqrt(10), 5, 0.025 / 3)
    assert f"a difference of {strict:.2f} with a probability of 80% at an error of 0.833%." in plan(
        sweep, 5, 0.025 / 3
    )
    assert strict > found
    assert plan(sweep, 1).endswith("One seed can tell no difference from chance.")


def test_there_is_no_plan_without_a_spread(tmp_path: Path) -> None:
    assert plan(swept(tmp_path, [50.0], [60.0]), 5) == ""
    assert plan(swept(tmp_path / "equal", [50.0, 50.0]), 5) == ""


def test_a_plan_is_of_the_metric_that_the_confirmation_tests(tmp_path: Path) -> None:
    base = config().base.replace(readings=1)
    made = config(base=base, objectives=(Objective.parse("val_class_il_median"),), seeds=2)
    with driven(Ledger.create(tmp_path, made, {})) as there:
        number = begun(there).number
        for seed, value in ((42, 50.0), (43, 60.0)):
            told = result(val_class_il=value, val_class_il_median=70.0 + seed / 100)
            there.add_result(number, 1, seed, told)
        there.finish(number, "COMPLETE")
    assert "of the best trials is 7.07." in plan(Sweep.of(there), 5)


def test_there_is_no_plan_on_images_that_the_protocol_does_not_use(tmp_path: Path) -> None:
    sought = (Objective.parse("val_learning_accuracy"),)
    made = config(protocol="val-current", objectives=sought, seeds=2)
    with driven(Ledger.create(tmp_path, made, {})) as there:
        number = begun(there).number
        for seed, value in ((42, 50.0), (43, 60.0)):
            there.add_result(number, 1, seed, result(val_class_il=value))
        there.finish(number, "COMPLETE")
    assert plan(Sweep.of(there), 5) == ""
