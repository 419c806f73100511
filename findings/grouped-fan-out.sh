#!/usr/bin/env bash
# torch 2.13.0. kaiming_normal_(mode="fan_out") makes the weights of a grouped convolution too small.
#
# Guess: mode="fan_out" keeps the variance of a gradient through a convolution, with any number of groups. (Here the
# numbers of input and output channels are equal, so "fan_in" is the same rule.)
# Seen: with "fan_in" the variance stays near 1. With "fan_out" it is 1 / groups: a quarter with 4 groups, a 64th with
# 64. fan_in is read from the second dimension of the weight, which is already divided by the groups. fan_out is read
# from the first dimension, which is not. So a depthwise layer of 64 channels starts with an eighth of the deviation
# that the rule promises. Multiply such weights by the square root of the number of groups.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import torch

for groups in (1, 4, 64):
    layer = torch.nn.Conv2d(64, 64, 3, padding=1, groups=groups, bias=False, padding_mode="circular")
    kept = {}
    for mode in ("fan_in", "fan_out"):
        torch.manual_seed(0)
        variances = []
        for _ in range(30):
            torch.nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="linear")
            images = torch.randn(4, 64, 8, 8, requires_grad=True)
            output = layer(images)
            output.backward(torch.randn_like(output))
            variances.append(images.grad.var().item())
        kept[mode] = sum(variances) / len(variances)
    print(f"{groups} groups: gradient's variance with fan_in {kept['fan_in']:.1f}, "
          f"is with fan_out {kept['fan_in'] / kept['fan_out']:.0f} times smaller")
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py" 2> /dev/null) <<'SEEN'
1 groups: gradient's variance with fan_in 1.0, is with fan_out 1 times smaller
4 groups: gradient's variance with fan_in 1.0, is with fan_out 4 times smaller
64 groups: gradient's variance with fan_in 1.0, is with fan_out 64 times smaller
SEEN
echo "as written"
