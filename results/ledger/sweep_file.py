"""sweep.yaml in a sweep's folder: its SweepConfig, and a record of how it was created."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dynamos.config import read_yaml
from dynamos.errors import UserError, unknown
from dynamos.files import AnyPath
from results import sweep_names

if TYPE_CHECKING:
    from results.definition.sweep_config import SweepConfig


class LedgerLost(UserError):
    """Raised if a sweep's folder has no ledger."""


def known_sweep(folder: AnyPath) -> "tuple[SweepConfig, dict[str, Any]]":
    """(configuration, record) of the sweep in a folder.

    Raises UserError if it is not a sweep or a file is missing.
    """
    file = folder / "sweep.yaml"
    return _parsed(known_values(folder), file)


def known_values(folder: AnyPath) -> dict[str, Any]:
    """Return the content of the sweep.yaml in a folder; only its name is checked.

    Raises UserError if it is not a sweep or a file is missing.
    """
    if not (folder / "sweep.yaml").is_file():
        # On a disk a new sweep's folder appears complete. In a store sweep.yaml is written last.
        if isinstance(folder, Path) and (folder / "ledger.db").is_file():
            raise UserError(
                f"{folder} is damaged: sweep.yaml is missing. Restore it, for instance from the "
                "artifacts of the sweep's MLflow run, or remove the folder."
            )
        raise unknown("sweep", folder.name, sweep_names(folder.parent), f" (in {folder.parent})")
    values = read_yaml(folder / "sweep.yaml")
    if (name := values.get("name", folder.name)) != folder.name:
        raise UserError(
            f"{folder} holds the sweep {name!r} under another name, so its MLflow runs "
            f"cannot be distinguished from that sweep's; rename the folder to {name!r}."
        )
    if values.get("ledger_url") is None and not (folder / "ledger.db").is_file():
        raise LedgerLost(f"{folder} has no ledger.db.")
    return values


def sweep_file_text(config: "SweepConfig", record: Mapping[str, Any]) -> str:
    """Return the content of a sweep.yaml."""
    return yaml.safe_dump({**config.to_dict(), "record": dict(record)}, sort_keys=False)


def study_name(name: str, record: Mapping[str, Any]) -> str:
    """Name of a sweep's study; `record` is sweep.yaml without the configuration."""
    # one database may hold sweeps of one name from several folders
    return f"{name}-{record['id'][:8]}"


def read_sweep_file(path: AnyPath) -> "tuple[SweepConfig, dict[str, Any]]":
    """(configuration, record) of a sweep.yaml; UserError if it is damaged."""
    return _parsed(read_yaml(path), path)


def _parsed(values: dict[str, Any], path: AnyPath) -> "tuple[SweepConfig, dict[str, Any]]":
    from results.definition.sweep_config import SweepConfig  # a list of sweeps needs no Optuna

    try:
        record = dict(values.pop("record"))
        return SweepConfig.from_dict(values), record
    except UserError as error:
        raise error.within(str(path)) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, error) from None


def damaged(path: AnyPath, error: Exception) -> UserError:
    """Return the error about a file whose content lacks something or has another form."""
    return UserError(f"{path} is damaged: {type(error).__name__} {error}.")
