#!/usr/bin/env bash
# torch 2.13.0. cross_entropy with class weights is another loss for one-hot targets than for class numbers.
#
# Guess: a class number and its one-hot row mean the same, so the loss is the same, also with class weights.
# Seen: it is the same without weights, and with reduction="sum". With reduction="mean", the weighted losses are divided
# by the sum of the weights if targets are class numbers, and by the number of samples if they are rows. A weight of 7
# for every class changes nothing in the first case. In the second it makes the loss, and so the step, seven times as
# large. So mixup or soft labels, added to class weights, also change the learning rate.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import torch
from torch.nn.functional import cross_entropy, one_hot

torch.manual_seed(0)
logits, numbers = torch.randn(600, 3), torch.tensor([0] * 400 + [1] * 100 + [2] * 100)
rows = one_hot(numbers, 3).float()
for name, settings in (
    ("no weights", {}),
    ("weights 7, 7, 7", {"weight": torch.tensor([7.0, 7, 7])}),
    ("weights 1, 4, 4", {"weight": torch.tensor([1.0, 4, 4])}),
    ("weights 1, 4, 4, summed", {"weight": torch.tensor([1.0, 4, 4]), "reduction": "sum"}),
):
    ratio = cross_entropy(logits, rows, **settings) / cross_entropy(logits, numbers, **settings)
    print(f"{name}: the loss with rows is {ratio:.2f} times that with class numbers")
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py" 2> /dev/null) <<'SEEN'
no weights: the loss with rows is 1.00 times that with class numbers
weights 7, 7, 7: the loss with rows is 7.00 times that with class numbers
weights 1, 4, 4: the loss with rows is 2.00 times that with class numbers
weights 1, 4, 4, summed: the loss with rows is 1.00 times that with class numbers
SEEN
echo "as written"
