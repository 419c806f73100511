"""A strategy of Avalanche (avalanche-lib 0.6) as a trainer: replay with a buffer by experience.

dynamos check examples/avalanche_trainer.py:Replaying
dynamos --trainer examples/avalanche_trainer.py:Replaying --dataset seq-digits
"""

import pickle

import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Replay
from torch import nn
from torch.utils.data import TensorDataset

from dynamos.data import as_input


class Replaying:
    def __init__(self, config, stream, hidden=100, momentum=0.0):
        self.stream, self.task, (_, h, w) = stream, 0, stream.image_shape
        layers = nn.Linear(3 * h * w, hidden), nn.ReLU(), nn.Linear(hidden, stream.num_classes)
        network = nn.Sequential(nn.Flatten(), *layers)
        self.strategy = Replay(
            model=network,
            optimizer=torch.optim.SGD(network.parameters(), config.lr, momentum),
            criterion=nn.CrossEntropyLoss(),
            mem_size=config.buffer_size,
            train_mb_size=config.batch_size,
            train_epochs=config.n_epochs,
            evaluator=EvaluationPlugin(),
        )

    def __iter__(self):
        parts = [self.dataset(part) for part in self.stream.train]
        experiences = benchmark_from_datasets(train=parts).train_stream
        while self.task < len(parts):
            self.strategy.train(experiences[self.task], num_workers=0)
            self.task += 1
            yield self.predict

    def dataset(self, part):
        data = TensorDataset(as_input(part.pixels, part.white), part.labels)
        data.targets = part.labels.tolist()
        return as_classification_dataset(data)

    def predict(self, images):
        return self.strategy.model.eval()(images)

    def state_dict(self):  # the whole strategy, its plugins and its buffer
        content = bytearray(pickle.dumps(self.strategy))
        return {"task": self.task, "strategy": torch.frombuffer(content, dtype=torch.uint8)}

    def load_state_dict(self, state):
        self.task, self.strategy = state["task"], pickle.loads(state["strategy"].numpy().tobytes())
