"""The view of trials that a sampler gets, and that no configuration is suggested twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from results.definition.objectives import Constraint, Objective
from results.ledger.asking import stand_ins, untried
from results.ledger.ledger import Ledger
from results.strategy.samplers import SAMPLERS, population
from results.sweep import Sweep
from results.trial import TrialRecord
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import SEED, config, driven, result

SQUARE = SearchSpace.from_dict(
    "square",
    {
        "parameters": {
            "keep_ratio": {"low": 0.0, "high": 1.0},
            "inf_thresh": {"low": 0.0, "high": 1.0},
        }
    },
)
SIX = SearchSpace.from_dict(
    "six",
    {"parameters": {"warmup": {"choices": [True, False]}, "batch_size": {"low": 15, "high": 17}}},
)
BASE = config().base.replace(keep_ratio=0.3, inf_thresh=0.3)
SAME = {"data_hash": "d", "validation_hash": "v"}


def value(values: dict[str, Any], at: float) -> float:
    """Return a value that is higher the nearer both fields are to `at`."""
    return float(100 - sum(100 * (values[name] - at) ** 2 for name in ("keep_ratio", "inf_thresh")))


def play(
    folder: Path,
    count: int,
    at: float = 0.9,
    state: Callable[[TrialRecord], str] = lambda _: "COMPLETE",
    **changes: Any,
) -> list[TrialRecord]:
    """Run a sweep of the square whose values are higher near `at`; return its trials."""
    with driven(
        Ledger.create(folder, config(**dict[str, Any](space=SQUARE, base=BASE) | changes), SAME)
    ) as ledger:
        for _ in range(count):
            trial = ledger.ask()
            if state(trial) != "FAIL":
                # or it would not be
                good = value(trial.config, at) - (50 if state(trial) == "PRUNED" else 0)
                metrics = {"val_class_il": good, "keep_fraction": trial.config["keep_ratio"]}
                ledger.add_result(trial.number, 1, SEED, result(**metrics))
            ledger.finish(
                trial.number, state(trial), None if state(trial) == "COMPLETE" else "as it happens"
            )
        return ledger.trials()


def ended(
    number: int, state: str, *between: float, value: float | None = None, **attributes: str
) -> FrozenTrial:
    trial = create_trial(
        state=TrialState[state],
        value=value,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        intermediate_values=dict(enumerate(between)),
        user_attrs=attributes,
    )
    trial.number = number
    return trial


def test_a_trial_that_ended_early_gets_the_worst_value_of_trials_as_good_at_the_same_task() -> None:
    trials = [
        ended(0, "COMPLETE", 90, 50, value=50),
        ended(1, "COMPLETE", 95, 70, value=70),
        ended(2, "COMPLETE", 80, 40, value=40),
        ended(3, "PRUNED", 85),
        ended(4, "PRUNED", 99),
        ended(5, "PRUNED", 92, 45),
        ended(6, "FAIL"),
        ended(7, "FAIL", 99),
        ended(8, "RUNNING", 80),
    ]
    told = stand_ins(trials, [StudyDirection.MAXIMIZE])
    assert {number: trial.value for number, trial in told.items()} == {
        3: 50,  # 90 and 95 were no worse after the first task, and ended at 50 and 70
        4: 40,  # none was as good, so the worst of all
        5: 50,
        6: 40,
        7: 40,
    }
    assert {trial.state for trial in told.values()} == {TrialState.COMPLETE}
    assert [t.state.name for t in trials[3:8]] == ["PRUNED"] * 3 + ["FAIL"] * 2, (
        "what happened stays as it is"
    )
    assert stand_ins(trials, [StudyDirection.MINIMIZE])[3].value == 40, "80 alone was as low"
    assert stand_ins(trials[3:], [StudyDirection.MAXIMIZE]) == {}


def test_a_trial_with_a_rerun_has_no_stand_in() -> None:
    trials = [
        ended(0, "COMPLETE", value=50),
        ended(1, "FAIL"),
        ended(2, "FAIL"),
        ended(3, "COMPLETE", value=60, source="rerun:1"),
    ]
    assert list(stand_ins(trials, [StudyDirection.MAXIMIZE])) == [2]


@pytest.mark.parametrize("sampler", ["cmaes", "nsga2"])
@pytest.mark.parametrize("how", ["imported", "points"])
def test_given_trials_inform_samplers_that_learn_only_from_their_draws(
    sampler: str, how: str, tmp_path: Path
) -> None:
    """If both fields were drawn at random, their mean would be 0.5."""
    given = tuple({"keep_ratio": 0.9 + 0.01 * n, "inf_thresh": 0.9 - 0.01 * n} for n in range(6))
    if how == "imported":
        play(tmp_path, 7, name="old", sampler="random", trials=7, points=given)
        trials = play(tmp_path, 10, sampler=sampler, trials=20, warm_start="old")
    else:
        trials = play(tmp_path, 17, sampler=sampler, trials=20, points=given)
    drawn = [
        t.config[name]
        for t in trials
        if t.source == "sampler"
        for name in ("keep_ratio", "inf_thresh")
    ]
    assert len(drawn) == 20 and sum(drawn) / 20 > 0.6


def test_a_generation_is_a_part_of_the_budget() -> None:
    assert [population(trials) for trials in (1, 20, 40, 80, 1000)] == [4, 5, 10, 20, 20]


@pytest.mark.parametrize("sampler", ["nsga2", pytest.param("gp", marks=pytest.mark.slow), "tpe"])
def test_at_the_default_budget_a_sampler_learns(sampler: str, tmp_path: Path) -> None:
    """Two sweeps have different good regions, so they try different configurations before the 20th
    trial."""
    tried = [
        [t.config for t in play(tmp_path / str(at), 14, at, sampler=sampler, trials=20)]
        for at in (0.1, 0.9)
    ]
    assert tried[0][:5] == tried[1][:5] and tried[0] != tried[1]


@pytest.mark.slow
@pytest.mark.parametrize("fate", ["FAIL", "PRUNED"])
def test_the_gaussian_process_leaves_what_ends_early(fate: str, tmp_path: Path) -> None:
    """The best region is one in which no trial completes. A model of COMPLETE trials only would
    stay there."""
    trials = play(
        tmp_path,
        24,
        sampler="gp",
        trials=24,
        state=lambda t: fate if t.config["keep_ratio"] > 0.6 else "COMPLETE",
    )
    assert len({SQUARE.key(t.config) for t in trials}) == 24
    assert sum(t.state == fate for t in trials[12:]) <= 4


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_space_that_can_be_counted_is_tried_once_each_then_ends(
    sampler: str, tmp_path: Path
) -> None:
    if sampler in ("gp", "cmaes", "tpe"):
        space, base = (
            SearchSpace.from_dict("b", {"parameters": {"batch_size": {"low": 13, "high": 18}}}),
            config().base,
        )
    else:
        space, base = SIX, config().base
    ledger = Ledger.create(
        tmp_path, config(space=space, base=base, sampler=sampler, trials=20, grid_levels=3), {}
    )
    with driven(ledger):
        while ledger.remaining() > 0:
            trial = ledger.ask()
            ledger.add_result(trial.number, 1, SEED, result(val_class_il=50.0))
            ledger.finish(trial.number, "COMPLETE")
        trials = ledger.trials()
        ledger.extend(5)
        assert ledger.remaining() == 0
    assert len(trials) == len({space.key(t.config) for t in trials}) == 6
    assert ledger.state.name == "finished"


class _Edge(optuna.samplers.RandomSampler):
    """A sampler that suggests the upper corner of the square, each time with other last bits."""

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return SQUARE.distributions()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return dict.fromkeys(search_space, 1 - trial.number * 1e-15)


def test_a_configuration_that_differs_in_the_last_bits_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SAMPLERS, "random", lambda _: _Edge())
    trials = play(tmp_path, 5, sampler="random", trials=5)
    assert trials[1].config["keep_ratio"] == 1 - 1e-15, "the base is trial 0"
    for trial in trials[2:]:
        assert trial.config["keep_ratio"] < 0.999, "drawn at random instead"


class _Fixed(_Edge):
    """Suggests the best configuration seen so far, or one near it once told of a repetition."""

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        told = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best = max(told, key=lambda t: t.values[0])
        step = 0.01 * (sum(t.params == best.params for t in told) - 1)
        return {name: value + step for name, value in best.params.items()}


def test_a_sampler_that_repeats_itself_is_told_so_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Gaussian process may ask for its best configuration to the end of the budget."""
    monkeypatch.setitem(SAMPLERS, "random", lambda _: _Fixed())
    trials = play(tmp_path, 6, sampler="random", trials=6)
    assert [t.config["keep_ratio"] for t in trials] == pytest.approx(
        [0.3 + 0.01 * n for n in range(6)]
    )
    assert {t.number for t in trials} == set(range(6)), "no such trial is in the ledger"


