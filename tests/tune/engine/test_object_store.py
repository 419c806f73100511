"""A sweep whose folder is in an object store: a real server of S3's protocol, and a driver that is
really killed."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from s3fs import S3FileSystem

from dynamos.errors import UserError
from dynamos.files import any_path
from results import load_sweep
from tests.helpers.crashes import ENDLESS, LONG, Watched, check_mirrored, check_undisturbed
from tests.helpers.processes import Driver, Session, sweep
from tests.helpers.sweeps import SMALL

URL = "s3://sweeps/team/runs"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty bucket on a separate server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()  # of another server
    with Session([sys.executable, "-m", "moto.server", "-p", str(port)], tmp_path) as server:
        server.until(lambda: answers(port))
        S3FileSystem().mkdir("sweeps")
        yield


def answers(port: int) -> bool:
    """True if the server accepts connections."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_a_killed_sweep_goes_on_from_the_store(bucket: None, tmp_path: Path) -> None:
    elsewhere = [
        f"--ledger-url=sqlite:///{tmp_path}/ledger.db",
        f"--tracking-uri=sqlite:///{tmp_path}/mlflow.db",
    ]
    seen = Watched(any_path(URL), "hit")
    (tmp_path / "space.yaml").write_text(
        yaml.safe_dump({"parameters": {"n_epochs": {"choices": [15, 16, ENDLESS]}}})
    )
    (tmp_path / "points.yaml").write_text(
        yaml.safe_dump({"points": [{"n_epochs": 16}, {"n_epochs": ENDLESS}]})
    )
    with Driver(
        "run",
        "--name=hit",
        f"--storage={URL}",
        *elsewhere,
        "--space=space.yaml",
        "--points=points.yaml",
        "--trials=3",
        "--max-concurrent=2",
        "--set",
        *LONG,
        cwd=tmp_path,
    ) as driver:
        driver.until(lambda: seen.there and bool(seen.checkpoints(0)))
        driver.kill()
    assert [t.state for t in seen.trials()].count("COMPLETE") == 0
    before = {t.number: seen.saved(t) for t in seen.trials()}
    assert before[0] > 0

    with Driver("resume", "hit", f"--storage={URL}", cwd=tmp_path) as driver:
        driver.until(lambda: seen.state(2) == "RUNNING")
        stopped = sweep("stop", "hit", "--trial=2", f"--storage={URL}", cwd=tmp_path)
        assert stopped.status == 0 and not stopped.errors, stopped
        ended = driver.end()
    assert ended.status == 0 and not ended.errors, ended
    assert [(t.state, t.reason) for t in seen.trials()] == [("COMPLETE", None)] * 2 + [
        ("PRUNED", "stopped on request")
    ]
    check_undisturbed(seen)
    check_mirrored(seen, elsewhere[1].partition("=")[2])

    assert f"dynamos --config {URL}/hit/best_config.yaml" in ended.out
    shown = sweep("show", "hit", f"--storage={URL}", cwd=tmp_path)
    assert shown.status == 0 and "2 complete, 1 pruned" in shown.out, shown
    drawn = sweep("report", "hit", f"--storage={URL}", cwd=tmp_path)
    assert drawn.status == 0 and drawn.out == f"{URL}/hit/report.html\n", drawn
    assert "Channels used by each class" in any_path(drawn.out.strip()).read_text()
    assert len(load_sweep("hit", URL).trials) == len(load_sweep(f"{URL}/hit").trials) == 3
    assert {path.name for path in seen.folder.iterdir()} == {
        "sweep.yaml",
        "trials.csv",
        "best_config.yaml",
        "best_args.py",
        "report.html",
        "trials",
    }
    assert {
        path.name for path in tmp_path.iterdir() if path.suffix not in (".db-wal", ".db-shm")
    } == {"ledger.db", "mlflow.db", "mlartifacts", "space.yaml", "points.yaml"}


@pytest.mark.slow
def test_missing_requirements_are_named_in_one_line(
    bucket: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="s3://nowhere/runs: no bucket is named 'nowhere'"):
        any_path("s3://nowhere/runs")
    for flags, said in (
        ([], "needs --ledger-url"),
        (["--ledger-url=sqlite:///x.db"], "needs --tracking-uri"),
    ):
        ended = sweep("run", f"--storage={URL}", *flags, "--set", *SMALL, cwd=tmp_path)
        assert ended.status == 2 and len(ended.errors) == 1 and said in ended.err, ended
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    ended = sweep("list", f"--storage={URL}", cwd=tmp_path)
    assert (
        ended.status == 2 and len(ended.errors) == 1 and f"{URL} cannot be used: " in ended.err
    ), ended
