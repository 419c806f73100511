"""Choice among finished trials: the best, the Pareto set, constraints."""

import dataclasses
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.errors import UserError
from results.choice import Choice, chosen, tie_sentence, ties
from results.definition.objectives import OBJECTIVES, Constraint, Objective
from results.ledger.ledger import Ledger
from results.sweep import Sweep
from results.trial import TrialRecord
from tests.helpers.ledgers import SEED, config, driven, result

BLANK: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(TrialRecord))
# Few values, so that equals are common.
VALUES = st.fixed_dictionaries({metric: st.integers(0, 3).map(float) for metric in OBJECTIVES})
OBJECTIVE = st.builds(
    Objective, st.sampled_from(sorted(OBJECTIVES)), st.sampled_from(["max", "min"])
)
SOUGHT = st.lists(OBJECTIVE, min_size=1, max_size=3, unique_by=lambda o: o.metric)
PLAIN = config(sampler="random", base=config().base.replace(readings=4))
FATES = st.sampled_from(["COMPLETE"] * 6 + ["PRUNED", "FAIL", "RUNNING", "imported", "infeasible"])


def trial(
    number: int, metrics: dict[str, float], fate: str, sought: list[Objective]
) -> TrialRecord:
    state = fate if fate.isupper() else "COMPLETE"
    return TrialRecord(
        **BLANK
        | {
            "number": number,
            "state": state,
            "source": "imported:s/1" if fate == "imported" else "sampler",
            "results": {7: [result(**metrics)]},
            "config": {p.name: 0.1 + number for p in config().space.parameters},
            "value": metrics[sought[0].metric] if state == "COMPLETE" else None,
            "feasible": fate in ("COMPLETE", "imported"),
        }
    )


def beats(one: TrialRecord, other: TrialRecord, sought: list[Objective]) -> bool:
    """True if one trial is nowhere worse than the other and better somewhere."""
    gains = [
        (one.final(o.metric) - other.final(o.metric)) * (1 if o.direction == "max" else -1)
        for o in sought
    ]
    return min(gains) >= 0 and max(gains) > 0


@settings(deadline=None)
@given(SOUGHT, st.lists(st.tuples(VALUES, FATES), max_size=12), st.randoms(use_true_random=False))
def test_the_pareto_set_has_the_trials_that_no_feasible_trial_dominates(
    sought: list[Objective], drawn: list[tuple[dict[str, float], str]], random: Any
) -> None:
    sweep = dataclasses.replace(PLAIN, objectives=tuple(sought))
    eligible = [
        trial(n, m, f, sought) for n, (m, f) in enumerate(drawn) if f in ("COMPLETE", "imported")
    ]
    trials = [trial(n, m, f, sought) for n, (m, f) in enumerate(drawn)]
    random.shuffle(trials)
    front = Sweep(sweep, {}, trials).pareto_set
    assert {t.number for t in front} == {
        t.number for t in eligible if not any(beats(o, t, sought) for o in eligible)
    }
    found = Sweep(sweep, {}, trials).leader
    if not eligible:
        assert found is None and front == []
        return
    assert found is not None and front[0] == found
    first = [t.final(sought[0].metric) for t in eligible]
    assert found.value == (max(first) if sought[0].direction == "max" else min(first))
    assert sorted(t.number for t in Sweep(sweep, {}, trials).ranked) == [t.number for t in eligible]


def test_equal_trials_are_ordered_by_the_next_objective_then_by_number() -> None:
    sought = [Objective("val_class_il", "max"), Objective("compute", "min")]
    blank = dict.fromkeys(OBJECTIVES, 0.0)
    trials = [
        trial(n, blank | {"val_class_il": accuracy, "compute": compute}, "COMPLETE", sought)
        for n, (accuracy, compute) in enumerate([(80, 0.9), (80, 0.5), (70, 0.1), (80, 0.5)])
    ]
    sweep = config(objectives=tuple(sought))
    assert [t.number for t in Sweep(sweep, {}, trials).ranked] == [1, 3, 0, 2]
    assert [t.number for t in Sweep(sweep, {}, trials).pareto_set] == [1, 3, 2]


