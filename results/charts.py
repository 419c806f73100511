"""A sweep in plotly figures: Optuna's own where it has them."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
import optuna
import optuna.visualization as drawn
import plotly.express as px
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from results.frame import Sweep
from results.sweep_config import Objective, SweepConfig
from results.trial import TrialRecord

RESAMPLES = 10  # of the trials, for the uncertainty of importances
TREES, RESAMPLED_TREES = 64, 16  # of the forest of all trials, and of a resample
MOST_TRIALS = 200  # that importances look at, for a forest's time grows faster than its trials
LEAST_VALUES = 4  # different ones, for importances


def shown_study(sweep: Sweep, metrics: Sequence[str] = ()) -> optuna.Study:
    """The sweep's own ended trials, their fields' own names and values where the sampler saw a magnitude.

    Its objective is the sweep's first, and a trial bears the sweep's number: what has not ended, has failed or is
    another sweep's keeps its place as a failed one. Or there are several, `metrics`, of feasible trials alone.
    """
    config = sweep.config
    objectives = [Objective.parse(metric) for metric in metrics] or [config.objectives[0]]
    study = optuna.create_study(directions=["maximize" if o.sign > 0 else "minimize" for o in objectives])
    distributions = {p.name: replace(p, log=p.log and not p.negated).distribution() for p in config.space.parameters}
    for trial in sweep.records:
        ended = trial.state in ("COMPLETE", "PRUNED") and len(trial.config) == len(distributions)
        if trial.imported or not ended or (metrics and not trial.feasible):
            if not metrics:
                study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
            continue
        between = {} if metrics else {
            task: fmean(results[task]["metrics"][objectives[0].metric] for results in trial.results.values())
            for task in range(trial.tasks_done)}
        complete = trial.state == "COMPLETE"
        study.add_trial(optuna.trial.create_trial(
            state=optuna.trial.TrialState[trial.state], params=trial.config, distributions=distributions,
            values=[trial.final(o.metric) for o in objectives] if complete else None, intermediate_values=between,
            constraints={str(c): c.violation(trial.final(c.metric)) for c in config.constraints} if complete else None))
    return study


def shares(study: optuna.Study) -> dict[str, tuple[float, float]] | None:
    """The share of the objective's variance that each field explains (fANOVA, Hutter et al. 2014), and its uncertainty.

    The shares are those of all trials, or of MOST_TRIALS of them drawn at random; the uncertainty is the standard
    deviation over resamples of these with replacement. None where there is nothing to explain, or too few resamples
    have anything.
    """
    trials = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    generator = np.random.default_rng(0)
    if len(trials) > MOST_TRIALS:
        trials = [trials[i] for i in generator.choice(len(trials), MOST_TRIALS, replace=False)]
    whole = _importances(study.directions, trials, TREES)
    resamples = [[trials[i] for i in generator.integers(len(trials), size=len(trials))] for _ in range(RESAMPLES)]
    found = [shares for resample in resamples
             if (shares := _importances(study.directions, resample, RESAMPLED_TREES)) is not None]
    if whole is None or len(found) < 2:
        return None
    return {name: (share, float(np.std([shares[name] for shares in found], ddof=1)))
            for name, share in sorted(whole.items(), key=lambda item: item[1])}


def importance(study: optuna.Study, metric: str) -> go.Figure | None:
    """`shares` as bars, with lines of one standard deviation; None where there are none."""
    found = shares(study)
    if found is None:
        return None
    bars = go.Bar(x=[share for share, _ in found.values()], y=list(found), orientation="h",
                  error_x={"type": "data", "array": [spread for _, spread in found.values()]})
    return go.Figure(bars).update_xaxes(title=f"share of the variance of {metric}", rangemode="nonnegative")


def _importances(directions: Sequence[optuna.study.StudyDirection], trials: Sequence[optuna.trial.FrozenTrial],
                 trees: int) -> dict[str, float] | None:
    """The importance of each field over trials; None where no field varies or no tree finds any variance."""
    if all(len({t.params[name] for t in trials}) == 1 for name in trials[0].params):
        return None  # Optuna would give equal shares
    study = optuna.create_study(directions=directions)
    study.add_trials(trials)
    try:
        return optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=0))
    except RuntimeError as error:
        if "zero total variance in all trees" not in str(error):
            raise
        return None


def pareto(sweep: Sweep) -> go.Figure:
    """Accuracy against compute of the trials that keep every constraint, those that no other beats in both apart."""
    study = shown_study(sweep, [accuracy(sweep.config), "compute"])
    return drawn.plot_pareto_front(study, target_names=[accuracy(sweep.config), "compute (of the dense network's)"])


def accuracy(config: SweepConfig) -> str:
    """The first objective that is an accuracy; class-il where none is."""
    prefix = config.accuracy_prefix
    return next((o.metric for o in config.objectives if o.metric.startswith(prefix)), f"{prefix}class_il")


def history(study: optuna.Study, metric: str) -> go.Figure:
    """The objective by trial and the best so far."""
    return drawn.plot_optimization_history(study, target_name=metric)


def parallel(study: optuna.Study, metric: str) -> go.Figure:
    """Each trial a line over the searched fields."""
    return drawn.plot_parallel_coordinate(study, target_name=metric)


def slices(study: optuna.Study, metric: str) -> go.Figure:
    """The objective over each searched field."""
    return drawn.plot_slice(study, target_name=metric).update_layout(width=None)


def curves(study: optuna.Study, metric: str) -> go.Figure:
    """The objective of each trial after each task."""
    figure = drawn.plot_intermediate_values(study)
    for line in figure.data:
        line.x = [task + 1 for task in line.x]  # Optuna counts from 0
    return figure.update_layout(xaxis_title="after training task", xaxis_dtick=1, yaxis_title=metric)


def matrix(trial: TrialRecord) -> go.Figure:
    """Class-il accuracy on each task after each training task, mean over seeds."""
    values = _accuracies(trial)
    return _heat(values, "evaluated on task", "after training task", "percent", "%{z:.1f}", "Viridis", 0, 100)


def per_task(trial: TrialRecord) -> go.Figure:
    """Class-il accuracy on each task from the time it was learned, mean over seeds."""
    values = _accuracies(trial)
    figure = go.Figure()
    for task in range(values.shape[1]):
        after = list(range(task, len(values)))
        figure.add_scatter(x=[t + 1 for t in after], y=[values[t, task] for t in after], name=f"task {task + 1}",
                           mode="lines+markers")
    return figure.update_layout(xaxis_title="after training task", yaxis_title="class-il accuracy, percent",
                                xaxis_dtick=1)


def kept(trial: TrialRecord) -> go.Figure:
    """The fraction of its channels that each gate keeps on each task's images after the last task, mean over seeds."""
    values = np.mean([results[trial.tasks_done - 1]["keep_per_task"] for results in trial.results.values()], axis=0)
    return _heat(values.T, "images of task", "gate", "kept", "%{z:.2f}", "Blues", 0, 1)


