"""Definition of the sweeps whose trials are entered by hand, not trained."""

import yaml

from benchmarks.sweep_overhead import SPACE
from dynamos.config import TrainConfig, preset
from results.definition.sweep_config import SweepConfig
from search_spaces.space import SearchSpace


def entered_sweep(name: str, trials: int) -> SweepConfig:
    """Return the definition of a sweep on seq-digits over three fields, suggested at random."""
    base = TrainConfig.from_dict(
        preset("seq-digits", 200) | {"evaluate_on": "validation", "device": "cpu"}
    )
    space = SearchSpace.from_dict("three", yaml.safe_load(SPACE))
    return SweepConfig(name=name, space=space, base=base, sampler="random", trials=trials)
