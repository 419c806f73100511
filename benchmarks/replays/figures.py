"""Figures of replays: means with bootstrap intervals, as rows of a table in Markdown."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Line = Mapping[str, Any]  # of the file of replays

RESAMPLES = 2000
HEADER = (
    "| space | runs | search | choice | replays | regret | optimism | tuner, s |\n"
    + "|---" * 8
    + "|"
)
AGAINST = "| space | runs | against | choice | ratio of regrets | taken home, difference |"
AGAINST += f"\n{'|---' * 6}|"


def interval(
    samples: Sequence[Sequence[float]], statistic: Callable[..., Array] = lambda a: a
) -> tuple[float, float]:
    """Return the 95 % interval of a statistic of means of independent samples.

    By the percentiles of the bootstrap (Efron and Tibshirani 1993, chapter 13).

    Args:
        samples: each is resampled by itself.
        statistic: of the means of the samples; arrays of means in, an array out.
    """
    draws = np.random.default_rng(0)
    means = []
    for sample in samples:
        values = np.array(sample, dtype=float)
        means.append(values[draws.integers(len(values), size=(RESAMPLES, len(values)))].mean(1))
    low, high = np.quantile(statistic(*means), (0.025, 0.975))
    return float(low), float(high)


def rows(lines: Iterable[Line], best: Mapping[str, float]) -> list[str]:
    """Return a row for each space, number of runs, plan and rule.

    Args:
        lines: of replays.
        best: by space, the value of its best configuration.
    """
    return [
        f"| {space} | {runs} | {plan} | {rule} | {len(group)} "
        f"| {shown([best[space] - true for true, _, _ in group])} "
        f"| {shown([claimed - true for true, claimed, _ in group], '+.1f')} "
        f"| {fmean(seconds for _, _, seconds in group):.1f} |"
        for (space, runs, plan, rule), group in sorted(grouped(lines).items())
    ]


def grouped(
    lines: Iterable[Line],
) -> dict[tuple[str, int, str, str], list[tuple[float, float, float]]]:
    """Return (true, claimed, seconds) of each replay by space, number of runs, plan and rule."""
    groups: dict[tuple[str, int, str, str], list[tuple[float, float, float]]] = {}
    for line in lines:
        for rule, (true, claimed) in line["choices"].items():
            key = line["space"], line["runs"], line["plan"], rule
            groups.setdefault(key, []).append((true, claimed, line["seconds"]))
    return groups


def against(
    lines: Iterable[Line], best: Mapping[str, float], plan: str, rule: str
) -> Iterator[str]:
    """Yield rows that compare a plan and rule with each other plan's final choices.

    The first figure is the ratio of the regrets in the same space, below 1 if the plan is better.
    The second is what a user takes home: the expected value of the plan's choice in the space
    `averaged`, minus that of the other's.
    """
    groups = {key: [true for true, _, _ in group] for key, group in grouped(lines).items()}
    for (space, runs, name, choice), other in sorted(groups.items()):
        ours = groups.get((space, runs, plan, rule))
        home = groups.get(("averaged", runs, plan, rule))
        if (name, choice) == (plan, rule) or ours is None or home is None:
            continue
        regrets = [best[space] - v for v in ours], [best[space] - v for v in other]
        yield (
            f"| {space} | {runs} | {name} | {choice} | {ratio(*regrets)} "
            f"| {difference(home, other)} |"
        )


def shown(sample: Sequence[float], form: str = ".1f") -> str:
    """Return the mean of a sample with its interval."""
    low, high = interval([sample])
    return f"{fmean(sample):{form}} ({low:{form}} to {high:{form}})"


def ratio(ours: Sequence[float], other: Sequence[float]) -> str:
    """Return the ratio of two means with its interval."""
    low, high = interval([ours, other], lambda a, b: a / b)
    return f"{fmean(ours) / fmean(other):.2f} ({low:.2f} to {high:.2f})"


def difference(ours: Sequence[float], other: Sequence[float]) -> str:
    """Return the difference of two means with its interval."""
    low, high = interval([ours, other], lambda a, b: a - b)
    return f"{fmean(ours) - fmean(other):+.1f} ({low:+.1f} to {high:+.1f})"
