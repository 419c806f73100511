"""Report of a sweep, finished or not: one self-contained HTML page."""

from collections import Counter
from contextlib import closing

import pandas as pd
import yaml

from dynamos.errors import UserError
from dynamos.files import AnyPath, write_whole
from results.analysis import importance
from results.analysis.agreement import ranking
from results.analysis.confirmation import confirmation_frame, outcomes, verdict
from results.analysis.headline import expectation, headline
from results.analysis.health.checks import findings
from results.analysis.overview import by_reason, notes
from results.choice import broken, choice_of, roles
from results.definition.labels import told
from results.definition.objectives import Objective
from results.definition.protocols import NOT_PUBLISHABLE, PROTOCOLS
from results.definition.sweep_config import SweepConfig
from results.ledger.ledger import Ledger
from results.pages import charts
from results.pages.html import (
    chart,
    folded,
    frame,
    grid,
    heading,
    page,
    paragraph,
    preformatted,
    table,
)
from results.sweep import Sweep
from results.trial import TrialRecord
from results.wording import count, duration, mean_and_spread, measured, setting


def write_report(ledger: Ledger) -> AnyPath:
    """Write `report` to report.html in the sweep's folder and return its path."""
    return write_whole(ledger.folder / "report.html", report(ledger))


def report(ledger: Ledger) -> str:
    """Return the page: the answer, its health, charts, every trial and setting.

    Raises UserError for a confirmation, which is in the report of its sweep.
    """
    if (confirms := ledger.config.confirms) is not None:
        raise UserError(
            f"{ledger.config.name!r} is a confirmation; it is in the report of {confirms!r}."
        )
    sweep, config = Sweep.of(ledger), ledger.config
    chosen = choice_of(sweep)
    parts = [
        heading(f"Sweep {config.name}", 1),
        *_labels(ledger),
        *_head(ledger, sweep),
        *_confirmations(ledger, sweep),
    ]
    if chosen is not None:
        parts += _beside_baseline(sweep, chosen)
    parts += _search(sweep)
    if chosen is not None:
        parts += _best(ledger, chosen)
    parts += [heading("Rankings after each task"), paragraph(ranking(sweep))]
    parts += _failures(sweep)
    parts += _trials(sweep, chosen)
    parts += [
        heading("Settings and versions"),
        folded(
            "Every setting, version and hash",
            preformatted(
                yaml.safe_dump(
                    {**config.to_dict(), "record": ledger.record}, sort_keys=False, width=100
                )
            ),
        ),
    ]
    return page(f"Sweep {config.name}", parts)


def _labels(ledger: Ledger) -> list[str]:
    """Tags and note of the sweep."""
    texts = [told(ledger.tags), ledger.note]
    return [paragraph(text) for text in texts if text]


def _head(ledger: Ledger, sweep: Sweep) -> list[str]:
    """Headline, setting, state, space, protocol, remarks and health."""
    config = ledger.config
    ran, taken = sweep.own, len(sweep.records) - len(sweep.own)
    states = Counter(t.state.lower() for t in ran)
    shown = ", ".join(f"{amount} {state}" for state, amount in states.items())
    parts = [] if config.publishable else [paragraph(NOT_PUBLISHABLE, "stamp")]
    parts += [
        paragraph(headline(sweep), "lead"),
        *(paragraph(text) for text in (expectation(sweep),) if text),
        paragraph(
            f"{config.base.method_name} on {config.base.stream_name}, buffer "
            f"{config.base.buffer_size}, {len(ran)} of {ledger.budget} trials"
            + (f" ({shown})" if shown else "")
            + (f" and {count(taken, 'result')} of {config.warm_start}" if taken else "")
            + f", {count(config.seeds, 'seed')} each, "
            f"sampler {config.sampler}, pruner {config.pruner}, objective "
            f"{' and '.join(map(str, config.objectives))}"
            + "".join(f", with {c}" for c in config.constraints)
            + f"; {ledger.state}."
        ),
        paragraph(f"Space {config.space.name}: {config.space}."),
        paragraph(f"Protocol {config.protocol}: configurations were {PROTOCOLS[config.protocol]}."),
    ]
    return parts + [paragraph(text, "caution") for text in notes(ledger, sweep)] + _health(sweep)


def _health(sweep: Sweep) -> list[str]:
    """Findings of the health checks."""
    return [paragraph(str(found).replace("`", ""), "caution") for _, found in findings(sweep)]


