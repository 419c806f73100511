"""A test's folder, home and environment are the same wherever and after whatever it runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CLEARED, KEPT
from tests.odd import VARIABLES, make_odd_sweeps

LOOK = """
import os, pathlib, sys
variables = (name for name in os.environ if name.startswith(tuple(sys.argv[1:])))
print(*os.listdir(), *os.listdir(pathlib.Path.home()), *variables)
"""


def around() -> set[str]:
    """Files and variables that a new process finds in its folder, home and environment."""
    look = [sys.executable, "-c", LOOK, "LEFT", *CLEARED]
    out = subprocess.run(look, capture_output=True, text=True, check=True).stdout
    return {*out.split()} - KEPT


@pytest.fixture(scope="module")
def around_a_shared_fixture() -> set[str]:
    return around()


@pytest.mark.parametrize("number", [1, 2])
def test_it_is_empty(number: int, around_a_shared_fixture: set[str]) -> None:
    assert around() == set()
    assert not around_a_shared_fixture & VARIABLES.keys()
    Path("runs").mkdir()
    (Path.home() / ".ray").mkdir()
    os.environ["LEFT"] = os.environ["RAY_ADDRESS"] = "127.0.0.1:9"
    assert around() == {"runs", ".ray", "RAY_ADDRESS", "LEFT"}


@pytest.mark.slow
def test_it_is_empty_if_variables_are_set_around_the_tests(tmp_path: Path) -> None:
    make_odd_sweeps(tmp_path / "runs")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            f"{__file__}::test_it_is_empty",
        ],
        cwd=tmp_path,
        env=os.environ | VARIABLES,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr
