#!/usr/bin/env bash
# Optuna 5.0.0. Two of three importance evaluators leave out a parameter whose range was widened, without a warning.
#
# Guess: if the range of x was widened in the middle of a study, x still counts, at least where both ranges agree, or a
# warning is given. Here the value is x, and y has no effect.
# Seen: fANOVA and the mean decrease in impurity leave x out and give y an importance of 1. They use only parameters
# with the same distribution in all trials, and do not warn. PED-ANOVA, the default, keeps x and gives it nearly all
# importance. The first two raise an error if x is requested by name.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check optuna==5.0.0 scikit-learn==1.9.1 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import warnings

import optuna
from optuna.importance import (
    FanovaImportanceEvaluator,
    MeanDecreaseImpurityImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)

warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.WARNING)
for end in (1, 2):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + 0 * trial.suggest_float("y", 0, 1), n_trials=50)
    study.optimize(lambda trial: trial.suggest_float("x", 0, end) + 0 * trial.suggest_float("y", 0, 1), n_trials=50)
    for evaluator in (
        FanovaImportanceEvaluator(seed=0),
        MeanDecreaseImpurityImportanceEvaluator(seed=0),
        PedAnovaImportanceEvaluator(),
    ):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            importances = get_param_importances(study, evaluator=evaluator)
        shares = {name: f"{importances[name]:.1f}" for name in sorted(importances)}
        print(f"second half to {end}, {type(evaluator).__name__}: {shares}, warnings {len(warned)}")
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py" 2>&1) <<'SEEN'
second half to 1, FanovaImportanceEvaluator: {'x': '1.0', 'y': '0.0'}, warnings 0
second half to 1, MeanDecreaseImpurityImportanceEvaluator: {'x': '1.0', 'y': '0.0'}, warnings 0
second half to 1, PedAnovaImportanceEvaluator: {'x': '1.0', 'y': '0.0'}, warnings 0
second half to 2, FanovaImportanceEvaluator: {'y': '1.0'}, warnings 0
second half to 2, MeanDecreaseImpurityImportanceEvaluator: {'y': '1.0'}, warnings 0
second half to 2, PedAnovaImportanceEvaluator: {'x': '1.0', 'y': '0.0'}, warnings 0
SEEN
echo "as written"
