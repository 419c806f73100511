"""Number of trials that one driver keeps running on a simulated cluster of many nodes.

    python -m benchmarks.scale [--nodes 16] [--slots 8] [--trials 2000] [--seconds 5]
        [--sampler random]

Nodes are real Ray nodes (raylets) on this machine. Each declares one GPU that holds N trials.
Trials sleep and report one result. Searcher, scheduler, ledger (SQLite) and MLflow (SQLite,
mirrored by another process) are the same as in every sweep. The first trial of every slot waits for
the first trials of all other slots, because starting workers use all CPUs. It then sleeps between 0
and 2 times as long as later trials. Utilisation is the GPU seconds slept divided by the GPU seconds
available, from the time when every slot had a trial to the start of the last trial.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest.mock import patch

import yaml

import tune.engine.sweep
from benchmarks.sleeping import SleepingTrial
from benchmarks.sweep_overhead import SPACE, TRIVIAL
from dynamos.config import TrainConfig, preset
from results.definition.sweep_config import SweepConfig
from results.ledger.ledger import Ledger
from search_spaces.space import SearchSpace

SAMPLE_SECONDS = 5.0
# A separate process: if one process is both a cluster's nodes and a driver, Ray loses the driver's
# actors.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 10**8}
cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
for _ in range(int(sys.argv[1]) - 1):
    cluster.add_node(**node)
print("address", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


class Sampler(threading.Thread):
    """Samples this process's CPU seconds and memory every SAMPLE_SECONDS."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.taken: list[tuple[float, float, float]] = []  # time, CPU seconds so far, MB

    def run(self) -> None:
        """Take samples until the process ends."""
        while True:
            used = resource.getrusage(resource.RUSAGE_SELF)
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.taken.append(
                (time.time(), used.ru_utime + used.ru_stime, pages * resource.getpagesize() / 1e6)
            )
            time.sleep(SAMPLE_SECONDS)


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--slots", type=int, default=8, help="trials on the GPU of a node")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds that a trial sleeps")
    parser.add_argument("--sampler", default="random")
    given = parser.parse_args()
    # imported here, because spawned processes import this module and do not need torch
    from dynamos.trainer import Trainer

    places = given.nodes * given.slots
    base = TrainConfig.from_dict(
        preset("seq-digits", 200)
        | {"evaluate_on": "validation", "threads": 1, "device": "cpu"}
        | TRIVIAL
    )
    result = next(iter(Trainer(base)))
    config = SweepConfig(
        name="scale",
        space=SearchSpace.from_dict("scale", yaml.safe_load(SPACE)),
        base=base,
        sampler=given.sampler,
        trials=given.trials,
        cpus_per_trial=0.1,
        gpus_per_trial=1 / given.slots,
    )
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder, "places")
        here.mkdir()
        reported = {"sleep": (given.seconds, places, here, result)}
        ledger = Ledger.create(Path(folder), config, {})
        cluster = subprocess.Popen(
            [sys.executable, "-c", CLUSTER, str(given.nodes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert cluster.stdout is not None
        address = next(line.split()[1] for line in cluster.stdout if line.startswith("address "))
        sampler = Sampler()
        sampler.start()
        try:
            with (
                patch("tune.engine.sweep.SweepTrial", SleepingTrial),
                patch("tune.engine.sweep.shipped_images", lambda _: reported),
            ):
                tune.engine.sweep.run_sweep(ledger, address=address)
        finally:
            ended = time.time()
            cluster.communicate()
        show(ledger, places, given.seconds, sampler.taken, ended)


def show(
    ledger: Ledger,
    places: int,
    seconds: float,
    taken: list[tuple[float, float, float]],
    ended: float,
) -> None:
    """Print utilisation, rates, and the driver's CPU and memory."""
    trials = ledger.trials()
    assert all(t.state == "COMPLETE" and t.attempt == 1 for t in trials), "every trial once"
    # as the driver saw it
    slept = sorted(
        (t.reported_at(1) - r[0].train_seconds, t.reported_at(1))
        for t in trials
        for r in t.results.values()
    )
    started = sorted(t.started_at.timestamp() for t in trials if t.started_at)
    over = sorted(t.ended_at.timestamp() for t in trials if t.ended_at)
    full = slept[places - 1][0]  # by then every place has had its first trial
    last = slept[-1][0]
    busy = sum(max(0.0, min(end, last) - max(begin, full)) for begin, end in slept)
    print(
        f"{len(trials)} trials of {seconds:g} s, {places} at a time: {over[-1] - started[0]:.0f} s "
        f"in all, ideally {len(trials) * seconds / places:.0f}; all places had a trial after "
        f"{full - started[0]:.0f} s"
    )
    print(
        f"utilisation after that: {100 * busy / (places * (last - full)):.1f} % over "
        f"{last - full:.0f} s; {sum(full < end <= last for _, end in slept) / (last - full):.1f} "
        "trials a second"
    )
    for quarter in range(1, 5):
        window = [
            t
            for t in taken
            if full + (quarter - 1) * (last - full) / 4
            <= t[0]
            <= full + quarter * (last - full) / 4
        ]
        if len(window) > 1:
            cpu = (window[-1][1] - window[0][1]) / (window[-1][0] - window[0][0])
            print(
                f"quarter {quarter}: the driver takes {100 * cpu:.0f} % of a CPU and "
                f"{window[-1][2]:.0f} MB"
            )
    print(f"the driver's CPU time in all: {taken[-1][1] - taken[0][1]:.2f} s")
    print(f"MLflow had caught up {ended - over[-1]:.0f} s after the last trial")


if __name__ == "__main__":
    main()
