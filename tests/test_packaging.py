"""The wheel holds what the commands need, and they work from any directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_works_away_from_the_source(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    code = ("import dynamos, tune, search_spaces, results; from dynamos.config import preset; from search_spaces.space "
            "import read_space; preset('seq-mnist', 500); read_space('core');"
            "print(*(p.__file__ for p in (dynamos, tune, search_spaces, results)), sep='\\n')")
    (tmp_path / "elsewhere" / "results").mkdir(parents=True)  # a folder of that name must not shadow the package
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "elsewhere", capture_output=True, text=True,
                          check=True, env=os.environ | {"PYTHONPATH": str(tmp_path / "site")})
    assert all(line.startswith(str(tmp_path / "site")) for line in done.stdout.split())
    assert (tmp_path / "site" / "tune" / "service" / "static" / "index.html").is_file()
    for command in ("dynamos", "dynamos-sweep"):
        script = tmp_path / "site" / "bin" / command
        done = subprocess.run([script, "--help"], cwd=tmp_path / "elsewhere", capture_output=True, text=True,
                              check=True, env=os.environ | {"PYTHONPATH": str(tmp_path / "site")})
        assert done.stdout.startswith(f"usage: {command}")
