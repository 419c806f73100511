"""A sweep as DataFrames and files: the content of the ledger in columns."""

import csv
import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import results
from dynamos.errors import UserError
from results.definition.objectives import Constraint, Objective
from results.frames import COLUMNS, FORMATS, RESULT_COLUMNS, write_trials
from results.ledger.ledger import Ledger
from results.sweep import Sweep
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import config, driven, result

SPACE = SearchSpace.from_dict(
    "two",
    {
        "parameters": {
            "warmup": {"choices": [True, False]},
            "policy_penalty": {"low": -99, "high": -9, "log": True},
        }
    },
)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """Two seeds, two objectives and a constraint. Of five trials, 1 is the best that keeps the
    constraint, and 2 breaks it."""
    storage = tmp_path_factory.mktemp("frame")
    sought = (Objective.parse("val_class_il"), Objective.parse("compute"))
    made = config(
        space=SPACE,
        sampler="random",
        seeds=2,
        objectives=sought,
        trials=5,
        constraints=(Constraint.parse("keep_fraction<=0.5"),),
    )
    with driven(Ledger.create(storage, made, {})) as ledger:
        for values, computes, keeps, state in (
            ((70, 74), (0.2, 0.4), (0.5, 0.5), "COMPLETE"),
            ((80, 83), (0.8, 0.8), (0.1, 0.9), "COMPLETE"),
            ((90, 90), (0.1, 0.1), (0.6, 0.5), "COMPLETE"),
            ((99, 99), (0.1, 0.1), (0.1, 0.1), "PRUNED"),
            ((60, 61), (0.9, 0.9), (0.1, 0.1), "COMPLETE"),
        ):
            number = ledger.ask().number
            for seed, value, compute, keep in zip((42, 43), values, computes, keeps, strict=True):
                metrics = {"val_class_il": value, "compute": compute, "keep_fraction": keep}
                told = result(**metrics, task_il=None, task_il_row=[])
                ledger.add_result(number, 1, seed, told)
            ledger.finish(number, state, "because" if state == "PRUNED" else None)
    return Ledger.open(storage, "s")


def test_metrics_are_means_over_seeds_with_their_spread_and_of_complete_trials_only(
    ledger: Ledger,
) -> None:
    frame = Sweep.of(ledger).trials
    assert list(frame.columns) == [*COLUMNS, "warmup", "policy_penalty"]
    assert list(frame["val_class_il"])[:3] == [72, 81.5, 90] and math.isnan(
        frame["val_class_il"][3]
    )
    # sqrt(((70-72)^2 + (74-72)^2) / 1)
    assert list(frame["spread"])[:3] == pytest.approx([8**0.5, 4.5**0.5, 0])
    assert list(frame["compute"])[:2] == pytest.approx([0.3, 0.8]) and math.isnan(
        frame["spread"][3]
    )
    assert list(frame["feasible"].astype(object)) == [True, True, False, pd.NA, True]
    assert list(frame[frame.feasible]["number"]) == [0, 1, 4] and list(
        frame[~frame.feasible]["number"]
    ) == [2]
    assert list(frame["tasks_done"]) == [1] * 5 and list(frame["attempts"]) == [1] * 5
    assert pd.isna(frame["val_task_il"]).all(), "which was not measured"


def test_a_column_has_its_type_whatever_is_in_it(ledger: Ledger, tmp_path: Path) -> None:
    empty = Sweep.of(Ledger.create(tmp_path, config(space=SPACE), {}))
    with driven(
        Ledger.create(tmp_path, config("all", space=SPACE, sampler="random", trials=1), {})
    ) as made:
        number = made.ask().number  # the one trial completes, and no value of feasible is missing
        made.add_result(number, 1, 42, result(val_class_il=70))
        made.finish(number, "COMPLETE")
    full = Sweep.of(ledger)
    for other in (empty, Sweep.of(made)):
        assert dict(other.trials.dtypes) == dict(full.trials.dtypes) == dict(other.pareto.dtypes)
    kinds = full.trials.dtypes.astype(str)
    assert (
        kinds["feasible"] == kinds["warmup"] == "boolean"
        and kinds["reason"] == kinds["state"] == "string"
    )
    assert kinds["started_at"] == kinds["ended_at"] == "datetime64[us, UTC]"
    numbers = "spread", "val_class_il", "val_task_il", "seconds", "policy_penalty"
    assert {kinds[name] for name in numbers} == {"float64"}
    for name in RESULT_COLUMNS:
        assert empty.results[name].dtype == full.results[name].dtype
    assert list(empty.trials[empty.trials.feasible]["number"]) == []


