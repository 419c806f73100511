"""Sweeps side by side at equal budgets."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from dynamos.config import TrainConfig, preset
from dynamos.errors import UserError
from results.analysis.comparison import (
    Compared,
    common_budget,
    compared,
    comparison_rows,
    comparison_sentences,
    incomparable,
    lead,
    shifts,
)
from results.definition.objectives import Objective
from results.ledger.ledger import Ledger
from results.pages import charts
from results.pages.compare_page import write_comparison
from results.sweep import Sweep
from tests.helpers.ledgers import begun, config, driven, result
from tune.cli.main import main


def made(
    folder: Path, name: str, *values: tuple[float, ...] | str, hash_: str = "a", **changes: Any
) -> Ledger:
    """A sweep whose trials ended with these values by seed, or in these states, each after 10 s on
    its CPUs."""
    seeds = max((len(v) for v in values if not isinstance(v, str)), default=1)
    sweep = config(
        name, **{"sampler": "random", "trials": max(len(values), 1), "seeds": seeds} | changes
    )
    with driven(
        Ledger.create(folder, sweep, {"data_hash": hash_, "validation_hash": hash_})
    ) as ledger:
        for value in values:
            record = begun(ledger)
            assert record.started_at is not None
            for seed, one in zip(
                sweep.training_seeds, () if isinstance(value, str) else value, strict=False
            ):
                told = result(**{sweep.objectives[0].metric: one})
                ledger.add_result(record.number, 1, seed, told)
            state, reason = (value, "because") if isinstance(value, str) else ("COMPLETE", None)
            ledger.finish(
                record.number,
                state,
                reason,
                record.started_at + dt.timedelta(seconds=10 + record.number),
            )
    return Ledger.open(folder, name)


def side_by_side(*ledgers: Ledger) -> list[Compared]:
    return compared([Sweep.of(ledger) for ledger in ledgers])


def test_the_best_at_equal_budgets_by_hand(tmp_path: Path) -> None:
    # Seconds: 10, 11, 12, 13 one after the other, so 10, 21, 33, 46 in all; b holds two CPUs.
    sweeps = side_by_side(
        made(tmp_path, "a", (70.0,), "PRUNED", (80.0,), (90.0,)),
        made(tmp_path, "b", (75.0,), (60.0,), cpus_per_trial=2),
    )
    assert common_budget(sweeps, "trials") == 2 and common_budget(
        sweeps, "cpu_seconds"
    ) == pytest.approx(42)
    assert common_budget(sweeps, "gpu_seconds") == 0
    a, b = sweeps
    assert a.best is not None and a.best.value == 90
    assert [best.value for best in (a.at("trials", 2), b.at("trials", 2)) if best] == [70, 75]
    assert [best.value for best in (a.at("cpu_seconds", 42), b.at("cpu_seconds", 42)) if best] == [
        80,
        75,
    ]
    assert a.at("cpu_seconds", 9) is None


def test_the_lead_is_paired_over_shared_seeds(tmp_path: Path) -> None:
    one, other = side_by_side(
        made(tmp_path, "a", (5.0, 7.0, 9.0)), made(tmp_path, "b", (4.0, 5.0, 6.0))
    )
    found = lead(one, other)
    assert found is not None and (found.mean, found.n) == (2, 3)
    base = TrainConfig(**preset("seq-digits", 200)).replace(evaluate_on="validation", seed=43)
    [late] = side_by_side(made(tmp_path, "c", (4.0, 5.0), base=base))
    found = lead(one, late)
    assert found is not None and (found.mean, found.n) == ((7 - 4 + 9 - 5) / 2, 2), (
        "seeds 43 and 44"
    )
    [far] = side_by_side(made(tmp_path, "d", (4.0,), base=base.replace(seed=99)))
    assert lead(one, far) is None


def test_shifts_are_the_fields_in_which_the_best_differ(tmp_path: Path) -> None:
    base = TrainConfig(**preset("seq-digits", 200)).replace(evaluate_on="validation", lr=0.1)
    sweeps = side_by_side(
        made(tmp_path, "a", (70.0,)), made(tmp_path, "b", (70.0,), base=base), made(tmp_path, "c")
    )
    assert shifts(sweeps) == {"lr": [0.18, 0.1, None]}


def test_sweeps_without_results_are_compared_too(tmp_path: Path) -> None:
    one, other = side_by_side(made(tmp_path, "a"), made(tmp_path, "b", "FAIL"))
    assert one.best is other.best is None and one.steps == ()
    assert lead(one, other) is None and shifts([one, other]) == {}
    assert common_budget([one, other], "trials") == 0


def test_comparisons_that_are_refused_and_comparisons_with_a_warning(tmp_path: Path) -> None:
    a, b = made(tmp_path, "a", (70.0,)), made(tmp_path, "b", (70.0,), hash_="b")
    assert incomparable([Sweep.of(a)] * 2) == []
    assert incomparable([Sweep.of(a), Sweep.of(b)]) == [
        "a and b were measured on different images."
    ]
    sought = (Objective.parse("val_learning_accuracy"),)
    current = made(tmp_path, "c", (70.0,), protocol="val-current", objectives=sought)
    assert incomparable([Sweep.of(a), Sweep.of(current)]) == [
        "a and c have different protocols: val-all-seen and val-current."
    ]
    with pytest.raises(
        UserError, match="'a' seeks val_class_il:max and 'c' val_learning_accuracy:max"
    ):
        side_by_side(a, current)


@pytest.mark.parametrize(
    "name, value, shown",
    [
        ("n_tasks", 2, ["5", "2"]),
        ("classes_per_task", 5, ["2", "5"]),
        ("class_order_seed", 3, ["None", "3"]),
        ("max_train_images_per_task", 40, ["None", "40"]),
        ("dataset", "seq-mnist", ["seq-digits", "seq-mnist"]),
    ],
)
def test_sweeps_that_searched_on_other_streams_have_no_lead(
    tmp_path: Path, name: str, value: Any, shown: list[str]
) -> None:
    base = config().base.replace(**{name: value})
    one, other = side_by_side(
        made(tmp_path, "a", (70.0, 71.0)), made(tmp_path, "b", (60.0, 61.0), base=base)
    )
    what = "stream" if name == "dataset" else name
    assert lead(one, other) is None
    said = comparison_sentences([one, other])
    assert (
        f"a and b have different {what}{'s' * (what == 'stream')}: {' and '.join(shown)}." in said
    )
    assert not any("The best of a" in text for text in said)
    settings, *_ = comparison_rows([one, other])
    assert [values for row, values in settings if row == what] == [shown]


def test_the_same_stream_in_other_words_has_a_lead(tmp_path: Path) -> None:
    base = config().base.replace(n_tasks=5, data_path="/elsewhere", threads=2)
    one, other = side_by_side(made(tmp_path, "a", (70.0,)), made(tmp_path, "b", (60.0,), base=base))
    assert lead(one, other) is not None and incomparable([one.sweep, other.sweep]) == []
    assert "n_tasks" not in [row for row, _ in comparison_rows([one, other])[0]]


def test_first_tasks_of_different_number_have_no_lead(tmp_path: Path) -> None:
    sweeps = [
        made(
            tmp_path,
            name,
            (70.0,),
            protocol="first-k",
            report_on={"n_tasks": None},
            base=config().base.replace(n_tasks=k),
        )
        for name, k in (("a", 1), ("b", 4))
    ]
    one, other = side_by_side(*sweeps)
    assert lead(one, other) is None and comparison_sentences([one, other]) == [
        "a and b have different n_tasks: 1 and 4."
    ]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path, "a", (70.0, 72.0), (80.0, 83.0))
    made(tmp_path, "b", (75.0, 76.0), "PRUNED", hash_="b", pruner="median")
    made(tmp_path, "new")
    assert main(["compare", "a", "b", "new", "--storage", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    page = (tmp_path / "compare-a-b-new.html").read_text()
    assert str(tmp_path / "compare-a-b-new.html") in said.replace("\n", "")
    assert "81.50 ± 2.12 (trial 1)" in page and "were measured on different images" in page
    assert "81.50 ± 2.12 (trial 1)" in said and "median" in said and "policy_penalty" in said
    assert (
        "The best of a compared with the best of b: +6.00 on 2 shared seeds. With 2 seeds this "
        "could be chance (" in said
    )
    # 5 and 7: t = 6, 1 df
    assert "p = 0.11, 95% interval -6.71 to +18.71, standard deviation of the differences" in said
    assert "a and b were measured on different images." in said
    assert main(["compare", "a", "b", "--storage", str(tmp_path)]) == 0
    assert "after 2 trials" in capsys.readouterr().out
    for names, message in (
        (["a"], "name two or more"),
        (["a", "a"], "different sweeps"),
        (["a", "z"], "unknown sweep 'z'"),
    ):
        assert main(["compare", *names, "--storage", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err


def test_the_pages_curves_are_the_best_so_far(tmp_path: Path) -> None:
    sweeps = side_by_side(
        made(tmp_path, "a", (70.0,), (60.0,), "PRUNED", (80.0,)), made(tmp_path, "b")
    )
    assert [step.best.value for step in sweeps[0].steps if step.best] == [70, 70, 70, 80]
    figure = charts.anytime(
        {"a": [(1, 70, 0), (2, 70, 4)], "b": []}, "trials ended", "val_class_il"
    )
    assert list(figure.data[0].y) == [70, 70] and figure.data[0].line.shape == "hv"
    page = write_comparison(sweeps, tmp_path / "own.html").read_text()
    assert page.count("<figure") == 2, "by trials and by CPU seconds; no GPU was used"
    empty = write_comparison(
        side_by_side(made(tmp_path, "c"), made(tmp_path, "d", "FAIL")), tmp_path / "e.html"
    )
    assert "No trial has completed yet." in empty.read_text() and "<script" not in empty.read_text()


def test_a_comparison_says_what_is_not_publishable(tmp_path: Path) -> None:
    base = TrainConfig(**preset("seq-digits", 200))
    tested_ = made(
        tmp_path,
        "t",
        (70.0,),
        protocol="test",
        base=base,
        objectives=(Objective.parse("test_class_il"),),
    )
    page = write_comparison(side_by_side(tested_, tested_), tmp_path / "t.html").read_text()
    assert "t: NOT PUBLISHABLE" in page
