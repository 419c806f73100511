"""Headline of a sweep, the same everywhere: its confirmation's finding, else its best trial."""

from results.analysis.sampling_error import images_behind
from results.choice import and_keeps, broken, choice_of
from results.ledger.attributes import latest_outcome
from results.posterior import estimate, settled
from results.sweep import Sweep
from results.trial import TrialRecord
from results.wording import count, measured


def headline(sweep: Sweep) -> str:
    """Return the finding of a sweep's latest confirmation with an answer, else `answer`."""
    found, chosen = latest_outcome(sweep.looks), choice_of(sweep)
    if found is None:
        return answer(sweep)
    if chosen is None or chosen.value is None or chosen.number in found["tested"]:
        return str(found["finding"])
    metric = sweep.config.objectives[0].metric
    return (
        f"{found['finding']} The sweep's best by {metric} is now {chosen.label} "
        f"({measured(metric, chosen.value)}), which that confirmation did not test."
    )


def answer(sweep: Sweep) -> str:
    """Describe the best trial of a search, and its lead over trial 0.

    With a model of the trials, the lead is a difference of expected values.
    """
    config, chosen = sweep.config, choice_of(sweep)
    first, began = sweep.baseline, sweep.baseline_name
    if chosen is None or chosen.value is None:
        return f"None of {len(sweep.own)} trials has completed{and_keeps(config)}."
    metric = config.objectives[0].metric
    images = images_behind(chosen, metric, sweep.record)
    best = _expected(sweep, chosen)
    text = f"T{chosen.label[1:]}{',' * chosen.imported} is best " + (
        f"with {metric} {measured(metric, chosen.value)}{images and f' ({images})'}"
        if best is None
        else f"by a model of all trials, with {metric} {measured(metric, best)} expected"
    )
    if first is None or first.value is None:
        return text + "; trial 0, the baseline, has not completed."
    if chosen.number == first.number:
        return f"{text}; it is the {began}, the starting point of the sweep."
    if not first.feasible:
        return (
            f"{text}; the {began} ({measured(metric, first.value)}) breaks "
            f"{' and '.join(broken(config, first))}."
        )
    reference, kind = _expected(sweep, first), " expected"
    if reference is None:
        reference, kind = first.value, "" if best is None else " observed"
    lead = config.objectives[0].sign * ((chosen.value if best is None else best) - reference)
    text = (
        f"{text}, better by {measured(metric, lead)} than the {began} "
        f"({measured(metric, reference)}{kind})."
    )
    if best is not None:
        return f"{text} Confirm it on fresh seeds."
    return f"{text} The best of {tried(sweep)} looks better than it is: confirm it on fresh seeds."


def tried(sweep: Sweep) -> str:
    """Describe among how many configurations the best was chosen, and with how many seeds each."""
    runs, seeds = [len(t.results) for t in sweep.configurations], sweep.config.seeds
    if max(runs, default=0) <= seeds:
        each = "one seed" if seeds == 1 else f"{seeds} seeds"
        return f"{count(len(sweep.complete), 'trial')} with {each} each"
    least = "" if min(runs) == max(runs) else f"{min(runs)} to "
    return f"{count(len(runs), 'configuration')} with {least}{max(runs)} seeds each"


def _expected(sweep: Sweep, trial: TrialRecord) -> float | None:
    """The value that a useful model expects of a trial; None without one."""
    found = estimate(sweep, trial)
    return None if found is None else found.expected


def expectation(sweep: Sweep, taken: TrialRecord | None = None) -> str:
    """Describe the configuration that the model expects to be best, beside the luckiest trial.

    If a limit let the rule `model` take another trial, `taken`, that trial is described in place of
    the luckiest. Returns "" without a useful model, and while trials run.
    """
    lucky, metric, model = sweep.leader, sweep.config.objectives[0].metric, settled(sweep)
    if lucky is None or model is None or not model.useful:
        return ""
    first = model.estimates[0]
    text = (
        f"A model of all trials expects the best value from trial {first.trials[0]}: {metric} "
        f"{measured(metric, first.expected)} ± {measured(metric, first.sd)}, observed "
        f"{measured(metric, first.observed)} with {count(first.runs, 'seed')}, probability "
        f"{first.p_best:.2f} of being the best."
    )
    other, has = (
        (lucky, f"The luckiest, trial {lucky.number}, has")
        if taken is None
        else (taken, f"Trial {taken.number}, the best within the limit, has")
    )
    of_other = model.of(other)
    if of_other is None or of_other is first:
        return text
    text = (
        f"{text} {has} {measured(metric, of_other.observed)} observed and "
        f"{measured(metric, of_other.expected)} expected"
    )
    return f"{text}." if taken else f"{text}, because similar trials have other values."
