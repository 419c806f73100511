"""Sweeps on a real Ray cluster of two nodes in separate networks, with token authentication."""

import ipaddress
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from tests.helpers.crashes import LONGER, TASKS, Watched, check_whole
from tests.helpers.nodes import Cluster, cluster, until_there
from tests.helpers.processes import Session
from tests.helpers.sweeps import SMALL, command, run
from tune.machines.cluster import wants_a_token

AUTOMATIC = ["--cpus-per-trial=0.5", "--gpus-per-trial=auto", "--trials=5", "--set", *SMALL]
# `dynamos-sweep` with trials that hold GPUs that exist in name only, and train on CPUs.
UNREAL = """
import sys
import tune.cli.flags.run
made = tune.cli.flags.run.base_config
tune.cli.flags.run.base_config = lambda *arguments: made(*arguments).replace(device="cpu")
from tune.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
# The same where GPUs of the kind A take one trial and those of the kind B two.
UNLIKE = f"""
import tune.engine.sweep
from tune.machines.packing import Packing
found = {{Packing(1, 1): 9.0}}
packed = found | {{Packing(2, 1): 18.0}}
tune.engine.sweep.measure = lambda config, node, *_: packed if node.kind == "B" else found
tune.engine.sweep.remember = lambda *_: None
{UNREAL}"""


def driver(made: Cluster, *arguments: str, cwd: Path) -> Session:
    """`dynamos-sweep` on the cluster's head."""
    return Session(made.inside(*command(*arguments)), cwd, made.environment)


@pytest.mark.slow
@pytest.mark.parametrize("cohort", [1, 2])
def test_a_node_joins_and_is_killed_and_every_trial_completes_the_lost_ones_from_checkpoints(
    cohort: int, tmp_path: Path
) -> None:
    trials = 4 * cohort
    with cluster() as made:
        made.add(cpus=1)
        until_there(made, 1)
        seen = Watched(tmp_path / "runs", "two")
        with driver(
            made,
            "run",
            "--name=two",
            f"--address={made.address}",
            f"--trials={trials}",
            f"--cohort={cohort}",
            "--set",
            *LONGER,
            cwd=tmp_path,
        ) as running:
            running.until(lambda: len(seen.running(tasks=0)) == cohort)
            other = made.add(cpus=1)
            # Trials on each node; all have a checkpoint and some tasks to go.
            running.until(lambda: len(seen.running(tasks=1)) == 2 * cohort)
            there = {t.number for t in seen.running(tasks=1)}
            other.kill()
            ended = running.end()
    assert ended.status == 0 and not ended.errors, ended
    assert f"{trials} trials, {cohort} at a time" in ended.err
    check_whole(seen, trials=trials, cohort=cohort)
    lost = [t for t in seen.trials() if t.losses]
    assert [(t.attempt, t.losses) for t in lost] == [(2, 1)] * cohort
    assert {t.number for t in lost} <= there
    assert [t.attempt for t in seen.trials() if not t.losses] == [1] * (trials - cohort)
    assert seen.tasks_saved() == trials * TASKS, "a task trained twice would have been saved twice"


@pytest.mark.slow
def test_trials_of_a_node_that_announces_its_departure_move_and_lose_nothing(
    tmp_path: Path,
) -> None:
    with cluster() as made:
        for _ in range(2):
            made.add(cpus=1)
        until_there(made, 2)
        seen = Watched(tmp_path / "runs", "moved")
        sweep = ["run", "--name=moved", f"--address={made.address}", "--trials=3", "--retries=0"]
        with driver(made, *sweep, "--set", *LONGER, cwd=tmp_path) as running:
            running.until(lambda: len(seen.running(tasks=1)) == 2)
            made.drain(1)
            ended = running.end()
    assert ended.status == 0 and not ended.errors, ended
    check_whole(seen, trials=3)
    trials = seen.trials()
    assert sorted(t.attempt for t in trials) in ([1, 1, 2], [1, 1, 3]) and not any(
        t.losses for t in trials
    )
    assert seen.tasks_saved() == 3 * TASKS, "a task trained twice would have been saved twice"


