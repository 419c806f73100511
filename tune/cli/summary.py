"""Output of the command line about a sweep: the sweep, one trial, a session's end."""

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.table import Table

from dynamos.errors import command_line
from results.analysis import overview
from results.analysis.agreement import ranking
from results.analysis.confirmation import (
    BASELINE,
    CONFIRMED,
    enter_outcome,
    outcomes,
    verdict,
)
from results.analysis.headline import expectation, headline, tried
from results.analysis.health.checks import findings
from results.analysis.sampling_error import images_behind
from results.choice import broken, choice_of, roles
from results.definition.protocols import NOT_PUBLISHABLE, images_of
from results.ledger.attributes import latest_outcome
from results.ledger.ledger import Ledger
from results.sweep import LOOK_NUMBER, ORDERS_OF, Sweep
from results.trial import TrialRecord
from results.wording import count, mean_and_spread, measured, parameters, setting
from tune.cli import tables, terminal
from tune.cli.flags.naming import flag, with_flags
from tune.engine.limits import reached
from tune.tracking.store import mlflow_uri

SHOWN_PARETO = 10


def show_sweep(ledger: Ledger) -> None:
    """Print a sweep's state, its best and running trials, and the reasons of those that failed."""
    sweep = Sweep.of(ledger)
    whole = overview.summary(ledger, sweep, ledger.state.name) | overview.details(ledger, sweep)
    rows = [overview.row(trial, ledger.config) for trial in sweep.records]
    tables.print_sweep(whole | {"error": None}, rows, ledger.folder / "trials.csv")


def show_trial(ledger: Ledger, wanted: int) -> None:
    """Print everything about a trial."""
    trial, config = ledger.asked_for(wanted), ledger.config
    whole = overview.row(trial, config) | {
        "results": trial.entries(),
        "epoch_readings": trial.reading_entries(),
        "warnings": trial.warnings,
    }
    tables.print_trial(whole, config.name, list(config.metrics), config.constraints)
    terminal.say(f"files: {ledger.trial_folder(trial.number)}")


def ending(ledger: Ledger, over: str | None) -> bool:
    """Print the result of a session and the next commands; return True if a best trial exists."""
    sweep, config = Sweep.of(ledger), ledger.config
    name, folder = config.name, ledger.folder
    rest = "sweep.yaml  ledger.db  trials/" if config.ledger_url is None else "sweep.yaml  trials/"
    left = ledger.left
    print()
    if over is not None and left:
        changes = "".join(f" {flag(field)} ..." for field in reached(ledger))
        print(
            f"{over[0].upper()}{over[1:]}; {count(left, 'trial')} "
            f"{'is' if left == 1 else 'are'} left. "
            f"Continue: {_here(ledger.command('resume'))}{changes}\n"
        )
    if ledger.done is not None:
        terminal.say(f"{ledger.done[0].upper()}{ledger.done[1:]}.")
    chosen = choice_of(sweep)
    if chosen is None:
        reasons = overview.by_reason(sweep.records)
        complete = len(sweep.complete)
        what = (
            f"None of the {complete} completed trials of {name} keeps "
            f"{' and '.join(map(str, config.constraints))}"
            if complete
            else f"No trial of {name} completed"
        )
        terminal.say(f"{what}{':' if reasons else '.'}")
        tables.say_reasons(reasons)
        print(f"Files in {folder}: trials.csv  {rest}")
        return False
    first, began = sweep.baseline, sweep.baseline_name
    columns = roles(sweep)
    others = [role for role in columns if role != "best"]
    if not config.publishable:
        terminal.say(NOT_PUBLISHABLE)
    if (found := latest_outcome(sweep.looks)) is not None:
        terminal.say(headline(sweep))
        print()
    terminal.say(
        f"Best configuration on {images_of(config.protocol)} images by {config.objectives[0]}"
        + _constraints(ledger)
        + (f", which is the {began}" if first is not None and chosen.number == first.number else "")
        + (f", compared with the {' and the '.join(others)}:" if others else ":")
    )
    terminal.show(side_by_side(columns, config.metrics))
    if images := images_behind(chosen, config.objectives[0].metric, ledger.record):
        terminal.say(f"{config.objectives[0].metric} of the best trial is measured on {images}.")
    if first is not None and first.state == "COMPLETE" and began in columns:
        terminal.say(
            f"Chosen among {tried(sweep)}: the best value is optimistic, so confirm it."
            if first.feasible
            else f"The {began} breaks {' and '.join(broken(config, first))}."
        )
    if expected := expectation(sweep):
        terminal.say(with_flags(expected))
    for _, found_weak in findings(sweep):
        terminal.say(with_flags(str(found_weak)))
    if len(config.objectives) > 1:
        _print_pareto(sweep)
    terminal.say(ranking(sweep))
    retrained = command_line("dynamos", "--config", folder / "best_config.yaml")
    files = "best_config.yaml  best_args.py  trials.csv  " + (
        "pareto.csv  " if len(config.objectives) > 1 else ""
    )
    print(f"\nFiles in {folder}:\n  {files}{rest}")
    refuted = (
        found is not None and found["trial"] == chosen.number and found["verdict"] != CONFIRMED
    )
    retrain = "" if refuted else f"  retrain it      {_here(retrained)}\n"
    print(
        f"\nNext:\n{retrain}"
        f"  confirm it      {_here(ledger.command('confirm'))}\n"
        f"  open MLflow     {_open_mlflow(mlflow_uri(ledger))}\n"
        f"  see the report  {_here(ledger.command('report'))}"
    )
    return True


