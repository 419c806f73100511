"""Mean-ER (Arani et al. 2022, arXiv 2201.12604): replay with the answers of a slow network.

dynamos check examples/own_method.py:MeanER
dynamos --model examples/own_method.py:MeanER --dataset seq-digits --set method.decay=0.95
dynamos-sweep run --space examples/space.yaml --set model=examples/own_method.py:MeanER
"""

import copy

import torch
import torch.nn.functional as F

from dynamos.methods.step import Loss


class MeanER:
    def __init__(self, run, weight=0.15, decay=0.99):  # searched as method.weight, method.decay
        self.run, self.weight, self.decay = run, weight, decay
        self.slow = copy.deepcopy(run.network).eval().requires_grad_(False)

    def loss(self, step):
        self.follow()
        output = step.forward(step.images.pixels, step.noise)
        task = F.cross_entropy(output.logits, step.images.labels)
        if step.replay is None:
            return Loss(task, output, {"task": task})
        again = step.forward(step.replay.images)
        slow = step.forward(step.replay.images, network=self.slow)
        labels = F.cross_entropy(again.logits, step.replay.labels)
        rehearsal = labels + self.weight * F.mse_loss(again.logits, slow.logits)
        return Loss(task + rehearsal, output, {"task": task, "rehearsal": rehearsal})

    @torch.no_grad()
    def follow(self):
        fast = self.run.network.state_dict()
        for name, value in self.slow.state_dict().items():
            if value.is_floating_point():
                value.lerp_(fast[name], 1 - self.decay)

    def state_dict(self):
        return {"slow": self.slow.state_dict()}

    def load_state_dict(self, state):
        self.slow.load_state_dict(state["slow"])
