"""Private names of Optuna that we use. If an upgrade changes one, a test here fails."""

import inspect
from fnmatch import fnmatch

import optuna
from optuna.samplers import NSGAIISampler, TPESampler

from results.ledger.glance import VIOLATIONS
from results.ledger.optuna_names import CONSTRAINTS_KEY, DRAWN_KEY, GENERATION_KEY, storage_of


def test_the_keys_are_those_that_optuna_writes() -> None:
    study = optuna.create_study(sampler=NSGAIISampler(population_size=2, seed=0))
    for _ in range(3):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        trial.set_constraint("c", 1.5)
        study.tell(trial, 0.0)
    told = storage_of(study).get_all_trials(study._study_id)
    assert told[0].system_attrs[f"{CONSTRAINTS_KEY}:c"] == 1.5, (
        "Optuna keeps violations elsewhere: CONSTRAINTS_KEY"
    )
    assert GENERATION_KEY in told[0].system_attrs, (
        "Optuna keeps generations elsewhere: GENERATION_KEY"
    )


def test_a_list_of_sweeps_asks_for_the_violations_that_optuna_writes() -> None:
    assert fnmatch(f"{CONSTRAINTS_KEY}:c", VIOLATIONS.replace("%", "*"))


def test_tpe_keeps_what_it_drew_for_a_running_trial() -> None:
    study = optuna.create_study(sampler=TPESampler(multivariate=True, n_startup_trials=2, seed=0))
    for _ in range(3):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        attributes = storage_of(study).get_trial(trial._trial_id).system_attrs
        study.tell(trial, 0.0)
    assert any(key.startswith(DRAWN_KEY) for key in attributes), "elsewhere: DRAWN_KEY"


def test_a_view_of_a_study_may_say_which_trials_it_has() -> None:
    taken = list(inspect.signature(optuna.Study._get_trials).parameters)
    assert taken == ["self", "deepcopy", "states", "use_cache"], (
        "results/ledger/asking.py overrides Study._get_trials"
    )
