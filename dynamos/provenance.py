"""Provenance of a result: versions, machine, git revision, time."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `--version` needs no torch
    import torch


def environment(device: "torch.device", threads: int) -> dict[str, Any]:
    """Return versions, machine and device as plain values; a run's numbers depend on them, too."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "device": str(device),
        "threads": threads,
        "versions": {
            name: _version(name) for name in ("dynamos", "torch", "numpy", "scikit-learn", "scipy")
        },
    }
    if device.type == "cuda":
        import torch

        facts["device_name"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
    return facts


def git_revision() -> str | None:
    """Return the commit of this code, with `+changes` if files differ from it.

    Returns None outside its repository.
    """
    here = Path(__file__).parent
    try:
        # The repository must be the one of this package, not one that merely contains an
        # environment in which the package is installed.
        if Path(_git(here, "rev-parse", "--show-toplevel")) != here.parent.resolve():
            return None
        revision = _git(here, "rev-parse", "HEAD")
        return revision + (
            "+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


def release() -> str:
    """Version and, in a checkout, commit, as `--version` prints them."""
    revision = git_revision()
    return f"dynamos {_version('dynamos') or '(not installed)'}" + (
        "" if revision is None else f", commit {revision}"
    )


def now_utc() -> str:
    """Current time in UTC to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=10,
    ).stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
