"""Packings that were measured in earlier sessions, in a file beside the sweeps."""

import datetime as dt
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import yaml

from dynamos.config import ALIKE, read_yaml
from dynamos.errors import UserError
from dynamos.files import AnyPath, write_whole
from dynamos.user_code import code_hashes
from results.definition.sweep_config import SweepConfig
from tune.machines.packing import Packing
from tune.machines.slots import Node

FILE = "packings.yaml"
VERSIONS = ("dynamos", "torch")


def key_of(config: SweepConfig, machine: str, node: Node) -> dict[str, Any]:
    """Return all that a packing depends on, for a kind of machine."""
    shape = {name: getattr(config.base, name) for name in (*ALIKE, "data_path", "average_decay")}
    return {
        "machine": machine,
        "cpus": node.cpus,
        "gpus": node.gpus,
        "cpus_per_trial": config.cpus_per_trial,
        "gpus_per_trial": "auto" if config.pack_gpus else config.gpus_per_trial,
        "cohort": "auto" if config.pack_cohorts else config.cohort,
        "seeds": config.seeds,
        "versions": {name: version(name) for name in VERSIONS},
        "code": code_hashes(config.base.names_of_code),
        **shape,
    }


def remembered(storage: AnyPath, key: Mapping[str, Any]) -> tuple[Packing, str] | None:
    """(the packing with this key, the date of its measurement); None if none is known."""
    for entry in _entries(storage):
        if entry.get("of") == key:
            return Packing(entry["workers"], entry["cohort"]), entry["measured_on"]
    return None


def remember(
    storage: AnyPath,
    key: Mapping[str, Any],
    packing: Packing,
    found: Mapping[Packing, float],
) -> None:
    """Keep a packing with the steps per second that were measured."""
    entry = {
        "workers": packing.workers,
        "cohort": packing.cohort,
        "measured_on": dt.datetime.now(dt.UTC).date().isoformat(),
        "steps_per_second": {f"{p.workers}x{p.cohort}": round(r, 1) for p, r in found.items()},
        "of": dict(key),
    }
    others = [other for other in _entries(storage) if other.get("of") != key]
    content = yaml.safe_dump({"packings": [*others, entry]}, sort_keys=False)
    write_whole(storage / FILE, content)


def _entries(storage: AnyPath) -> list[dict[str, Any]]:
    """The entries of the file; [] without a readable one: then all is measured anew."""
    if not (storage / FILE).is_file():
        return []
    try:
        entries = read_yaml(storage / FILE).get("packings")
    except UserError:
        return []
    if not isinstance(entries, list):
        return []
    known = {"of", "workers", "cohort", "measured_on"}
    return [e for e in entries if isinstance(e, dict) and known <= e.keys()]