def test_a_trial_that_breaks_a_constraint_is_never_chosen_however_good(tmp_path: Path) -> None:
    sweep = config(
        constraints=(Constraint.parse("keep_fraction<=0.6"), Constraint.parse("val_task_il>=90"))
    )
    with driven(Ledger.create(tmp_path, sweep, {})) as ledger:
        for accuracy, keep, task_il in ((99, 0.7, 95), (98, 0.5, 89), (80, 0.6, 90), (70, 0.1, 99)):
            number = ledger.ask().number
            told = result(val_class_il=accuracy, keep_fraction=keep, val_task_il=task_il)
            ledger.add_result(number, 1, SEED, told)
            ledger.finish(number, "COMPLETE")
    trials = Ledger.open(tmp_path, "s").trials()
    assert [t.feasible for t in trials] == [False, False, True, True], "a bound itself is allowed"
    assert [t.number for t in Sweep(sweep, {}, trials).ranked] == [2, 3]
    chosen = Sweep(sweep, {}, trials[:2]).leader
    assert chosen is None


def test_a_minimised_objective_chooses_the_least_value(tmp_path: Path) -> None:
    sweep = config(
        objectives=(Objective.parse("forgetting"),),
        constraints=(Constraint.parse("val_class_il>=50"),),
    )
    with driven(Ledger.create(tmp_path, sweep, {})) as ledger:
        for forgetting, accuracy in ((9.0, 60), (3.0, 55), (0.0, 10)):
            number = ledger.ask().number
            told = result(forgetting=forgetting, val_class_il=accuracy)
            ledger.add_result(number, 1, SEED, told)
            ledger.finish(number, "COMPLETE")
        chosen = Sweep.of(ledger).leader
    assert chosen is not None and (chosen.number, chosen.value) == (1, 3.0)


def seeded(
    number: int, values: tuple[float, ...], compute: float, state: str = "COMPLETE"
) -> TrialRecord:
    results = {
        seed: [result(val_class_il=value, compute=compute)] for seed, value in enumerate(values)
    }
    mean = sum(values) / len(values)
    return TrialRecord(
        **BLANK
        | {
            "number": number,
            "state": state,
            "source": "sampler",
            "results": results,
            "config": {p.name: 0.1 + number for p in config().space.parameters},
            "value": mean if state == "COMPLETE" else None,
            "feasible": state == "COMPLETE",
        }
    )


# squares sum to 12, deviation 2, standard error 1
LEAD = (80 - 3**0.5, 80 - 3**0.5, 80 + 3**0.5, 80 + 3**0.5)
RIVALS = [
    seeded(0, (79.5,) * 4, 0.7),
    seeded(1, LEAD, 0.9),
    seeded(2, (79.0,) * 4, 0.5),
    seeded(3, (78.9,) * 4, 0.1),
    seeded(4, (99.0,) * 4, 0.01, "PRUNED"),
    seeded(5, (99.0,) * 4, 0.01, "FAIL"),
]
FOUR = config(sampler="random", seeds=4)


def test_one_se_takes_the_least_compute_within_a_standard_error_of_the_best() -> None:
    assert [t.number for t in chosen(Sweep(FOUR, {}, RIVALS), Choice("best"))] == [1, 0, 2, 3]
    assert [t.number for t in chosen(Sweep(FOUR, {}, RIVALS), Choice("one-se"))] == [2, 1, 0, 3]


def test_a_budget_of_compute_leaves_the_best_within_it() -> None:
    assert [t.number for t in chosen(Sweep(FOUR, {}, RIVALS), Choice("best", 0.7))] == [0, 2, 3]
    assert [t.number for t in chosen(Sweep(FOUR, {}, RIVALS), Choice("one-se", 0.7))] == [
        0,
        2,
        3,
    ], "79.0 is not within 0 of 79.5"


