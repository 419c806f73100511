#!/usr/bin/env bash
# Optuna 5.0.0. The name of a study decides which trials HyperbandPruner stops.
#
# Guess: with the same seeded sampler and the same deterministic objective, two studies prune the same trials, whatever
# their names are.
# Seen: the configurations are the same, but other trials are pruned. A trial's bracket is drawn from a hash of the
# study's name and the trial's number. So a copy of a study under another name does not repeat it. A study without a
# name gets a random one, so every run differs although the sampler is seeded.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check optuna==5.0.0 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)


def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    for step in range(27):
        trial.report(x * (step + 1), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return 27 * x


def finished(name, pruner):
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(study_name=name, direction="maximize", sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=40)
    complete = [t.number for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    return [t.params["x"] for t in study.trials], complete


halving = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
print(f"halving, names a and b: same trials finished {finished('a', halving) == finished('b', halving)}")
hyperband = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=27, reduction_factor=3)
(points_a, a), (points_b, b) = finished("a", hyperband), finished("b", hyperband)
print(f"hyperband, names a and b: same configurations {points_a == points_b}, same trials finished {a == b}")
print(f"only under a {sorted(set(a) - set(b))}, only under b {sorted(set(b) - set(a))}")
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py") <<'SEEN'
halving, names a and b: same trials finished True
hyperband, names a and b: same configurations True, same trials finished False
only under a [12, 24, 27, 37], only under b [2, 33]
SEEN
echo "as written"
