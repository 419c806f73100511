"""The report of sweeps in every state, and its figures, with numbers computed by hand."""

import html
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.analysis.cautions import JUMP, cautions
from results.analysis.headline import answer
from results.definition.sweep_config import Objective
from results.ledger.ledger import Ledger
from results.names import CHANNEL_USE
from results.pages import charts
from results.pages.report import write_report
from results.sweep import Sweep
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import FOUR, complete, config, confirmed, driven, result, swept


def test_a_small_gain_in_a_fraction_is_said(tmp_path: Path) -> None:
    with driven(
        Ledger.create(tmp_path, config(objectives=(Objective.parse("compute"),)), {})
    ) as made:
        for value in (0.52, 0.5162):
            number = made.ask().number
            made.add_result(number, 1, 42, result(compute=value))
            made.finish(number, "COMPLETE")
    said = answer(Sweep.of(made))
    assert said.startswith(
        "Trial 1 is best with compute 0.5162, better by 0.0038 than the preset (0.52)."
    )


@pytest.mark.parametrize("values", [[], [80.0], [70.0, 80.0], [70.0, 80.0, 75.0, 71.0, 90.0]])
def test_the_report_is_one_page_however_few_the_trials(tmp_path: Path, values: list[float]) -> None:
    with driven(Ledger.create(tmp_path, config(trials=10), {})) as made:
        for value in values:
            complete(made, 100, value)
    page = write_report(made).read_text()
    assert page.startswith("<!doctype html>") and html.escape(answer(Sweep.of(made))) in page
    assert "<script src" not in page and "<link" not in page
    assert ("Parallel coordinates</h3>" in page) == (len(values) > 1)


def test_the_report_shows_fields_by_their_own_names(tmp_path: Path) -> None:
    points = tuple({"lr": 0.02 + i / 100} for i in range(9))
    page = write_report(
        swept(tmp_path, *points, values=(70, 80, 75, 71, 90, 72, 73, 74, 76, 77))
    ).read_text()
    assert (
        "neg_policy_penalty" not in page
        and "policy_penalty" in page
        and "Parameter importance" in page
    )


def test_which_channels_a_class_uses_is_shown_of_one_seed_by_its_newest_attempt(
    tmp_path: Path,
) -> None:
    made = swept(tmp_path, values=(60,))
    [trial] = made.trials()
    assert made.channel_use(trial, 42) is None
    assert "Channels used by each class" not in write_report(made).read_text()
    use = np.zeros((10, 4, 8))
    use[3, 1, 5] = 0.75
    file = made.trial_folder(0) / "attempt-1" / "seed-42" / CHANNEL_USE
    file.parent.mkdir(parents=True)
    np.save(str(file), use)
    read = made.channel_use(trial, 42)
    assert read is not None and read[3, 1, 5] == 0.75 and made.channel_use(trial, 43) is None
    figure = charts.channels(read)
    assert len(figure.data) == 4 and figure.data[1].z[3][5] == 0.75
    assert "with seed 42" in write_report(made).read_text()


@pytest.mark.parametrize("trials", [4, 10])
def test_a_space_of_one_choice_has_a_page(tmp_path: Path, trials: int) -> None:
    space = SearchSpace.from_dict("one", {"parameters": {"warmup": {"choices": [True, False]}}})
    with driven(
        Ledger.create(tmp_path, config(space=space, sampler="random", trials=trials), {})
    ) as made:
        for value in range(trials):
            complete(made, 100, 60 + value)
    assert "Optimisation history" in write_report(made).read_text()


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
def test_a_best_at_the_edge_of_a_range_is_a_caution(
    tmp_path: Path, point: dict[str, float], side: str | None
) -> None:
    # A fiftieth of two decades is a factor of 1.096. A keep_ratio ends at 1 by its meaning.
    made = swept(tmp_path, point, values=(40, 60))
    [name], found = point, [c for c in cautions(Sweep.of(made)) if "its range" in c]
    assert len(found) == (side is not None)
    assert all(f"has {name} " in c and f"at the {side} end" in c for c in found)


@pytest.mark.parametrize("value, tied", [(59, True), (40, False)])
def test_a_tie_is_a_caution_and_a_clear_best_is_none(
    tmp_path: Path, value: int, tied: bool
) -> None:
    made = swept(tmp_path, {"lr": 0.1}, values=(value, 60))  # each +- 0.71 over its two seeds
    said = "Within their spread over seeds this trial ties with the best: 0."
    found = cautions(Sweep.of(made))
    assert (said in found) == tied and not any("overlap" in text for text in found)


def test_few_trials_collapse_and_failures_are_cautions(tmp_path: Path) -> None:
    made = config(space=FOUR, sampler="random", trials=3)
    with driven(Ledger.create(tmp_path, made, {})) as there:
        for value, warnings in ((50.0, ()), (60.0, ("policy collapse: after task 1",))):
            number = there.ask().number
            there.add_result(number, 1, 42, result(val_class_il=value, warnings=warnings))
            there.finish(number, "COMPLETE")
        there.finish(there.ask().number, "FAIL", "out of luck <b>")
    said = cautions(Sweep.of(there))
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
def test_readings_that_jump_are_a_caution_that_names_averaging(
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
    found = [c for c in cautions(Sweep.of(there)) if "jumped" in c]
    jumping = "4 trials" if readings else "1 trial"
    text = (
        f"In {jumping} of 4 class-il jumped by more than 10 points between two readings, so "
        "that a single reading is partly luck. An average over steps is steadier: search the "
        "space averaged, or set average_decay, for instance to 0.9."
    )
    assert found == [text] * jumps


def test_an_average_that_lags_is_a_caution(tmp_path: Path) -> None:
    made = config(base=config().base.replace(average_decay=0.99), trials=2)
    with driven(Ledger.create(tmp_path, made, {})) as there:
        for trained in (50.0, 80.0):
            number = there.ask().number
            there.add_result(
                number, 1, 42, result(val_class_il=50.0, val_class_il_unaveraged=trained)
            )
            there.finish(number, "COMPLETE")
    assert cautions(Sweep.of(there))[-1] == (
        "The averaged network lags in 1 trial of 2: its class-il is more than 5 points below that "
        "of the last step's network. A smaller average_decay may be better."
    )


def test_a_failure_in_a_confirmation_is_a_caution_in_the_report_of_its_sweep(
    tmp_path: Path,
) -> None:
    sweep, _ = confirmed(tmp_path, [80.0, 82.0], "FAIL")
    assert "1 trial of 2 failed." in write_report(sweep).read_text()


def test_a_sweep_that_runs_or_has_only_failed_has_a_page_that_says_so(tmp_path: Path) -> None:
    with driven(Ledger.create(tmp_path, config(), {})) as there:
        there.ask()
        page = write_report(there).read_text()
        assert "1 of 4 trials (1 running)" in page and "; running (" in page
        there.finish(0, "FAIL", "no data")
        page = write_report(there).read_text()
    assert (
        "None of 1 trials has completed." in page and "Failed trials" in page and "no data" in page
    )


def test_the_page_has_every_setting_and_version(tmp_path: Path) -> None:
    made = swept(tmp_path, {"lr": 0.1}, values=(40, 60))
    page = write_report(made).read_text()
    for text in (
        "policy_penalty: -60",
        "torch: &#x27;9.9&#x27;",
        "protocol: val-all-seen",
        "sampler: random",
    ):
        assert text in page
    assert "best (trial 1)" in page and "60.50 ± 0.71" in page and "points:1" in page
