"""Outcome of a confirmation: test results on fresh seeds, paired with the baseline's."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dynamos.files import AnyPath, write_whole
from results.analysis.difference import Difference, difference
from results.analysis.improvement import Improvement, improvement
from results.analysis.multiplicity import LEVEL, holm, level_of
from results.analysis.sampling_error import images_behind
from results.definition.objectives import Objective
from results.ledger.attributes import OUTCOME, latest_outcome
from results.ledger.ledger import Ledger
from results.sweep import (
    EXTENDS,
    IS_BASELINE,
    LOOK_NUMBER,
    ORDERS_OF,
    Sweep,
)
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

    A rerun replaces the trial that it runs again. The runs of the confirmation that this one
    extends are pooled with its own. The tests of several configurations are corrected by Holm's
    method, so that the error of all of them together is at most that of the look (`level_of`).
    Class orders are not tested.
    """
    objective = confirmation.config.objectives[0]
    level = level_of(confirmation.record.get(LOOK_NUMBER))
    of = {int(number): trial for number, trial in confirmation.record[CHOSEN].items()}
    baseline, *others = tested = list(_pooled(confirmation).items())
    compared = {
        number: (trial.by_seed(objective.metric), baseline[1].by_seed(objective.metric))
        for number, trial in others
        if trial.state == baseline[1].state == "COMPLETE"
    }
    gains = _gains([compared.get(number) for number, _ in others], level)
    against = dict(zip((number for number, _ in others), gains, strict=True))
    improves = {
        number: improvement(*pair, objective.sign, level) for number, pair in compared.items()
    }
    if ORDERS_OF in confirmation.record:
        against, improves = {number: _untested(gain) for number, gain in against.items()}, {}
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


def _untested(gain: Difference | None) -> Difference | None:
    return gain and replace(gain, half_width=None, p_value=None, adjusted=None)


def _pooled(confirmation: Sweep) -> dict[int, TrialRecord]:
    """The trials by number, with the runs of the looks before; the first run's seed comes first."""
    tested = newest(confirmation.records)
    if confirmation.extends is None:
        return tested
    earlier = _pooled(confirmation.extends)
    return {number: _after(earlier[number], trial) for number, trial in tested.items()}


def _after(before: TrialRecord, trial: TrialRecord) -> TrialRecord:
    """A trial with the runs of its configuration before it; COMPLETE only if both are."""
    incomplete = before if trial.state == "COMPLETE" else trial
    return replace(
        trial,
        state=incomplete.state,
        reason=incomplete.reason,
        results={**before.results, **trial.results},
        recorded_at={**before.recorded_at, **trial.recorded_at},
    )


def _gains(
    compared: Sequence[tuple[Sequence[float], Sequence[float]] | None], level: float
) -> list[Difference | None]:
    """Return the differences of (values, baseline) by seed, corrected for their number.

    None for a configuration without results, which counts in the number all the same.
    """
    alone = [None if pair is None else difference(*pair, level=level) for pair in compared]
    if len(alone) < 2:
        return alone
    found = list[Difference | None]()
    steps = holm([None if gain is None else gain.p_value for gain in alone], level)
    for pair, gain, step in zip(compared, alone, steps, strict=True):
        if pair is not None and gain is not None:
            gain = difference(*pair, level=level / step.divisor)
        if gain is not None and gain.p_value is not None:
            gain = replace(gain, adjusted=step.p_value, tests=len(alone))
        found.append(gain)
    return found


def trained(ledger: Ledger, number: int) -> tuple[Ledger, TrialRecord] | None:
    """Return (ledger, trial) of the latest confirmation that retrained a sweep's trial completely.

    Returns None if no confirmation did.
    """
    for name in reversed(ledger.looks):
        if (
            ORDERS_OF not in ledger.looks[name]
            and (ledger.folder.parent / name / "sweep.yaml").exists()
        ):
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
    return typed(
        pd.DataFrame(rows, dtype=object), {p.name: p.kind for p in config.space.parameters}
    )


def enter_outcome(ledger: Ledger, confirmation: Sweep) -> AnyPath:
    """Enter a confirmation's `outcome`, if it has one, in the sweep's ledger; write confirm.csv.

    Returns the path of confirm.csv.
    """
    name, found = confirmation.config.name, outcome(confirmation)
    look = ledger.looks.get(name) or look_of(confirmation)
    if found and {**look.get(OUTCOME, {}), "at": None} != {**found, "at": None}:
        ledger.enter_look(name, {**look, OUTCOME: found})
    orders = ORDERS_OF in confirmation.record
    if orders and name not in ledger.looks:
        ledger.enter_look(name, look)
    return write_whole(
        ledger.folder / ("class_orders.csv" if orders else "confirm.csv"), confirm_csv(confirmation)
    )


