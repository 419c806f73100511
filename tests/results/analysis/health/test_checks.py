"""Health checks, with numbers computed by hand."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.analysis.health.answer import Spread, components
from results.analysis.health.checks import CHECKS, OF_RUNS, findings
from results.analysis.health.finding import Finding
from results.analysis.health.runs import JUMP
from results.ledger.ledger import Ledger
from results.names import NON_FINITE
from results.pages.report import write_report
from results.sweep import Sweep
from tests.helpers.ledgers import FOUR, ONE, SEED, config, confirmed, driven, lucky, result, swept


def found(ledger: Ledger, check: str) -> list[Finding]:
    return [finding for name, finding in findings(Sweep.of(ledger)) if name == check]


def run(folder: Path, *rows: Sequence[float] | str, **changes: Any) -> Ledger:
    """A sweep of the space ONE with a trial per row: its values by seed, or the reason it was
    pruned. Their keep ratios are 0.7, then from 0.1 on in even steps."""
    points = tuple({"keep_ratio": 0.1 + 0.5 * i / len(rows)} for i in range(len(rows) - 1))
    made = config(space=ONE, sampler="random", trials=len(rows), points=points, **changes)
    with driven(Ledger.create(folder, made, {})) as there:
        for row in rows:
            number = there.ask().number
            if isinstance(row, str):
                there.finish(number, "PRUNED", row)
                continue
            for seed, value in enumerate(row):
                there.add_result(number, 1, SEED + seed, result(val_class_il=value))
            there.finish(number, "COMPLETE")
    return there


def test_every_finding_has_a_next_step_everywhere(
    tmp_path: Path,
) -> None:
    made = run(tmp_path, [50.0], [60.0])
    told = findings(Sweep.of(made))
    assert [name for name, _ in told] == ["few trials", "ties", "range"]
    assert set(dict(told)) <= set(CHECKS)
    assert all(f.text.endswith(".") and f.next_step.endswith(".") for _, f in told)
    assert told[0][1].next_step == "Extend the sweep with `trials` +8."
    page = write_report(made).read_text()
    assert "Next: Extend the sweep with trials +8." in page


def test_a_confirmation_has_the_checks_of_its_runs_only(tmp_path: Path) -> None:
    _, there = confirmed(tmp_path, [80.0, 82.0], "FAIL")
    assert [name for name, _ in findings(Sweep.of(there))] == ["failures"]
    assert "failures" in OF_RUNS and "few trials" not in OF_RUNS


@pytest.mark.parametrize(
    "point, side",
    [
        ({"lr": 0.0105}, "lower"),
        ({"lr": 0.96}, "upper"),
        ({"lr": 0.1}, None),
        ({"lr": 0.011}, None),
        ({"keep_ratio": 0.999}, None),
        ({"keep_ratio": 0.505}, "lower"),
        ({"policy_penalty": -990.0}, "lower"),
        ({"policy_penalty": -10.5}, "upper"),
        ({"policy_penalty": -505.0}, None),
    ],
)
def test_a_best_at_the_edge_of_a_range_is_found(
    tmp_path: Path, point: dict[str, float], side: str | None
) -> None:
    # A fiftieth of two decades is a factor of 1.096. A keep_ratio ends at 1 by its meaning.
    made = swept(tmp_path, point, values=(40, 60))
    [name], at = point, found(made, "range")
    assert len(at) == (side is not None)
    assert all(f"has {name} " in c.text and f"at the {side} end" in c.text for c in at)


@pytest.mark.parametrize("value, tied", [(59, True), (40, False)])
def test_a_tie_is_found_and_a_clear_best_has_none(tmp_path: Path, value: int, tied: bool) -> None:
    made = swept(tmp_path, {"lr": 0.1}, values=(value, 60))  # each +- 0.71 over its two seeds
    said = "Within their spread over seeds this trial ties with the best: 0."
    assert [f.text for f in found(made, "ties")] == [said] * tied


def test_few_trials_collapse_and_failures_are_found(tmp_path: Path) -> None:
    made = config(space=FOUR, sampler="random", trials=3)
    with driven(Ledger.create(tmp_path, made, {})) as there:
        for value, warnings in ((50.0, ()), (60.0, ("policy collapse: after task 1",))):
            number = there.ask().number
            there.add_result(number, 1, 42, result(val_class_il=value, warnings=warnings))
            there.finish(number, "COMPLETE")
        there.finish(there.ask().number, "FAIL", "out of luck <b>")
    said = [f.text for _, f in findings(Sweep.of(there))]
    assert (
        said[0]
        == "2 completed trials for 4 searched fields are few; a rule of thumb is 40, ten per field."
    )
    assert "With one seed per trial, trials with values near the best may be equally good." in said
    assert said[-2].startswith("Gates collapsed in 1 trial of 3, including the best, trial 1")
    assert said[-1] == "1 trial of 3 failed."
    page = write_report(there).read_text()
    assert (
        "out of luck &lt;b&gt;" in page
        and "out of luck <b>" not in page
        and "Failed trials" in page
    )


@pytest.mark.parametrize(
    "rise, readings, base, jumps",
    [
        (30.0, (), {}, True),
        (JUMP, (), {}, False),
        (-30.0, (), {}, False),
        (0.0, (50.0, 75.0), {"readings": 2}, True),
        (30.0, (), {"average_decay": 0.9}, False),
    ],
)
def test_readings_that_jump_are_found_and_averaging_is_named(
    tmp_path: Path, rise: float, readings: tuple[float, ...], base: dict[str, Any], jumps: bool
) -> None:
    made = config(space=FOUR, base=config().base.replace(**base), sampler="random", trials=5)
    with driven(Ledger.create(tmp_path, made, {})) as there:
        for high in (rise, 0, 0, 0):  # one in four
            number = there.ask().number
            there.add_result(number, 1, 42, result(0, 2, val_class_il=50.0))
            last = result(1, 2, val_class_il=50.0 + high, readings=readings)
            there.add_result(number, 1, 42, last)
            there.finish(number, "COMPLETE")
    jumping = "4 trials" if readings else "1 trial"
    text = (
        f"In {jumping} of 4 class-il jumped by more than 10 points between two readings, so "
        "that a single reading is partly luck. An average over steps is steadier."
    )
    step = "Search the `space` averaged, or set average_decay, for instance to 0.9."
    assert found(there, "jumps") == [Finding(text, step)] * jumps


def test_an_average_that_lags_is_found(tmp_path: Path) -> None:
    made = config(base=config().base.replace(average_decay=0.99), trials=2)
    with driven(Ledger.create(tmp_path, made, {})) as there:
        for trained in (50.0, 80.0):
            number = there.ask().number
            there.add_result(
                number, 1, 42, result(val_class_il=50.0, val_class_il_unaveraged=trained)
            )
            there.finish(number, "COMPLETE")
    text = (
        "The averaged network lags in 1 trial of 2: its class-il is more than 5 points below that "
        "of the last step's network."
    )
    assert found(there, "lag") == [Finding(text, "Take a smaller average_decay.")]


def test_components_of_variance_are_by_hand() -> None:
    # means 2 and 6; MSW = (1 + 1 + 1 + 1) / 2 = 2; MSB = 2 * 4 + 2 * 4 = 16; n0 = 4 - 8 / 4 = 2
    assert components([[1, 3], [5, 7]]) == Spread(math.sqrt(2), math.sqrt(7))
    # means 2 and 5, of all 3; MSW = 2 / 1; MSB = 2 * 1 + 1 * 4 = 6; n0 = 3 - 5 / 3 = 4 / 3
    assert components([[1, 3], [5]]).between == pytest.approx(math.sqrt(3))
    assert components([[1, 3], [3, 1]]).between == 0


@pytest.mark.parametrize("step, larger", [(1.0, True), (4.0, False)])
def test_noise_larger_than_the_differences_is_found(
    tmp_path: Path, step: float, larger: bool
) -> None:
    # values m +- 3 of m = 50, 50 + step, ..., 50 + 7 step: the noise is sqrt(8 * 18 / 8) = 4.24,
    # the variance between is that of the means, 6 step^2, minus 18 / 2
    rows: list[list[float]] = [[50 + step * i - 3, 50 + step * i + 3] for i in range(8)]
    made = run(tmp_path, *rows, seeds=2)
    between = math.sqrt(max(6 * step**2 - 9, 0))
    assert components(rows).noise == pytest.approx(math.sqrt(18))
    assert components(rows).between == pytest.approx(between)
    told = found(made, "noise")
    assert len(told) == larger
    assert all("is 4.24 between runs of a configuration and 0.00 between" in f.text for f in told)
    assert found(run(tmp_path / "few", *rows[:7], seeds=2), "noise") == []


def test_with_one_seed_the_noise_is_that_of_a_useful_model(tmp_path: Path) -> None:
    assert found(lucky(tmp_path), "noise") == []  # differences of 25 points, noise of 1


def test_a_model_that_explains_nothing_is_found(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(50, 5, 20)
    [told] = found(run(tmp_path, *([float(v)] for v in noise)), "model")
    assert told.text.startswith("A model of the space does not predict the trials (it explains 15%")
    assert "`replicates`" in told.next_step
    assert found(run(tmp_path / "few", [50.0], [60.0]), "model") == []
    assert found(lucky(tmp_path / "good"), "model") == []


def test_many_collapsed_runs_are_found_with_the_field_that_explains_them(tmp_path: Path) -> None:
    # the base is 0.7; the points are 0.1, 0.1625, ... in steps of 0.0625; chance is 10
    low: list[list[float] | str] = [f"{NON_FINITE}task 1", [15.0], [9.0]]
    made = run(tmp_path, [60.0], *low, [15.1], [60.0], [70.0], [80.0])
    [told] = found(made, "collapse")
    assert told.text == (
        "3 trials of 8 collapsed: 1 diverged, 2 ended near chance (class-il of at most 15)."
    )
    assert told.next_step == (
        "Search larger values of keep_ratio: half of the collapsed trials have 0.1625 or less."
    )
    high = run(tmp_path / "high", [9.0], [80.0], [70.0], [60.0], [60.0], [70.0], [9.0], [9.0])
    [told] = found(high, "collapse")
    assert told.next_step == (
        "Search smaller values of keep_ratio: half of the collapsed trials have 0.475 or more."
    )
    mixed = run(tmp_path / "mixed", [60.0], [9.0], [60.0], [60.0], [9.0], [60.0], [60.0], [9.0])
    [told] = found(mixed, "collapse")
    assert told.next_step.startswith("Read the log")
    assert found(run(tmp_path / "two", [60.0], *low[:2], [60.0]), "collapse") == []