def confirmed(ledger: Ledger, confirmation: Ledger, over: str | None) -> bool:
    """Print and write the result of a confirmation; return True if it is complete."""
    config, tested = confirmation.config, Sweep.of(confirmation)
    rows = outcomes(tested)
    left = sum(row.trial.ended_at is None for row in rows)
    print()
    if left:
        why = f"{over[0].upper()}{over[1:]}; " if over else ""
        print(
            f"{why}{count(left, 'configuration')} {'is' if left == 1 else 'are'} left. "
            f"Continue: {_here(confirmation.command('resume'))}\n"
        )
    table = Table("")
    for row in rows:
        table.add_column(row.label, justify="right")
    for metric in config.metrics:
        table.add_row(
            metric,
            *(
                mean_and_spread(row.trial, metric)
                if row.trial.state == "COMPLETE"
                else row.trial.state.lower()
                for row in rows
            ),
        )
    table.add_section()
    metric, gains = config.objectives[0].metric, [row.against for row in rows]
    table.add_row(
        f"{metric} - baseline's", *("" if gain is None else gain.shown(metric) for gain in gains)
    )
    better = [row.improves for row in rows]
    for name, cells in {
        "interval": ["" if gain is None else gain.shown_interval(metric) for gain in gains],
        "its confidence": [
            "" if gain is None or gain.half_width is None else gain.confidence for gain in gains
        ],
        "p, paired t-test": [_p(None if gain is None else gain.p_value) for gain in gains],
        "p after Holm": [_p(None if gain is None else gain.adjusted) for gain in gains],
        "P(improvement)": ["" if one is None else f"{one.value:.2f}" for one in better],
        "its interval": ["" if one is None else one.interval for one in better],
    }.items():
        if any(cells):  # class orders are not tested
            table.add_row(name, *cells)
    runs, orders = len(rows[0].trial.results), ORDERS_OF in confirmation.record
    kind, over_what = ("other class order", "orders") if orders else ("fresh seed", "seeds")
    print(
        f"Test results of {ledger.config.name}, {count(runs, kind)} each, mean ± "
        f"standard deviation over {over_what}; the baseline is {confirmation.record[BASELINE]}:"
    )
    if not ledger.config.publishable:
        terminal.say(NOT_PUBLISHABLE)
    terminal.show(table)
    terminal.say(verdict(Sweep.of(ledger), tested))
    if not left and LOOK_NUMBER in confirmation.record:
        more = _here(confirmation.command("confirm", "--extend", "+10"))
        print(f"\nTo add seeds and look again: {more}")
    print(f"\nFiles: {enter_outcome(ledger, tested)}")
    return not left


def _p(value: float | None) -> str:
    """A p-value as text; "" without one."""
    return "" if value is None else f"{value:.2g}"


def side_by_side(columns: dict[str, TrialRecord], metrics: Iterable[str]) -> Table:
    """Trials as columns; their metrics and searched fields as rows."""
    table = Table()
    table.add_column("")
    for title, trial in columns.items():
        table.add_column(f"{title} ({trial.label})", justify="right")
    for metric in metrics:
        table.add_row(
            metric,
            *(
                _shown(metric, t.last(metric)) if t.state == "COMPLETE" else t.state.lower()
                for t in columns.values()
            ),
        )
    table.add_section()
    for field in dict.fromkeys(name for t in columns.values() for name in t.config):
        table.add_row(field, *(setting(t.config, field) for t in columns.values()))
    return table


def _print_pareto(sweep: Sweep) -> None:
    """Print the Pareto set."""
    front, objectives = sweep.pareto_set, sweep.config.objectives
    table = terminal.plain("trial", *map(str, objectives), "parameters")
    for trial in front[:SHOWN_PARETO]:
        table.add_row(
            str(trial.number),
            *(_shown(o.metric, trial.last(o.metric)) for o in objectives),
            parameters(trial.config),
        )
    print(
        f"\nPareto set: {count(len(front), 'trial')}"
        + (
            f", the first {SHOWN_PARETO} of them; all in pareto.csv"
            if len(front) > SHOWN_PARETO
            else ""
        )
    )
    terminal.show(table)


def _constraints(ledger: Ledger) -> str:
    constraints = ledger.config.constraints
    return " with " + " and ".join(map(str, constraints)) if constraints else ""


def _open_mlflow(uri: str) -> str:
    return (
        uri
        if uri.startswith("http")
        else _here(command_line("mlflow", "ui", "--backend-store-uri", uri))
    )


def _here(line: str) -> str:
    """A command line, with its program's path if the shell would not find it by name."""
    name, _, rest = line.partition(" ")
    beside = Path(sys.executable).parent / name
    return line if shutil.which(name) or not beside.exists() else f"{command_line(beside)} {rest}"


def _shown(metric: str, value: float | None) -> str:
    return "" if value is None else measured(metric, value)
