"""How much of an objective's variance each searched field explains."""

from collections.abc import Sequence

import numpy as np
import optuna

from results.definition.sweep_config import Objective
from results.sweep import Sweep

RESAMPLES = 10  # of the trials, for the uncertainty of importances
TREES, RESAMPLED_TREES = 64, 16  # of the forest of all trials, and of a resample
MOST_TRIALS = 200  # that are looked at, for a forest's time grows faster than its trials
LEAST_VALUES = 10  # different ones; fewer would give shares that another trial turns over


def shares(sweep: Sweep) -> dict[str, tuple[float, float]] | None:
    """The share of the first objective's variance that each field explains (fANOVA, Hutter et al. 2014).

    The least comes first, each with its uncertainty. The shares are those of the sweep's own complete trials, or of
    MOST_TRIALS of them drawn at random; the uncertainty is the standard deviation over resamples of these with
    replacement. None of a confirmation, where nothing was searched, where there are too few values or nothing to
    explain, or too few resamples have anything.
    """
    objective = sweep.config.objectives[0]
    trials = _trials(sweep, objective)
    if sweep.config.confirms is not None or len({trial.value for trial in trials}) < LEAST_VALUES:
        return None
    generator = np.random.default_rng(0)
    if len(trials) > MOST_TRIALS:
        trials = [trials[i] for i in generator.choice(len(trials), MOST_TRIALS, replace=False)]
    whole = _importances(objective, trials, TREES)
    resamples = [[trials[i] for i in generator.integers(len(trials), size=len(trials))] for _ in range(RESAMPLES)]
    found = [of for resample in resamples if (of := _importances(objective, resample, RESAMPLED_TREES)) is not None]
    if whole is None or len(found) < 2:
        return None
    names = {p.stored_name: p.name for p in sweep.config.space.parameters}
    return {names[name]: (share, float(np.std([of[name] for of in found], ddof=1)))
            for name, share in sorted(whole.items(), key=lambda item: item[1])}


def _trials(sweep: Sweep, objective: Objective) -> list[optuna.trial.FrozenTrial]:
    """The sweep's own complete trials for Optuna."""
    space = sweep.config.space
    return [optuna.trial.create_trial(params=space.stored(trial.config), distributions=space.distributions(),
                                      value=trial.final(objective.metric))
            for trial in sweep.records if trial.state == "COMPLETE" and not trial.imported]


def _importances(objective: Objective, trials: Sequence[optuna.trial.FrozenTrial],
                 trees: int) -> dict[str, float] | None:
    """The importance of each field over trials; None where no field varies or no tree finds any variance."""
    if all(len({t.params[name] for t in trials}) == 1 for name in trials[0].params):
        return None  # Optuna would give equal shares
    study = optuna.create_study(direction="maximize" if objective.sign > 0 else "minimize")
    study.add_trials(trials)
    try:
        return optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=0))
    except RuntimeError as error:
        if "zero total variance in all trees" not in str(error):
            raise
        return None
