"""Faults of a node that the preflight reports."""

import dataclasses
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.helpers.ledgers import config
from tune.machines.preflight import (
    NodeReport,
    _table,
    code_version,
    file_system,
    ledger_problems,
    problems_of,
    versions,
)
from tune.machines.slots import Node, Slots

OWN = {
    "python": "3.11.7",
    "torch": "2.13.0",
    "ray": "2.60.0",
    "optuna": "5.0.0",
    "numpy": "2.4.6",
    "code": "abcd1234",
    "data": "854888bb",
}
GOOD = NodeReport(
    Node("n", "gpu-7 10.0.0.7", 8, 1, "H200"), "H200, 141 GB", OWN, 0.1, 5e9, None, "854888bb"
)


@pytest.mark.parametrize("host", ["n 192.168.100.", "a-node-with-a-long-name 192.168.100."])
def test_every_node_is_distinct_on_a_narrow_screen(host: str) -> None:
    nodes = [dataclasses.replace(GOOD.node, host=f"{host}{i}") for i in (101, 102)]
    reports = [dataclasses.replace(GOOD, node=node) for node in nodes]
    console = Console(file=StringIO(), width=80)
    console.print(_table(reports, Slots(config(), lambda: nodes), OWN))
    assert isinstance(console.file, StringIO)
    said = console.file.getvalue()
    assert "…" not in said and ".101" in said and ".102" in said
    assert all(word in said for word in ("versions", "as here", "storage", OWN["data"]))


def test_a_node_like_the_driver_has_no_problem() -> None:
    assert problems_of(GOOD, OWN) == []


@pytest.mark.parametrize(
    "changes, said",
    [
        (
            {"versions": OWN | {"torch": "2.14.0"}},
            "gpu-7 10.0.0.7 has torch 2.14.0, the driver 2.13.0: install the same.",
        ),
        (
            {"versions": OWN | {"code": "00000000"}},
            "gpu-7 10.0.0.7 has code 00000000, the driver abcd1234: install",
        ),
        (
            {"storage": "PermissionError: no"},
            "gpu-7 10.0.0.7 cannot use the storage: PermissionError: no. Give",
        ),
        (
            {"data": "1"},
            "gpu-7 10.0.0.7 has other images than the driver: 1, not 854888bb.",
        ),
        ({"clock": -61.0}, "gpu-7 10.0.0.7's clock is -61 s off: synchronise it (NTP)."),
        ({"free_bytes": 2e8}, "gpu-7 10.0.0.7 has only 0.2 GB of disk left: free some space."),
    ],
)
def test_faults_of_a_node_are_named_with_their_remedy(changes: dict[str, Any], said: str) -> None:
    [problem] = problems_of(dataclasses.replace(GOOD, **changes), OWN)
    assert problem.startswith(said)


def test_our_own_code_has_a_version_that_its_files_make(tmp_path: Path) -> None:
    assert versions() == versions() and len(versions()["code"]) == 8
    package = tmp_path / "package"
    (package / "inner" / "deeper").mkdir(parents=True)
    seen = [code_version([package])]
    for name in ("a.py", "presets.yaml", "inner/a.py", "inner/space.yaml", "inner/deeper/b.py"):
        for text in ("", "changed"):  # there, then other
            (package / name).write_text(text)
            seen.append(code_version([package]))
    assert len({*seen}) == len(seen) == 11
    (package / "inner" / "notes.txt").touch()
    (package / "inner" / "a.pyc").touch()
    assert code_version([package]) == seen[-1]
    (package / "inner" / "deeper" / "b.py").rename(package / "inner" / "b.py")
    assert code_version([package]) not in seen
    assert code_version([package.rename(tmp_path / "other")]) not in seen


def test_a_file_ledger_is_refused_on_a_network_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ledger_problems(config(), tmp_path) == []
    mounts = f"/dev/sda / ext4 rw 0 0\nserver:/export {tmp_path} nfs4 rw 0 0\n"
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, *a, **k: mounts if path.name == "mounts" else read(path)
    )
    assert file_system(tmp_path / "runs") == "nfs4" and file_system(Path("/etc")) == "ext4"
    [problem] = ledger_problems(config(), tmp_path / "runs")
    assert "network file system (nfs4)" in problem and "`ledger_url`" in problem
    [problem] = ledger_problems(config(ledger_url=f"sqlite:///{tmp_path / 'l.db'}"), Path("/etc"))
    assert "network file system (nfs4)" in problem
    assert ledger_problems(config(ledger_url="sqlite:////tmp/ledger-of-a-test.db"), tmp_path) == []
    mounts += f"server:/export {tmp_path} autofs rw 0 0\nserver:/export {tmp_path} nfs4 rw 0 0\n"
    assert file_system(tmp_path) == "nfs4"


def test_a_ledger_out_of_reach_is_one_line(tmp_path: Path) -> None:
    [problem] = ledger_problems(config(ledger_url="sqlite:////nowhere/at/all.db"), tmp_path)
    assert (
        problem.startswith("the ledger at sqlite:////nowhere/at/all.db cannot be reached: ")
        and "\n" not in problem
    )
