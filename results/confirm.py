"""The statistics of a confirmation: each configuration's test results on fresh seeds, paired with the baseline's."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import pandas as pd
from scipy import stats

from dynamos.files import AnyPath, write_whole
from results.ledger import Ledger
from results.sweep_config import Objective
from results.trial import TrialRecord, newest
from results.wording import FRACTIONS, count, mean_and_spread, measured

CONFIDENCE = 0.95
_ENDED = {"FAIL": "has failed", "PRUNED": "was pruned"}
CHOSEN = "chosen"  # in a confirmation's record: numbers of the sweep's trials, by number of the trial that tests them


@dataclass(frozen=True, slots=True)
class Difference:
    """Paired differences of two configurations over the seeds that both trained."""

    mean: float
    half_width: float | None  # of the confidence interval about the mean; None with one seed
    p_value: float | None  # two-sided, of Student's paired t-test; None with one seed
    n: int

    @property
    def could_be_chance(self) -> bool:
        """Whether the interval holds zero, or nothing can be known."""
        return self.p_value is None or self.p_value >= 1 - CONFIDENCE

    def told(self, metric: str) -> str:
        """The difference in a metric, with its sign, and the interval."""
        return f"{'-' if self.mean < 0 else '+'}{measured(metric, abs(self.mean))}" + (
            "" if self.half_width is None else f" +- {measured(metric, self.half_width)}")


def difference(values: Sequence[float], baseline: Sequence[float]) -> Difference:
    """The mean of values - baseline, pair by pair, with its confidence interval (Student's t, n - 1 degrees)."""
    gains = [a - b for a, b in zip(values, baseline, strict=True)]
    n, mean = len(gains), fmean(gains)
    if n < 2:
        return Difference(mean, None, None, n)
    if stdev(gains) == 0:  # t is infinite, or undefined where all are equal
        return Difference(mean, 0.0, 1.0 if mean == 0 else 0.0, n)
    found = stats.ttest_1samp(gains, 0)
    interval = found.confidence_interval(CONFIDENCE)
    return Difference(mean, float(interval.high - interval.low) / 2, float(found.pvalue), n)


@dataclass(frozen=True, slots=True)
class Tested:
    """A configuration of a confirmation."""

    trial: TrialRecord  # the confirmation's
    of: int | None  # the sweep's trial that it was; None for a baseline that no trial of the sweep was chosen for
    is_baseline: bool
    against: Difference | None  # to the baseline, in the first objective; None for itself and where one has no result

    @property
    def label(self) -> str:
        """What it is called."""
        names = [] if self.of is None else [f"trial {self.of}"]
        return " = ".join(names + ["baseline"] * self.is_baseline)


def outcomes(confirmation: Ledger, trials: Sequence[TrialRecord]) -> list[Tested]:
    """The configurations that a confirmation tests: the sweep's in the order they were chosen, the baseline.

    `trials` are the confirmation's, as they were last read. Of a trial that was run again the rerun counts.
    """
    metric = confirmation.config.objectives[0].metric
    of = {int(number): trial for number, trial in confirmation.record[CHOSEN].items()}
    tested = newest(trials)
    baseline = tested[0]

    def against(trial: TrialRecord) -> Difference | None:
        if trial is baseline or trial.state != "COMPLETE" or baseline.state != "COMPLETE":
            return None
        return difference(trial.by_seed(metric), baseline.by_seed(metric))

    rows = [Tested(trial, of.get(number), trial is baseline, against(trial)) for number, trial in tested.items()]
    return sorted(rows, key=lambda row: list(of.values()).index(row.of) if row.of is not None else len(of))


def trained(ledger: Ledger, number: int) -> tuple[Ledger, TrialRecord] | None:
    """(confirmation, its trial) that retrained a sweep's trial to the end, the latest; None where none has."""
    for name in reversed(ledger.looks):
        if (ledger.folder.parent / name / "sweep.yaml").exists():
            there = Ledger.open(ledger.folder.parent, name)
            for row in outcomes(there, there.trials()):
                if row.of == number and row.trial.state == "COMPLETE":
                    return there, row.trial
    return None


def frame(confirmation: Ledger, trials: Sequence[TrialRecord]) -> pd.DataFrame:
    """One row per configuration: test metrics as mean and std over n seeds, the paired difference to the baseline."""
    config, rows = confirmation.config, []
    for row in outcomes(confirmation, trials):
        trial = row.trial
        entry: dict[str, Any] = {"configuration": row.label, "trial": row.of, "state": trial.state,
                                 "n": len(trial.results)}
        for metric in config.metrics:
            complete = trial.state == "COMPLETE"
            entry |= {metric: trial.last(metric) if complete else None,
                      f"{metric}_std": trial.spread(metric) if complete else None}
        gain = row.against
        low, high = (None, None) if gain is None or gain.half_width is None else (
            gain.mean - gain.half_width, gain.mean + gain.half_width)
        rows.append(entry | {"difference": None if gain is None else gain.mean, "ci_low": low, "ci_high": high,
                             "p_value": None if gain is None else gain.p_value} | trial.config)
    return pd.DataFrame(rows)


def write_confirmation(ledger: Ledger, confirmation: Ledger, trials: Sequence[TrialRecord]) -> AnyPath:
    """confirm.csv in the sweep's folder: `frame` of its latest confirmation."""
    return write_whole(ledger.folder / "confirm.csv", frame(confirmation, trials).to_csv(index=False))


def verdict(ledger: Ledger, confirmation: Ledger, trials: Sequence[TrialRecord]) -> str:
    """What a confirmation of a sweep found, and how often test images were looked at, in words."""
    return (f"{finding(confirmation, trials)} Test images were looked at in "
            f"{count(len(ledger.looks), 'confirmation')} of this sweep.")


def finding(confirmation: Ledger, trials: Sequence[TrialRecord]) -> str:
    """What a confirmation with these trials found, in words; the sweep's choice comes first."""
    rows, objective = outcomes(confirmation, trials), confirmation.config.objectives[0]
    first, baseline = rows[0], next(row for row in rows if row.is_baseline)
    if first.is_baseline:
        text = f"The sweep chose the baseline itself: {objective.metric} {_result(first, objective)}."
    elif first.against is None:
        bad = first if first.trial.state != "COMPLETE" else baseline
        state = bad.trial.state
        text = f"No answer yet: {bad.label} {_ENDED.get(state, f'is {state.lower()}')}" + (
            f" ({bad.trial.reason})." if bad.trial.reason else ".")
    else:
        text = (f"{_capital(first.label)}, which the sweep chose, is {_words(first.against, objective)}: "
                f"{objective.metric} {_result(first, objective)} against {_result(baseline, objective)}.")
        better = [row.label for row in rows[1:] if row.against is not None
                  and objective.sign * (row.against.mean - first.against.mean) > 0]
        if better:
            text += (f" {_capital(', '.join(better))} tested better than the choice; to take it now would be to choose "
                     "on test images.")
    return text


def _words(gain: Difference, objective: Objective) -> str:
    """A difference in words: whether it is better, by how much, and whether that could be chance."""
    if gain.mean == 0:
        return "equal to the baseline"
    way = "better" if objective.sign * gain.mean > 0 else "worse"
    amount = f"{way} than the baseline by {measured(objective.metric, abs(gain.mean))}"
    if gain.half_width is None:
        return f"{amount}; one seed cannot tell that from chance"
    amount += f" +- {measured(objective.metric, gain.half_width)} {_unit(objective.metric)}"
    chance = f"with {gain.n} seeds this could be chance" if gain.could_be_chance else "more than chance"
    return f"{amount} ({CONFIDENCE:.0%} confidence; p = {gain.p_value:.2g}; {chance})"


def _result(row: Tested, objective: Objective) -> str:
    return f"{mean_and_spread(row.trial, objective.metric)} over {count(len(row.trial.results), 'seed')}"


def _unit(metric: str) -> str:
    return f"of {metric}" if metric in FRACTIONS else "points"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
