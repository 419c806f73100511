"""When `--stop-when-done` ends a search, and what the search loses by it.

    python -m benchmarks.stopping [--dataset seq-digits] [--searches 6] [--trials 100]

Each search runs on a surrogate of recorded runs (benchmarks/replays/surrogate.py) in the space
`averaged`, with the default sampler and one seed per trial. A row has the number of trials at which
the search would end, the gain and the noise that were compared there
(results/strategy/stopping.py), and the regret then and after all trials: the class-il that the
chosen configuration lacks to the best one of the surrogate, in points. The last row has the means.
"""

import argparse
import datetime as dt
from pathlib import Path
from statistics import fmean

from benchmarks.replays.record import TABLES, read
from benchmarks.replays.searches import Ours
from benchmarks.replays.surrogate import Surrogate
from dynamos.config import TrainConfig
from dynamos.metrics import TaskResult
from results.choice import Choice, chosen
from results.definition.sweep_config import SweepConfig
from results.strategy.stopping import Gain, gain, judged_at
from results.sweep import Sweep
from results.trial import TrialRecord
from search_spaces.space import read_space

BEGAN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="seq-digits", help="stream of the table")
    parser.add_argument("--tables", type=Path, default=TABLES, help="folder of the tables")
    parser.add_argument("--searches", type=int, default=6)
    parser.add_argument("--trials", type=int, default=100)
    given = parser.parse_args()
    surrogate = Surrogate(*read(given.tables / f"{given.dataset}.jsonl.xz"))
    _, most = surrogate.best(read_space("averaged"))
    print("search  ends at  gain  noise  regret then  regret at the end", flush=True)
    rows = []
    for seed in range(1, given.searches + 1):
        at, found, then, last = _searched(surrogate, seed, given.trials)
        rows.append((most - then, most - last))
        compared = "none  none" if found is None else f"{found.expected:4.2f} {found.noise:6.2f}"
        print(f"{seed:6d} {at:8d}  {compared} {rows[-1][0]:12.2f} {rows[-1][1]:18.2f}", flush=True)
    print(f"mean {fmean(r[0] for r in rows):36.2f} {fmean(r[1] for r in rows):18.2f}")


def _searched(
    surrogate: Surrogate, seed: int, trials: int
) -> tuple[int, Gain | None, float, float]:
    """(trials at the end of the search, gain then, mean of the choice then and after all trials).

    If the search does not end, the gain is None and the number that of all trials.
    """
    space = read_space("averaged")
    base = TrainConfig(dataset="seq-digits", evaluate_on="validation")
    config = SweepConfig(name="s", space=space, base=base, trials=trials)
    search = Ours(space, seed, trials, config.sampler)
    records, ended = list[TrialRecord](), None
    for number in range(trials):
        tried, _ = search.ask()
        value = surrogate.run(tried, 1000 * seed + number)
        search.tell([value])
        metrics = {"val_class_il": value, "task": 0, "n_tasks": 1, "steps": 1}
        result = TaskResult.of_metrics(metrics)
        records.append(
            TrialRecord(
                number, "COMPLETE", "sampler", tried, {number: [result]}, 1, False, None, BEGAN,
                BEGAN + dt.timedelta(seconds=number), value, True, 1.0, 1.0, 0.0,
            )
        )  # fmt: skip
        sweep = Sweep(config, {}, list(records))
        if ended is None and judged_at(number + 1, len(space.parameters)) == number + 1:
            found = gain(sweep)
            if found is not None and found.negligible:
                ended = number + 1, found, surrogate.mean(chosen(sweep, Choice())[0].config)
    last = surrogate.mean(chosen(sweep, Choice())[0].config)
    return (trials, None, last, last) if ended is None else (*ended, last)


if __name__ == "__main__":
    main()
