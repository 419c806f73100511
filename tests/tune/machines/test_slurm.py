"""The folder in which tasks of a job array meet, and the submission of the array."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import Session
from tune.cli.main import main
from tune.machines.slurm.meeting import Meeting
from tune.machines.slurm.ray_node import titles

SBATCH = f"""#!{sys.executable}
import json, sys
json.dump(sys.argv[1:], open("sent.json", "w"))
print("4711;cluster")
"""


def test_one_task_leads_at_a_time_and_only_the_last_cluster_counts(tmp_path: Path) -> None:
    one, other = Meeting(tmp_path / "m"), Meeting(tmp_path / "m")
    assert one.last() is None
    first = one.lead("7_0", None)
    assert first is not None and other.lead("7_1", None) is None
    assert other.last() == first and first.leader == "7_0" and first.address is None
    first.announce("host:1")
    assert first.address == "host:1" and not first.ended
    second = other.lead("7_1", first)
    assert second is not None and one.lead("7_2", first) is None, "one takes over"
    assert first.ended and not second.ended and second.address is None
    assert one.last() == second and second.leader == "7_1"
    for number in range(3, 12):
        last = other.lead(f"7_{number}", other.last())
    assert last is not None and other.last() == last and last.number == 11


def test_a_cluster_has_a_token_of_this_user_alone_that_ends_with_it(tmp_path: Path) -> None:
    meeting = Meeting(tmp_path / "m")
    cluster = meeting.lead("7_0", None)
    assert cluster is not None
    cluster.make_token()
    assert len(cluster.token.read_text()) == 64
    assert stat.S_IMODE(cluster.token.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o700
    cluster.end()
    assert cluster.ended and not cluster.token.exists()
    following = meeting.lead("7_1", cluster)
    assert following is not None
    following.make_token()
    third = meeting.lead("7_2", following)  # the leader was killed
    assert third is not None and not following.token.exists()
    assert not meeting.over
    meeting.end()
    assert Meeting(tmp_path / "m").over


def test_the_titles_of_a_process_and_its_descendants(tmp_path: Path) -> None:
    code = "import subprocess; subprocess.run(['sleep', '60'])"
    with Session([sys.executable, "-c", code], tmp_path) as session:
        # before it is sleep, the child has its parent's title
        session.until(lambda: "sleep 60 " in titles(session.pid))
        assert len(titles(session.pid)) == 2


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for sbatch that writes its arguments to sent.json."""
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(SBATCH)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "sent.json"


def test_a_job_array_is_submitted_with_the_flags_of_run(
    sbatch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--name", "far", "--workers=3", "--sbatch", "--time=9 -p gpu", "--trials=7"]
    assert main(["submit", "--slurm", *flags, "--storage=a b", "--set", "nf=8", "lr=0.1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("job 4711 drives far with up to 3 workers.")
    assert "dynamos-sweep stop far --storage 'a b'" in out
    sent = json.loads(sbatch.read_text())
    assert {"--array=0-2", "--requeue", "--signal=B:USR1@120", "--time=9", "-p", "gpu"} <= {*sent}
    assert sent[-1].startswith("--wrap=exec ") and sent[-1].endswith(
        f"'{tmp_path}/a b'/.slurm-$SLURM_ARRAY_JOB_ID far 'a b' --name=far '--storage=a b' "
        "--trials=7 --set nf=8 lr=0.1"
    )
    assert main(["submit", "--slurm", "--name=far"]) == 0
    assert {"--array=0-3", "--cpus-per-task=8", "--time=04:00:00"} <= {
        *json.loads(sbatch.read_text())
    }


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--slurm", "--trials=3"], "submit needs --name"),
        (["--slurm", "--name=n", "--sampler=tpee"], "Did you mean 'tpe'?"),
        (["--slurm", "--name=n", "--dry-run"], "--dry-run runs nothing"),
        (["--slurm", "--name=n", "--workers=0"], "--workers 0: give at least 1"),
        (["--slurm", "--name=n", "--workers=two"], "'two' is not a whole number"),
        (["--slurm", "--name=n", "--sbatch=--comment='a"], "No closing quotation"),
        (["--slurm", "--name=n", "--address=auto"], "--address does not go with --slurm"),
        (["--name=n", "--workers=2"], "--workers goes with --slurm"),
        (["--name=n", "--sbatch=-p gpu"], "--sbatch goes with --slurm"),
    ],
)
def test_what_cannot_be_submitted_is_refused_in_one_line(
    flags: list[str],
    words: str,
    sbatch: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended(["submit", *flags]) == 2
    err = capsys.readouterr().err
    assert words in err and len(err.splitlines()) == 1 and not sbatch.exists()


def test_without_slurm_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ended(["submit", "--slurm", "--name=n"]) == 2
    assert "needs SLURM's command sbatch" in capsys.readouterr().err


def test_what_slurm_refuses_is_one_line(
    sbatch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\nprintf 'invalid\npartition' >&2; exit 1")
    assert ended(["submit", "--slurm", "--name=n"]) == 1
    assert capsys.readouterr().err.endswith("SLURM refused the job: invalid partition\n")


def ended(arguments: list[str]) -> object:
    """Run `dynamos-sweep` and return its exit status."""
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code
