"""Defaults of a sweep, for settings that neither a flag nor a request gives."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from dynamos.config import TrainConfig, preset_sizes, start
from dynamos.errors import UserError, unknown
from dynamos.streams.names import DATASETS
from dynamos.user_code import code_of
from results import STORAGE
from results.definition.objectives import Objective
from results.definition.protocols import images_of
from results.definition.sweep_config import SweepConfig

CONFIRMATION_SEEDS = 5  # fresh seeds for each configuration
PRESET = "preset"  # name of a confirmation's baseline that is not a file
# By flag or by field of a request.
DEFAULTS: dict[str, Any] = {
    "storage": STORAGE,
    "dataset": "seq-digits",
    "space": "averaged",
    **{f.name: f.default for f in fields(SweepConfig) if isinstance(f.default, float | int | str)},
}

# By TrainConfig field: the setting of a sweep that decides it.
FOLLOWS = {"evaluate_on": "protocol", "threads": "cpus_per_trial", "device": "gpus_per_trial"}


def default_objective(protocol: str) -> Objective:
    """Return the default objective under a protocol."""
    metrics = {"val-current": "val_learning_accuracy", "test": "test_class_il"}
    return Objective.parse(metrics.get(protocol, "val_class_il"))


def base_config(
    dataset: str,
    settings: Mapping[str, Any],
    protocol: str,
    cpus: float,
    gpus: float,
    data_path: str | None,
) -> TrainConfig:
    """Return the base of all trials: the stream's preset for the buffer, changed by `settings`.

    A stream without presets has a start of its own (dynamos.config.start).

    The protocol decides the images, `cpus` the threads, and `gpus` the device.
    """
    if dataset not in DATASETS and code_of(dataset) is None:
        raise unknown("dataset", dataset, DATASETS)
    # If this method and buffer have no preset, the search starts at the stream's preset of the
    # smallest buffer.
    sizes = preset_sizes(dataset)
    size = settings.get("buffer_size")
    if settings.get("model", "dynamos") != "dynamos" or size not in sizes:
        size = sizes[0] if sizes else None
    device = "cuda" if gpus > 0 else "cpu"
    if settings.get("device", "auto") not in ("auto", device):
        raise UserError(
            f"device {settings['device']}: a trial with {gpus:g} GPUs trains on {device}. Remove "
            "device, and choose with `gpus_per_trial`."
        )
    fixed = {
        "data_path": data_path,
        "evaluate_on": images_of(protocol),
        "threads": max(int(cpus), 1),
    }
    return TrainConfig.from_dict(
        {
            **start(dataset, size),
            **fixed,
            **settings,
            "device": device,
        }
    )
