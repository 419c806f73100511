"""Outcome of a confirmation: test results on fresh seeds, paired with the baseline's."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dynamos.files import AnyPath, write_whole
from results.analysis.difference import LEVEL, Difference, difference
from results.analysis.improvement import Improvement, improvement
from results.analysis.multiplicity import holm
from results.analysis.sampling_error import images_behind
from results.definition.sweep_config import Objective
from results.ledger.ledger import Ledger
from results.sweep import IS_BASELINE, OUTCOME, Sweep, latest_outcome
from results.trial import TrialRecord, newest
from results.wording import FRACTIONS, count, measured

if TYPE_CHECKING:
    import pandas as pd

# in a confirmation's record: numbers of the sweep's trials, by number of the trial that tests them
CHOSEN = "chosen"
BASELINE = "baseline"  # in a confirmation's record: description of the baseline, in words
CONFIRMED, NOT_CONFIRMED, REFUTED = "confirmed", "not confirmed", "refuted"
_ENDED = {"FAIL": "has failed", "PRUNED": "was pruned"}


@dataclass(frozen=True, slots=True)
class Tested:
    """A configuration of a confirmation."""

    trial: TrialRecord  # the confirmation's trial
    # number of the sweep's trial; None for a baseline that is not among the chosen trials
    of: int | None
    is_baseline: bool
    # from the baseline, in the first objective; None for the baseline, or without both results
    against: Difference | None
    improves: Improvement | None  # the same, of all pairs of runs

    @property
    def label(self) -> str:
        """Name of the configuration: its trial, "baseline", or both."""
        names = [] if self.of is None else [f"trial {self.of}"]
        return " = ".join(names + ["baseline"] * self.is_baseline)


def outcomes(confirmation: Sweep) -> list[Tested]:
    """Return the configurations that a confirmation tests, in order of choice, the baseline last.

    A rerun replaces the trial that it runs again. The tests of several configurations are corrected
    by Holm's method, so that the error of all of them together is at most LEVEL.
    """
    objective = confirmation.config.objectives[0]
    of = {int(number): trial for number, trial in confirmation.record[CHOSEN].items()}
    baseline, *others = tested = list(newest(confirmation.records).items())
    compared = {
        number: (trial.by_seed(objective.metric), baseline[1].by_seed(objective.metric))
        for number, trial in others
        if trial.state == baseline[1].state == "COMPLETE"
    }
    gains = _gains([compared.get(number) for number, _ in others])
    against = dict(zip((number for number, _ in others), gains, strict=True))
    improves = {
        number: improvement(*pair, objective.sign, LEVEL) for number, pair in compared.items()
    }
    rows = [
        Tested(
            trial,
            of.get(number),
            number == baseline[0],
            against.get(number),
            improves.get(number),
        )
        for number, trial in tested
    ]
    return sorted(
        rows, key=lambda row: list(of.values()).index(row.of) if row.of is not None else len(of)
    )


def _gains(
    compared: Sequence[tuple[Sequence[float], Sequence[float]] | None],
) -> list[Difference | None]:
    """Return the differences of (values, baseline) by seed, corrected for their number.

    None for a configuration without results, which counts in the number all the same.
    """
    alone = [None if pair is None else difference(*pair) for pair in compared]
    if len(alone) < 2:
        return alone
    found = list[Difference | None]()
    steps = holm([None if gain is None else gain.p_value for gain in alone], LEVEL)
    for pair, gain, step in zip(compared, alone, steps, strict=True):
        if pair is not None and gain is not None:
            gain = difference(*pair, level=LEVEL / step.divisor)
        if gain is not None and gain.p_value is not None:
            gain = replace(gain, adjusted=step.p_value, tests=len(alone))
        found.append(gain)
    return found


def trained(ledger: Ledger, number: int) -> tuple[Ledger, TrialRecord] | None:
    """Return (ledger, trial) of the latest confirmation that retrained a sweep's trial completely.

    Returns None if no confirmation did.
    """
    for name in reversed(ledger.looks):
        if (ledger.folder.parent / name / "sweep.yaml").exists():
            there = Ledger.open(ledger.folder.parent, name)
            for row in outcomes(Sweep.of(there)):
                if row.of == number and row.trial.state == "COMPLETE":
                    return there, row.trial
    return None


def confirmation_frame(confirmation: Sweep) -> "pd.DataFrame":
    """Return one row per configuration: test metrics over n seeds, paired difference to baseline.

    ci_low and ci_high are the ends of the first objective's interval, of which `confidence` is the
    confidence. p_holm is the p-value after Holm's correction; without several configurations it is
    p_value. p_improvement is the probability of improvement, with the ends of its interval.
    """
    import pandas as pd  # only here: its import takes long, and a list of sweeps does not need it

    from results.frames import typed

    config, rows = confirmation.config, []
    objective = config.objectives[0].metric
    for row in outcomes(confirmation):
        trial, gain = row.trial, row.against
        complete = trial.state == "COMPLETE"
        entry: dict[str, Any] = {
            "configuration": row.label,
            "trial": row.of,
            "state": trial.state,
            "n": len(trial.results),
        }
        for metric in config.metrics:
            entry |= {
                metric: trial.last(metric) if complete else None,
                f"{metric}_std": trial.spread(metric) if complete else None,
            }
        low, high = (None if gain is None else gain.interval(objective)) or (None, None)
        better = row.improves
        rows.append(
            entry
            | {
                "difference": None if gain is None else gain.mean,
                "difference_std": None if gain is None else gain.spread,
                "ci_low": low,
                "ci_high": high,
                "confidence": None if low is None or gain is None else 1 - gain.level,
                "p_value": None if gain is None else gain.p_value,
                "p_holm": None if gain is None else gain.after_correction,
                "p_improvement": None if better is None else better.value,
                "p_improvement_low": None if better is None else better.low,
                "p_improvement_high": None if better is None else better.high,
            }
            | trial.config
        )
    return typed(pd.DataFrame(rows, dtype=object), [p.name for p in config.space.parameters])


def enter_outcome(ledger: Ledger, confirmation: Sweep) -> AnyPath:
    """Enter a confirmation's `outcome`, if it has one, in the sweep's ledger; write confirm.csv.

    Returns the path of confirm.csv.
    """
    name, found = confirmation.config.name, outcome(confirmation)
    look = ledger.looks.get(name)
    if (
        found
        and look is not None
        and {**look.get(OUTCOME, {}), "at": None} != {**found, "at": None}
    ):
        ledger.enter_look(name, {**look, OUTCOME: found})
    return write_whole(ledger.folder / "confirm.csv", confirm_csv(confirmation))


def confirm_csv(confirmation: Sweep) -> str:
    """Return the content of confirm.csv, `confirmation_frame` as text."""
    return confirmation_frame(confirmation).to_csv(index=False)


def latest_verdict(sweep: Sweep) -> str | None:
    """Return the verdict of a confirmation, or of a sweep's latest confirmation with an answer.

    Returns None if no answer exists.
    """
    found = latest_outcome(sweep.looks) if sweep.config.confirms is None else outcome(sweep)
    return None if found is None else str(found["verdict"])


def outcome(confirmation: Sweep) -> dict[str, Any] | None:
    """Return a confirmation's answer about the sweep's choice, as plain values.

    None if it has no answer yet. "verdict" is CONFIRMED, NOT_CONFIRMED, REFUTED or IS_BASELINE;
    "finding" explains it in sentences. "trial" is the number of the choice in the sweep, "tested"
    the numbers of all tested trials. "metrics" are means over seeds, by their names in MLflow.
    """
    config = confirmation.config
    rows = outcomes(confirmation)
    first, baseline = rows[0], _baseline(rows)
    if (verdict := _verdict(first, config.objectives[0])) is None:
        return None
    values = {
        f"{prefix}_{metric}": row.trial.last(metric)
        for metric in config.metrics
        for prefix, row in {"baseline": baseline, "confirmed": first}.items()
    }
    if first.against is not None:
        values |= {
            "confirmed_difference": first.against.mean,
            "confirmed_p_value": first.against.p_value,
            "confirmed_p_holm": first.against.after_correction,
        }
    if first.improves is not None:
        values |= {"confirmed_p_improvement": first.improves.value}
    return {
        "at": dt.datetime.now(dt.UTC).isoformat(),
        "confirmation": config.name,
        "verdict": verdict,
        "finding": finding(confirmation),
        "trial": first.of,
        "tested": [row.of for row in rows if row.of is not None],
        "metrics": {name: value for name, value in values.items() if value is not None},
    }


def verdict(sweep: Sweep, confirmation: Sweep) -> str:
    """Describe the finding of a sweep's confirmation and the number of uses of test images."""
    return (
        f"{finding(confirmation)} Test images were used in "
        f"{count(len(sweep.looks), 'confirmation')} of this sweep."
    )


