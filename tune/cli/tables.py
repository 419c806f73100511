"""Tables of the command line about sweeps and trials."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from rich.table import Table

from dynamos.metrics import mean
from results.analysis.overview import grouped
from results.choice import broken_by
from results.definition.labels import told
from results.definition.objectives import BY_EPOCH, Constraint, Objective
from results.definition.protocols import NOT_PUBLISHABLE
from results.ledger.attributes import SweepState
from results.names import ENDED
from results.wording import count, duration, parameters
from tune.cli.flags.naming import with_flags
from tune.cli.terminal import cell, print_rows, say, show

SHOWN_REASONS = 5
SHOWN_TRIALS = 30
# words about trials, by the key of a sweep's entry that has the trial; a later one replaces another
ROLES = {"best": "luckiest", "chosen": "best"}


def print_sweep(
    sweep: Mapping[str, Any], trials: Iterable[Mapping[str, Any]], all_trials: object
) -> None:
    """Print a sweep: state, answer, notes, its best and running trials, reasons of failures.

    `sweep` and `trials` come from results.analysis.overview; `all_trials` names the place of all.
    """
    objectives = [Objective.parse(text) for text in sweep["objectives"]]
    constraints = [Constraint.parse(text) for text in sweep["constraints"]]
    name, confirms = sweep["name"], sweep["confirms"]
    if confirms is not None:
        say(f"{name} confirms {confirms}: {sweep['answer']}")
    bounds = f" with {' and '.join(sweep['constraints'])}" if constraints else ""
    say(
        f"{name}: {_state(sweep)}; {sweep['stream']}, space {sweep['space']}, protocol "
        f"{sweep['protocol']}, {' '.join(sweep['objectives'])}{bounds}"
    )
    if sweep["error"]:
        say(sweep["error"])
    if not sweep["publishable"]:
        say(NOT_PUBLISHABLE)
    counts = ", ".join(f"{n} {state}" for state, n in sweep["counts"].items() if n)
    say(
        f"{count(sweep['budget'], 'trial')}: {counts or 'none has started'}; CPU time "
        f"{duration(sweep['cpu_seconds'])}, GPU time {duration(sweep['gpu_seconds'])}"
    )
    if confirms is None:
        say(sweep["answer"])
        if sweep["expected"]:
            say(with_flags(sweep["expected"]))
    for text in sweep["notes"]:
        say(f"note: {with_flags(text)}")
    if labels := told(sweep["tags"]):
        say(f"tags: {labels}")
    if sweep["note"]:
        say(f"note: {sweep['note']}")
    listed = _in_order(trials, objectives)
    roles = {sweep[key]["number"]: name for key, name in ROLES.items() if sweep[key]}
    print_trials(listed[:SHOWN_TRIALS], objectives, constraints, roles)
    if len(listed) > SHOWN_TRIALS:
        say(f"... and {len(listed) - SHOWN_TRIALS} more in {all_trials}")
    failed = grouped((t["reason"], t["number"]) for t in listed if t["state"] == "FAIL")
    if sum(map(len, failed.values())) > len(failed):  # else the table says as much
        say("Failed:")
        say_reasons(failed)
    for found in sweep["health"]:
        say(with_flags(f"{found['text']} Next: {found['next_step']}"))
    if sweep["ranking"]:
        say(sweep["ranking"])
    if confirms is None:
        say(f"Space {sweep['space']}: {sweep['searched']}.")


def _state(sweep: Mapping[str, Any]) -> SweepState:
    ended = sum(sweep["counts"][state.lower()] for state in ENDED)
    return SweepState(sweep["state"], sweep["driver"], sweep["budget"] - ended)


def _in_order(
    trials: Iterable[Mapping[str, Any]], objectives: Sequence[Objective]
) -> list[Mapping[str, Any]]:
    """The trials in the order of `show`: ranked (Sweep.ranked), running, all others.

    The runs of a configuration stand together, at the place of their mean.
    """
    trials, runs = list(trials), dict[str, list[Mapping[str, Any]]]()
    for trial in trials:
        if trial["state"] == "COMPLETE":
            runs.setdefault(str(trial["config"]), []).append(trial)

    def rank(t: Mapping[str, Any]) -> tuple[float, ...]:
        if t["state"] == "COMPLETE" and t["feasible"]:
            of = runs[str(t["config"])]
            means = (mean([one["metrics"][o.metric] for one in of]) for o in objectives)
            signed = (-o.sign * value for o, value in zip(objectives, means, strict=True))
            return 0, *signed, of[0]["number"], t["number"]
        return 1 if t["state"] == "RUNNING" else 2, t["number"]

    return sorted(trials, key=rank)


def say_reasons(reasons: Mapping[str, Sequence[int]]) -> None:
    """Print the reasons of trials that ended early, each reason once."""
    for reason, numbers in list(reasons.items())[:SHOWN_REASONS]:
        say(f"{count(len(numbers), 'trial')}: {reason}", "  ")
    if len(reasons) > SHOWN_REASONS:
        print(f"  and {count(len(reasons) - SHOWN_REASONS, 'other reason')}, in trials.csv")


def print_trials(
    trials: Sequence[Mapping[str, Any]],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    roles: Mapping[int, str],
) -> None:
    """Print trials: objectives, constrained metrics, all parameters, reasons.

    `roles` are words about some trials, by number, such as "best".
    """
    metrics = list(dict.fromkeys([o.metric for o in objectives] + [c.metric for c in constraints]))
    rows = [
        [
            str(t["number"]),
            t["state"].lower() + (f" ({roles[t['number']]})" if t["number"] in roles else ""),
            t["source"],
            f"{t['tasks_done']}/{t['n_tasks']}" if t["n_tasks"] else "",
            *(cell(t["metrics"].get(metric)) for metric in metrics),
            f"{t['seconds'] or 0:.0f}",
            parameters(t["config"]),
            why(t, constraints),
        ]
        for t in trials
    ]
    print_rows(
        ["trial", "state", "source", "tasks", *metrics, "seconds", "parameters", "why"],
        rows,
        prose=2,
    )


def print_trial(
    trial: Mapping[str, Any], sweep: str, metrics: Sequence[str], constraints: Sequence[Constraint]
) -> None:
    """Print everything about a trial: the fields of a row, results by seed, and warnings."""
    tasks = f", {trial['tasks_done']} of {trial['n_tasks']} tasks" if trial["n_tasks"] else ""
    say(
        f"trial {trial['number']} of {sweep}: {trial['state'].lower()}{tasks}, from "
        f"{trial['source']}, attempt {trial['attempt']}, {trial['seconds'] or 0:.0f} s"
    )
    if said := why(trial, constraints):
        say(f"why: {said}")
    say(parameters(trial["config"]))
    rows = [
        [
            str(seed),
            str(result["task"] + 1),
            *(cell(result["metrics"].get(metric)) for metric in metrics),
        ]
        for seed, reported in trial["results"].items()
        for result in reported
    ]
    if rows:
        print_rows(["seed", "task", *metrics], rows)
    readings = [
        [str(seed), str(reading["epochs"]), *(cell(reading.get(metric)) for metric in BY_EPOCH)]
        for seed, of in trial["epoch_readings"].items()
        for reading in of
    ]
    if readings:
        print_rows(["seed", "epochs", *BY_EPOCH], readings)
    for warning in trial["warnings"]:
        say(f"warning: {warning}")


def print_tried(
    config: Mapping[str, Any],
    trials: int,
    first: Iterable[Mapping[str, Any]],
    notes: Iterable[str],
) -> None:
    """Print the configuration of a new sweep, as YAML, notes on it and its first suggestions."""
    print(yaml.safe_dump(dict(config), sort_keys=False, width=100))
    say(
        f"The settings are valid. {config['name']} would run {count(trials, 'trial')}, these "
        "first. Nothing was written."
    )
    for text in notes:
        say(f"note: {with_flags(text)}")
    print_rows(
        ["trial", "source", "parameters"],
        [[str(t["number"]), t["source"], parameters(t["config"])] for t in first],
        prose=1,
    )


def why(trial: Mapping[str, Any], constraints: Iterable[Constraint]) -> str:
    """The reason why a trial cannot be chosen, as far as it is known."""
    if trial["feasible"] is False and trial["reason"] is None:
        return f"infeasible: {', '.join(broken_by(constraints, trial['metrics']))}"
    return trial["reason"] or ("waits for the end of its batch" if trial["held"] else "")


def print_comparison(
    names: Iterable[str],
    sections: Iterable[Iterable[tuple[str, Iterable[str]]]],
    sentences: Iterable[str],
) -> None:
    """Print sweeps side by side: a table in sections, and sentences below it."""
    table = Table("")
    for name in names:
        table.add_column(name, justify="right")
    for section in sections:
        for what, values in section:
            table.add_row(what, *values)
        table.add_section()
    show(table)
    for sentence in sentences:
        say(sentence)
