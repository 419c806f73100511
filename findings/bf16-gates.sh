#!/usr/bin/env bash
# torch 2.13.0, CPU. Sampling a rare gate in bfloat16: `torch.rand_like(p) < p` and `torch.bernoulli(p)` differ.
#
# Guess: in any precision, both open a gate of probability 0.001 once in a thousand draws, to a few percent. A gate of
# probability 0.999 is closed once in a thousand draws.
# Seen: in bfloat16 the comparison opens the gate about three times as often. rand has a coarse grid near zero: 0.2 % of
# its draws are exactly 0, which is below every positive p. bernoulli opens it as often as it should. 0.999 becomes 1.0
# in bfloat16, so such a gate never closes, with either function. In float16 the comparison opens it about 1.2 times as
# often. Sample gates in float32.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import torch

torch.manual_seed(0)
for kind in (torch.float32, torch.float16, torch.bfloat16):
    rare, frequent = (torch.full((4_000_000,), p, dtype=kind) for p in (0.001, 0.999))
    compared = 1000 * (torch.rand_like(rare) < rare).double().mean().item()
    drawn = 1000 * torch.bernoulli(rare).double().mean().item()
    closed = int((torch.rand_like(frequent) >= frequent).sum()) > 0
    print(f"{kind}: opened of a thousand by comparison {compared:.1f}, by bernoulli {drawn:.1f}; 0.999 ever closes: {closed}")
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py" 2> /dev/null) <<'SEEN'
torch.float32: opened of a thousand by comparison 1.0, by bernoulli 1.0; 0.999 ever closes: True
torch.float16: opened of a thousand by comparison 1.2, by bernoulli 1.0; 0.999 ever closes: True
torch.bfloat16: opened of a thousand by comparison 2.9, by bernoulli 1.0; 0.999 ever closes: False
SEEN
echo "as written"
