"""Every test has an empty folder, an empty home and a clean environment."""

import os
import site
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

# names of variables, or their beginnings
CLEARED = ("CUDA_VISIBLE_DEVICES", "DYNAMOS_", "MLFLOW_", "OMP_", "OPTUNA_", "RAY_")
KEPT = {"DYNAMOS_TEST_DATA"}  # where tests find the real MNIST


def _clear() -> None:
    for name in [name for name in os.environ if name.startswith(CLEARED) and name not in KEPT]:
        del os.environ[name]


# Cleared at once, because libraries read some variables when they are imported. Processes of tests
# inherit the rest.
_clear()
# Packages in a user's home are found through HOME.
os.environ.setdefault("PYTHONUSERBASE", site.getuserbase())


@pytest.fixture(autouse=True, scope="session")
def alone_between_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Clean surroundings for fixtures that several tests share, which are made before the first of
    them."""
    with pytest.MonkeyPatch.context() as changes:
        _settle(changes, tmp_path_factory.mktemp("shared"))
        yield


@pytest.fixture(autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each test has a folder, a home and an environment that no earlier test has changed."""
    with patch.dict(os.environ), pytest.MonkeyPatch.context() as changes:
        _clear()  # variables that libraries set at their import
        _settle(changes, tmp_path_factory.mktemp("alone"))
        yield


def _settle(changes: pytest.MonkeyPatch, folder: Path) -> None:
    for place in ("here", "home"):
        (folder / place).mkdir()
    changes.chdir(folder / "here")
    changes.setenv("HOME", str(folder / "home"))
