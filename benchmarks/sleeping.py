"""A trial that sleeps, in a module without torch and MLflow: each worker imports it."""

import json
import random
import time
from typing import Any

import ray

from tune.engine.trainable import REPORT, SweepTrial


class SleepingTrial(SweepTrial):
    """A trial that sleeps instead of training; `images` carries the seconds and the report."""

    def step(self) -> dict[str, Any]:
        """Sleeps for the only task and reports it."""
        images: Any = self._images
        seconds, places, folder, result, metrics = images["sleep"]
        if self._config["number"] < places:
            (folder / str(self._config["number"])).touch()
            while len(list(folder.iterdir())) < places:
                time.sleep(1)
            seconds *= 2 * random.random()
        began = time.time()
        time.sleep(seconds)
        slept = {**result, "began": began, "ended": time.time()}
        results = [{"seed": seed, "result": slept, "metrics": metrics} for seed in self._seeds]
        return {
            REPORT: json.dumps(
                {
                    "attempt": self._config["attempt"],
                    "results": results,
                    "state": "COMPLETE",
                    "reason": None,
                    "node": ray.get_runtime_context().get_node_id(),
                }
            ),
            "done": True,
        }
