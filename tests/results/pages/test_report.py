"""The report of sweeps in every state, and its figures, with numbers computed by hand."""

import html
from pathlib import Path

import numpy as np
import pytest

from results.analysis.headline import answer
from results.definition.objectives import Objective
from results.ledger.ledger import Ledger
from results.names import CHANNEL_USE
from results.pages import charts
from results.pages.report import write_report
from results.sweep import Sweep
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import complete, config, confirmed, driven, report, result, swept


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


def test_the_report_shows_how_many_runs_trained_as_one_program(tmp_path: Path) -> None:
    pages = []
    for name, cohort in (("alone", 1), ("together", 8)):
        with driven(Ledger.create(tmp_path, config(name), {})) as ledger:
            number = ledger.ask().number
            ledger.start(number, 1, cohort)
            report(ledger, number, 70, 60)
            ledger.finish(number, "COMPLETE")
            pages.append(write_report(ledger).read_text())
    assert ["runs in one program" in page for page in pages] == [False, True]
    assert ">8</td>" in pages[1]


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


def test_a_failure_in_a_confirmation_is_in_the_report_of_its_sweep(
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
