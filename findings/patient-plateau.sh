#!/usr/bin/env bash
# Optuna 5.0.0. PatientPruner never stops a trial whose value does not change, and min_delta makes it more patient.
#
# Guess: it works like early stopping in Keras or Lightning: a trial without an improvement of more than min_delta
# within `patience` steps is stopped.
# Seen: it stops a trial if the best value of the last steps is worse than the best value before them by more than
# min_delta. With any patience, it never stops a trial whose value does not change, or climbs by less than min_delta. A
# larger min_delta stops fewer trials, not more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check optuna==5.0.0 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)


def stopped(values, min_delta):
    pruner = optuna.pruners.PatientPruner(None, patience=2, min_delta=min_delta)
    trial = optuna.create_study(direction="maximize", pruner=pruner).ask()
    for step, value in enumerate(values):
        trial.report(value, step)
        if trial.should_prune():
            return step
    return None


print("stands still", stopped([1.0] * 50, 0))
print("climbs by less than min_delta", stopped([0.001 * step for step in range(50)], 0.5))
falling = [1 - 0.1 * step for step in range(50)]
print("falls", stopped(falling, 0), "falls, min_delta 0.5", stopped(falling, 0.5), "min_delta 1", stopped(falling, 1))
PY
diff - <("$folder/venv/bin/python" -W ignore "$folder/seen.py") <<'SEEN'
stands still None
climbs by less than min_delta None
falls 3 falls, min_delta 0.5 8 min_delta 1 13
SEEN
echo "as written"