def _confirmations(ledger: Ledger, sweep: Sweep) -> list[str]:
    """Findings of the confirmations, on test images."""
    parts = [heading("On test images")]
    if not sweep.looks:
        return [
            *parts,
            paragraph(
                "Test images have not been used; confirm the choice before you publish it: "
                + ledger.command("confirm")
            ),
        ]
    for name, look in sweep.looks.items():
        if not (ledger.folder.parent / name / "sweep.yaml").exists():
            parts.append(
                paragraph(f"{name}, started at {look['at']}, is no longer in the storage folder.")
            )
            continue
        with closing(Ledger.open(ledger.folder.parent, name)) as there:
            confirmation = Sweep.of(there)
        fields = [p.name for p in confirmation.config.space.parameters]
        metric = confirmation.config.objectives[0].metric
        parts += [
            paragraph(f"{name}: {verdict(sweep, confirmation)}"),
            *_health(confirmation),
            chart(charts.tested(outcomes(confirmation), metric), f"tested by {name}"),
            frame(confirmation_frame(confirmation).drop(columns=fields, errors="ignore")),
        ]
    return parts


def _beside_baseline(sweep: Sweep, chosen: TrialRecord) -> list[str]:
    """The best trial, the luckiest and trial 0, side by side."""
    columns = {f"{name} ({t.label})": t for name, t in roles(sweep).items()}
    rows = [
        (
            metric,
            *(
                mean_and_spread(t, metric) if t.state == "COMPLETE" else t.state.lower()
                for t in columns.values()
            ),
        )
        for metric in sweep.config.metrics
    ]
    rows += [
        (p.name, *(setting(t.config, p.name) for t in columns.values()))
        for p in sweep.config.space.parameters
        if any(p.name in t.config for t in columns.values())
    ]
    return [heading("Best against baseline"), table(["", *columns], rows)]


def _search(sweep: Sweep) -> list[str]:
    """Charts of the search: its course, the importance of fields, trade-offs."""
    objective = sweep.config.objectives[0]
    metric = objective.metric
    complete = sweep.own_complete
    parts = [heading("The search")]
    if len(complete) < 2:
        parts.append(paragraph("Charts of the search need two completed trials."))
    else:
        parts += [
            heading("Optimisation history", 3),
            chart(charts.history(sweep), "optimisation history"),
        ]
    if any(t.tasks_done and t.n_tasks > 1 for t in sweep.records):
        parts += [
            heading(f"{metric} by task", 3),
            paragraph(
                "Value after each task, on the tasks seen so far. Lines that end early belong to "
                "trials that ended early or are still running. Compare lines only at equal tasks.",
                "hint",
            ),
            chart(charts.curves(sweep), "objective by task"),
        ]
    if len(complete) < 2:
        return parts
    if (shares := importance.shares(sweep)) is not None:
        parts += [
            heading("Parameter importance", 3),
            paragraph(
                f"The share of the variance of {metric} that each field explains (fANOVA), over "
                f"{len(complete)} trials; the lines show one standard deviation over "
                f"{importance.RESAMPLES} resamples of the trials.",
                "hint",
            ),
            chart(charts.importance(shares, metric), "parameter importance"),
        ]
    fields = len(sweep.config.space.parameters)
    parts += [
        heading("Parallel coordinates", 3),
        chart(charts.parallel(sweep), "parallel coordinates", least=6 * (fields + 1)),
        heading("Slices", 3),
        paragraph(
            f"{metric} over each searched field: "
            + ", ".join(
                f"{group.look.sign} {group.name}" for group in charts.groups(sweep, *charts.FINAL)
            )
            + ".",
            "hint",
        ),
        grid(
            chart(figure, f"{metric} over {name}") for name, figure in charts.slices(sweep).items()
        ),
    ]
    for x, y in charts.trade_offs(sweep.config):
        if sum(t.last(x.metric) is not None and t.last(y.metric) is not None for t in complete) > 1:
            parts.append(heading(_trade_off(x, y), 3))
            if x.metric == "compute":
                parts.append(
                    paragraph(
                        "Compute is the network's multiply-accumulates, with agents, if dropped "
                        "channels are skipped, divided by the dense network's. This saving is "
                        "in principle only: a masked network computes all channels.",
                        "hint",
                    )
                )
            parts.append(chart(charts.trade_off(sweep, x, y), _trade_off(x, y)))
    return parts