@pytest.mark.slow
def test_a_node_that_cannot_use_the_storage_is_named_before_anything_is_spent(
    tmp_path: Path,
) -> None:
    with cluster() as made:
        if not made.networks.there:
            pytest.skip(
                "this user may neither give a node its own network nor hide a folder from it"
            )
        made.add(cpus=1, gpus=1, kind="A")
        made.add(cpus=1, gpus=1, kind="B", blind_to=tmp_path)
        until_there(made, 2)
        with driver(
            made, "run", "--name=none", f"--address={made.address}", cwd=tmp_path
        ) as refused:
            ended = refused.end()
        said = ended.errors[-1]
        assert ended.status == 1 and not (tmp_path / "runs" / "none").exists(), ended
        assert (
            said.startswith("dynamos-sweep: error: the cluster is not ready. (1) ")
            and "(2)" not in said
        )
        assert f"{made.networks.address(1)} cannot use the storage: FileNotFoundError" in said
        assert str(tmp_path / "runs") in said
        shared = [f"--address={made.address}", f"--storage={made.folder / 'runs'}"]
        with driver(made, "run", "--preflight-only", *shared, cwd=tmp_path) as looked:
            ended = looked.end()
        assert ended.status == 0 and "2 nodes, 2 trials at a time" in ended.err and not ended.out, (
            ended
        )
        # Each kind of GPU has a packing of its own, and each trial the node that was chosen for it.
        with Session(
            made.inside(sys.executable, "-c", UNLIKE, "run", "--name=unlike", *shared, *AUTOMATIC),
            tmp_path,
            made.environment,
        ) as unlike:
            ended = unlike.end()
        assert ended.status == 0 and "sweep unlike: 5 trials, 3 at a time" in ended.err, ended
        trials = Watched(made.folder / "runs", "unlike").trials()
        assert [(t.state, t.attempt) for t in trials] == [("COMPLETE", 1)] * 5
        assert {round(t.gpu_seconds / t.cpu_seconds, 3) for t in trials} == {1.0, 2.0}
        # A node that will leave gets no new trials. The number of trials per GPU is measured, here
        # on a GPU in name only.
        made.drain(1)
        with Session(
            made.inside(sys.executable, "-c", UNREAL, "run", "--name=packed", *shared, *AUTOMATIC),
            tmp_path,
            made.environment,
        ) as packed:
            ended = packed.end()
        assert ended.status == 0 and "1 node, " in ended.err, ended
        [each] = re.findall(r"GPU A: (\d) trials on each; .*: 1: [\d.]+, 2: [\d.]+", ended.err)
        trials = Watched(made.folder / "runs", "packed").trials()
    assert [t.state for t in trials] == ["COMPLETE"] * 5
    assert {round(t.gpu_seconds / t.cpu_seconds, 3) for t in trials} == {round(2 / int(each), 3)}


@pytest.mark.parametrize("lets_in", ["anyone", "those with a token"])
def test_a_cluster_is_asked_whether_it_wants_a_token(lets_in: str) -> None:
    def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
        if lets_in != "anyone":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        return b""

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "ray.rpc.NodeInfoGcsService",
                {"GetClusterId": grpc.unary_unary_rpc_method_handler(answer)},
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert wants_a_token(f"127.0.0.1:{port}") == (lets_in != "anyone")
    finally:
        server.stop(None)


@pytest.mark.slow
def test_a_ray_of_this_machine_s_own_listens_on_loopback_only(tmp_path: Path) -> None:
    code = (
        "import sys; from tune.machines.cluster import connected; from tune.machines.slots import "
        "Node\nwith connected(None, Node('', 'here', 1, 0)) as nodes:\n    print([node.cpus for "
        "node in nodes()], flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "[1.0]\n"
        listening = listeners(process.pid)
        process.communicate()
    assert (
        listening and {address for address in listening if not address.startswith("127.")} == set()
    )


def test_a_token_that_cannot_be_read_and_a_long_path_of_sockets_are_one_line(
    tmp_path: Path,
) -> None:
    code = (
        "import sys; from tune.machines.cluster import connected; from tune.machines.slots import "
        "Node\nfrom dynamos.arguments import exit_status\ndef work():\n    with connected(None, "
        "Node('', 'here', 1, 0)): return 0\nsys.exit(exit_status('it', work))"
    )
    (tmp_path / "empty").touch()
    long = tmp_path / ("a" * 90)
    long.mkdir()
    for variables, message in (
        (
            {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "no")},
            f"RAY_AUTH_TOKEN_PATH {tmp_path / 'no'}: the file is missing",
        ),
        (
            {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "empty")},
            "the file is missing, unreadable or empty",
        ),
        ({"TMPDIR": str(long)}, f"TMPDIR {long}: Ray puts sockets into this folder"),
        ({"RAY_TMPDIR": str(long)}, f"RAY_TMPDIR {long}: Ray puts sockets into this folder"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | variables,
        )
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and message in done.stderr, (
            done.stderr
        )


def listeners(session: int) -> set[str]:
    """IP addresses on which the processes of a session listen."""
    sockets = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            if os.getsid(int(process.name)) == session:
                sockets |= {os.readlink(handle) for handle in (process / "fd").iterdir()}
    found = set()
    for table, size in (("tcp", 4), ("tcp6", 16)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in sockets:  # listening
                words = bytes.fromhex(local.partition(":")[0])
                raw = b"".join(words[i : i + 4][::-1] for i in range(0, size, 4))
                address = ipaddress.ip_address(raw)
                found.add(str(getattr(address, "ipv4_mapped", None) or address))
    return found


def test_no_cluster_there_is_one_line(tmp_path: Path) -> None:
    for address, status, said in (
        ("127.0.0.1:1", 1, "no Ray cluster could be joined at 127.0.0.1:1: "),
        ("nowhere", 2, "'nowhere' is neither auto nor HOST:PORT"),
        ("ray://head:10001", 2, "dynamos-sweep submit"),
        ("http://127.0.0.1:1", 2, "dynamos-sweep submit"),
    ):
        done = run("run", "--name=none", f"--address={address}", cwd=tmp_path)
        assert done.returncode == status and done.stderr.count("\n") == 1 and said in done.stderr, (
            done.stderr
        )
    assert not (tmp_path / "runs" / "none").exists()
