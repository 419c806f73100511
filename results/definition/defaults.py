"""What a sweep has where neither a flag nor a request says it."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from dynamos.config import DATASETS, TrainConfig, preset, preset_sizes
from dynamos.errors import UserError, unknown
from results import STORAGE
from results.definition.protocols import images_of
from results.definition.sweep_config import Objective, SweepConfig

PRESET = "preset"  # of the baselines of a confirmation the one that is no file
# By flag or by a request's field.
DEFAULTS: dict[str, Any] = {
    "storage": STORAGE, "dataset": "seq-digits", "space": "core",
    **{f.name: f.default for f in fields(SweepConfig) if isinstance(f.default, float | int | str)}}

# By field of a training, the setting of a sweep that decides it.
FOLLOWS = {"evaluate_on": "protocol", "threads": "cpus_per_trial", "device": "gpus_per_trial"}


def default_objective(protocol: str) -> Objective:
    """What is sought under a protocol, of what is measured under it."""
    metrics = {"val-current": "val_learning_accuracy", "test": "test_class_il"}
    return Objective.parse(metrics.get(protocol, "val_class_il"))


def base_config(dataset: str, settings: Mapping[str, Any], protocol: str, cpus: float, gpus: float,
                data_path: str | None) -> TrainConfig:
    """What every trial shares: the stream's preset at the buffer size asked for, with what `settings` changes.

    Images, threads and device are those that a sweep of the protocol and of trials of so many CPUs and GPUs has.
    """
    if dataset not in DATASETS:
        raise unknown("dataset", dataset, DATASETS)
    size = settings.get("buffer_size", preset_sizes(dataset)[0])
    # Where the paper has no preset, the stream's smallest one is where the search begins.
    known = settings.get("model", "dynamos") == "dynamos" and size in preset_sizes(dataset)
    device = "cuda" if gpus > 0 else "cpu"
    if settings.get("device", "auto") not in ("auto", device):
        raise UserError(f"device {settings['device']}: a trial of {gpus:g} GPUs trains on {device}, or it would hold "
                        "what it does not use, or use what it does not hold; leave device out and say "
                        "--gpus-per-trial.")
    fixed = {"data_path": data_path, "evaluate_on": images_of(protocol), "threads": max(int(cpus), 1)}
    return TrainConfig.from_dict({**preset(dataset, size if known else preset_sizes(dataset)[0]), **fixed, **settings,
                                  "device": device})
