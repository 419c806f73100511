#!/usr/bin/env bash
# torch 2.13.0. Activation checkpointing counts each batch twice in batch norm.
#
# Guess: torch.utils.checkpoint saves memory and changes nothing else: the same outputs, gradients and buffers.
# Seen: outputs and gradients are the same. The block runs again in the backward pass, in training mode. So
# num_batches_tracked is 20 after 10 batches, and the running statistics move twice per batch: a momentum of 0.1 acts
# like 0.19. Evaluation uses these statistics, so it differs with checkpointing. With momentum=None, a plain average,
# counting each batch twice changes nothing at the end.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import torch
from torch.utils.checkpoint import checkpoint


def train(momentum, checkpointed):
    torch.manual_seed(0)
    network = torch.nn.BatchNorm1d(1, momentum=momentum)
    outputs, gradients = [], []
    for _ in range(10):
        images = (torch.randn(64, 1) + 3).requires_grad_()
        output = checkpoint(network, images, use_reentrant=False) if checkpointed else network(images)
        output.pow(3).sum().backward()
        outputs.append(output.detach())
        gradients.append(images.grad)
    return network, torch.stack(outputs), torch.stack(gradients)


for momentum in (0.1, 0.19, None):
    (plain, outputs, gradients), (again, outputs_again, gradients_again) = train(momentum, False), train(momentum, True)
    same = torch.allclose(outputs, outputs_again) and torch.allclose(gradients, gradients_again)
    print(f"momentum {momentum}: same outputs and gradients {same}; batches {int(plain.num_batches_tracked)} and "
          f"{int(again.num_batches_tracked)}, running mean {plain.running_mean.item():.1f} and {again.running_mean.item():.1f}")
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py" 2> /dev/null) <<'SEEN'
momentum 0.1: same outputs and gradients True; batches 10 and 20, running mean 2.0 and 2.7
momentum 0.19: same outputs and gradients True; batches 10 and 20, running mean 2.7 and 3.0
momentum None: same outputs and gradients True; batches 10 and 20, running mean 3.1 and 3.1
SEEN
echo "as written"