def finding(confirmation: Sweep) -> str:
    """Describe the finding of a confirmation; the sweep's choice comes first."""
    rows, objective = outcomes(confirmation), confirmation.config.objectives[0]
    first, baseline = rows[0], _baseline(rows)
    gain, verdict = first.against, _verdict(first, objective)
    if verdict is None:
        bad = first if first.trial.state != "COMPLETE" else baseline
        state = bad.trial.state
        return f"No answer yet: {bad.label} {_ENDED.get(state, f'is {state.lower()}')}" + (
            f" ({bad.trial.reason})." if bad.trial.reason else "."
        )
    images = images_behind(first.trial, objective.metric, confirmation.record)
    on = f" Each result is measured on {images}." if images else ""
    if gain is None:
        result = _result(first, objective)
        return f"The chosen configuration is the baseline: {objective.metric} {result}.{on}"
    text = (
        f"{_capital(verdict)} on test images: {first.label}, which the sweep chose, is "
        f"{_words(gain, objective)}. Its {objective.metric} is {_result(first, objective)}; that "
        f"of the baseline is {_result(baseline, objective)}. {gain.chance(objective.metric)}"
        f"{_improves(first)} The baseline is {confirmation.record[BASELINE]}.{on}"
    )
    better = [
        row.label
        for row in rows[1:]
        if row.against is not None and objective.sign * (row.against.mean - gain.mean) > 0
    ]
    if better:
        text += (
            f" {_capital(', '.join(better))} tested better than the choice; do not choose it "
            "now: that would be a choice on test images."
        )
    return text


