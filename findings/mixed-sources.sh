#!/usr/bin/env bash
# Optuna 5.0.0, cmaes 0.13.1. CmaEsSampler uses none of its source trials if they have a categorical parameter.
#
# Guess: CMA-ES models numbers only and draws a categorical parameter at random. So of source trials it uses the
# numbers, too, and a study with x, y and a choice can be warm-started from an earlier study with the same parameters.
# Seen: while a study runs, a choice is left out, as guessed. Of source trials with a choice, every one is refused. The
# error, "No compatible source_trials", comes in the second trial, because the first is drawn at random. Source trials
# without the choice work for a study with it and for one without.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check optuna==5.0.0 cmaes==0.13.1 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import warnings

import optuna

warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.CRITICAL)


def search(sampler, trials, choice):
    def value(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        if choice:
            trial.suggest_categorical("c", ["a", "b"])
        return (x - 0.9) ** 2 + (y - 0.9) ** 2

    study = optuna.create_study(sampler=sampler)
    try:
        study.optimize(value, n_trials=trials)
    except ValueError as error:
        return study, f"{error}, in trial {len(study.trials)}"
    return study, f"{len(study.trials)} trials"


names = {False: "x, y", True: "x, y, c"}
for before in (False, True):
    sources = search(optuna.samplers.RandomSampler(seed=0), 50, before)[0].trials
    for now in (False, True):
        sampler = optuna.samplers.CmaEsSampler(seed=0, source_trials=sources, warn_independent_sampling=False)
        print(f"sources with {names[before]}, study with {names[now]}: {search(sampler, 20, now)[1]}")
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py" 2>&1) <<'SEEN'
sources with x, y, study with x, y: 20 trials
sources with x, y, study with x, y, c: 20 trials
sources with x, y, c, study with x, y: No compatible source_trials, in trial 2
sources with x, y, c, study with x, y, c: No compatible source_trials, in trial 2
SEEN
echo "as written"
