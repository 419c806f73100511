"""Replay whole searches on a surrogate of real runs, ours beside other tools'.

    python -m benchmarks.replays --repetitions 100
    python -m benchmarks.replays.peers DIR
    python -m benchmarks.replays --repetitions 30 --peers DIR

The surrogate (benchmarks/replays/surrogate.py) comes from the table of
benchmarks/replays/record.py. Every search is replayed many times, each time with other seeds. After
each number of runs, each rule chooses a configuration: `best` observed and `model`
(results/posterior.py) among those of any search, `own` as the tool itself does. The regret is the
expected class-il of the surrogate's best configuration of the space, minus that of the choice. The
optimism is the class-il by which the rule chose, minus the expected one of the choice. All in
points, mean over the replays with its 95 % interval by the bootstrap. Searches take one run at a
time. `sweep` is a whole sweep with a ledger, which may run configurations again; its `own` choice
is the default one of a sweep.

The second table compares one of our searches with every other: by the ratio of the regrets in the
same space, and by what a user takes home, which is the expected class-il of our choice in the space
`averaged` minus that of the other choice in its space.

Replays are added to a file of JSON lines. The same command continues where it stopped, and the
table that it prints at the end is of all replays in the file.
"""

import argparse
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.replays.figures import AGAINST, HEADER, against, rows
from benchmarks.replays.peers import TOOLS, Peer, Process
from benchmarks.replays.record import TABLES, read
from benchmarks.replays.searches import Ours, Plan, answers
from benchmarks.replays.surrogate import KINDS, Surrogate
from benchmarks.replays.sweeps import Swept
from dynamos.errors import UserError, unknown
from search_spaces.space import SearchSpace, read_space

SPACES = ("averaged", "core")


def ours(sampler: str, seeds: int = 1, shared: bool = False) -> Plan:
    """Return the plan of a sampler of this package."""
    name = f"{sampler} {seeds} {'shared' if shared else 'fresh'}"

    def tool(space: SearchSpace, seed: int, runs: int) -> Ours:
        return Ours(space, seed, runs, sampler)

    return Plan(name, tool, seeds, shared)


def sweep(sampler: str, **strategy: Any) -> Plan:
    """Return the plan of a whole sweep with fields of its strategy."""
    more = "".join(f" {name}={value:g}" for name, value in strategy.items())

    def tool(space: SearchSpace, seed: int, runs: int) -> Swept:
        return Swept(space, seed, runs, sampler=sampler, **strategy)

    return Plan(f"sweep {sampler}{more}", tool, ahead=True)


def peer(process: Process, tool: str, seeds: int = 1) -> Plan:
    """Return the plan of another tool."""
    name = f"peer {tool}" if tool == "smac" else f"peer {tool} {seeds} fresh"
    return Plan(name, partial(Peer, process, tool), seeds, ahead=tool == "smac")


OURS = (
    ours("tpe"),
    ours("tpe", shared=True),
    ours("tpe", seeds=3),
    ours("tpe", seeds=3, shared=True),
    ours("noisy"),
    ours("gp"),
    ours("random"),
    *(
        sweep(sampler, **strategy)
        for sampler in ("tpe", "noisy")
        for strategy in ({}, {"replicates": 0.2}, {"race": 4})
    ),
)


def main() -> None:
    """Replay what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="seq-digits", help="stream of the table")
    parser.add_argument("--tables", type=Path, default=TABLES, help="folder of the tables")
    parser.add_argument("--surrogate", choices=KINDS, default="gp", help="kind of the surrogate")
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=SPACES)
    parser.add_argument("--runs", nargs="+", type=int, default=[20, 60, 150])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--only", nargs="+", help="replay only the searches with these names")
    parser.add_argument("--peers", type=Path, help="environment of the other tools")
    parser.add_argument("--ours", default="tpe 1 fresh", help="search of the second table")
    parser.add_argument("--choice", default="model", help="its rule of choice")
    parser.add_argument("--file", type=Path, default=Path("runs") / "replays.jsonl")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    given = parser.parse_args()
    path = given.tables / f"{given.dataset}.jsonl.xz"
    surrogate = Surrogate(*read(path), kind=given.surrogate)
    process = Process(given.peers) if given.peers else None
    plans = list(OURS)
    if process is not None:
        plans += [peer(process, tool) for tool in TOOLS]
        plans += [peer(process, tool, seeds=3) for tool in ("optuna-tpe", "optuna-gp")]
    known = {plan.name: plan for plan in plans}
    for name in given.only or ():
        if name not in known:
            raise unknown("search", name, known)
    plans = [known[name] for name in given.only or known]
    of = f"{given.dataset} {hashlib.sha256(path.read_bytes()).hexdigest()[:8]} {given.surrogate}"
    began = time.monotonic()
    for repetition in range(given.repetitions):
        for space in given.spaces:
            for plan in plans:
                if time.monotonic() - began < given.seconds:
                    replay(given.file, of, plan, surrogate, space, given.runs, repetition)
    if process is not None:
        process.close()
    best = {space: surrogate.best(read_space(space))[1] for space in given.spaces}
    for space, value in best.items():
        print(f"Best of {space}: {value:.1f}")
    found = [n for n in lines(given.file) if n["of"] == of and n["space"] in best]
    print("\n".join(["", HEADER, *rows(found, best)]))
    print("\n".join(["", AGAINST, *against(found, best, given.ours, given.choice)]))


def replay(
    path: Path,
    of: str,
    plan: Plan,
    surrogate: Surrogate,
    space: str,
    numbers: Sequence[int],
    repetition: int,
) -> None:
    """Replay a search, unless the file has it, and add it to the file.

    The numbers of runs that the file has are left out.
    """
    key: dict[str, Any] = {"of": of, "plan": plan.name, "space": space, "repetition": repetition}
    have = {line["runs"] for line in lines(path) if key.items() <= line.items()}
    missing = sorted(set(numbers) - have)
    if not missing:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    for answer in answers(plan, surrogate, read_space(space), missing, repetition):
        with path.open("a") as file:
            # A line that was cut short must not take this one with it.
            file.write("\n" + json.dumps(key | dataclasses.asdict(answer)) + "\n")


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file of replays; a line that was cut short is left out."""
    for line in path.read_text().splitlines() if path.is_file() else []:
        with suppress(json.JSONDecodeError):
            yield json.loads(line)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
