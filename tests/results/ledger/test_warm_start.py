"""Warm starts from an earlier sweep."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from dynamos.config import TrainConfig, preset
from dynamos.errors import UserError
from results import sweep_names
from results.choice import choice_of, train_config
from results.definition.objectives import Constraint, Objective
from results.ledger.ledger import Ledger
from results.pages.charts import groups
from results.pages.report import write_report
from results.sweep import Sweep
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import SEED, config, driven, result

SAME = {"data_hash": "d", "validation_hash": "v"}
WIDE = SearchSpace.from_dict(
    "wide",
    {
        "parameters": {
            "lr": {"low": 0.001, "high": 0.2, "log": True},
            "policy_penalty": {"low": -1000, "high": -50, "log": True},
        }
    },
)
SMALL = SearchSpace.from_dict(
    "small",
    {
        "parameters": {
            "lr": {"low": 0.01, "high": 0.1, "log": True},
            "policy_penalty": {"low": -1000, "high": -50},
        }
    },
)
NEITHER = SearchSpace.from_dict(
    "neither", {"parameters": {"keep_ratio": {"choices": [0.25, 0.75]}}}
)


def value(lr: float) -> float:
    """Return a value that is higher for a higher learning rate."""
    return 50 + 200 * lr


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder with a finished sweep `old`: 12 trials COMPLETE, 1 PRUNED, 1 FAIL."""
    storage = tmp_path_factory.mktemp("old")
    points = (*({"lr": 0.002 * 1.5**i} for i in range(12)), {"lr": 0.15, "policy_penalty": -100.0})
    made = config("old", space=WIDE, sampler="random", trials=14, points=points)
    with driven(Ledger.create(storage, made, SAME)) as it:
        for _ in range(14):
            trial = it.ask()
            metrics = {
                "val_class_il": value(trial.config["lr"]),
                "keep_fraction": trial.config["lr"] * 4,
            }
            it.add_result(trial.number, 1, SEED, result(**metrics))
            it.finish(trial.number, {5: "PRUNED", 6: "FAIL"}.get(trial.number, "COMPLETE"), None)
    return storage


@pytest.fixture
def storage(old: Path, tmp_path: Path) -> Path:
    shutil.copytree(old / "old", tmp_path / "old")
    return tmp_path


def new(storage: Path, record: dict[str, str] = SAME, **changes: Any) -> Ledger:
    made = config("new", **{"space": WIDE, "warm_start": "old", "trials": 5} | changes)
    return Ledger.create(storage, made, record)


def finished(storage: Path) -> dict[int, float]:
    """Learning rates of the old sweep's COMPLETE trials by number, the best first."""
    trials = [t for t in Ledger.open(storage, "old").trials() if t.state == "COMPLETE"]
    return {t.number: t.config["lr"] for t in sorted(trials, key=lambda t: -t.config["lr"])}


def test_results_that_mean_the_same_are_taken_over_and_stay_the_others(storage: Path) -> None:
    with driven(new(storage)) as ledger:
        imported = ledger.trials()
        order = [0, *(n for n in finished(storage) if n)]
        assert [t.source for t in imported] == [f"imported:old/{n}" for n in order], (
            "trial 0 is the preset here too"
        )
        assert ledger.remarks == [
            "trial 0 is not trained: it has the results of trial 0 of old, on the same images "
            "and with the same settings."
        ]
        before = {t.number: t for t in Ledger.open(storage, "old").trials()}
        for trial in imported:
            theirs = before[int(trial.source.split("/")[1])]
            assert (trial.state, trial.config, trial.value) == (
                "COMPLETE",
                theirs.config,
                theirs.value,
            )
            assert trial.results == theirs.results and trial.imported
            assert trial.recorded_at == theirs.recorded_at
        assert (ledger.remaining(), ledger.spent("cpu"), Sweep.of(ledger).own) == (5, 0, [])
        chosen, first = Sweep.of(ledger).leader, Sweep.of(ledger).baseline
        assert chosen is not None and first is not None and first.number == 0
        assert chosen.source == f"imported:old/{next(iter(finished(storage)))}", (
            "as good a measurement as its own"
        )
        assert (
            chosen.label == f"trial {chosen.number}, {chosen.source}"
            and Sweep.of(ledger).baseline_name == "preset"
        )
        drawn = ledger.ask()
        assert (drawn.number, drawn.source, ledger.remaining()) == (12, "sampler", 4)
        ledger.add_result(12, 1, SEED, result(val_class_il=99.0))
        ledger.finish(12, "COMPLETE")
        assert Sweep.of(ledger).pareto_set == [ledger.trial(12)], "the sweep found better"


