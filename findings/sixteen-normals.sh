#!/usr/bin/env bash
# torch 2.13.0, CPU. torch.randn draws another sequence from 16 numbers on.
#
# Guess: a seed gives one sequence: randn(15) is the beginning of randn(16), two halves are the whole, and float64 has
# the same numbers with more digits. This holds for torch.rand in float32.
# Seen: randn draws fewer than 16 numbers one by one, and 16 or more in blocks of 16. No number of randn(15) is at the
# same place in randn(16). If the count is not a multiple of 16, the last 16 are drawn again. So two draws of 20 do not
# begin like one draw of 40, although 16 is the beginning of 32. With 15 numbers float64 agrees with float32, with 16 it
# does not. So 15 and 16 noise values with the same seed have nothing in common. To compare variants of an experiment,
# draw the noise once, in one size, and cut it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import torch


def draw(function, *counts, **settings):
    torch.manual_seed(0)
    return torch.cat([function(count, **settings) for count in counts])


def same(first, second):
    length = min(len(first), len(second))
    return int(torch.isclose(first[:length].double(), second[:length].double(), atol=1e-6).sum())


for function in (torch.randn, torch.rand):
    print(f"{function.__name__}: 15 numbers are in 16 at the same place {same(draw(function, 15), draw(function, 16))}, "
          f"16 in 32 {same(draw(function, 16), draw(function, 32))}, "
          f"20 and 20 are the first 20 of 40: {same(draw(function, 20, 20)[:20], draw(function, 40)) == 20}")
for count in (15, 16):
    agree = same(draw(torch.randn, count), draw(torch.randn, count, dtype=torch.float64))
    print(f"randn of {count}: as float64 {agree} are the same")
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py" 2> /dev/null) <<'SEEN'
randn: 15 numbers are in 16 at the same place 0, 16 in 32 16, 20 and 20 are the first 20 of 40: False
rand: 15 numbers are in 16 at the same place 15, 16 in 32 16, 20 and 20 are the first 20 of 40: True
randn of 15: as float64 15 are the same
randn of 16: as float64 0 are the same
SEEN
echo "as written"
