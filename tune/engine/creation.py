"""Creation of a sweep, and checks before each session. Neither needs a running Ray."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dynamos.config import TrainConfig
from dynamos.errors import UserError
from dynamos.files import AnyPath
from dynamos.streams.classes import with_tasks
from dynamos.user_code import code_of
from results.definition.sweep_config import SweepConfig
from results.ledger.ledger import Ledger
from tune.machines.cluster import this_machine
from tune.machines.probe import apart, data_record, moved_images, other_code
from tune.machines.slots import refuse_unless_fit


def create_sweep(
    storage: AnyPath,
    config: SweepConfig,
    more: Mapping[str, Any] | None = None,
    address: str | None = None,
) -> Ledger:
    """Create a sweep and return its ledger.

    `more` goes into sweep.yaml's record. Raises UserError if the name is taken, if the data is
    missing, or if no trial fits this machine; on a cluster the preflight checks that.
    """
    # before the images are read, which takes seconds
    Ledger.refuse_taken(storage, config.name)
    config = _with_tasks(config)
    return Ledger.create(storage, config, {**recorded(config, address), **(more or {})})


def _with_tasks(config: SweepConfig) -> SweepConfig:
    """The configuration with the number of tasks of the user's own images."""
    changes: dict[str, Any] = {"base": _counted(config.base)}
    if "n_tasks" in config.report_on:
        whole = _counted(config.reported_base).n_tasks
        changes["report_on"] = {**config.report_on, "n_tasks": whole}
    return dataclasses.replace(config, **changes)


def _counted(base: TrainConfig) -> TrainConfig:
    # a user's function runs in a process of its own: it may import anything
    return apart(with_tasks, base) if code_of(base.dataset) is not None else with_tasks(base)


def recorded(config: SweepConfig, address: str | None = None) -> dict[str, Any]:
    """The record of a new sweep's data.

    Raises UserError if the data is missing or no trial fits the machine.
    """
    if address is None:
        refuse_unless_fit(config, [this_machine(config)])
    record = apart(data_record, config.base, address is None, config)
    if config.report_on:
        # the data of the final report must exist, too
        apart(data_record, config.reported_base, address is None)
    return record


def check_images(ledger: Ledger) -> None:
    """Raise UserError if a sweep's images, or the user's files, are not those of its start."""
    base = ledger.config.base
    if (changed := other_code(base, ledger.record)) is not None:
        raise UserError(
            f"{changed} Nothing was started. Put the file of that time back, or start a new sweep."
        )
    own = code_of(base.dataset) is not None
    if base.data_path is None and not own:  # the images are part of an installed package
        return
    try:
        apart(moved_images, base, ledger.record)
    except UserError as error:
        where = (
            ""
            if own
            else f" Give the current folder of the images of {ledger.config.name} with `data_path`."
        )
        raise UserError(f"{error} Nothing was started.{where}") from None
