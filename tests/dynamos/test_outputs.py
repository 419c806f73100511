"""Work goes on if its output cannot be written. Real processes, with outputs that fail."""

import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import os, sys
from dynamos.arguments import exit_status
from dynamos.errors import UserError
def work():
    for number in range(5_000):
        print("a line of output", number)
        print("a line of progress", number, file=sys.stderr)
    with open(sys.argv[1], "w") as file:
        assert file.fileno() > 2
        file.write("done")
    if len(sys.argv) > 2:
        raise UserError(sys.argv[2])
    return 0
sys.exit(exit_status("program", work))
"""


@pytest.mark.parametrize(
    "redirection, status, last",
    [
        ("2>/dev/full >/dev/null", 0, ""),
        ("2>&- >/dev/null", 0, ""),
        (">&- 2>&-", 0, ""),
        ("<&- >&- 2>/dev/null", 0, ""),
        (">/dev/full", 1, "program: error: standard output: No space left on device"),
        ("2>/dev/full >/dev/full", 1, ""),
    ],
)
def test_output_that_cannot_be_written_is_dropped_and_is_an_error(
    redirection: str, status: int, last: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            "sh",
            "-c",
            f'"$0" "$@" {redirection}',
            sys.executable,
            "-c",
            WORK,
            str(tmp_path / "file"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == status and (tmp_path / "file").read_text() == "done"
    assert done.stderr.splitlines()[-1:] == ([last] if last else [])


def test_a_reader_that_left_is_no_error(tmp_path: Path) -> None:
    line = f'{{ "$0" "$@"; echo $? > {tmp_path / "status"}; }} 2>&1 | head -1'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, "-c", WORK, str(tmp_path / "file")],
        capture_output=True,
        text=True,
    )
    assert (
        len(done.stdout.splitlines()) == 1
        and done.stderr == ""
        and (tmp_path / "file").read_text() == "done"
    )
    assert (tmp_path / "status").read_text() == "0\n"


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", ">/dev/full 2>&1"])
def test_an_error_of_the_work_keeps_its_status(redirection: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            "sh",
            "-c",
            f'"$0" "$@" {redirection}',
            sys.executable,
            "-c",
            WORK,
            str(tmp_path / "file"),
            "bad input",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr == ""
