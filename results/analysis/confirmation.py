"""What a confirmation found: each configuration's test results on fresh seeds, paired with the baseline's."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dynamos.files import AnyPath, write_whole
from results.analysis.difference import Difference, difference
from results.analysis.sampling_error import images_behind
from results.definition.sweep_config import Objective
from results.ledger.ledger import Ledger
from results.sweep import typed
from results.trial import TrialRecord, newest
from results.wording import FRACTIONS, count, measured

CHOSEN = "chosen"  # in a confirmation's record: numbers of the sweep's trials, by number of the trial that tests them
BASELINE = "baseline"  # in a confirmation's record: what the baseline is, in words
OUTCOME = "outcome"  # of a look in a sweep's ledger: what that confirmation found, once it has an answer
CONFIRMED, NOT_CONFIRMED, REFUTED = "confirmed", "not confirmed", "refuted"
IS_BASELINE = "is the baseline"
_ENDED = {"FAIL": "has failed", "PRUNED": "was pruned"}


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
    """One row per configuration: test metrics as mean and std over n seeds, the paired difference to the baseline.

    ci_low and ci_high are the ends of the first objective's 95 % interval.
    """
    config, rows = confirmation.config, []
    objective = config.objectives[0].metric
    for row in outcomes(confirmation, trials):
        trial, gain = row.trial, row.against
        complete = trial.state == "COMPLETE"
        entry: dict[str, Any] = {"configuration": row.label, "trial": row.of, "state": trial.state,
                                 "n": len(trial.results)}
        for metric in config.metrics:
            entry |= {metric: trial.last(metric) if complete else None,
                      f"{metric}_std": trial.spread(metric) if complete else None}
        low, high = (None if gain is None else gain.interval(objective)) or (None, None)
        rows.append(entry | {"difference": None if gain is None else gain.mean,
                             "difference_std": None if gain is None else gain.spread, "ci_low": low, "ci_high": high,
                             "p_value": None if gain is None else gain.p_value} | trial.config)
    return typed(pd.DataFrame(rows, dtype=object), [p.name for p in config.space.parameters])


def enter_outcome(ledger: Ledger, confirmation: Ledger, trials: Sequence[TrialRecord]) -> AnyPath:
    """Enters in a sweep's ledger what its confirmation found, once there is an answer; writes confirm.csv: `frame`."""
    name, found = confirmation.config.name, outcome(confirmation, trials)
    look = ledger.looks.get(name)
    if found and look is not None and {**look.get(OUTCOME, {}), "at": None} != {**found, "at": None}:
        ledger.enter_look(name, {**look, OUTCOME: found})
    return write_whole(ledger.folder / "confirm.csv", confirm_csv(confirmation, trials))


def confirm_csv(confirmation: Ledger, trials: Sequence[TrialRecord]) -> str:
    """The content of confirm.csv: `frame`."""
    return frame(confirmation, trials).to_csv(index=False)


def latest_outcome(looks: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `outcome` of the latest of a sweep's confirmations that has an answer; None where none has."""
    return next((look[OUTCOME] for look in reversed(list(looks.values())) if OUTCOME in look), None)


def outcome(confirmation: Ledger, trials: Sequence[TrialRecord]) -> dict[str, Any] | None:
    """What a confirmation found of the sweep's choice, as plain values; None while there is no answer.

    "verdict" is one of the four words above, "finding" says it in sentences; "trial" is the choice's number in the
    sweep and "tested" has those of all that were tested; "metrics" are means over seeds, by the names in MLflow.
    """
    config = confirmation.config
    rows = outcomes(confirmation, trials)
    first, baseline = rows[0], _baseline(rows)
    if (verdict := _verdict(first, config.objectives[0])) is None:
        return None
    values = {f"{prefix}_{metric}": row.trial.last(metric) for metric in config.metrics
              for prefix, row in {"baseline": baseline, "confirmed": first}.items()}
    if first.against is not None:
        values |= {"confirmed_difference": first.against.mean, "confirmed_p_value": first.against.p_value}
    return {"at": dt.datetime.now(dt.UTC).isoformat(), "confirmation": config.name, "verdict": verdict,
            "finding": finding(confirmation, trials), "trial": first.of,
            "tested": [row.of for row in rows if row.of is not None],
            "metrics": {name: value for name, value in values.items() if value is not None}}


def verdict(ledger: Ledger, confirmation: Ledger, trials: Sequence[TrialRecord]) -> str:
    """What a confirmation of a sweep found, and how often test images were looked at, in words."""
    return (f"{finding(confirmation, trials)} Test images were looked at in "
            f"{count(len(ledger.looks), 'confirmation')} of this sweep.")


def finding(confirmation: Ledger, trials: Sequence[TrialRecord]) -> str:
    """What a confirmation with these trials found, in words; the sweep's choice comes first."""
    rows, objective = outcomes(confirmation, trials), confirmation.config.objectives[0]
    first, baseline = rows[0], _baseline(rows)
    gain, verdict = first.against, _verdict(first, objective)
    if verdict is None:
        bad = first if first.trial.state != "COMPLETE" else baseline
        state = bad.trial.state
        return f"No answer yet: {bad.label} {_ENDED.get(state, f'is {state.lower()}')}" + (
            f" ({bad.trial.reason})." if bad.trial.reason else ".")
    images = images_behind(first.trial, objective.metric, confirmation.record)
    on = f" Each is measured on {images}." if images else ""
    if gain is None:
        return f"The sweep chose the baseline itself: {objective.metric} {_result(first, objective)}.{on}"
    text = (f"{_capital(verdict)} on test images: {first.label}, which the sweep chose, is {_words(gain, objective)}, "
            f"{objective.metric} {_result(first, objective)} against {_result(baseline, objective)}; "
            f"{gain.chance(objective.metric)}. The baseline is {confirmation.record[BASELINE]}.{on}")
    better = [row.label for row in rows[1:] if row.against is not None
              and objective.sign * (row.against.mean - gain.mean) > 0]
    if better:
        text += (f" {_capital(', '.join(better))} tested better than the choice; to take it now would be to choose on "
                 "test images.")
    return text


def _baseline(rows: Sequence[Tested]) -> Tested:
    return next(row for row in rows if row.is_baseline)


def _verdict(choice: Tested, objective: Objective) -> str | None:
    """What the test says of the sweep's choice; None while there is no answer."""
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
    """A difference in words: whether it is better and by how much."""
    if gain.mean == 0:
        return "as good as the baseline"
    way = "better" if objective.sign * gain.mean > 0 else "worse"
    return (f"{way} than the baseline by {measured(objective.metric, abs(gain.mean))} "
            f"{f'of {objective.metric}' if objective.metric in FRACTIONS else 'points'}")


def _result(row: Tested, objective: Objective) -> str:
    spread, value = row.trial.spread(objective.metric), row.trial.final(objective.metric)
    deviation = "" if spread is None else f"standard deviation {measured(objective.metric, spread)} over "
    return f"{measured(objective.metric, value)} ({deviation}{count(len(row.trial.results), 'seed')})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