def test_the_report_counts_the_sweeps_own_trials(storage: Path) -> None:
    ledger = new(storage)
    page, chosen = write_report(ledger).read_text(), choice_of(Sweep.of(ledger))
    assert chosen is not None and chosen.source.startswith("imported:old/")
    assert "0 of 5 trials and 12 results of old" in page
    assert f"{chosen.label[1:]}, is best" in page


def test_charts_show_of_them_the_chosen_and_the_first(storage: Path) -> None:
    lowest = f"imported:old/{list(finished(storage))[-1]}"
    with driven(new(storage, objectives=(Objective("val_class_il", "min"),))) as ledger:
        best_then = next(t.number for t in ledger.trials() if t.source == lowest)

        def of_them() -> list[tuple[str, list[int]]]:
            chosen = choice_of(Sweep.of(ledger))
            assert chosen is not None
            shown = sorted({best_then: "luckiest", chosen.number: "chosen"}.items())
            first = ("imported:old/0: trial 0", [0])
            return [first, *((f"{role}: trial {number}", [number]) for number, role in shown)]

        def drawn() -> list[tuple[str, list[int]]]:
            return [(g.name, [t.number for t in g.trials]) for g in groups(Sweep.of(ledger))]

        assert drawn() == of_them()
        number = ledger.ask().number
        ledger.add_result(number, 1, SEED, result(val_class_il=99.0))
        ledger.finish(number, "COMPLETE")
        assert drawn() == [("complete", [number]), *of_them()]


def test_the_sampler_sees_them(storage: Path) -> None:
    drawn = {}
    for direction in ("max", "min"):  # the metrics that rise with the learning rate
        made = config(
            direction,
            space=WIDE,
            warm_start="old",
            objectives=(Objective("val_class_il", direction),),
        )
        with driven(Ledger.create(storage, made, SAME)) as ledger:
            drawn[direction] = [ledger.ask().config["lr"] for _ in range(3)]
    assert sum(drawn["max"]) > 2 * sum(drawn["min"]), "nothing else is different for TPE"


@pytest.mark.parametrize(
    "changes",
    [
        {"record": SAME | {"data_hash": "other"}},
        {"record": SAME | {"validation_hash": "other"}},
        {"base": config().base.replace(n_epochs=7)},
    ],
)
def test_if_images_or_settings_differ_the_best_configurations_are_tried_again(
    changes: dict[str, Any], storage: Path
) -> None:
    ledger = new(storage, **changes, trials=8, points=({"lr": 0.05},))
    # Half of the 6 trials that are left after the base and the point. Trial 0 of the old sweep is
    # the base of the new one.
    order = [n for n in finished(storage) if n][:3]
    trials = ledger.trials()
    assert [t.source for t in trials] == [
        trials[0].source,
        "points:1",
        *(f"warm-start:old/{n}" for n in order),
    ]
    assert ledger.remaining() == 8 and {t.state for t in trials} == {"WAITING"}
    assert [t.config["lr"] for t in trials[2:]] == [finished(storage)[n] for n in order]
    assert train_config(ledger.config, trials[2]).n_epochs == ledger.config.base.n_epochs


def test_at_least_the_best_configuration_is_tried(storage: Path) -> None:
    # trial 0 of the old sweep is the base of the new one
    best_then = next(n for n in finished(storage) if n)
    with driven(new(storage, {}, trials=2)) as ledger:
        assert [t.source for t in ledger.trials()] == ["preset", f"warm-start:old/{best_then}"]
        assert [ledger.ask().config["lr"] for _ in range(2)] == [
            config().base.lr,
            finished(storage)[best_then],
        ]


def test_where_machines_and_seeds_differ_results_mean_the_same(storage: Path) -> None:
    base = config().base.replace(threads=8, seed=7, data_path="/elsewhere")
    assert sum(t.imported for t in new(storage, base=base).trials()) == 12


def test_a_smaller_space_takes_only_trials_that_lie_in_it(storage: Path) -> None:
    trials = new(storage, space=SMALL, base=config().base.replace(lr=0.1)).trials()
    inside = {n for n, lr in finished(storage).items() if 0.01 <= lr <= 0.1}
    assert 0 < len(inside) < 11 and {t.source for t in trials if t.imported} == {
        f"imported:old/{n}" for n in inside
    }


def test_results_of_a_field_no_longer_searched_count_where_all_had_the_base_s_value(
    storage: Path,
) -> None:
    """The old trial with the learning rate 0.15 had another policy_penalty than the others."""
    for name, high, how in (("new", 0.14, "imported"), ("again", 0.2, "warm-start")):
        space = SearchSpace.from_dict("lr", {"parameters": {"lr": {"low": 0.01, "high": high}}})
        base = config().base.replace(lr=0.1)
        made = config(name, space=space, base=base, warm_start="old", trials=99)
        trials = Ledger.create(storage, made, SAME).trials()
        assert {t.source.split(":")[0] for t in trials} - {"base"} == {how}, name


