"""The benchmark on a GPU (benchmarks/gpu), on a CPU."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.limits import run
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.rows import BASE, Report, Row, append, read
from tests.helpers.data_files import write_mnist

ROOT = Path(__file__).parents[1]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


@pytest.mark.slow
def test_a_dry_run_measures_every_part(tmp_path: Path) -> None:
    import numpy as np

    write_mnist(tmp_path / "data" / "raw", np.random.default_rng(1))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry", "--out", str(out)]
    command += ["--data-path", str(tmp_path / "data"), "--budget", "3000"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads((out / "gpu.json").read_text())
    assert found["failures"] == [] and "--dry" in found["command"]
    by_part = {part: read(out / f"{part}.jsonl") for part in PARTS}
    assert all(by_part.values())
    rows = [row for part in by_part.values() for row in part]
    assert [row["what"] for row in found["rows"]] == [row.what for row in rows]
    assert not any("FAILED" in row.note for row in rows)
    assert [row.what for row in rows if "skipped" in row.note] == ["compile"]
    measured = {row.what for row in rows if row.rate}
    assert measured >= {"eager", "graph", "graph, bf16", "cohort of 2, eager", "cohort of 2, graph"}
    assert measured >= {"2 processes, eager", "2 processes, graph", "seq-mnist, full run, graph"}
    assert all("2 COMPLETE" in row.note for row in by_part["sweep"] + by_part["sweep-cohort"])
    assert {"equal in every bit" in r.note for r in by_part["check"] if "graph" in r.what} == {True}
    table = (out / "gpu.md").read_text()
    assert all(row.what in table for row in rows)


def test_gain_is_the_rate_over_that_of_one_eager_run_with_images_of_this_size() -> None:
    report = Report("command")
    report.rows = [
        Row(what=BASE, size=28, seconds=0.01, mib=50.4),
        Row(what="cohort", size=28, runs=8, seconds=0.02, note="a | b"),
        Row(what="small", size=8, runs=8, seconds=0.004),
        Row(what="card", note="driver 1"),
    ]
    report.failures = [("compile", "stopped after 3 s")]
    lines = report.markdown().splitlines()
    assert cells(lines[2])[1:] == ["28x28", "1", "10.00", "10.000", "100", "1.0", "50", ""]
    assert cells(lines[3])[1:] == ["28x28", "8", "20.00", "2.500", "400", "4.0", "", "a / b"]
    assert cells(lines[4])[1:] == ["8x8", "8", "4.00", "0.500", "2000", "", "", ""]
    assert cells(lines[5]) == ["card", *7 * [""], "driver 1"]
    assert "- compile failed: stopped after 3 s" in lines


def test_rows_of_a_part_that_was_killed_are_read(tmp_path: Path) -> None:
    file = tmp_path / "part.jsonl"
    assert read(file) == []
    append(file, Row(what="one", size=8, seconds=0.5))
    with file.open("a") as more:
        more.write('{"what": "tw')
    assert read(file) == [Row(what="one", size=8, seconds=0.5)]


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_part_that_takes_too_long_ends_with_the_processes_that_it_started(
    tmp_path: Path,
) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/pid; wait"
    began = time.monotonic()
    assert run(["sh", "-c", script], tmp_path / "log", 0.5) == "stopped after 0.5 s"
    assert time.monotonic() - began < 20
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_part_that_fails_is_one_line_with_its_last_words(tmp_path: Path) -> None:
    fails = run(["sh", "-c", "echo first; echo the reason >&2; exit 3"], tmp_path / "log", 30)
    assert fails == "exit status 3: the reason"
    assert run(["true"], tmp_path / "log", 30) is None


def test_parts_without_time_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--dry", "--out", str(tmp_path), "--budget", "1", "--only", "check", "sweep"]
    assert main(arguments) == 1
    failures = json.loads((tmp_path / "gpu.json").read_text())["failures"]
    assert [f["part"] for f in failures] == ["check", "sweep"]
    assert {f["reason"] for f in failures} == {"no time left"}
    assert "- sweep failed: no time left" in (tmp_path / "gpu.md").read_text()
    assert "- sweep failed" in capsys.readouterr().out


def test_bad_flags_and_a_machine_without_gpu_end_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["--out", str(tmp_path / "a"), "--only", "cohort"]) == 2
    assert "unknown part 'cohort'. Did you mean 'cohorts'?" in capsys.readouterr().err
    assert main(["--out", str(tmp_path / "a")]) == 2
    assert "no CUDA device here; --dry" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
