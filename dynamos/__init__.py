"""Dynamos: a dynamically modular and sparse network that learns a stream of tasks.

The package uses torch, and knows nothing of sweeps.
"""

from typing import TYPE_CHECKING

from dynamos.doors import opens

if TYPE_CHECKING:
    from dynamos.config import TrainConfig, preset
    from dynamos.export import load
    from dynamos.trainer import Trainer

__all__ = ["TrainConfig", "Trainer", "load", "preset"]
__getattr__ = opens(
    __name__,
    {
        "TrainConfig": "dynamos.config",
        "Trainer": "dynamos.trainer",
        "load": "dynamos.export",
        "preset": "dynamos.config",
    },
)
