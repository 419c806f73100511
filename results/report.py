"""One self-contained HTML page about a sweep, finished or not."""

from collections import Counter
from contextlib import closing

import pandas as pd
import yaml

from dynamos.files import AnyPath, write_whole
from results import charts
from results.agreement import ranking
from results.best import and_keeps, baseline, best, broken
from results.cautions import cautions, troubles
from results.confirm import frame as confirmation_frame
from results.confirm import verdict
from results.frame import Sweep
from results.ledger import Ledger
from results.page import chart, frame, heading, page, paragraph, preformatted, table
from results.protocols import NOT_PUBLISHABLE, PROTOCOLS
from results.sweep_config import SweepConfig
from results.trial import TrialRecord
from results.wording import count, mean_and_spread, measured, number


def write_report(ledger: Ledger) -> AnyPath:
    """report.html in the sweep's folder: `report`."""
    return write_whole(ledger.folder / "report.html", report(ledger))


def report(ledger: Ledger) -> str:
    """The page: the answer, what speaks against it, charts, every trial and setting."""
    sweep, config = Sweep.of(ledger), ledger.config
    chosen = best(sweep.records, config)
    parts = [heading(f"Sweep {config.name}", 1), *_head(ledger, sweep), *_confirmations(ledger)]
    if chosen is not None:
        parts += _beside_baseline(sweep, chosen)
    parts += _search(sweep)
    if chosen is not None:
        parts += _best(ledger, chosen)
    parts += [heading("Rankings after each task"), paragraph(ranking(sweep.records, config))]
    parts += _failures(sweep.records)
    if sweep.records:
        parts += [heading("Trials"), frame(sweep.trials.drop(columns=["started_at", "ended_at"]))]
    parts += [heading("Settings and versions"), preformatted(yaml.safe_dump(
        {**config.to_dict(), "record": ledger.record}, sort_keys=False, width=100))]
    return page(f"Sweep {config.name}", parts)


def answer(trials: list[TrialRecord], config: SweepConfig) -> str:
    """What the sweep found, in words."""
    chosen, first = best(trials, config), baseline(trials)
    complete = sum(t.state == "COMPLETE" and not t.imported for t in trials)
    if chosen is None or chosen.value is None:
        return f"None of {sum(not t.imported for t in trials)} trials has completed{and_keeps(config)}."
    metric = config.objectives[0].metric
    text = f"Trial {chosen.number} is best with {metric} {measured(metric, chosen.value)}"
    if first is None or first.value is None:
        return text + "; trial 0, the baseline, has not completed."
    if chosen.number == first.number:
        return f"{text}; it is the {first.source}, where the sweep began."
    if not first.feasible:
        return (f"{text}; the {first.source} ({measured(metric, first.value)}), where the sweep began, breaks "
                f"{' and '.join(broken(config, first))}.")
    gain = config.objectives[0].sign * (chosen.value - first.value)
    return (f"{text}, better by {measured(metric, gain)} than the {first.source} ({measured(metric, first.value)}). "
            f"Being the best of {complete} with {'one seed' if config.seeds == 1 else f'{config.seeds} seeds'} each "
            "flatters it: retrain it on fresh seeds.")


def _head(ledger: Ledger, sweep: Sweep) -> list[str]:
    """What was run and under which protocol, the answer, what speaks against it."""
    config = ledger.config
    own = [t for t in sweep.records if not t.imported]
    states = Counter(t.state.lower() for t in own)
    searched = ", ".join(f"{p.name} {p}" for p in config.space.parameters)
    told = ", ".join(f"{amount} {state}" for state, amount in states.items())
    parts = [] if config.publishable else [paragraph(NOT_PUBLISHABLE, "stamp")]
    parts += [
        paragraph(answer(sweep.records, config), "lead"),
        paragraph(f"{config.base.model} on {config.base.dataset}, buffer {config.base.buffer_size}, {len(own)} of "
                  f"{ledger.budget} trials" + (f" ({told})" if told else "") + f", {count(config.seeds, 'seed')} each, "
                  f"sampler {config.sampler}, pruner {config.pruner}, sought "
                  f"{' and '.join(map(str, config.objectives))}"
                  + "".join(f", with {c}" for c in config.constraints) + f"; {ledger.state}."),
        paragraph(f"Space {config.space.name}: {searched}."),
        paragraph(f"Protocol {config.protocol}: configurations were {PROTOCOLS[config.protocol]}.")]
    return parts + [paragraph(text, "caution") for text in cautions(sweep.records, config)]


