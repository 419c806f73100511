"""Figures: the trials that they show, with their numbers, names and axes."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from results.analysis import importance
from results.definition.objectives import Constraint, Objective
from results.ledger.ledger import Ledger
from results.pages import charts
from results.pages.axes import Axis, round_values
from results.pages.report import report, write_report
from results.sweep import Sweep
from search_spaces.parameter import Parameter
from tests.helpers.ledgers import FOUR, ONE, config, driven, result, swept

# (state, value of a task, compute) of trials 0 to 8; a constraint allows a compute of up to 0.5.
FATES = [
    ("COMPLETE", 60, 0.4),
    ("PRUNED", 30, 0.1),
    ("FAIL", 50, 0.2),
    ("COMPLETE", 90, 0.9),
    ("COMPLETE", 65, 0.3),
    ("PRUNED", 20, 0.1),
    ("COMPLETE", 70, 0.5),
    ("COMPLETE", 62, 0.45),
    ("RUNNING", 99, 0.1),
]


@pytest.fixture
def mixed(tmp_path: Path) -> Sweep:
    """A sweep with trials in every state; its last trial is running."""
    made = config(
        space=FOUR, sampler="random", trials=9, constraints=(Constraint.parse("compute<=0.5"),)
    )
    with driven(Ledger.create(tmp_path, made, {})) as there:
        for fate, value, compute in FATES:
            number = there.ask().number
            for task in range(3 if fate == "COMPLETE" else 2):
                told = result(task, 3, val_class_il=float(value), compute=compute)
                there.add_result(number, 1, 42, told)
            if fate != "RUNNING":
                there.finish(number, fate, None if fate == "COMPLETE" else "because")
        write_report(there)
        return Sweep.of(there)


def shown(figure: go.Figure) -> dict[str, list[Any]]:
    """The trials of each entry in a figure's legend, by its name."""
    found: dict[str, list[Any]] = {}
    for trace in figure.data:
        if trace.customdata is not None:
            found[trace.name] = sorted({*found.get(trace.name, []), *trace.customdata})
    return found


FINAL = {
    "preset: trial 0": [0],
    "complete": [4, 7],
    "breaks a constraint": [3],
    "chosen: trial 6": [6],
}


def test_every_chart_has_the_sweeps_numbers_with_pruned_and_infeasible_trials_between(
    mixed: Sweep,
) -> None:
    assert shown(charts.history(mixed)) == FINAL
    assert shown(charts.curves(mixed)) == FINAL | {
        "pruned": [1, 5],
        "failed": [2],
        "running, not final": [8],
    }
    assert shown(charts.parallel(mixed)) == {
        "complete (better trials are more vivid)" if name == "complete" else name: of
        for name, of in FINAL.items()
    }
    assert all(shown(figure) == FINAL for figure in charts.slices(mixed).values())
    [pair] = charts.trade_offs(mixed.config)
    assert shown(charts.trade_off(mixed, *pair)) == FINAL | {"Pareto set": [4, 6]}


def test_the_text_under_the_pointer_has_the_trials_number_and_values(mixed: Sweep) -> None:
    [pair] = charts.trade_offs(mixed.config)
    for figure in (
        charts.history(mixed),
        charts.trade_off(mixed, *pair),
        *charts.slices(mixed).values(),
    ):
        for trace in figure.data:
            for number, text in zip(trace.customdata or (), trace.text or (), strict=False):
                _, value, _ = FATES[number]
                assert text.startswith(f"trial {number}") and f"val_class_il {value}.00" in text
                assert ("breaks compute<=0.5" in text) == (number == 3)
    told = [text for trace in charts.curves(mixed).data for text in trace.text if text]
    assert "trial 8, running, not final: val_class_il 99.00 after task 2" in told
    assert "trial 5, pruned: val_class_il 20.00 after task 1" in told


def test_the_best_so_far_keeps_the_constraint_and_ends_at_the_last_trial(mixed: Sweep) -> None:
    line = charts.history(mixed).data[0]
    assert (list(line.x), list(line.y)) == ([0, 4, 6, 8], [60, 65, 70, 70])


def test_one_mark_names_both_if_the_preset_is_chosen(tmp_path: Path) -> None:
    made = swept(tmp_path, {"lr": 0.1}, values=(60, 50))
    assert shown(charts.history(Sweep.of(made))) == {
        "complete": [1],
        "chosen = preset: trial 0": [0],
    }