def channels(use: np.ndarray) -> go.Figure:
    """Which channels each class uses, a panel per gate. use: (K, G, C) fractions of a class's images."""
    gates = use.shape[1]
    figure = make_subplots(gates, 1, shared_xaxes=True, vertical_spacing=0.04,
                           row_titles=[f"gate {g + 1}" for g in range(gates)])
    for gate in range(gates):
        figure.add_heatmap(z=use[:, gate], coloraxis="coloraxis", row=gate + 1, col=1,
                           hovertemplate="class %{y}, channel %{x}: kept in %{z:.0%}<extra></extra>")
    figure.update_yaxes(dtick=2, autorange="reversed")
    figure.update_yaxes(title="class", row=1, col=1)
    figure.update_xaxes(title="channel", row=gates, col=1)
    return figure.update_layout(coloraxis={"colorscale": "Blues", "cmin": 0, "cmax": 1, "colorbar_title": "kept"})


def anytime(curves: dict[str, list[tuple[float, float]]], spent: str, metric: str) -> go.Figure:
    """The best value so far of each sweep over what it had spent. curves: by name, (spent, value) in order."""
    figure = go.Figure()
    for name, points in curves.items():
        figure.add_scatter(x=[p[0] for p in points], y=[p[1] for p in points], name=name, mode="lines+markers",
                           line_shape="hv")
    return figure.update_layout(xaxis_title=spent, yaxis_title=f"best {metric} so far", showlegend=True)


def _accuracies(trial: TrialRecord) -> np.ndarray:
    """(tasks learned, tasks) class-il accuracies, mean over seeds; NaN where nothing was measured."""
    tasks, seeds = trial.tasks_done, list(trial.results.values())
    values = np.full((tasks, max(len(seeds[0][t]["class_il_row"]) for t in range(tasks))), np.nan)
    for task in range(tasks):
        row = np.mean([results[task]["class_il_row"] for results in seeds], axis=0)
        values[task, :len(row)] = row
    return values


def _heat(values: np.ndarray, x: str, y: str, what: str, text: str, scale: str, low: float, high: float) -> go.Figure:
    """A heat map of values[y, x], both counted from 1, each cell with its value."""
    rows, columns = values.shape
    figure = px.imshow(values, x=[str(i + 1) for i in range(columns)], y=[str(i + 1) for i in range(rows)],
                       labels={"x": x, "y": y, "color": what}, zmin=low, zmax=high, aspect="auto",
                       color_continuous_scale=scale)
    return figure.update_traces(texttemplate=text)
