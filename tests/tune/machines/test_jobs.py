"""Sweeps submitted to a real Ray job server: followed, stopped and resumed from a machine outside
the cluster."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ray.job_submission import JobStatus

from dynamos.errors import RunError
from tests.helpers.crashes import LONGER, Watched, check_whole
from tests.helpers.nodes import Cluster, cluster, until_jobs, until_there
from tests.helpers.processes import Ended, Session, wait_for
from tests.helpers.service import BASE, Service
from tests.helpers.sweeps import command, run
from tune.machines.jobs import Jobs


def asked(there: Cluster, *arguments: str, cwd: Path) -> Ended:
    """Run a command against the cluster from this machine and return its end."""
    with Session(command(*arguments, f"--address={there.jobs}"), cwd, there.environment) as process:
        return process.end()


@contextmanager
def with_jobs() -> Iterator[Cluster]:
    """A cluster of one node with a job server."""
    with cluster() as made:
        made.add(cpus=1, jobs=True)
        until_there(made, 1)
        until_jobs(made)
        yield made


@pytest.mark.slow
def test_submit_follow_stop_resume_and_resume_once_more_after_the_head_was_lost(
    tmp_path: Path,
) -> None:
    (tmp_path / "space.yaml").write_text(
        yaml.safe_dump({"parameters": {"lr": {"low": 0.05, "high": 0.2}}})
    )
    seen, said, tokens = Watched(tmp_path / "shared", "far"), [], []
    where = f"--storage={seen.storage}"
    with with_jobs() as there:
        tokens.append(there.token.read_text())
        said.append(
            asked(
                there,
                "submit",
                "--name=far",
                where,
                "--space=space.yaml",
                "--trials=3",
                "--set",
                *LONGER,
                cwd=tmp_path,
            )
        )
        assert said[-1].status == 0 and "drives far" in said[-1].out, said
        with Session(
            command("logs", "-f", "far", f"--address={there.jobs}"), tmp_path, there.environment
        ) as following:
            following.until(lambda: len(seen.running(tasks=1)) == 1)
            said.append(asked(there, "stop", "far", where, cwd=tmp_path))
            assert said[-1].status == 0 and "sweep far has stopped" in said[-1].out, said
            said.append(following.end())
        assert said[-1].status == 0 and "sweep far: 3 trials, 1 at a time" in said[-1].out, said
        said.append(asked(there, "list", where, cwd=tmp_path))
        assert said[-1].status == 0 and "far" in said[-1].out and "stopped, " in said[-1].out, said
        check_refusals(there, tmp_path)
        said.append(asked(there, "resume", "far", where, cwd=tmp_path))
        assert said[-1].status == 0, said
        wait_for(lambda: len(seen.running(tasks=1)) == 1)
        assert any(t.ended_at is None for t in seen.trials()), "there is nothing left to lose"
    with with_jobs() as there:
        tokens.append(there.token.read_text())
        said.append(asked(there, "resume", "far", where, cwd=tmp_path))
        assert said[-1].status == 0, said
        said.append(asked(there, "logs", "-f", "far", cwd=tmp_path))
        assert "3 done" in said[-1].out, said
        said.append(asked(there, "show", "far", where, "--trial=0", cwd=tmp_path))
        assert said[-1].status == 0 and "trial 0 of far: complete" in said[-1].out, said
    check_whole(seen, trials=3)
    assert not [token for token in tokens if token in str(said)]
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or not [t for t in tokens if t.encode() in path.read_bytes()], (
            path
        )


@pytest.mark.slow
def test_a_service_has_its_sweeps_run_as_jobs_of_a_cluster(tmp_path: Path) -> None:
    storage = tmp_path / "shared"
    sweep = {
        "name": "far",
        "trials": 2,
        "base": BASE,
        "space": {"parameters": {"lr": {"low": 0.05, "high": 0.2}}},
    }
    with (
        with_jobs() as there,
        Service(storage, f"--address={there.jobs}", environment=there.environment) as service,
    ):
        assert service.client.create(sweep)["state"] == "starting"
        wait_for(lambda: service.client.sweep("far")["state"] == "finished")
        trials = list(service.client.trials("far"))
        assert [(t["state"], t["attempt"]) for t in trials] == [("COMPLETE", 1)] * 2
        assert service.client.extend("far", 1)["name"] == "far"
        wait_for(lambda: service.client.sweep("far")["counts"]["complete"] == 3)
        logs = asked(there, "logs", "far", cwd=tmp_path)
        assert logs.status == 0 and "far" in logs.out, logs
        assert service.client.sweep("far")["links"]["ray"] == there.jobs
        assert there.token.read_text() not in str(service.client.sweep("far"))
        # MLflow has caught up when the driver ends
        wait_for(lambda: Watched(storage, "far").ledger.driver is None)
    check_whole(Watched(storage, "far"), trials=3)


def check_refusals(there: Cluster, folder: Path) -> None:
    """Assert that a request that the cluster cannot carry out gives one line."""
    storage = f"--storage={folder / 'shared'}"
    for arguments, status, said in (
        (["show", "nothing", storage], 2, "unknown sweep 'nothing'"),
        (
            ["submit", "--name=n", storage, "--data-path=/nowhere", "--dataset=seq-mnist"],
            1,
            "/nowhere",
        ),
        (["submit", "--name=n"], 2, "give its absolute path on the cluster's nodes"),
        (["submit", storage], 2, "submit needs --name"),
        (["submit", "--name=n", storage, "--sampler=tpee"], 2, "Did you mean 'tpe'?"),
        (["logs", "n2"], 2, "no job of 'n2'"),
    ):
        ended = asked(there, *arguments, cwd=folder)
        assert ended.status == status and said in ended.err + ended.out, ended
        assert (ended.err + ended.out).count("\n") == 1, ended
    stranger = run("logs", "n", f"--address={there.jobs}", cwd=folder)
    assert stranger.returncode == 1 and "refused access" in stranger.stderr
    assert stranger.stderr.count("\n") == 1


BEGAN = 'sweep n: 3 trials, 1 at a time\ndynamos-sweep-status: {"began": true}\n'
REFUSED = "Ray's own\ndynamos-sweep-status: {\"error\": \"a sweep 'n' exists\"}\nmore of Ray's own"


@pytest.mark.parametrize(
    "ends, submitted, said",
    [
        ([(JobStatus.RUNNING, "")], 1, None),
        ([(JobStatus.FAILED, BEGAN)], 1, None),
        ([(JobStatus.FAILED, "OSError: libtorch"), (JobStatus.RUNNING, BEGAN)], 2, None),
        (
            [(JobStatus.FAILED, "OSError: libtorch")] * 2,
            2,
            "OSError: libtorch (job job-2 at http://there)",
        ),
        ([(JobStatus.FAILED, REFUSED)], 1, "a sweep 'n' exists (job job-1 at"),
    ],
)
def test_a_submission_that_fails_at_its_start_is_made_once_more(
    ends: list[tuple[JobStatus, str]],
    submitted: int,
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[str] = []

    class Server:
        def __init__(self, address: str) -> None:
            pass

        def submit_job(self, entrypoint: str, **more: Any) -> str:
            sent.append(entrypoint)
            return f"job-{len(sent)}"

        def get_job_info(self, job: str) -> Any:
            return SimpleNamespace(status=ends[len(sent) - 1][0])

        def get_job_logs(self, job: str) -> str:
            return ends[len(sent) - 1][1]

    monkeypatch.setattr("tune.machines.jobs.JobSubmissionClient", Server)
    monkeypatch.setattr("tune.machines.jobs.START_SECONDS", 0.0)
    jobs = Jobs("http://there")
    if said is None:
        assert jobs.started(["run", "--name=n"], "n") == f"job-{submitted}"
    else:
        with pytest.raises(RunError, match=re.escape(said)):
            jobs.started(["run", "--name=n"], "n")
    assert sent == ["python -m tune.cli run --name=n"] * submitted


def test_no_job_server_there_is_one_line(tmp_path: Path) -> None:
    done = run("logs", "n", "--address=http://127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "the job server at http://127.0.0.1:1 cannot be used" in done.stderr
