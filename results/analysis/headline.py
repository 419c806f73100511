"""Headline of a sweep, the same everywhere: its confirmation's finding, else its own."""

from collections.abc import Mapping
from typing import Any

from results.analysis.confirmation import latest_outcome
from results.analysis.sampling_error import images_behind
from results.choice import and_keeps, baseline, baseline_name, best, broken, named
from results.definition.sweep_config import SweepConfig
from results.trial import TrialRecord, own
from results.wording import measured


def headline(
    trials: list[TrialRecord],
    config: SweepConfig,
    record: Mapping[str, Any],
    looks: Mapping[str, Any],
) -> str:
    """Return the finding of a sweep's latest confirmation with an answer, else `answer`.

    `record` is the rest of sweep.yaml beside the configuration, `looks` are the ledger's.
    """
    found, chosen = latest_outcome(looks), best(trials, config)
    if found is None:
        return answer(trials, config, record)
    if chosen is None or chosen.value is None or chosen.number in found["tested"]:
        return str(found["finding"])
    metric = config.objectives[0].metric
    return (
        f"{found['finding']} The sweep's best by {metric} is now {named(chosen)} "
        f"({measured(metric, chosen.value)}), which that confirmation did not test."
    )


def answer(trials: list[TrialRecord], config: SweepConfig, record: Mapping[str, Any]) -> str:
    """Describe the best trial of a search, and its lead over trial 0."""
    chosen, first, began = best(trials, config), baseline(trials), baseline_name(config)
    complete = sum(t.state == "COMPLETE" for t in trials)
    if chosen is None or chosen.value is None:
        return f"None of {len(own(trials))} trials has completed{and_keeps(config)}."
    metric = config.objectives[0].metric
    images = images_behind(chosen, metric, record)
    text = (
        f"T{named(chosen)[1:]}{',' * chosen.imported} is best with {metric} "
        f"{measured(metric, chosen.value)}{images and f' ({images})'}"
    )
    if first is None or first.value is None:
        return text + "; trial 0, the baseline, has not completed."
    if chosen.number == first.number:
        return f"{text}; it is the {began}, where the sweep began."
    if not first.feasible:
        return (
            f"{text}; the {began} ({measured(metric, first.value)}), where the sweep began, breaks "
            f"{' and '.join(broken(config, first))}."
        )
    gain = config.objectives[0].sign * (chosen.value - first.value)
    return (
        f"{text}, better by {measured(metric, gain)} than the {began} "
        f"({measured(metric, first.value)}). Being the best of {complete} with "
        f"{'one seed' if config.seeds == 1 else f'{config.seeds} seeds'} each flatters it: retrain "
        "it on fresh seeds."
    )
