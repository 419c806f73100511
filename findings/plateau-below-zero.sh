#!/usr/bin/env bash
# torch 2.13.0. ReduceLROnPlateau does not see a plateau below zero.
#
# Guess: a value that does not change for longer than `patience` lowers the learning rate, whatever its sign.
# Seen: at 1 the rate falls after the fifth value. At -1 it never falls, with mode="min" or mode="max". The default
# threshold is relative: in mode="max", "better" means above best * 1.0001. For best = -1 that is -1.0001, so a value is
# better than itself. A value that gets worse by less than 0.01 % each time also counts as better for ever. Rewards, log
# likelihoods and R2 scores are often negative. Use threshold_mode="abs", which detects both plateaus.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau


def falls(values, **settings):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = ReduceLROnPlateau(optimizer, patience=3, **settings)
    for count, value in enumerate(values, 1):
        schedule.step(value)
        if optimizer.param_groups[0]["lr"] < 1:
            return count
    return None


for mode in ("min", "max"):
    worse = [-1 + (0.00005 if mode == "min" else -0.00005) * step for step in range(200)]
    print(f"{mode}: falls after value {falls([1.0] * 200, mode=mode)} at 1, {falls([-1.0] * 200, mode=mode)} at -1, "
          f"{falls(worse, mode=mode)} getting worse from -1; "
          f"absolute threshold, at -1: {falls([-1.0] * 200, mode=mode, threshold_mode='abs')}")
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py" 2> /dev/null) <<'SEEN'
min: falls after value 5 at 1, None at -1, None getting worse from -1; absolute threshold, at -1: 5
max: falls after value 5 at 1, None at -1, None getting worse from -1; absolute threshold, at -1: 5
SEEN
echo "as written"