def _confirmations(ledger: Ledger) -> list[str]:
    """What confirmations found on test images."""
    parts = [heading("On test images")]
    if not ledger.looks:
        return [*parts, paragraph("Test images have not been looked at; confirm the choice before it is published: "
                                  + ledger.command("confirm"))]
    for name, look in ledger.looks.items():
        if not (ledger.folder.parent / name / "sweep.yaml").exists():
            parts.append(paragraph(f"{name}, begun at {look['at']}, is no longer beside this sweep."))
            continue
        with closing(Ledger.open(ledger.folder.parent, name)) as there:
            fields, trials = [p.name for p in there.config.space.parameters], there.trials()
            parts += [paragraph(f"{name}: {verdict(ledger, there, trials)}"),
                      *(paragraph(text, "caution") for text in troubles(trials)),
                      frame(confirmation_frame(there, trials).drop(columns=fields, errors="ignore"))]
    return parts


def _beside_baseline(sweep: Sweep, chosen: TrialRecord) -> list[str]:
    """The best and where the sweep began, side by side."""
    first = baseline(sweep.records)
    columns = {f"best (trial {chosen.number})": chosen}
    if first is not None and first.number != chosen.number:
        columns[f"{first.source} (trial {first.number})"] = first
    rows = [(metric, *(mean_and_spread(t, metric) if t.state == "COMPLETE" else t.state.lower()
                       for t in columns.values())) for metric in sweep.config.metrics]
    rows += [(field, *(number(t.config.get(field)) for t in columns.values())) for field in chosen.config]
    return [heading("Best against baseline"), table(["", *columns], rows)]


def _search(sweep: Sweep) -> list[str]:
    """How the search went and what mattered."""
    metric = sweep.config.objectives[0].metric
    complete = [t for t in sweep.records if t.state == "COMPLETE" and not t.imported]
    if len(complete) < 2:
        return [heading("The search"), paragraph("Charts of the search need two completed trials.")]
    study = charts.shown_study(sweep)
    parts = [heading("The search"), heading("Optimisation history", 3),
             chart(charts.history(study, metric), "optimisation history")]
    shares = charts.importance(study, metric) if len({t.value for t in complete}) >= charts.LEAST_VALUES else None
    if shares is not None:
        parts += [heading("Parameter importance", 3),
                  paragraph(f"The share of the variance of {metric} that each field explains (fANOVA); the lines show "
                            f"one standard deviation over {charts.RESAMPLES} resamples of the trials."),
                  chart(shares, "parameter importance")]
    parts += [heading("Parallel coordinates", 3), chart(charts.parallel(study, metric), "parallel coordinates"),
              heading("Slices", 3), chart(charts.slices(study, metric), "slices"),
              heading(f"{metric} by task", 3), chart(charts.curves(study, metric), "objective by task")]
    if all(t.last(name) is not None for t in complete for name in ("compute", charts.accuracy(sweep.config))):
        parts += [heading("Accuracy against compute", 3),
                  paragraph("Compute is what the network would need if dropped channels were skipped, agents included, "
                            "over the dense network's; a masked network saves it in principle only."),
                  chart(charts.pareto(sweep), "accuracy against compute")]
    return parts


def _best(ledger: Ledger, chosen: TrialRecord) -> list[str]:
    """The best trial's tasks and gates."""
    if "class_il_row" not in next(iter(chosen.results.values()))[0]:
        return []
    parts = [heading(f"The best, trial {chosen.number}")]
    if chosen.tasks_done > 1:
        parts += [heading("Accuracy matrix", 3),
                  paragraph("Class-incremental accuracy in percent, mean over seeds; above the diagonal on the next "
                            "task, not yet seen."),
                  chart(charts.matrix(chosen), "accuracy matrix"),
                  heading("Accuracy on each task", 3), chart(charts.per_task(chosen), "accuracy on each task")]
    seed = next(iter(chosen.results))
    use = ledger.channel_use(chosen, seed)  # of one seed: another's channels are others
    if any(chosen.results[seed][-1]["keep_per_task"][0]):
        parts += [heading("Channels kept", 3), paragraph("The fraction of its channels that each gate keeps."),
                  chart(charts.kept(chosen), "channels kept")]
    if use is not None:
        parts += [heading("Which channels each class uses", 3),
                  paragraph("The fraction of a class's evaluation images for which a gate keeps a channel, after the "
                            f"last task, with seed {seed}. Rows that look alike share their modules."),
                  chart(charts.channels(use), "channels by class", tall=True)]
    return parts


def _failures(trials: list[TrialRecord]) -> list[str]:
    failed = [t for t in trials if t.state == "FAIL"]
    if not failed:
        return []
    shown = pd.DataFrame([{"trial": t.number, "attempts": t.attempt, "reason": t.reason} for t in failed])
    return [heading("Failed trials"), frame(shown)]
