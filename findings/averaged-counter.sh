#!/usr/bin/env bash
# torch 2.13.0. An exponential average of a network with use_buffers=True averages batch norm's counter too.
#
# Guess: AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True) averages the running
# statistics and leaves or copies num_batches_tracked, which is an integer.
# Seen: the integer is averaged and cut off at each step. So it stays at 1 for the first 1 / (1 - decay) steps. Then it
# is ten too low: 20 after 30 batches. With a decay of 0.99 it stays at 1 for 100 batches. BatchNorm(momentum=None) has
# the step 1 / num_batches_tracked. If the averaged network is trained further with it, the first new batch gets a
# wrong weight. With use_buffers=False the counter is copied. Then the statistics are copied too, and not averaged.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

for decay, use_buffers in ((0.9, True), (0.99, True), (0.9, False)):
    network = torch.nn.BatchNorm1d(2)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=use_buffers)
    counts = []
    for _ in range(30):
        network(torch.randn(8, 2))
        average.update_parameters(network)
        counts.append(int(average.module.num_batches_tracked))
    copied = torch.equal(average.module.running_mean, network.running_mean)
    print(f"decay {decay}, use_buffers {use_buffers}: after 5, 10, 15, 30 batches {[counts[i - 1] for i in (5, 10, 15, 30)]}, "
          f"statistics copied: {copied}")
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py" 2> /dev/null) <<'SEEN'
decay 0.9, use_buffers True: after 5, 10, 15, 30 batches [1, 1, 6, 20], statistics copied: False
decay 0.99, use_buffers True: after 5, 10, 15, 30 batches [1, 1, 1, 1], statistics copied: False
decay 0.9, use_buffers False: after 5, 10, 15, 30 batches [5, 10, 15, 30], statistics copied: True
SEEN
echo "as written"