def test_the_chosen_trial_of_several_runs_is_marked_once_at_its_mean(tmp_path: Path) -> None:
    points = ({"keep_ratio": 0.3}, {"keep_ratio": 0.5})
    made = config(space=ONE, sampler="random", trials=5, points=points, replicates=0.4)
    with driven(Ledger.create(tmp_path, made, {})) as there:
        for value in (60.0, 80.0, 50.0, 70.0, 61.0):
            number = there.ask().number
            seed = next(iter(there.trial(number).results))
            there.add_result(number, 1, seed, result(val_class_il=value))
            there.finish(number, "COMPLETE")
    sweep = Sweep.of(there)
    assert [t.source for t in sweep.records[3:]] == ["replicate:1", "replicate:0"]
    [chosen] = [group for group in charts.groups(sweep) if group.name.startswith("chosen")]
    assert chosen.name == "chosen: trial 1"
    assert [(t.number, t.value) for t in chosen.trials] == [(1, 75.0)]  # of 80 and 70
    rows = re.findall(r"<td>(best; points:1|preset; preset|preset)</td>", report(there))
    assert rows == ["preset", "best; points:1"]


def test_the_figures_of_the_best_by_hand(tmp_path: Path) -> None:
    made = swept(tmp_path, values=(60,))
    chosen = Sweep.of(made).leader
    assert chosen is not None
    drawn = charts.matrix(chosen).data[0].z
    # seeds 42 and 43 differ by 2
    expected: list[list[float]] = [[91, 2, np.nan], [71, 81, 3], [51, 61, 71]]
    np.testing.assert_allclose(np.array(drawn, dtype=float), expected)
    lines = charts.per_task(chosen).data
    assert [list(line.x) for line in lines] == [[1, 2, 3], [2, 3], [3]]
    assert [list(line.y) for line in lines] == [[91, 71, 51], [81, 61], [71]]
    kept = np.array(charts.kept(chosen).data[0].z, dtype=float)
    assert kept.shape == (4, 3), "gates x tasks"
    assert kept[1, 2] == pytest.approx(0.5 + 0.2 + 0.01 + 0.01)


def test_the_pareto_chart_has_accuracy_over_compute(tmp_path: Path) -> None:
    # Later trials need less compute: 1, 1/2, 1/3; the second is beaten in both by the third.
    made = Sweep.of(swept(tmp_path, {"lr": 0.1}, {"lr": 0.2}, values=(70, 50, 60)))
    [pair] = charts.trade_offs(made.config)
    figure = charts.trade_off(made, *pair)
    front = figure.data[-1]
    assert (front.name, list(front.customdata), list(front.y)) == (
        "Pareto set",
        [2, 0],
        [60.5, 70.5],
    )
    assert list(front.x) == pytest.approx([1 / 3, 1]) and figure.layout.xaxis.title.text.startswith(
        "compute"
    )


@pytest.mark.parametrize(
    "sought, pairs",
    [
        (["val_class_il"], ["val_class_il/compute"]),
        (["compute"], ["val_class_il/compute"]),
        (["val_class_il", "compute"], ["val_class_il/compute"]),
        (["compute", "val_task_il"], ["val_task_il/compute"]),
        (["val_task_il", "forgetting"], ["val_task_il/forgetting", "val_task_il/compute"]),
    ],
)
def test_each_trade_off_is_shown_once_with_compute_across(
    sought: list[str], pairs: list[str]
) -> None:
    made = config(objectives=tuple(map(Objective.parse, sought)))
    assert [f"{y.metric}/{x.metric}" for x, y in charts.trade_offs(made)] == pairs


def test_accuracy_against_compute_shows_an_accuracy(tmp_path: Path) -> None:
    sought = tuple(Objective.parse(text) for text in ("compute", "keep_fraction", "val_task_il"))
    made = swept(tmp_path, {"lr": 0.1}, values=(60, 70), objectives=sought)
    assert charts.accuracy(made.config) == "val_task_il"
    assert charts.accuracy(config(objectives=sought[:2])) == "val_class_il"