def test_choices_are_left_out_whatever_their_last_bits() -> None:
    space = SearchSpace.from_dict(
        "s", {"parameters": {"keep_ratio": {"choices": [0.1, 0.2, 0.30000000000000004]}}}
    )
    taken = {space.key({"keep_ratio": value}) for value in (0.1, 0.3)}
    assert untried(space, taken, 0) == {"keep_ratio": 0.2}
    assert untried(space, taken | {space.key({"keep_ratio": 0.2})}, 0) is None


def test_a_range_that_holds_few_numbers_is_left_when_all_are_tried() -> None:
    low, high = 0.5, 0.500000000002  # three numbers of 12 digits
    space = SearchSpace.from_dict("s", {"parameters": {"keep_ratio": {"low": low, "high": high}}})
    taken = {space.key({"keep_ratio": low + n * 1e-12}) for n in range(3)}
    assert len(taken) == 3 and untried(space, taken, 0) is None


def test_a_space_without_an_end_is_not_counted(tmp_path: Path) -> None:
    assert SQUARE.size is None and SIX.size == 6
    assert Ledger.create(tmp_path, config(space=SQUARE, base=BASE, trials=99), {}).budget == 99


@pytest.mark.parametrize("sampler", [pytest.param("gp", marks=pytest.mark.slow), "nsga2"])
def test_constraints_are_searched_under(sampler: str, tmp_path: Path) -> None:
    """Without constraints the best has a keep_ratio of 0.9; random search would find half of the
    trials feasible."""
    trials = play(
        tmp_path,
        40,
        sampler=sampler,
        trials=40,
        constraints=(Constraint.parse("keep_fraction<=0.5"),),
    )
    assert sum(t.feasible for t in trials[-20:]) > 10