def _trade_off(x: Objective, y: Objective) -> str:
    """Heading of the chart of two metrics."""
    return (
        "Accuracy against compute"
        if x.metric == "compute" and y.sign > 0
        else f"{y.metric} against {x.metric}"
    )


def _trials(sweep: Sweep, chosen: TrialRecord | None) -> list[str]:
    """Table of all trials, with values short enough to read."""
    config = sweep.config
    if not sweep.records:
        return []
    special = {
        t.number: f"{role}; " if role in ("best", "luckiest") else ""
        for role, t in roles(sweep).items()
    }
    sought = [o.metric for o in config.objectives]
    others = [
        m
        for m in dict.fromkeys([*(c.metric for c in config.constraints), "compute"])
        if m not in sought
    ]
    fields = [p.name for p in config.space.parameters]
    together = ["runs in one program"] if any(t.cohorts != (1,) for t in sweep.records) else []
    rows = [
        [
            t.number,
            _standing(config, t),
            *(mean_and_spread(t, metric) for metric in sought),
            *(
                "" if (mean := t.last(metric)) is None else measured(metric, mean)
                for metric in others
            ),
            *(setting(t.config, name) if t.config else "" for name in fields),
            f"{t.tasks_done} of {t.n_tasks}" if t.n_tasks else "",
            "" if t.seconds is None else duration(t.seconds),
            *(", then ".join(map(str, t.cohorts)) for _ in together),
            special.get(t.number, "") + t.source,
            t.reason,
        ]
        for t in sweep.records
    ]
    return [
        heading("Trials"),
        paragraph(
            "Values are means over seeds after the last task learned. trials.csv in the "
            "sweep's folder has every column, with full numbers. Each session of the sweep writes "
            "it at its end.",
            "hint",
        ),
        table(
            [
                *("trial", "state", *sought, *others, *fields, "tasks", "time"),
                *together,
                *("source", "reason"),
            ],
            rows,
            marked=[i for i, t in enumerate(sweep.records) if t.number in special],
        ),
    ]


def _standing(config: SweepConfig, trial: TrialRecord) -> str:
    """A trial's state, and whether it breaks a constraint or its values are not final."""
    state = trial.state.lower()
    if trial.state == "COMPLETE" and not trial.feasible:
        if trial.outside:
            return f"{state}, {trial.reason}"
        return f"{state}, breaks {' and '.join(broken(config, trial))}"
    return state if trial.state == "COMPLETE" or not trial.tasks_done else f"{state}, not final"


def _best(ledger: Ledger, chosen: TrialRecord) -> list[str]:
    """Charts of the best trial's tasks and gates."""
    parts = [heading(f"Best trial: {chosen.number}")]
    if chosen.tasks_done > 1:
        parts += [
            heading("Accuracy matrix", 3),
            paragraph(
                "Class-incremental accuracy in percent, mean over seeds; values above the "
                "diagonal are for the next task, which is not learned yet."
            ),
            chart(charts.matrix(chosen), "accuracy matrix"),
            heading("Accuracy on each task", 3),
            chart(charts.per_task(chosen), "accuracy on each task"),
        ]
    seed = next(iter(chosen.results))
    use = ledger.channel_use(chosen, seed)  # of one seed: channels differ between seeds
    if any(chosen.results[seed][-1].keep_per_task[0]):
        parts += [
            heading("Channels kept", 3),
            paragraph("Fraction of its channels that each gate keeps."),
            chart(charts.kept(chosen), "channels kept"),
        ]
    if use is not None:
        parts += [
            heading("Channels used by each class", 3),
            paragraph(
                "The fraction of a class's evaluation images for which a gate keeps a channel, "
                f"after the last task, with seed {seed}. Classes with similar rows share modules."
            ),
            chart(charts.channels(use), "channels by class", tall=True),
        ]
    return parts


def _failures(sweep: Sweep) -> list[str]:
    failed = [t for t in sweep.records if t.state == "FAIL"]
    if not failed:
        return []
    shown = pd.DataFrame(
        [
            {"reason": reason, "number": len(numbers), "trials": ", ".join(map(str, numbers))}
            for reason, numbers in by_reason(failed).items()
        ]
    )
    return [heading("Failed trials"), frame(shown)]