def test_importance_finds_what_matters_with_its_uncertainty(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = [
        {"lr": float(10 ** rng.uniform(-2, 0)), "policy_penalty": float(-(10 ** rng.uniform(1, 3)))}
        for _ in range(25)
    ]
    made = Sweep.of(
        swept(tmp_path, *points, values=(40, *(50 + 20 * np.log10(p["lr"]) for p in points)))
    )
    found = importance.shares(made)
    assert found is not None and found == importance.shares(made)
    assert set(found) == {"lr", "keep_ratio", "policy_penalty", "warmup"}
    assert [*found][-1] == "lr" and found["lr"][0] > 0.8 and found["lr"][1] > 0, (
        "the value is a function of lr alone"
    )
    bars = charts.importance(found, "val_class_il").data[0]
    assert list(bars.y) == [*found] and list(bars.error_x.array) == [
        spread for _, spread in found.values()
    ]


def test_fields_that_do_not_differ_explain_nothing(tmp_path: Path) -> None:
    made = Sweep.of(
        swept(tmp_path, *({"lr": 0.02 + i / 100} for i in range(1, 15)), values=tuple(range(15)))
    )
    assert importance.shares(made) is not None
    same = [replace(trial, config=made.records[0].config) for trial in made.records]
    assert importance.shares(Sweep(made.config, made.record, same)) is None


@pytest.mark.parametrize("values", [range(importance.LEAST_VALUES - 1), [60] * 15])
def test_too_few_values_have_no_importance(tmp_path: Path, values: list[int]) -> None:
    made = swept(
        tmp_path, *({"lr": 0.02 + i / 100} for i in range(1, len(values))), values=tuple(values)
    )
    assert importance.shares(Sweep.of(made)) is None
    assert "Parameter importance" not in write_report(made).read_text()


LR = Parameter("lr", 0.005, 0.2, True)
PENALTY = Parameter("policy_penalty", -1000, -50, True)
ALPHA = Parameter("alpha", 0.0, 1.0)
EPOCHS = Parameter("n_epochs", 1, 3)
WARMUP = Parameter("warmup", choices=(True, False))


@pytest.mark.parametrize(
    "parameter, values, ticks",
    [
        (
            LR,
            (),
            {-2.301: "0.005", -2: "0.01", -1.699: "0.02", -1.301: "0.05", -1: "0.1", -0.699: "0.2"},
        ),
        (PENALTY, (), {-3: "-1000", -2.699: "-500", -2.301: "-200", -2: "-100", -1.699: "-50"}),
        (ALPHA, (), {0: "0", 0.2: "0.2", 0.4: "0.4", 0.6: "0.6", 0.8: "0.8", 1: "1"}),
        (ALPHA, (2.0,), {0: "0", 0.5: "0.5", 1: "1", 1.5: "1.5", 2: "2"}),
        (EPOCHS, (), {1: "1", 2: "2", 3: "3"}),
        (WARMUP, (), {0: "true", 1: "false"}),
        (
            Parameter("lr", choices=(0.123456789012345, 0.2)),
            (0.3,),
            {0: "0.1235", 1: "0.2", 2: "0.3"},
        ),
    ],
)
def test_an_axis_is_like_its_field(
    parameter: Parameter, values: tuple[float, ...], ticks: dict[float, str]
) -> None:
    found = Axis(parameter, values).ticks()
    assert [text for _, text in found] == list(ticks.values())
    assert [place for place, _ in found] == pytest.approx(list(ticks), abs=1e-3)


def test_slices_and_parallel_coordinates_place_a_logarithmic_field_by_its_logarithm(
    tmp_path: Path,
) -> None:
    made = Sweep.of(swept(tmp_path, {"lr": 0.1, "policy_penalty": -100.0}, values=(60, 70)))
    figures = charts.slices(made)
    for name, place in (("lr", -1), ("policy_penalty", -2)):
        assert next(t for t in figures[name].data if t.name == "chosen: trial 1").x[
            0
        ] == pytest.approx(place)
    assert list(figures) == ["lr", "keep_ratio", "policy_penalty", "warmup"], (
        "in the order of the space"
    )
    drawn = charts.parallel(made)
    assert list(drawn.layout.xaxis.ticktext) == [
        "lr (log)",
        "keep_ratio",
        "policy_penalty (log)",
        "warmup",
        "val_class_il",
    ]
    line = next(t for t in drawn.data if t.name == "chosen: trial 1")
    assert line.y[0] == pytest.approx(0.5) and line.y[4] == 1, "0.1 is half way from 0.01 to 1"


@pytest.mark.parametrize(
    "low, high, whole, values",
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 3, True, [0, 1, 2, 3]),
        (7, 7, False, [7]),
        (54.2, 66.1, False, [55, 60, 65]),
        (-0.03, 0.03, False, [-0.02, 0, 0.02]),
    ],
)
def test_round_values(low: float, high: float, whole: bool, values: list[float]) -> None:
    assert round_values(low, high, whole) == values