def test_with_several_objectives_a_failed_trial_has_the_worst_of_each() -> None:
    trials = [
        create_trial(values=[1.0, 5.0]),
        create_trial(values=[2.0, 9.0]),
        create_trial(
            state=TrialState.FAIL, params={"x": 0.5}, distributions={"x": FloatDistribution(0, 1)}
        ),
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    told = stand_ins(trials, [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE])
    assert told[2].values == [1.0, 9.0]


def test_equal_points_are_tried_once_and_a_line_says_so(tmp_path: Path) -> None:
    points: tuple[dict[str, Any], ...] = (
        {"keep_ratio": 0.5},
        {"keep_ratio": 0.5, "inf_thresh": 0.3},
        {"inf_thresh": 0.3000005},
        {},
        {"inf_thresh": 0.30000000000000004},
    )
    ledger = Ledger.create(tmp_path, config(space=SQUARE, base=BASE, trials=9, points=points), {})
    assert [t.source for t in ledger.trials()] == ["base", "points:1", "points:3"], (
        "the third is near, not equal"
    )
    assert ledger.remarks[:3] == [
        "`points`, configuration 2 is skipped, because it equals points:1.",
        "`points`, configuration 4 is skipped, because it equals base.",
        "`points`, configuration 5 is skipped, because it equals base.",
    ]


def test_notes_say_what_budget_sampler_and_space_do_not_fit(tmp_path: Path) -> None:
    def notes(name: str, **changes: Any) -> list[str]:
        return Ledger.create(
            tmp_path, config(name, **{"space": SQUARE, "base": BASE} | changes), {}
        ).remarks

    assert notes("a", sampler="random", trials=5) == notes("b", trials=11) == []
    assert notes("c", trials=10) == [
        "`sampler` tpe draws at random until 10 trials have ended; a sweep of at most 10 trials is "
        "random search."
    ]
    small, few = notes("h", space=SIX, sampler="tpe", trials=20)
    assert "ends after 6 trials, not 20" in small, "so few that it never learns"
    assert few.startswith("`sampler` tpe draws at random until 10 trials have ended; ")
    assert notes("d", sampler="grid", trials=7) == [
        "`trials` 7 covers only 6 of the grid's 9 points, spread over the whole grid. For all "
        "points: `trials` 10."
    ]
    assert notes("e", space=SIX, sampler="random", trials=7) == [
        "the space six has 6 configurations. Each is trained once, so the sweep ends after 6 "
        "trials, not 7. For several seeds per configuration use `seeds`."
    ]
    assert notes("f", space=SIX, sampler="qmc", trials=6) == []
    assert notes("i", space=SIX, sampler="cmaes", trials=6) == [
        "`sampler` cmaes supports only ranges: warmup is drawn at random from the choices."
    ]
    doubled = SearchSpace.from_dict(
        "d", {"parameters": {"keep_ratio": {"choices": [0.3, 0.7, 0.3]}}}
    )
    assert notes("g", space=doubled, sampler="random", trials=2) == [
        "the space d lists the choice 0.3 of keep_ratio more than once; it counts once."
    ]


def test_results_over_fewer_seeds_are_tried_again(tmp_path: Path) -> None:
    play(tmp_path, 3, name="old", sampler="random", trials=3)
    three = Ledger.create(
        tmp_path,
        config("three", space=SQUARE, base=BASE, seeds=3, trials=9, warm_start="old"),
        SAME,
    )
    assert not any(t.imported for t in three.trials()) and len(Sweep.of(three).own) > 1
    one = Ledger.create(
        tmp_path, config("one", space=SQUARE, base=BASE, trials=9, warm_start="old"), SAME
    )
    assert [t.source for t in one.trials()][0] == "imported:old/0" and all(
        t.imported for t in one.trials()
    )


def test_the_ledger_keeps_what_ended_early_as_it_was(tmp_path: Path) -> None:
    trials = play(
        tmp_path,
        13,
        trials=14,
        sampler="tpe",
        objectives=(Objective.parse("val_class_il"),),
        state=lambda t: ("COMPLETE", "PRUNED", "FAIL")[t.number % 3],
    )
    assert [t.state for t in trials] == [("COMPLETE", "PRUNED", "FAIL")[n % 3] for n in range(13)]
    stored = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/s/ledger.db").trials
    assert [t.state.name for t in stored] == [t.state for t in trials]
