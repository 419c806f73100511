"""The wheel contains everything that the commands need, and they work in any folder."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FILE_OF_A_WORKER = """
import importlib, ray
from tune.machines.cluster import connected
from tune.machines.slots import Node
file = ray.remote(lambda name: importlib.import_module(name).__file__)
with connected(None, Node("", "here", 1, 0)):
    print(ray.get(file.remote("tune.machines.slots")))
"""


@pytest.mark.slow
def test_the_wheel_works_away_from_the_source(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    code = (
        "import dynamos, tune, search_spaces, results; from dynamos.config import preset; from "
        "search_spaces.space import read_space; preset('seq-mnist', 500); "
        "read_space('core');print(*(p.__file__ for p in (dynamos, tune, search_spaces, results)), "
        "sep='\\n')"
    )
    # a folder of that name must not shadow the package
    (tmp_path / "elsewhere" / "results").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
    )
    assert all(line.startswith(str(tmp_path / "site")) for line in done.stdout.split())
    assert (tmp_path / "site" / "tune" / "service" / "static" / "index.html").is_file()
    for command in ("dynamos", "dynamos-sweep"):
        script = tmp_path / "site" / "bin" / command
        done = subprocess.run(
            [script, "--help"],
            cwd=tmp_path / "elsewhere",
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        )
        assert done.stdout.startswith(f"usage: {command}")


@pytest.mark.slow
def test_an_install_held_to_the_lock_has_its_versions_and_the_torch_of_a_wheel_folder(
    tmp_path: Path,
) -> None:
    """Checks README's `pip install -c requirements.txt .`, as a dry run that downloads only the
    metadata of packages."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    locked = [
        Requirement(line) for line in lines if line.strip() and not line.lstrip().startswith("#")
    ]
    wanted = {
        canonicalize_name(r.name): str(r.specifier)
        for r in locked
        if r.marker is None or r.marker.evaluate()
    }
    wheel = tmp_path / "torch-2.13.0+own-py3-none-any.whl"
    about = "torch-2.13.0+own.dist-info"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+own\n"
        )
        made.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        made.writestr(f"{about}/RECORD", "")
    report = tmp_path / "report.json"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--quiet",
            "--disable-pip-version-check",
            "install",
            "-c",
            "requirements.txt",
            ".",
            "--dry-run",
            "--ignore-installed",
            "--report",
            report,
        ],
        cwd=ROOT,
        check=True,
        env=os.environ | {"PIP_FIND_LINKS": str(tmp_path)},
    )
    found: dict[str, Any] = {
        canonicalize_name(entry["metadata"]["name"]): entry
        for entry in json.loads(report.read_text())["install"]
    }
    torch = found["torch"]
    assert torch["metadata"]["version"] == "2.13.0+own" and torch["download_info"][
        "url"
    ].startswith(tmp_path.as_uri())
    del found["dynamos"], found["torch"]
    versions = {name: "==" + entry["metadata"]["version"] for name, entry in found.items()}
    assert len(versions) > 100 and versions.items() <= wanted.items()


@pytest.mark.parametrize("name", ["results", pytest.param("search_spaces", marks=pytest.mark.slow)])
def test_a_users_module_of_one_of_our_names_is_named_and_our_commands_do_not_see_it(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('mine')")
    (tmp_path / "notebook.py").write_text("from tune.client import Client")
    done = subprocess.run(
        [sys.executable, "notebook.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr.splitlines()[-1].startswith(
        f"ImportError: {tmp_path / name}.py shadows the package '{name}' of Dynamos: rename it"
    )
    for command in (
        [sys.executable, "-m", "tune.cli"],
        [Path(sys.executable).with_name("dynamos-sweep")],
    ):
        done = subprocess.run(
            [*command, "list", "--storage", "none"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 2 and "no sweep in" in done.stderr, done
    (tmp_path / f"{name}.py").rename(tmp_path / "tune.py")
    (tmp_path / "notebook.py").write_text("import results; print(results.STORAGE)")
    done = subprocess.run(
        [sys.executable, "notebook.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "runs\n", "reading results needs no tune"


@pytest.mark.slow
def test_a_worker_of_a_driver_in_a_folder_with_our_packages_has_them(tmp_path: Path) -> None:
    for name in ("tune", "results", "search_spaces", "dynamos"):
        shutil.copytree(ROOT / name, tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", FILE_OF_A_WORKER], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == f"{tmp_path / 'tune' / 'machines' / 'slots.py'}\n", (
        done.stdout + done.stderr
    )


@pytest.mark.slow
def test_a_worker_of_a_driver_does_not_see_a_users_module_in_the_working_folder(
    tmp_path: Path,
) -> None:
    for name in ("tune", "results", "search_spaces", "dynamos"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('mine')")
    done = subprocess.run(
        [sys.executable, "-P", "-c", FILE_OF_A_WORKER], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == f"{ROOT / 'tune' / 'machines' / 'slots.py'}\n", done.stdout + done.stderr
