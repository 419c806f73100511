"""Value of each rule of choice, by replays of random searches on a table of real runs.

    python -m benchmarks.choice [--dataset seq-digits] [--replays 200]

The table comes from benchmarks/replays/record.py. A replay draws the trials of a random search
from it: configurations with one seed each. Then each rule chooses one of them. The value of the
choice is its class-il on validation images, with the seeds that the replay did not see. "shared"
gives all trials the same seed; "fresh", as a sweep does, draws one for each.

The printed table has a row for each space, number of trials, kind of seeds and rule. It shows the
value of the choice, mean over replays with its 95 % interval, and the optimism. The optimism is the
class-il by which the rule chose, observed or expected by a model, minus the value.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from benchmarks.replays.record import TABLES, read
from results.gaussian_process import coordinates
from results.posterior import LEAST_EXPLAINED, fitted
from search_spaces.space import SearchSpace, read_space

TRIALS = (20, 60, 150)
Values = dict[tuple[int, float], dict[int, float]]  # by (configuration, decay), then by seed


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="seq-digits", help="stream of the table")
    parser.add_argument("--tables", type=Path, default=TABLES, help="folder of the tables")
    parser.add_argument("--replays", type=int, default=200)
    given = parser.parse_args()
    settings, runs = read(given.tables / f"{given.dataset}.jsonl.xz")
    fields = {run["configuration"]: settings | run["fields"] for run in runs}
    values = class_il(runs)
    print("| space | trials | seeds | rule | value of the choice | optimism |\n" + "|---" * 6 + "|")
    for name in ("core", "averaged"):
        space = read_space(name)
        for trials in TRIALS:
            for seeds in ("shared", "fresh"):
                for rule, choose in RULES.items():
                    found = [
                        replay(space, fields, values, trials, seeds, choose, number)
                        for number in range(given.replays)
                    ]
                    value, optimism = zip(*found, strict=True)
                    half = 1.96 * stdev(value) / math.sqrt(len(value))
                    print(
                        f"| {name} | {trials} | {seeds} | {rule} | {fmean(value):.1f} ± {half:.1f} "
                        f"| {fmean(optimism):+.1f} |",
                        flush=True,
                    )


def class_il(runs: Sequence[dict[str, Any]]) -> Values:
    """Class-il after the last task, by configuration, decay and seed; 0 for a run that diverged."""
    decays = next(run["decays"] for run in runs if "decays" in run)
    values: Values = {}
    for run in runs:
        for decay in decays:
            rows = run["decays"][decay]["after_task"][-1] if "decays" in run else [0.0]
            key = run["configuration"], float(decay)
            values.setdefault(key, {})[run["seed"]] = fmean(rows)
    return values


Choose = Callable[[SearchSpace, Sequence[dict[str, Any]], Sequence[float]], tuple[int, float]]


def best(
    space: SearchSpace, configs: Sequence[dict[str, Any]], values: Sequence[float]
) -> tuple[int, float]:
    """(place of the largest value, that value)."""
    place = int(np.argmax(values))
    return place, values[place]


def by_model(
    space: SearchSpace, configs: Sequence[dict[str, Any]], values: Sequence[float]
) -> tuple[int, float]:
    """(place of the largest expectation, that expectation); `best` if too little is explained."""
    points = tuple(tuple(coordinates(space, config)) for config in configs)
    model = fitted(points, tuple((v,) for v in values), (True,) * len(points))
    if model.explained < LEAST_EXPLAINED:
        return best(space, configs, values)
    place = int(np.argmax(model.means))
    return place, model.means[place]


RULES: dict[str, Choose] = {"best": best, "model": by_model}


def replay(
    space: SearchSpace,
    fields: dict[int, dict[str, Any]],
    values: Values,
    trials: int,
    seeds: str,
    choose: Choose,
    number: int,
) -> tuple[float, float]:
    """(value of the choice, optimism) of one replay; its number seeds the draws."""
    draws = np.random.default_rng(number)
    decays = sorted({decay for _, decay in values})
    drawn = draws.choice(sorted(fields), min(trials, len(fields)), replace=False).tolist()
    varied = "average_decay" in [p.name for p in space.parameters]
    keys = [(c, float(draws.choice(decays)) if varied else 0.0) for c in drawn]
    common = set.intersection(*(set(values[key]) for key in keys))
    shared = int(draws.choice(sorted(common)))
    seen = [shared if seeds == "shared" else int(draws.choice(sorted(values[key]))) for key in keys]
    observed = [values[key][seed] for key, seed in zip(keys, seen, strict=True)]
    configs = [fields[c] | {"average_decay": decay} for c, decay in keys]
    place, claimed = choose(space, configs, observed)
    value = fmean(v for seed, v in values[keys[place]].items() if seed != seen[place])
    return value, claimed - value


if __name__ == "__main__":
    main()