def look_of(confirmation: Sweep) -> dict[str, Any]:
    """Return a confirmation's entry in the ledger of its sweep: its use of test images, now."""
    record, config = confirmation.record, confirmation.config
    return {
        "at": dt.datetime.now(dt.UTC).isoformat(),
        "configurations": config.trials,
        "seeds": list(config.training_seeds),
        **{key: record[key] for key in (EXTENDS, LOOK_NUMBER, ORDERS_OF) if key in record},
    }


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

    None if it has no answer yet, and for class orders, which are not tested. "verdict" is
    CONFIRMED, NOT_CONFIRMED, REFUTED or IS_BASELINE; "finding" explains it in sentences. "trial" is
    the number of the choice in the sweep, "tested" the numbers of all tested trials. "metrics" are
    means over seeds, by their names in MLflow.
    """
    config = confirmation.config
    rows = outcomes(confirmation)
    first, baseline = rows[0], _baseline(rows)
    verdict, _ = _judged(confirmation, rows)
    if verdict is None or ORDERS_OF in confirmation.record:
        return None
    values = {
        f"{prefix}_{metric}": row.trial.last(metric)
        for metric in config.metrics
        for prefix, row in {"baseline": baseline, "confirmed": first}.items()
    }
    if first.against is not None:
        low, high = first.against.interval(config.objectives[0].metric) or (None, None)
        values |= {
            "confirmed_seeds": float(first.against.n),
            "confirmed_difference": first.against.mean,
            "confirmed_difference_low": low,
            "confirmed_difference_high": high,
            "confirmed_p_value": first.against.p_value,
            "confirmed_p_holm": first.against.after_correction,
        }
    if first.improves is not None:
        values |= {
            "confirmed_p_improvement": first.improves.value,
            "confirmed_p_improvement_low": first.improves.low,
            "confirmed_p_improvement_high": first.improves.high,
        }
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
    gain, (verdict, since) = first.against, _judged(confirmation, rows)
    if verdict is None:
        bad = first if first.trial.state != "COMPLETE" else baseline
        state = bad.trial.state
        return f"No answer yet: {bad.label} {_ENDED.get(state, f'is {state.lower()}')}" + (
            f" ({bad.trial.reason})." if bad.trial.reason else "."
        )
    if ORDERS_OF in confirmation.record:
        return _on_orders(rows, confirmation)
    images = images_behind(first.trial, objective.metric, confirmation.record)
    on = f" Each result is measured on {images}." if images else ""
    if gain is None:
        result = _result(first, objective)
        return f"The chosen configuration is the baseline: {objective.metric} {result}.{on}"
    text = (
        f"{_capital(verdict)} on test images: {first.label}, which the sweep chose, is "
        f"{_words(gain, objective)}. Its {objective.metric} is {_result(first, objective)}; that "
        f"of the baseline is {_result(baseline, objective)}. {gain.chance(objective.metric)}"
        f"{_look(confirmation)}{_since(confirmation, since)}{_improves(first)} The baseline is "
        f"{confirmation.record[BASELINE]}.{on}"
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


def _on_orders(rows: Sequence[Tested], confirmation: Sweep) -> str:
    """Describe the results on other class orders; every configuration has the same orders."""
    objective, baseline = confirmation.config.objectives[0], _baseline(rows)
    orders = len(baseline.trial.results)

    def result(row: Tested) -> str:
        return _result(row, objective, "order")

    text = (
        f"On {count(orders, 'other class order')}, apart from the seeds of "
        f"{confirmation.record[ORDERS_OF]} and without a test: {objective.metric} of the baseline "
        f"is {result(baseline)}."
    )
    for row in rows:
        if row.against is None:
            continue
        gains = [
            objective.sign * (ours - theirs)
            for ours, theirs in zip(
                row.trial.by_seed(objective.metric),
                baseline.trial.by_seed(objective.metric),
                strict=True,
            )
        ]
        text += (
            f" That of {row.label} is {result(row)}, "
            f"{row.against.shown(objective.metric)} by order, better in "
            f"{sum(gain > 0 for gain in gains)} of {orders}."
        )
    return text


def _baseline(rows: Sequence[Tested]) -> Tested:
    return next(row for row in rows if row.is_baseline)


def _judged(confirmation: Sweep, rows: Sequence[Tested]) -> tuple[str | None, Sweep]:
    """(the verdict on the sweep's choice, the confirmation that reached it).

    The verdict is None as long as it has no answer. One that an earlier look has reached stands.
    """
    verdict = _verdict(rows[0], confirmation.config.objectives[0])
    if verdict == NOT_CONFIRMED and (before := confirmation.extends) is not None:
        earlier, since = _judged(before, outcomes(before))
        if earlier in (CONFIRMED, REFUTED):
            return earlier, since
    return verdict, confirmation


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


def _look(confirmation: Sweep) -> str:
    """The number of a look and its part of the error, in a sentence; "" for the only look."""
    if (number := confirmation.record.get(LOOK_NUMBER)) is None:
        return ""
    return (
        f" This is look {number}, with {100 * level_of(number):.3g}% of the error of {LEVEL:.0%}."
    )


def _since(confirmation: Sweep, since: Sweep) -> str:
    """A sentence on the earlier look that has reached the verdict; "" for this one."""
    if since is confirmation:
        return ""
    return f" Look {since.record[LOOK_NUMBER]} has found more than chance, and its verdict stands."


def _improves(row: Tested) -> str:
    """The probability of improvement in a sentence; "" for one run each, which tell nothing."""
    if row.improves is None or len(row.trial.results) < 2:
        return ""
    return f" Its probability of improvement over the baseline is {row.improves}."


def _result(row: Tested, objective: Objective, runs: str = "seed") -> str:
    spread, value = row.trial.spread(objective.metric), row.trial.final(objective.metric)
    deviation = (
        "" if spread is None else f"standard deviation {measured(objective.metric, spread)} over "
    )
    return f"{measured(objective.metric, value)} ({deviation}{count(len(row.trial.results), runs)})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
