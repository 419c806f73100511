"""Plotly figures of a sweep.

A trial has its number in the sweep, and looks the same in every chart.

Colours are the names of palette.css, so that the page can set those of the reader's colour scheme.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from results.analysis.confirmation import Tested
from results.choice import broken, choice_of
from results.definition.objectives import Objective
from results.definition.sweep_config import SweepConfig
from results.pages.axes import Axis, round_values
from results.sweep import Sweep, front
from results.trial import TrialRecord
from results.wording import measured, parameters

SHADES = 8  # of the lines in parallel coordinates, from the worst value to the best
TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": "var(--paper)",
        "plot_bgcolor": "var(--paper)",
        "font": {"color": "var(--ink)", "size": 13},
        "colorway": [
            f"var(--{name})"
            for name in ("accent", "second", "third", "good", "bad", "dots", "best", "edge")
        ],
        "hoverlabel": {
            "bgcolor": "var(--panel)",
            "bordercolor": "var(--edge)",
            "font": {"color": "var(--ink)"},
            "align": "left",
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "bgcolor": "rgba(0,0,0,0)",
        },
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": "var(--muted)",
            "activecolor": "var(--ink)",
        },
        "hovermode": "closest",
        **{
            f"{axis}axis": {
                "gridcolor": "var(--line)",
                "linecolor": "var(--edge)",
                "zeroline": False,
                "automargin": True,
                "title": {"standoff": 10},
            }
            for axis in "xy"
        },
    }
)


@dataclass(frozen=True, slots=True)
class Mark:
    """Style of a group of trials.

    Shapes and dashes differ, so that colour is never the only difference.
    """

    colour: str
    symbol: str
    sign: str  # like the symbol, in text
    size: int = 8
    dash: str = "solid"
    width: float = 1.2
    opacity: float = 1.0


COMPLETE, BREAKS, PRUNED, FAILED = "complete", "breaks a constraint", "pruned", "failed"
EXCLUDED = "outside the space"
RUNNING, INTERRUPTED = "running, not final", "interrupted, not final"
FINAL = COMPLETE, BREAKS, EXCLUDED  # the groups of complete trials, whose values are final
_LOOKS = {
    COMPLETE: Mark("--dots", "circle", "●", opacity=0.8),
    BREAKS: Mark("--bad", "x", "✕", 7, "dash", opacity=0.8),
    EXCLUDED: Mark("--muted", "x", "✕", 7, "dot", opacity=0.8),
    PRUNED: Mark("--second", "triangle-down", "▼", 8, "dot"),
    FAILED: Mark("--bad", "diamond-open", "◇", 8, "dot"),
    RUNNING: Mark("--third", "circle-open", "○", 9, "dash", 2),
    INTERRUPTED: Mark("--third", "square-open", "□", 9, "dot", 2),
}
_CHOSEN = Mark("--accent", "star", "★", 15, "solid", 3.5)
_LUCKIEST = Mark("--accent", "star-open", "☆", 13, "dash", 2.5)
_FIRST = Mark("--ink", "square", "■", 11, "dashdot", 2.5)
_GROUPS = {"PRUNED": PRUNED, "FAIL": FAILED, "RUNNING": RUNNING, "INTERRUPTED": INTERRUPTED}


@dataclass(frozen=True, slots=True)
class Group:
    """Trials with one entry in the legend."""

    name: str
    look: Mark
    trials: list[TrialRecord]


def groups(sweep: Sweep, *only: str) -> list[Group]:
    """Return the trials that have started, by state, or only the trials of some groups.

    The chosen trial, the luckiest if it is another one, and trial 0 are separate groups. The first
    two stand for all runs of their configurations.

    Each trial is in one group. An imported trial is shown only if it is chosen or the luckiest.
    """
    first = sweep.baseline
    named = ("luckiest", _LUCKIEST, sweep.leader), ("chosen", _CHOSEN, choice_of(sweep))
    roles = {t.number: (role, mark, t) for role, mark, t in named if t is not None}
    baseline_at, source = (None, "") if first is None else (first.number, first.source)
    shown: dict[str, list[TrialRecord]] = {name: [] for name in _LOOKS}
    special = []
    for trial in sweep.records:
        name = (
            (COMPLETE if trial.feasible else EXCLUDED if trial.outside else BREAKS)
            if trial.state == "COMPLETE"
            else _GROUPS.get(trial.state)
        )
        if name is None or (only and name not in only):
            continue
        if trial.number in roles:
            role, mark, whole = roles[trial.number]
            also = f" = {source}" if trial.number == baseline_at else ""
            special.append(Group(f"{role}{also}: trial {trial.number}", mark, [whole]))
        elif trial.number == baseline_at:
            also = "" if name == COMPLETE else f", {name}"
            special.insert(0, Group(f"{source}: trial {trial.number}{also}", _FIRST, [trial]))
        elif not trial.imported:
            shown[name].append(trial)
    return [Group(name, _LOOKS[name], trials) for name, trials in shown.items() if trials] + special


def history(sweep: Sweep) -> go.Figure:
    """Draw the first objective of each complete trial over its number, and the best so far."""
    objective = sweep.config.objectives[0]
    figure = go.Figure()
    shown = groups(sweep, *FINAL)
    own = sorted((t for group in shown for t in group.trials if t.feasible), key=lambda t: t.number)
    steps: list[tuple[int, float]] = []
    for trial in own:
        value = trial.final(objective.metric)
        if not steps or objective.sign * (value - steps[-1][1]) > 0:
            steps.append((trial.number, value))
    if len(own) > 1:
        steps.append((sweep.records[-1].number, steps[-1][1]))
        figure.add_scatter(
            x=[x for x, _ in steps],
            y=[y for _, y in steps],
            mode="lines",
            name="best so far",
            line={"shape": "hv", "color": "var(--accent)", "width": 1.5},
            hoverinfo="skip",
        )
    for group in shown:
        _points(
            figure,
            sweep,
            group,
            [t.number for t in group.trials],
            [t.final(objective.metric) for t in group.trials],
        )
    return figure.update_layout(
        xaxis={"title": "trial", **_whole(0, sweep.records[-1].number)},
        yaxis_title=_better(objective),
        showlegend=True,
    )


def curves(sweep: Sweep) -> go.Figure:
    """Draw each trial's first objective after each task, also of trials that ended early."""
    objective = sweep.config.objectives[0]
    figure, most = go.Figure(), 1
    for group in groups(sweep):
        lines = [(trial, trial.by_task(objective.metric)) for trial in group.trials]
        lines = [(trial, values) for trial, values in lines if values]
        points = [
            (trial, task, value)
            for trial, values in lines
            for task, value in [*enumerate(values, 1), (0, None)]
        ]
        if not points:
            continue
        most = max(most, *(task for _, task, _ in points))
        small = max(3, group.look.size - 4) if len(lines) > 1 else max(6, group.look.size - 4)
        figure.add_scatter(
            x=[task or None for _, task, _ in points],
            y=[value for *_, value in points],
            name=group.name,
            mode="lines+markers",
            connectgaps=False,
            opacity=group.look.opacity,
            line={
                "color": f"var({group.look.colour})",
                "width": group.look.width,
                "dash": group.look.dash,
            },
            marker={"symbol": group.look.symbol, "size": small},
            customdata=[t.number for t, *_ in points],
            text=[
                ""
                if value is None
                else f"trial {t.number}, {group.name.partition(':')[0]}: {objective.metric} "
                f"{measured(objective.metric, value)} after task {task}"
                for t, task, value in points
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    return figure.update_layout(
        xaxis={"title": "after training task", **_whole(1, most)},
        showlegend=True,
        yaxis_title=_better(objective),
    )


def slices(sweep: Sweep) -> dict[str, go.Figure]:
    """Draw the complete trials' first objective over each searched field, a figure by field."""
    objective, figures = sweep.config.objectives[0], {}
    shown = groups(sweep, *FINAL)
    for axis in _axes(sweep, shown):
        figure, name = go.Figure(), axis.parameter.name
        for group in shown:
            active = [t for t in group.trials if name in t.config]
            _points(
                figure,
                sweep,
                replace(group, trials=active),
                [axis.place(t.config[name]) for t in active],
                [t.final(objective.metric) for t in active],
            )
        figures[name] = figure.update_layout(
            xaxis={"title": axis.title, **_ticks(axis)},
            yaxis_title=_better(objective),
            showlegend=False,
        )
    return figures


def parallel(sweep: Sweep) -> go.Figure:
    """Draw each complete trial as a line over the searched fields and the first objective."""
    objective = sweep.config.objectives[0]
    shown = groups(sweep, *FINAL)
    axes = _axes(sweep, shown)
    values = [t.final(objective.metric) for group in shown for t in group.trials]
    low, high = min(values), max(values)
    ends = [axis.ends for axis in axes] + [(low, high)]

    def heights(trial: TrialRecord) -> list[float | None]:
        # a line has a gap at an inactive field
        names = [axis.parameter.name for axis in axes]
        places = [
            axis.place(trial.config[name]) if name in trial.config else None
            for axis, name in zip(axes, names, strict=True)
        ]
        places.append(trial.final(objective.metric))
        return [
            None if place is None else _share(place, *end)
            for place, end in zip(places, ends, strict=True)
        ]

    figure = go.Figure()
    for group in shown:
        shades: dict[int, list[TrialRecord]] = {}
        for trial in group.trials:
            share = _share(trial.final(objective.metric), low, high)
            share = share if objective.sign > 0 else 1 - share
            shades.setdefault(
                round(share * (SHADES - 1)) if group.name == COMPLETE else 0, []
            ).append(trial)
        for nth, (shade, trials) in enumerate(sorted(shades.items(), reverse=True)):
            told = [text for text in _told(sweep, group, trials) for _ in range(len(ends) + 1)]
            look, vivid = group.look, group.name == COMPLETE
            figure.add_scatter(
                x=[x for _ in trials for x in [*range(len(ends)), None]],
                y=[y for trial in trials for y in [*heights(trial), None]],
                mode="lines",
                text=told,
                customdata=[t.number for t in trials for _ in range(len(ends) + 1)],
                name="complete (better trials are more vivid)" if vivid else group.name,
                legendgroup=group.name,
                showlegend=nth == 0,
                hovertemplate="%{text}<extra></extra>",
                opacity=0.25 + 0.75 * shade / (SHADES - 1) if vivid else look.opacity,
                line={
                    "color": "var(--best)" if vivid else f"var({look.colour})",
                    "width": look.width + 0.3,
                    "dash": look.dash,
                },
            )
    ticks = [axis.ticks() for axis in axes] + [[(v, f"{v:g}") for v in round_values(low, high)]]
    for x, (written, end) in enumerate(zip(ticks, ends, strict=True)):
        figure.add_shape(
            type="line", x0=x, x1=x, y0=0, y1=1, line={"color": "var(--edge)", "width": 1}
        )
        for place, text in written:
            figure.add_annotation(
                x=x,
                y=_share(place, *end),
                text=text,
                showarrow=False,
                xanchor="right",
                xshift=-4,
                font={"size": 11, "color": "var(--muted)"},
                bgcolor="var(--paper)",
                opacity=0.85,
                borderpad=1,
            )
    names = [axis.title for axis in axes] + [objective.metric]
    return figure.update_layout(
        showlegend=True,
        yaxis={"visible": False, "range": [-0.04, 1.04], "fixedrange": True},
        xaxis={
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "showgrid": False,
            "side": "bottom",
            "range": [-0.55, len(names) - 0.7],
            "fixedrange": True,
        },
    )


def trade_off(sweep: Sweep, x: Objective, y: Objective) -> go.Figure:
    """Draw one metric against another, with the Pareto set of the feasible trials."""
    figure = go.Figure()
    shown = [
        Group(group.name, group.look, [t for t in group.trials if _has(t, x, y)])
        for group in groups(sweep, *FINAL)
    ]
    best_of_two = front([t for group in shown for t in group.trials if t.feasible], (x, y))
    for group in shown:
        if group.trials:
            _points(
                figure,
                sweep,
                group,
                [t.final(x.metric) for t in group.trials],
                [t.final(y.metric) for t in group.trials],
                (x, y),
            )
    if best_of_two:
        order = sorted(best_of_two, key=lambda t: t.final(x.metric))
        figure.add_scatter(
            x=[t.final(x.metric) for t in order],
            y=[t.final(y.metric) for t in order],
            name="Pareto set",
            mode="lines+markers",
            hoverinfo="skip",
            customdata=[t.number for t in order],
            line={"color": "var(--good)", "width": 1, "dash": "dot"},
            marker={"symbol": "circle-open", "size": 17, "color": "var(--good)", "line_width": 2},
        )
    return figure.update_layout(xaxis_title=_better(x), yaxis_title=_better(y), showlegend=True)


def trade_offs(config: SweepConfig) -> list[tuple[Objective, Objective]]:
    """Return (x, y) of each trade-off chart: first objective and others, accuracy and compute.

    Compute is always x.
    """
    lead, *others = config.objectives
    pairs = [(lead, other) if lead.metric == "compute" else (other, lead) for other in others]
    compute = (Objective.parse("compute"), Objective.parse(accuracy(config)))
    return pairs + [compute] * (
        not any({x.metric, y.metric} == {o.metric for o in compute} for x, y in pairs)
    )


def accuracy(config: SweepConfig) -> str:
    """Return the metric of the first objective that is an accuracy; class-il if none is."""
    prefix = config.accuracy_prefix
    return next(
        (o.metric for o in config.objectives if o.metric.startswith(prefix)), f"{prefix}class_il"
    )


def importance(shares: Mapping[str, tuple[float, float]], metric: str) -> go.Figure:
    """Draw each field's share of the objective's variance, with one standard deviation."""
    bars = go.Bar(
        x=[share for share, _ in shares.values()],
        y=list(shares),
        orientation="h",
        marker={"color": "var(--accent)"},
        hovertemplate="%{y}: %{x:.2f}<extra></extra>",
        error_x={
            "type": "data",
            "array": [spread for _, spread in shares.values()],
            "color": "var(--ink)",
        },
    )
    return go.Figure(bars).update_xaxes(
        title=f"share of the variance of {metric}", rangemode="nonnegative"
    )


def tested(rows: Sequence[Tested], metric: str) -> go.Figure:
    """Draw a confirmation's results: each configuration's value with each seed, and the mean."""
    figure = go.Figure()
    labels = [row.label for row in rows]
    points = [
        (row.label, seed, value)
        for row in rows
        if row.trial.state == "COMPLETE"
        for seed, value in zip(row.trial.results, row.trial.by_seed(metric), strict=True)
    ]
    figure.add_scatter(
        x=[label for label, *_ in points],
        y=[value for *_, value in points],
        mode="markers",
        name="a seed",
        marker={"color": "var(--dots)", "size": 8, "opacity": 0.8},
        text=[
            f"{label}, seed {seed}: {metric} {measured(metric, value)}"
            for label, seed, value in points
        ],
        hovertemplate="%{text}<extra></extra>",
    )
    means = [(row.label, row.trial.final(metric)) for row in rows if row.trial.state == "COMPLETE"]
    figure.add_scatter(
        x=[label for label, _ in means],
        y=[value for _, value in means],
        mode="markers",
        name="mean over seeds",
        marker={
            "color": "var(--accent)",
            "symbol": "line-ew",
            "size": 34,
            "line": {"width": 3, "color": "var(--accent)"},
        },
        text=[f"{label}: mean {metric} {measured(metric, value)}" for label, value in means],
        hovertemplate="%{text}<extra></extra>",
    )
    return figure.update_layout(
        xaxis={"type": "category", "categoryarray": labels, "categoryorder": "array"},
        yaxis_title=metric,
        showlegend=True,
    )


def matrix(trial: TrialRecord) -> go.Figure:
    """Draw the class-il accuracy on each task after each training task, mean over seeds."""
    return _heat(_accuracies(trial), "evaluated on task", "after training task", "%{z:.1f}", 100)


def per_task(trial: TrialRecord) -> go.Figure:
    """Draw the class-il accuracy on each task from its training on, mean over seeds."""
    values = _accuracies(trial)
    figure = go.Figure()
    symbols = ("circle", "square", "diamond", "triangle-up", "x", "star")
    for task in range(values.shape[1]):
        after = list(range(task, len(values)))
        figure.add_scatter(
            x=[t + 1 for t in after],
            y=[values[t, task] for t in after],
            name=f"task {task + 1}",
            mode="lines+markers",
            marker={"symbol": symbols[task % len(symbols)], "size": 9},
            hovertemplate=f"task {task + 1}: %{{y:.1f}} after task %{{x}}<extra></extra>",
        )
    return figure.update_layout(
        xaxis={"title": "after training task", **_whole(1, len(values))},
        yaxis_title="class-il accuracy, percent",
        showlegend=True,
    )


def kept(trial: TrialRecord) -> go.Figure:
    """Draw each gate's kept fraction on each task's images after the last task, over seeds."""
    values = trial.mean_row("keep_per_task", trial.tasks_done)
    return _heat(values.T, "images of task", "gate", "%{z:.2f}", 1)


def channels(use: np.ndarray) -> go.Figure:
    """Draw the use of channels by class, a panel per gate.

    `use`: (K, G, C) fractions of a class's images.
    """
    gates = use.shape[1]
    figure = make_subplots(
        gates,
        1,
        shared_xaxes=True,
        vertical_spacing=0.04,
        row_titles=[f"gate {g + 1}" for g in range(gates)],
    )
    for gate in range(gates):
        figure.add_heatmap(
            z=use[:, gate],
            coloraxis="coloraxis",
            row=gate + 1,
            col=1,
            hovertemplate="class %{y}, channel %{x}: kept in %{z:.0%}<extra></extra>",
        )
    figure.update_yaxes(dtick=5, autorange="reversed")
    figure.update_yaxes(title="class", row=1, col=1)
    figure.update_xaxes(title="channel", row=gates, col=1)
    return figure.update_layout(
        coloraxis={
            "colorscale": [[0, "var(--panel)"], [1, "var(--accent)"]],
            "cmin": 0,
            "cmax": 1,
            "colorbar": {
                "title": {"text": "fraction of images", "side": "top"},
                "orientation": "h",
                "y": 1.02,
                "yanchor": "bottom",
                "thickness": 12,
            },
        }
    )


def anytime(
    curves: Mapping[str, Sequence[tuple[float, float, int]]], spent: str, metric: str
) -> go.Figure:
    """Draw the best value so far over cost. curves: by name, (spent, value, trial) in order."""
    figure = go.Figure()
    for (name, points), dash in zip(
        curves.items(), cycle(("solid", "dash", "dot", "dashdot")), strict=False
    ):
        figure.add_scatter(
            x=[p[0] for p in points],
            y=[p[1] for p in points],
            name=name,
            mode="lines+markers",
            line={"shape": "hv", "dash": dash},
            customdata=[p[2] for p in points],
            hovertemplate=f"{name}, trial %{{customdata}}: {metric} %{{y:.4g}} after %{{x:.4g}} "
            f"{spent}<extra></extra>",
        )
    return figure.update_layout(
        xaxis_title=spent, yaxis_title=f"best {metric} so far", showlegend=True
    )


def _points(
    figure: go.Figure,
    sweep: Sweep,
    group: Group,
    x: list[Any],
    y: list[float],
    metrics: Sequence[Objective] = (),
) -> None:
    """Add a group's trials as points with their descriptions."""
    look = group.look
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        name=group.name,
        opacity=look.opacity,
        marker={"color": f"var({look.colour})", "symbol": look.symbol, "size": look.size},
        customdata=[t.number for t in group.trials],
        text=[*_told(sweep, group, group.trials, metrics)],
        hovertemplate="%{text}<extra></extra>",
    )


def _told(
    sweep: Sweep, group: Group, trials: Sequence[TrialRecord], metrics: Sequence[Objective] = ()
) -> Iterable[str]:
    """Description of each complete trial, shown under the pointer."""
    for t in trials:
        who = f"trial {t.number}" + (
            f", {group.name.partition(':')[0]}" if group.look in (_CHOSEN, _FIRST) else ""
        )
        values = ", ".join(
            f"{o.metric} {measured(o.metric, t.final(o.metric))}"
            for o in metrics or sweep.config.objectives
        )
        against = "" if t.feasible else f"<br>breaks {' and '.join(broken(sweep.config, t))}"
        against = f"<br>{t.reason}" if t.outside else against
        yield f"{who}: {values}{against}<br>{parameters(t.config)}"


def _axes(sweep: Sweep, shown: Sequence[Group]) -> list[Axis]:
    """The axes of the searched fields, in the order of the space."""
    return [
        Axis(
            p,
            tuple(t.config[p.name] for group in shown for t in group.trials if p.name in t.config),
        )
        for p in sweep.config.space.parameters
    ]


def _ticks(axis: Axis) -> dict[str, Any]:
    """An axis for plotly, a little wider than its range."""
    low, high = axis.ends
    margin = 0.3 if axis.choices is not None else 0.04 * (high - low) or 1
    ticks = axis.ticks()
    return {
        "tickvals": [place for place, _ in ticks],
        "ticktext": [text for _, text in ticks],
        "range": [low - margin, high + margin],
    }


def _whole(low: int, high: int) -> dict[str, Any]:
    """An axis of whole numbers for plotly, a little wider than its range."""
    margin = max(0.04 * (high - low), 0.3)
    return {"range": [low - margin, high + margin], "tickvals": round_values(low, high, whole=True)}


def _better(objective: Objective) -> str:
    """An objective's name and its better direction."""
    return f"{objective.metric} ({'higher' if objective.sign > 0 else 'lower'} is better)"


def _has(trial: TrialRecord, *objectives: Objective) -> bool:
    return all(trial.last(o.metric) is not None for o in objectives)


def _share(value: float, low: float, high: float) -> float:
    """The place of a value between two others, from 0 to 1; 0.5 if these are equal."""
    return 0.5 if low == high else (value - low) / (high - low)


def _accuracies(trial: TrialRecord) -> np.ndarray:
    """(tasks learned, tasks) class-il accuracies, mean over seeds; NaN if not measured."""
    rows = [trial.mean_row("class_il_row", tasks + 1) for tasks in range(trial.tasks_done)]
    values = np.full((len(rows), max(map(len, rows))), np.nan)
    for task, row in enumerate(rows):
        values[task, : len(row)] = row
    return values


def _heat(values: np.ndarray, x: str, y: str, text: str, high: float) -> go.Figure:
    """A heat map of values[y, x] from 0 to `high`, counted from 1, with the value in each cell."""
    rows, columns = values.shape
    cells = go.Heatmap(
        z=values,
        x=[str(i + 1) for i in range(columns)],
        y=[str(i + 1) for i in range(rows)],
        zmin=0,
        zmax=high,
        colorscale=[[0, "var(--panel)"], [1, "var(--heat)"]],
        showscale=False,
        texttemplate=text,
        textfont={"color": "var(--ink)"},
        xgap=1,
        ygap=1,
        hovertemplate=f"{y} %{{y}}, {x} %{{x}}: {text}<extra></extra>",
    )
    return go.Figure(cells).update_layout(
        xaxis={"title": x, "type": "category", "showgrid": False},
        yaxis={"title": y, "type": "category", "showgrid": False, "autorange": "reversed"},
    )
