"""A plain PyTorch loop as a trainer: a multilayer perceptron with replay from a list of images.

dynamos check examples/own_trainer.py:Loop
dynamos --trainer examples/own_trainer.py:Loop --dataset seq-digits --set method.hidden=200
dynamos-sweep run --trainer examples/own_trainer.py:Loop --space examples/trainer_space.yaml
"""

import torch
import torch.nn.functional as F
from torch import nn

from dynamos.data import as_input


class Loop:
    def __init__(self, config, stream, hidden=100, momentum=0.0):
        self.config, self.stream, self.task, self.memory = config, stream, 0, []
        c, h, w = stream.image_shape
        layers = nn.LazyLinear(hidden), nn.ReLU(), nn.Linear(hidden, stream.num_classes)
        self.network = nn.Sequential(nn.Flatten(), *layers)
        self.network(torch.zeros(1, 3, h, w))  # gives the lazy layer its size
        self.optimizer = torch.optim.SGD(self.network.parameters(), config.lr, momentum)

    def __iter__(self):
        while self.task < len(self.stream.tasks):
            for epoch in range(self.config.n_epochs):
                for batch in self.stream.batches(self.task, epoch, self.config):
                    images = self.stream.images(self.task, batch)
                    self.step(as_input(images.pixels, images.white), images.labels)
            self.task += 1
            yield self.network  # a function: images (N, 3, H, W) -> logits (N, K)

    def step(self, x, y):
        own = list(zip(x, y, strict=True))
        chosen = torch.randperm(len(self.memory))[: self.config.minibatch_size].tolist()
        again = own + [self.memory[i] for i in chosen]
        x, y = torch.stack([x for x, _ in again]), torch.stack([y for _, y in again])
        self.optimizer.zero_grad()
        F.cross_entropy(self.network(x), y).backward()
        self.optimizer.step()
        self.memory = (self.memory + own[:1])[-self.config.buffer_size :]

    def state_dict(self):
        own = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {"task": self.task, "memory": [[x, y] for x, y in self.memory]} | own

    def load_state_dict(self, state):
        self.task, self.memory = state["task"], [(x, y) for x, y in state["memory"]]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