def test_a_field_that_was_fixed_then_has_its_value_of_then(storage: Path) -> None:
    more = WIDE.to_dict()
    more["parameters"] = more["parameters"] | {"keep_ratio": {"low": 0.1, "high": 0.9}}
    imported = new(storage, space=SearchSpace.from_dict("more", more)).trials()
    assert {t.config["keep_ratio"] for t in imported} == {config().base.keep_ratio} and imported[
        0
    ].imported


def test_constraints_and_objectives_are_the_new_sweeps(storage: Path) -> None:
    sought = (Objective.parse("keep_fraction"), Objective.parse("val_class_il"))
    imported = new(
        storage, objectives=sought, constraints=(Constraint.parse("val_class_il>=55"),)
    ).trials()
    for trial in imported:
        assert trial.value == 4 * trial.config["lr"] and trial.feasible == (
            value(trial.config["lr"]) >= 55
        )
    assert {t.feasible for t in imported} == {True, False}


@pytest.mark.parametrize("record", [{}, SAME])
def test_a_constraint_of_the_earlier_sweep_leaves_nothing_out(
    tmp_path: Path, record: dict[str, str]
) -> None:
    bounded = config("old", space=WIDE, constraints=(Constraint.parse("keep_fraction<=0.1"),))
    with driven(Ledger.create(tmp_path, bounded, SAME)) as ledger:
        for keep in (0.9, 0.05, 0.8):  # the base and the best break the bound
            number = ledger.ask().number
            ledger.add_result(number, 1, SEED, result(val_class_il=100 * keep, keep_fraction=keep))
            ledger.finish(number, "COMPLETE")
    sources = [t.source for t in new(tmp_path, record, trials=8).trials()]
    if record:
        assert sources == ["imported:old/0", "imported:old/2", "imported:old/1"]
    else:  # the base of old is the base here
        assert sources == ["preset", "warm-start:old/2", "warm-start:old/1"]


def test_what_breaks_the_new_constraints_is_imported_but_not_tried_again(storage: Path) -> None:
    bound = (Constraint.parse("keep_fraction<=0.1"),)
    assert len([t for t in new(storage, constraints=bound).trials() if t.imported]) == 12
    again = config("again", space=WIDE, warm_start="old", trials=99, constraints=bound)
    tried = {
        t.config["lr"]
        for t in Ledger.create(storage, again, {}).trials()
        if t.source.startswith("warm-start:")
    }
    assert tried == {lr for n, lr in finished(storage).items() if n and lr * 4 <= 0.1}


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"space": NEITHER, "base": config().base.replace(keep_ratio=0.25)},
            "`warm_start` old: none of its finished trials has values that the space neither and "
            "this sweep's other settings allow.",
        ),
        ({"warm_start": "odd"}, "unknown sweep 'odd'. Did you mean 'old'? Allowed: old."),
    ],
)
def test_a_warm_start_without_a_fitting_trial_is_refused_and_leaves_nothing(
    changes: dict[str, Any], message: str, storage: Path
) -> None:
    with pytest.raises(UserError) as error:
        new(storage, **changes)
    assert str(error.value).startswith(message)
    assert sweep_names(storage) == ["old"] and [p.name for p in storage.iterdir()] == ["old"]


def test_imported_trials_are_not_imported_again_from_the_new_sweep(storage: Path) -> None:
    with driven(new(storage)) as ledger:
        number = ledger.ask().number
        ledger.add_result(number, 1, SEED, result(val_class_il=1.0))
        ledger.finish(number, "COMPLETE")
    third = Ledger.create(storage, config("third", space=WIDE, warm_start="new"), SAME)
    assert [t.source for t in third.trials()] == ["preset", "imported:new/12"]


def test_a_sweep_that_finished_nothing_is_refused(storage: Path) -> None:
    Ledger.create(storage, config("empty", space=WIDE), SAME)
    with pytest.raises(UserError, match="none of its finished trials"):
        new(storage, warm_start="empty")


@pytest.mark.parametrize("protocol", ["test", "confirmation"])
def test_a_sweep_that_used_test_images_is_no_warm_start(tmp_path: Path, protocol: str) -> None:
    base = TrainConfig(**preset("seq-digits", 200))
    seen = config(
        "old",
        base=base,
        protocol=protocol,
        confirms="s" if protocol == "confirmation" else None,
        objectives=(Objective.parse("test_class_il"),),
    )
    Ledger.create(tmp_path, seen, SAME)
    with pytest.raises(UserError, match="`warm_start` old: it used test images"):
        new(tmp_path)
