"""A sweep goes on in another space: what samplers see, what is chosen, and kills in between."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution

from dynamos.errors import UserError
from results.analysis.health.checks import findings
from results.analysis.importance import shares
from results.choice import choice_of
from results.definition.sweep_config import SweepConfig
from results.ledger.asking import _Asking, _Told, asked
from results.ledger.glance import glance
from results.ledger.ledger import Ledger
from results.ledger.optuna_names import CMA_KEY
from results.pages.best_config import write_views
from results.pages.report import report
from results.posterior import posterior
from results.strategy.samplers import SAMPLERS
from results.sweep import Sweep
from search_spaces.change import changed
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import SEED, begun, config, driven, result


def space(low: float = 0.1, high: float = 0.3, **fields: Any) -> SearchSpace:
    parameters: dict[str, Any] = {
        "lr": {"low": low, "high": high, "log": True},
        "beta": {"low": 1.0, "high": 3.0},
        "nf": {"choices": [16, 32]},
    }
    return SearchSpace.from_dict("mine", {"parameters": parameters | fields})


WIDE = space(0.01, 1.0, nf={"choices": [8, 16, 32]})
NARROW = space(0.15, 0.2)


def sweep(sampler: str = "random", **changes: Any) -> SweepConfig:
    return config(**dict[str, Any](space=space(), sampler=sampler, trials=14, seed=3) | changes)


def value(values: dict[str, Any]) -> float:
    """The best is lr 0.5, beta 2 and nf 8, outside the first space."""
    away = np.log(values["lr"] / 0.5) ** 2 + (values["beta"] - 2) ** 2
    return float(90 - away - values["nf"] / 8)


def searched(made: SweepConfig, trials: int, study: optuna.Study | None = None) -> optuna.Study:
    """A study in memory with so many trials more of a sweep."""
    if study is None:
        study = optuna.create_study(direction="maximize")
        study.enqueue_trial(made.space.stored(made.base.to_dict()))
    for _ in range(trials):
        number = sum(t.state.is_finished() for t in study.trials)
        trial = asked(study, made, number)
        study.tell(trial, value(made.space.real(trial.params)))
    return study


def changes_to(made: SweepConfig, new: SearchSpace, since: int) -> SweepConfig:
    there = changed(made.space, new, since)
    assert there is not None
    return config(**{n: getattr(made, n) for n in ("sampler", "trials", "seed")}, space=there)


def joint(study: optuna.Study, made: SweepConfig) -> dict[str, Any]:
    """The parameters that the sampler's model takes together."""
    told = _Told(study, made)
    asking = _Asking(made, len(study.trials), told)
    trial = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
    return asking._sampler.infer_relative_search_space(told, trial)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "cmaes", "qmc"])
def test_a_model_takes_all_fields_together_in_the_new_ranges(sampler: str) -> None:
    made = sweep(sampler)
    study = searched(made, 3)
    now = changes_to(made, WIDE, 3)
    wanted = dict(now.space.distributions())
    if sampler == "cmaes":
        del wanted["nf@3"]
    assert joint(study, now) == wanted
    # Optuna itself leaves the changed range out, or goes on in the old one
    study.add_trial(
        optuna.trial.create_trial(
            params=now.space.stored({"lr": 0.5, "beta": 2.0, "nf": 16}),
            distributions=now.space.distributions(),
            value=1.0,
        )
    )
    bare = SAMPLERS[sampler](_draw(now))
    trial = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
    seen = bare.infer_relative_search_space(study, trial)
    assert seen.get("lr") in (None, FloatDistribution(0.1, 0.3, log=True))


def _draw(made: SweepConfig) -> Any:
    from results.strategy.samplers import Draw

    return Draw(made.seed, 5, made.trials, made.space)


