"""LwF, learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282), as a method of one's own.

dynamos check examples/own_method.py:LwF
dynamos --model examples/own_method.py:LwF --dataset seq-digits
dynamos-sweep run --space examples/space.yaml --set model=examples/own_method.py:LwF
"""

import copy

import torch.nn.functional as F

from dynamos.methods.step import Loss


class LwF:
    rehearses = False  # it replays no images

    def __init__(self, run, temperature=2.0):  # searchable as method.temperature
        self.run, self.temperature, self.old, self.seen = run, temperature, None, []

    def loss(self, step):
        output = step.forward(step.images.pixels, step.noise)
        task = F.cross_entropy(output.logits, step.images.labels)
        if self.old is None:
            return Loss(task, output, {"task": task})
        before = step.forward(step.images.pixels, network=self.old).logits[:, self.seen]
        now = output.logits[:, self.seen]
        distance = F.kl_div(
            (now / self.temperature).log_softmax(1),
            (before / self.temperature).softmax(1).detach(),
            reduction="batchmean",
        )
        rehearsal = step.config.alpha * self.temperature**2 * distance
        return Loss(task + rehearsal, output, {"task": task, "rehearsal": rehearsal})

    def end_task(self):
        self.seen = sorted({*self.seen, *self.run.stream.tasks[self.run.task]})
        self.old = copy.deepcopy(self.run.network).eval().requires_grad_(False)

    def state_dict(self):
        return {"seen": self.seen, "old": None if self.old is None else self.old.state_dict()}

    def load_state_dict(self, state):
        self.seen = list(state["seen"])
        if state["old"] is not None:
            self.old = copy.deepcopy(self.run.network).eval().requires_grad_(False)
            self.old.load_state_dict(state["old"])
