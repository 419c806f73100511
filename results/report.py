"""One self-contained HTML page about a sweep."""

import html
from pathlib import Path
from statistics import fmean

import optuna
import optuna.visualization as charts
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from dynamos.files import write_whole
from results.agreement import ranking
from results.best import baseline, best, broken, tie_sentence
from results.confirm import verdict
from results.frame import Sweep
from results.ledger import Ledger
from results.protocols import NOT_PUBLISHABLE, PROTOCOLS
from results.sweep_config import SweepConfig
from results.trial import TrialRecord
from search_spaces.space import Parameter

STYLE = """body {font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem}
table {border-collapse: collapse; font-size: 14px} td, th {padding: .2rem .6rem; text-align: right}
tr:nth-child(even) {background: #f4f4f4} .wide {overflow-x: auto}"""


def write_report(ledger: Ledger) -> Path:
    """report.html in the sweep's folder: the answer, Optuna's charts, every trial. Needs no network to be read."""
    trials = ledger.trials()
    config = ledger.config
    own = sum(not t.imported for t in trials)
    parts = [f"<h1>Sweep {html.escape(config.name)}</h1>",
             f"<p>{html.escape(config.base.dataset)}, space {html.escape(config.space.name)}, protocol "
             f"{config.protocol}, {own} of {ledger.budget} trials.</p>",
             *(f"<p>{html.escape(text)}</p>" for text in _standing(ledger, trials)),
             f"<p>{html.escape(ranking(trials, config))}</p>"]
    complete = [t for t in trials if t.state == "COMPLETE"]
    if len(complete) > 1:
        parts += _charts(ledger)
    parts += ["<h2>Trials</h2>", f'<div class="wide">{_table(Sweep(ledger).trials)}</div>']
    page = (f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width"><title>{html.escape(config.name)}</title><style>{STYLE}</style>'
            + "\n".join(parts) + "</html>")
    return write_whole(ledger.folder / "report.html", page)


def _standing(ledger: Ledger, trials: list[TrialRecord]) -> list[str]:
    """What the sweep found, how it chose, what ties, and what its confirmations found, a paragraph each."""
    config = ledger.config
    stamp = [] if config.publishable else [NOT_PUBLISHABLE]
    texts = [*stamp, answer(trials, config), f"Configurations were {PROTOCOLS[config.protocol]}."]
    if best(trials, config) is not None:
        texts.append(tie_sentence(trials, config))
    for name in ledger.looks:
        if (ledger.folder.parent / name / "sweep.yaml").exists():
            texts.append(f"{name}: {verdict(ledger, Ledger.open(ledger.folder.parent, name))}")
    return texts + ([] if ledger.looks else ["Test images have not been looked at; confirm the choice before it is "
                                             f"published: dynamos-sweep confirm {ledger.typed}"])


def answer(trials: list[TrialRecord], config: SweepConfig) -> str:
    """What the sweep found, in words."""
    chosen, first = best(trials, config), baseline(trials)
    complete = sum(t.state == "COMPLETE" and not t.imported for t in trials)
    if chosen is None or chosen.value is None:
        kept = " and keeps " + " and ".join(map(str, config.constraints)) if config.constraints else ""
        return f"None of {sum(not t.imported for t in trials)} trials has completed{kept}."
    text = f"Trial {chosen.number} is best with {config.objectives[0].metric} {chosen.value:.2f}"
    if first is None or first.value is None:
        return text + "; trial 0, the baseline, has not completed."
    if chosen.number == first.number:
        return f"{text}; it is the {first.source}, where the sweep began."
    if not first.feasible:
        return (f"{text}; the {first.source} ({first.value:.2f}), where the sweep began, breaks "
                f"{' and '.join(broken(config, first))}.")
    gain = config.objectives[0].sign * (chosen.value - first.value)
    return (f"{text}, better by {gain:.2f} than the {first.source} ({first.value:.2f}). Being the best of {complete} "
            f"with {'one seed' if config.seeds == 1 else f'{config.seeds} seeds'} each flatters it: retrain it on "
            "fresh seeds.")


def _charts(ledger: Ledger) -> list[str]:
    study = _shown_study(ledger)
    drawn = [("Optimisation history", charts.plot_optimization_history(study)),
             ("Parallel coordinates", charts.plot_parallel_coordinate(study)),
             ("Slices", charts.plot_slice(study)),
             (f"{ledger.config.objectives[0].metric} by task", charts.plot_intermediate_values(study))]
    if len({t.value for t in ledger.trials() if t.state == "COMPLETE"}) > 3:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        drawn.insert(1, ("Parameter importance", charts.plot_param_importances(study, evaluator=evaluator)))
    parts = []
    for n, (title, figure) in enumerate(drawn):
        figure.update_layout(title_text=None, margin_t=30)
        # The charting library stands in the page once, with the first chart.
        chart = figure.to_html(full_html=False, include_plotlyjs=n == 0)
        parts += [f"<h2>{title}</h2>", f'<div class="wide">{chart}</div>']
    return parts


def _shown_study(ledger: Ledger) -> optuna.Study:
    """The ended trials under their fields' own names and values, where the sampler saw a magnitude."""
    objective = ledger.config.objectives[0]
    study = optuna.create_study(direction="maximize" if objective.sign > 0 else "minimize")
    distributions = {p.name: _distribution(p) for p in ledger.config.space.parameters}
    for trial in ledger.trials():
        if trial.state in ("COMPLETE", "PRUNED") and len(trial.config) == len(distributions):
            values = {task: fmean(results[task]["metrics"][objective.metric] for results in trial.results.values())
                      for task in range(trial.tasks_done)}
            study.add_trial(optuna.trial.create_trial(
                state=optuna.trial.TrialState[trial.state], value=trial.value, params=trial.config,
                distributions=distributions, intermediate_values=values))
    return study


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    assert parameter.low is not None and parameter.high is not None
    log = parameter.log and not parameter.negated
    if isinstance(parameter.low, int):
        return IntDistribution(parameter.low, int(parameter.high), log)
    return FloatDistribution(parameter.low, parameter.high, log)


def _table(frame: pd.DataFrame) -> str:
    shown = frame.drop(columns=["started_at", "ended_at"])
    return str(shown.to_html(index=False, na_rep="", float_format="{:.4g}".format, border=0))