@pytest.mark.parametrize(
    "sampler", [pytest.param(s, marks=[pytest.mark.slow] if s == "gp" else []) for s in SAMPLERS]
)
@pytest.mark.parametrize("new", [WIDE, NARROW], ids=["wider", "narrower"])
def test_every_sampler_searches_the_new_space_and_resumes_alike(
    sampler: str, new: SearchSpace
) -> None:
    made = sweep(sampler)
    count = {"noisy": 6}.get(sampler, 12)
    study = searched(made, count)
    now = changes_to(made, new, count)
    more = 4 if sampler == "noisy" else 12
    searched(now, more, study)
    found = [now.space.real(t.params) for t in study.trials]
    assert len(found) == count + more
    assert all(now.space.fits(values) for values in found[count:])
    if new is WIDE:
        assert any(not made.space.fits(values) for values in found[count:])
    copy = optuna.create_study(direction="maximize")
    copy.add_trials(study.trials[:-2])
    searched(now, 2, copy)
    assert [t.params for t in copy.trials] == [t.params for t in study.trials]


def test_cmaes_starts_anew_from_the_trials_so_far() -> None:
    made = sweep("cmaes", space=space(nf={"choices": [32]}), seed=1)
    study = searched(made, 14)
    assert any(key.startswith(CMA_KEY) for t in study.trials for key in t.system_attrs)
    wide = space(0.01, 1.0, nf={"choices": [32]})
    now = changes_to(made, wide, 14)
    told = _Told(study, now)
    seen = told._get_trials()
    assert not any(key.startswith(CMA_KEY) for t in seen for key in t.system_attrs)
    assert len(told.given) == 14
    searched(now, 30, study)
    late = [t.params["lr"] for t in study.trials[-10:]]
    assert np.median(late) > 0.3, "beyond the old range, where the best is"


def test_cmaes_starts_from_given_trials_that_have_choices_too() -> None:
    made = sweep("cmaes")
    study = optuna.create_study(direction="maximize")
    for lr, source in ((0.18, "preset"), (0.29, "points:1"), (0.28, "points:2")):
        values = {"lr": lr, "beta": 2.0, "nf": 16}
        study.add_trial(
            optuna.trial.create_trial(
                params=values,
                distributions=made.space.distributions(),
                value=value(values),
                user_attrs={"source": source},
            )
        )
    drawn = [made.space.real(asked(study, made, number).params) for number in range(3, 8)]
    assert all(made.space.fits(values) for values in drawn)
    assert np.mean([values["lr"] for values in drawn]) > 0.25, "around the best that was given"


def play(ledger: Ledger, trials: int) -> None:
    for _ in range(trials):
        trial = ledger.ask()
        metrics = {"val_class_il": value(trial.config), "compute": 0.5}
        ledger.add_result(trial.number, 1, SEED, result(**metrics))
        ledger.finish(trial.number, "COMPLETE")


def test_trials_outside_stay_in_the_record_and_are_not_chosen(tmp_path: Path) -> None:
    made = sweep(points=({"lr": 0.29, "beta": 2.0, "nf": 16}, {"lr": 0.16, "beta": 2.0}))
    ledger = Ledger.create(tmp_path, made, {})
    with driven(ledger):
        play(ledger, 12)
        before = choice_of(Sweep.of(ledger))
        assert before is not None
        (said,) = ledger.change_space(NARROW)
    assert said.startswith("the space is mine from trial 12 on: lr 0.15 to 0.2 (log), beta 1 to 3")
    assert "Before, it was mine: lr 0.1 to 0.3 (log)" in said
    ledger = Ledger.open(tmp_path, "s")
    assert said in ledger.remarks and len(ledger.trials()) == 12
    swept = Sweep.of(ledger)
    outside = [t for t in swept.records if t.outside]
    assert [t.number for t in outside] == [
        t.number for t in swept.records if not 0.15 <= t.config["lr"] <= 0.2
    ]
    assert len(outside) > 3 and not {t.number for t in outside} & {t.number for t in swept.ranked}
    chosen = choice_of(swept)
    assert chosen is not None and not chosen.outside
    best = max((t for t in swept.complete), key=lambda t: t.value or 0)
    assert best.outside
    told = dict(findings(swept))["outside"].text
    assert told.startswith(f"{len(outside)} trials lie outside the space, which was changed before")
    assert f"The best of them, trial {best.number}, has val_class_il" in told
    write_views(ledger)
    with (ledger.folder / "trials.csv").open() as file:
        rows = {int(row["number"]): row for row in csv.DictReader(file)}
    assert {n for n, row in rows.items() if row["reason"] == "outside the space"} == {
        t.number for t in outside
    }
    assert "complete, outside the space" in report(ledger)
    model = posterior(swept)
    if model is not None:
        assert not {n for e in model.estimates for n in e.trials} & {t.number for t in outside}
    shares(swept)
    assert glance(tmp_path, "s").best == swept.ranked[0].value
    with driven(ledger):
        ledger.extend(3)
        play(ledger, ledger.remaining())
    assert all(NARROW.within({}).fits(t.config) for t in ledger.trials()[12:])


