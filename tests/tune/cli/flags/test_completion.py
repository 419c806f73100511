"""Completions that a shell gets for a command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from results.ledger.ledger import Ledger
from tests.helpers.ledgers import config


def completed(line: str, folder: Path, program: str = "tune.cli.main") -> list[str]:
    """Return the completions that bash would get through argcomplete."""
    out = folder / "completions"
    asked = {
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
    }
    code = f"from {program} import main; main()"
    subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=os.environ | asked, check=True, timeout=120
    )
    return [word.strip() for word in out.read_text().splitlines()]


@pytest.mark.parametrize(
    "line, words",
    [
        ("dynamos-sweep sh", ["show"]),
        ("dynamos-sweep show --tr", ["--trial"]),
        ("dynamos-sweep run --sampler c", ["cmaes"]),
        ("dynamos-sweep run --set keep_r", ["keep_ratio="]),
        ("dynamos-sweep export s --choose ", ["model", "best", "one-se"]),
        ("dynamos-sweep compare b", ["bee", "better"]),
        ("dynamos-sweep show be", ["bee", "better"]),
        ("dynamos-sweep delete bee --y", ["--yes"]),
        ("dynamos-sweep run --warm-start o", ["other"]),
    ],
)
def test_commands_flags_names_and_sweeps_are_completed(
    line: str, words: list[str], tmp_path: Path
) -> None:
    for name in (
        ("bee", "better", "other")
        if any(word in line for word in ("compare", "show be", "warm"))
        else ()
    ):
        Ledger.create(tmp_path / "runs", config(name), {})
    assert completed(line, tmp_path) == words


def test_fields_are_completed_for_a_single_run(tmp_path: Path) -> None:
    assert completed("dynamos --keep", tmp_path, "dynamos.cli") == ["--keep-ratio"]
