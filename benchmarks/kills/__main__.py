"""SIGKILL at random moments of one long sweep: nothing is lost, doubled or stuck at its end.

    python -m benchmarks.kills --kills 200 [--seed 1] [--json FILE]

Killed are, equally often, the driver, all processes of its session, a worker, the mirror to MLflow,
a service that watches the sweep, and PostgreSQL, which holds ledger and MLflow's store (SQLite does
where PostgreSQL is not installed, or not among --targets). After each kill, nothing that the ledger
had is gone or different. At the end, every trial is complete, once, and has one MLflow run with
every value once; some trials are trained again without disturbance and give the same results.
Otherwise the faults are printed, and the exit status is 1.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.kills.campaign import NAME, TARGETS, Campaign, Kill
from benchmarks.kills.faults import ledger_faults, mirror_faults, training_faults
from benchmarks.kills.postgresql import programs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign and print its table; return 1 if there are faults."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--again", type=int, default=10, help="number of trials trained again")
    parser.add_argument("--json", type=Path, help="file for kills, counts and faults")
    given = parser.parse_args(arguments)
    targets = [t for t in given.targets if t != "postgresql" or programs() is not None]
    began, draws = time.monotonic(), random.Random(given.seed)
    print(f"seed {given.seed}, targets: {', '.join(targets)}", flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        Campaign(Path(folder), draws, targets, lambda text: print(text, flush=True)) as campaign,
    ):
        campaign.run(given.kills)
        trials = campaign.ledger.trials()
        faults = [
            *campaign.faults,
            *ledger_faults(campaign.ledger),
            *mirror_faults(NAME, trials, campaign.tracking_uri),
            *training_faults(campaign.ledger.config, trials, draws, given.again),
        ]
    counts = {
        "seed": given.seed,
        "kills": len(campaign.kills),
        "trials": len(trials),
        "attempts": sum(t.attempt for t in trials),
        "seconds": round(time.monotonic() - began),
    }
    print(f"\n{table(campaign.kills)}\n")
    print(", ".join(f"{name} {value}" for name, value in counts.items()))
    print("\n".join(faults) or "nothing is lost, doubled or stuck")
    if given.json is not None:
        kills = [asdict(kill) for kill in campaign.kills]
        given.json.write_text(json.dumps(counts | {"struck": kills, "faults": faults}, indent=1))
    return 1 if faults else 0


def table(kills: Sequence[Kill]) -> str:
    """A table of the kills by target, in Markdown."""
    lines = ["| killed | times | while trials trained |", "|---|---|---|"]
    for target in TARGETS:
        struck = [kill for kill in kills if kill.target == target]
        if struck:
            busy = sum(kill.running > 0 for kill in struck)
            lines.append(f"| {target} | {len(struck)} | {busy} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