def test_every_column_is_explained() -> None:
    assert all(text and not text.endswith(".") for text in COLUMNS.values())


def test_pareto_csv_holds_the_pareto_set_the_best_first(ledger: Ledger, tmp_path: Path) -> None:
    write_trials(ledger)
    with (ledger.folder / "pareto.csv").open() as file:
        assert [row["number"] for row in csv.DictReader(file)] == ["1", "0"]
    with (ledger.folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["feasible"] for row in rows] == ["True", "True", "False", "", "True"]
    stored = ledger.trials()
    assert [float(row["policy_penalty"]) for row in rows] == [
        t.config["policy_penalty"] for t in stored
    ]
    Ledger.create(tmp_path, config(space=SPACE), {})
    write_trials(Ledger.open(tmp_path, "s"))
    assert not (tmp_path / "s" / "pareto.csv").exists(), "one objective has no Pareto set"


def test_results_have_a_row_per_trial_seed_and_task(ledger: Ledger) -> None:
    rows = Sweep.of(ledger).results
    numbers = [name for name in result(task_il=None, task_il_row=[]).metrics() if name != "task"]
    assert list(rows.columns) == [*RESULT_COLUMNS, *numbers]
    assert (
        len(rows) == 10 and list(rows["seed"][:4]) == [42, 43, 42, 43] and set(rows["task"]) == {1}
    )
    assert rows.query("number == 3 and seed == 43")["val_class_il"].item() == 99, (
        "of pruned trials too"
    )
    assert list(rows["state"].unique()) == ["COMPLETE", "PRUNED"]


def test_a_sweep_is_loaded_by_folder_or_by_name_and_chooses(ledger: Ledger) -> None:
    by_name, by_path = (
        results.load_sweep("s", ledger.folder.parent),
        results.load_sweep(ledger.folder),
    )
    assert by_name.trials.equals(by_path.trials) and list(by_name.pareto["number"]) == [1, 0]
    assert by_name.best()["number"] == 1 and by_name.best(max_compute=0.5)["number"] == 0
    with pytest.raises(UserError, match="unknown sweep 't'"):
        results.load_sweep("t", ledger.folder.parent)


@pytest.mark.parametrize("kind", FORMATS)
def test_saved_files_read_back(ledger: Ledger, tmp_path: Path, kind: str) -> None:
    sweep = Sweep.of(ledger)
    for path in sweep.save(tmp_path, kind):
        frame = getattr(sweep, path.stem)
        there = pd.read_parquet(str(path)) if kind == "parquet" else pd.read_csv(str(path))
        if kind == "csv":  # CSV has only texts, so the types of the columns must be given
            there = there.astype(frame.dtypes)
        pd.testing.assert_frame_equal(there, frame, check_exact=True)
    with pytest.raises(UserError, match="unknown format 'xls'"):
        sweep.save(tmp_path, "xls")


def test_a_sweep_without_results_has_tables_without_rows(tmp_path: Path) -> None:
    sweep = Sweep.of(Ledger.create(tmp_path, config(), {}))
    assert (
        list(sweep.results.columns) == list(RESULT_COLUMNS)
        and sweep.results.empty
        and sweep.pareto.empty
    )
    assert list(sweep.trials["state"]) == ["WAITING"]
    assert len(sweep.save(tmp_path / "out", "parquet")) == 3


def test_a_sweep_is_read_without_ray_and_torch(ledger: Ledger) -> None:
    code = (
        f"import sys, results; s = results.load_sweep({str(ledger.folder)!r}); s.trials; "
        "s.results; s.best();print([m for m in ('ray', 'torch', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_sweep_says_in_a_line_what_it_is(ledger: Ledger, tmp_path: Path) -> None:
    assert repr(Sweep.of(ledger)) == (
        "<Sweep 's' on seq-digits, space two: 5 trials (4 complete, 1 pruned); best: "
        "trial 1, val_class_il 81.5>"
    )
    found = {"verdict": "refuted", "finding": "", "trial": 1, "tested": [1]}
    ledger.enter_look("s-confirm-1", {"at": "1", "outcome": found})
    assert repr(Sweep.of(ledger)).endswith("val_class_il 81.5; refuted on test images>")
    ledger.enter_look("s-confirm-2", {"at": "2", "outcome": found | {"verdict": "is the baseline"}})
    assert repr(Sweep.of(ledger)).endswith("val_class_il 81.5; is the baseline>")
    new = Sweep.of(Ledger.create(tmp_path, config(), {}))
    assert repr(new) == "<Sweep 's' on seq-digits, space core: 1 trial (1 waiting)>"
