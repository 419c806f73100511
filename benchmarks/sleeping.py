"""A trial that sleeps, in a module without torch and MLflow: each worker imports it."""

import dataclasses
import random
import time
from typing import Any

from tune.engine.trainable import SweepTrial


class SleepingTrial(SweepTrial):
    """A trial that sleeps instead of training; `images` carries the seconds and the report."""

    def step(self) -> dict[str, Any]:
        """Sleep for the only task and report it."""
        if not self._ready:
            self._ready = True
            return self._report({}, began=True)
        images: Any = self._workplace.images
        seconds, places, folder, result = images["sleep"]
        if self.config["number"] < places:
            (folder / str(self.config["number"])).touch()
            while len(list(folder.iterdir())) < places:
                time.sleep(1)
            seconds *= 2 * random.random()
        began = time.time()
        time.sleep(seconds)
        slept = dataclasses.replace(result, train_seconds=time.time() - began, eval_seconds=0.0)
        return self._report({seed: [slept] for seed in self._attempt.seeds}, "COMPLETE")
