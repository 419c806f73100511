"""Headline of a sweep, the same everywhere: its confirmation's finding, else its best trial."""

from results.analysis.sampling_error import images_behind
from results.choice import and_keeps, broken
from results.sweep import Sweep, latest_outcome
from results.wording import count, measured


def headline(sweep: Sweep) -> str:
    """Return the finding of a sweep's latest confirmation with an answer, else `answer`."""
    found, chosen = latest_outcome(sweep.looks), sweep.leader
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
    """Describe the best trial of a search, and its lead over trial 0."""
    config, chosen = sweep.config, sweep.leader
    first, began = sweep.baseline, sweep.baseline_name
    if chosen is None or chosen.value is None:
        return f"None of {len(sweep.own)} trials has completed{and_keeps(config)}."
    metric = config.objectives[0].metric
    images = images_behind(chosen, metric, sweep.record)
    text = (
        f"T{chosen.label[1:]}{',' * chosen.imported} is best with {metric} "
        f"{measured(metric, chosen.value)}{images and f' ({images})'}"
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
    gain = config.objectives[0].sign * (chosen.value - first.value)
    return (
        f"{text}, better by {measured(metric, gain)} than the {began} "
        f"({measured(metric, first.value)}). The best of {count(len(sweep.complete), 'trial')} "
        f"with {'one seed' if config.seeds == 1 else f'{config.seeds} seeds'} each looks better "
        "than it is: confirm it on fresh seeds."
    )