def test_other_choices_and_scales_are_stored_beside_the_old_ones(tmp_path: Path) -> None:
    """In a real database, which keeps one kind of values under one name."""
    ledger = Ledger.create(tmp_path, sweep("tpe"), {})
    new = space(0.01, 1.0, nf={"choices": [8, 32]}, beta={"low": 1.0, "high": 9.0, "log": True})
    with driven(ledger):
        play(ledger, 3)
        assert ledger.change_space(new)
        play(ledger, 5)
    again = Ledger.open(tmp_path, "s")
    trials = again.trials()
    assert [list(t.config) for t in trials] == [["lr", "beta", "nf"]] * 8
    assert {t.config["nf"] for t in trials[3:]} <= {8, 32}
    assert all(t.outside == (t.config["nf"] == 16) for t in trials)


def test_a_kill_after_the_change_loses_nothing(tmp_path: Path) -> None:
    points = tuple({"lr": lr, "beta": 2.5, "nf": 16} for lr in (0.12, 0.17, 0.28, 0.18))
    ledger = Ledger.create(tmp_path, sweep(points=points), {})
    with driven(ledger):
        play(ledger, 1)
        begun(ledger)  # lr 0.12, and left running
        begun(ledger)  # lr 0.17, too
    ledger = Ledger.open(tmp_path, "s")
    new = space(0.15, 0.2, nf={"choices": [16, 32, 64]})
    with ledger.driving():  # and killed
        assert ledger.change_space(new)
    for _ in range(2):
        ledger = Ledger.open(tmp_path, "s")
        with driven(ledger):  # and killed again
            assert ledger.change_space(new) == []
            states = {t.number: (t.state, t.reason) for t in ledger.trials()}
    excluded = ("PRUNED", "outside the space, which was changed before it ended")
    assert states[1] == states[3] == excluded
    assert states[2] == ("INTERRUPTED", None) and states[4] == ("WAITING", None)
    with driven(ledger):
        resumed, enqueued, drawn = ledger.ask(), ledger.ask(), ledger.ask()
    assert (resumed.number, resumed.attempt) == (2, 2)
    assert resumed.config == {"lr": 0.17, "beta": 2.5, "nf": 16}
    assert enqueued.config == {"lr": 0.18, "beta": 2.5, "nf": 16}
    assert drawn.number == 5 and new.within({}).fits(drawn.config)
    assert ledger.config.points == (points[1], points[3])


def test_a_trial_outside_is_not_run_again(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path, sweep(points=({"lr": 0.29},)), {})
    with driven(ledger):
        play(ledger, 1)
        ledger.finish(ledger.ask().number, "FAIL", "a bug")
        ledger.refuse_rerun([1])
        ledger.change_space(NARROW)
        with pytest.raises(UserError, match="`trial` 1 lies outside the space mine, which was"):
            ledger.refuse_rerun([1])


def test_a_change_that_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path, sweep(), {})
    before = (ledger.folder / "sweep.yaml").read_text()
    with driven(ledger):
        for new, message in (
            (space(0.19, 0.3), "trial 0, the baseline, must stay in the space: lr 0.18 lies"),
            (space(alpha={"low": 0.1, "high": 1}), "the space mine searches alpha, and the trials"),
        ):
            with pytest.raises(UserError, match=message):
                ledger.change_space(new)
    assert (ledger.folder / "sweep.yaml").read_text() == before