def _baseline(rows: Sequence[Tested]) -> Tested:
    return next(row for row in rows if row.is_baseline)


def _verdict(choice: Tested, objective: Objective) -> str | None:
    """The verdict on the sweep's choice; None as long as it has no answer."""
    if choice.trial.state != "COMPLETE":
        return None
    if choice.is_baseline:
        return IS_BASELINE
    if choice.against is None:
        return None
    if choice.against.could_be_chance:
        return NOT_CONFIRMED
    return CONFIRMED if objective.sign * choice.against.mean > 0 else REFUTED


def _words(gain: Difference, objective: Objective) -> str:
    """A difference in words: its direction and its size."""
    if gain.mean == 0:
        return "as good as the baseline"
    way = "better" if objective.sign * gain.mean > 0 else "worse"
    return (
        f"{way} than the baseline by {measured(objective.metric, abs(gain.mean))} "
        f"{f'of {objective.metric}' if objective.metric in FRACTIONS else 'points'}"
    )


def _improves(row: Tested) -> str:
    """The probability of improvement in a sentence; "" for one run each, which tell nothing."""
    if row.improves is None or len(row.trial.results) < 2:
        return ""
    return f" Its probability of improvement over the baseline is {row.improves}."


def _result(row: Tested, objective: Objective) -> str:
    spread, value = row.trial.spread(objective.metric), row.trial.final(objective.metric)
    deviation = (
        "" if spread is None else f"standard deviation {measured(objective.metric, spread)} over "
    )
    return (
        f"{measured(objective.metric, value)} ({deviation}{count(len(row.trial.results), 'seed')})"
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
