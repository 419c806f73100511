"""Sweeps on a real Ray cluster of two nodes, each in a network of its own, with token authentication."""

import os
import re
from pathlib import Path

import pytest

from tests.tune.crashes import LONG, TASKS, Watched, check_whole
from tests.tune.nodes import Cluster, cluster, until_there
from tests.tune.processes import Session
from tests.tune.sweeps import SMALL, command, run


def driver(made: Cluster, *arguments: str, cwd: Path) -> Session:
    """`dynamos-sweep` on the cluster's head."""
    return Session(made.inside(*command(*arguments)), cwd, made.environment)


@pytest.mark.slow
def test_a_node_joins_and_is_killed_and_every_trial_completes_the_lost_one_from_its_checkpoint(tmp_path: Path) -> None:
    with cluster() as made:
        made.add(cpus=1)
        until_there(made, 1)
        seen = Watched(tmp_path / "runs", "two")
        with driver(made, "run", "--name=two", f"--address={made.address}", "--trials=4", "--set", *LONG,
                    cwd=tmp_path) as running:
            running.until(lambda: len(seen.running(tasks=0)) == 1)
            other = made.add(cpus=1)
            # One trial on each node; both have a checkpoint and some tasks to go.
            running.until(lambda: len(seen.running(tasks=1)) == 2)
            there = {t.number for t in seen.running(tasks=1)}
            other.kill()
            ended = running.end()
    assert ended.status == 0 and not ended.errors, ended
    assert "4 trials, 1 at a time" in ended.err
    check_whole(seen, trials=4)
    lost = [t for t in seen.trials() if t.losses]
    assert [(t.attempt, t.losses) for t in lost] == [(2, 1)] and lost[0].number in there
    assert [t.attempt for t in seen.trials() if not t.losses] == [1] * 3, "none twice"
    assert seen.tasks_saved() == 4 * TASKS, "a task trained twice would have been saved twice"


@pytest.mark.slow
def test_a_node_that_cannot_use_the_storage_is_named_before_anything_is_spent(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may hide a folder from a node")
    with cluster() as made:
        made.add(cpus=1, gpus=1)
        made.add(cpus=1, gpus=1, blind_to=tmp_path)
        until_there(made, 2)
        with driver(made, "run", "--name=none", f"--address={made.address}", cwd=tmp_path) as refused:
            ended = refused.end()
        said = ended.errors[-1]
        assert ended.status == 1 and not (tmp_path / "runs" / "none").exists(), ended
        assert said.startswith("dynamos-sweep: error: the cluster is not ready. (1) ") and "(2)" not in said
        assert f"{made.networks.address(1)} cannot use the storage: FileNotFoundError" in said
        assert str(tmp_path / "runs") in said
        shared = [f"--address={made.address}", f"--storage={made.folder / 'runs'}"]
        with driver(made, "run", "--preflight-only", *shared, cwd=tmp_path) as looked:
            ended = looked.end()
        assert ended.status == 0 and "2 nodes, 2 trials at a time" in ended.err and not ended.out, ended
        # A node that is to leave gets nothing new; how many trials a GPU takes is measured, here on one that is none.
        made.drain(1)
        with driver(made, "run", "--name=packed", *shared, "--cpus-per-trial=0.5", "--gpus-per-trial=auto",
                    "--trials=3", "--set", *SMALL, "device=cpu", cwd=tmp_path) as packed:
            ended = packed.end()
        assert ended.status == 0 and "1 nodes, " in ended.err, ended
        [each] = re.findall(r"GPU of unknown kind: (\d) trials on each; .*: 1: [\d.]+, 2: [\d.]+", ended.err)
        trials = Watched(made.folder / "runs", "packed").trials()
    assert [t.state for t in trials] == ["COMPLETE"] * 3
    assert {round(t.gpu_seconds / t.cpu_seconds, 3) for t in trials} == {round(2 / int(each), 3)}


def test_no_cluster_there_is_one_line(tmp_path: Path) -> None:
    for address, status, said in (("127.0.0.1:1", 1, "no Ray cluster could be joined at 127.0.0.1:1: "),
                                  ("nowhere", 2, "'nowhere' is neither auto nor HOST:PORT"),
                                  ("ray://head:10001", 2, "dynamos-sweep submit"),
                                  ("http://127.0.0.1:1", 2, "dynamos-sweep submit")):
        done = run("run", "--name=none", f"--address={address}", cwd=tmp_path)
        assert done.returncode == status and done.stderr.count("\n") == 1 and said in done.stderr, done.stderr
    assert not (tmp_path / "runs" / "none").exists()