@pytest.mark.parametrize(
    "trials, sweep, choice, message",
    [
        (
            RIVALS,
            FOUR,
            {"max_compute": 0.05},
            "`max_compute` 0.05: no trial of 's' has so little compute; the least is 0.1",
        ),
        (RIVALS[4:], FOUR, {}, "no trial of 's' has completed"),
        (
            [],
            dataclasses.replace(FOUR, constraints=(Constraint.parse("compute<=0.6"),)),
            {},
            "no trial of 's' has completed and keeps compute<=0.6",
        ),
        (
            RIVALS,
            config(),
            {"rule": "one-se"},
            "needs the spread over seeds, and 's' has one seed per trial",
        ),
        (RIVALS, FOUR, {"rule": "bset"}, "`choose`: unknown rule 'bset'. Did you mean 'best'?"),
        (RIVALS, FOUR, {"max_compute": 0.0}, "`max_compute` 0 is out of range"),
        (RIVALS, FOUR, {"max_compute": float("nan")}, "`max_compute` nan is out of range"),
    ],
)
def test_choices_that_are_refused(
    trials: list[TrialRecord], sweep: Any, choice: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        chosen(Sweep(sweep, {}, trials), Choice(**choice))


def test_overlapping_spreads_tie() -> None:
    trials = [
        seeded(0, (79.0, 81.0), 0.5),
        seeded(1, (77.0, 78.0), 0.5),
        seeded(2, (70.0, 71.0), 0.5),
    ]
    # Deviations 1.41, 0.71, 0.71: 80 - 77.5 = 2.5 > 2.12 does not overlap.
    two = config(sampler="random", seeds=2)
    assert ties(Sweep(two, {}, trials)) == [] and tie_sentence(Sweep(two, {}, trials)).startswith(
        "No other trial's spread"
    )
    near = [trials[0], seeded(1, (77.0, 79.0), 0.5), trials[2]]
    assert [t.number for t in ties(Sweep(two, {}, near))] == [1]  # 2 <= 2.83
    assert (
        tie_sentence(Sweep(two, {}, near))
        == "Within their spread over seeds this trial ties with the best: 1."
    )
    assert "may be equally good" in tie_sentence(Sweep(config(), {}, [seeded(0, (79.0,), 0.5)]))


def test_ties_are_with_the_trial_that_the_model_chooses() -> None:
    trials = [seeded(0, (79.0, 81.0), 0.5), seeded(1, (77.0, 79.0), 0.5)]
    two = Sweep(config(sampler="random", seeds=2), {}, trials)
    with patch("results.choice.choice_of", lambda _: trials[1]):
        assert [t.number for t in ties(two)] == [0], "the luckiest ties with the best, trial 1"


def test_the_standard_error_is_over_all_runs_of_the_best() -> None:
    best = seeded(0, (78.0, 82.0, 78.0, 82.0), 0.9)
    near = seeded(1, (78.5, 79.1), 0.5)  # 1.2 below; 2.31 / 2 = 1.15, 2.31 / 2 ** 0.5 = 1.63
    sweep = Sweep(config(sampler="random", seeds=2), {}, [best, near])
    assert chosen(sweep, Choice("one-se"))[0] is best


def test_one_trial_alone_is_no_evidence_that_nothing_ties_with_it() -> None:
    alone, two = [seeded(0, (79.0, 81.0), 0.7)], config(sampler="random", seeds=2)
    unended = dataclasses.replace(
        seeded(1, (50.0, 51.0), 0.5), state="PRUNED", value=None, feasible=False
    )
    for trials in (alone, [*alone, unended]):
        assert (
            tie_sentence(Sweep(two, {}, trials))
            == "No other trial has completed, so ties are unknown."
        )
    bound = dataclasses.replace(two, constraints=(Constraint.parse("compute<=0.6"),))
    assert tie_sentence(Sweep(bound, {}, alone)) == (
        "No other trial has completed and keeps compute<=0.6, so ties are unknown."
    )
