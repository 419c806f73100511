"""Faults of a sweep whose processes were killed: trials and MLflow runs lost or doubled."""

import random
from collections import Counter
from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities import Run

from dynamos.trainer import Trainer
from results.choice import train_config
from results.definition.sweep_config import SweepConfig
from results.ledger.ledger import Ledger
from results.ledger.stored_trial import repeatable
from results.trial import TrialRecord
from tune.tracking.mirror import TAG
from tune.tracking.store import EXPERIMENT

STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


def ledger_faults(ledger: Ledger) -> list[str]:
    """Faults of a sweep that has ended and prunes nothing, a sentence each."""
    trials, tasks = ledger.trials(), ledger.config.base.n_tasks
    numbers = [t.number for t in trials]
    found = [] if numbers == list(range(ledger.budget)) else [f"trials are {numbers}"]
    for trial in trials:
        if trial.ended_at is None:
            found.append(f"trial {trial.number} is stuck: {trial.state.lower()}")
        elif trial.state != "COMPLETE":
            found.append(f"trial {trial.number} ended {trial.state}: {trial.reason}")
        for seed, results in trial.results.items():
            known = [r.task for r in results]
            expected = results[0].n_tasks if results else tasks
            if known != list(range(expected or 0)):
                found.append(f"trial {trial.number}, seed {seed}: results of tasks {known}")
    configs = Counter(ledger.config.space.key(t.config) for t in trials if t.config)
    return found + [f"a configuration ran {n} times: {c}" for c, n in configs.items() if n > 1]


def changed_faults(before: Sequence[TrialRecord], now: Sequence[TrialRecord]) -> list[str]:
    """Return a sentence for each trial that a ledger lost or changed since an earlier look."""
    found, known = [], {t.number: t for t in now}
    for old in before:
        new = known.get(old.number)
        if new is None:
            found.append(f"trial {old.number} is lost")
            continue
        if old.config and new.config != old.config:
            found.append(f"trial {old.number} has another configuration")
        if old.ended_at is not None and (new.state, new.ended_at) != (old.state, old.ended_at):
            found.append(f"trial {old.number} ended {old.state} and is {new.state}")
        for seed, results in old.results.items():
            if new.results.get(seed, [])[: len(results)] != results:
                found.append(f"trial {old.number}, seed {seed} lost a result, or has another one")
    return found


def mirror_faults(name: str, trials: Sequence[TrialRecord], uri: str) -> list[str]:
    """Faults of the MLflow runs of a sweep that is over, a sentence each."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return ["MLflow has no runs"]
    runs, token = list[Run](), None
    while True:
        page = client.search_runs([experiment.experiment_id], page_token=token)
        runs += [r for r in page if r.data.tags.get(TAG, "").partition("/")[0] == name]
        if not (token := page.token):
            break
    by_tag = {run.data.tags[TAG]: run for run in runs}
    found = (
        [f"{len(runs) - len(by_tag)} MLflow runs are doubled"] if len(by_tag) < len(runs) else []
    )
    expected = {name} | {f"{name}/{t.number}" for t in trials}
    if by_tag.keys() != expected:
        lacks, more = sorted(expected - by_tag.keys()), sorted(by_tag.keys() - expected)
        return [*found, f"MLflow lacks the runs {lacks}, and has {more} in addition"]
    if by_tag[name].info.status != "FINISHED":
        found.append(f"the sweep's run is {by_tag[name].info.status}")
    for trial in trials:
        run = by_tag[f"{name}/{trial.number}"]
        if run.info.status != STATUS[trial.state]:
            found.append(f"the run of trial {trial.number} is {run.info.status}")
        history = client.get_metric_history(run.info.run_id, "val_class_il")
        sent = [(m.step, m.value) for m in history]
        results = next(iter(trial.results.values()), [])
        if sent != [(r.task + 1, r.class_il) for r in results]:
            found.append(f"the run of trial {trial.number} has the values {sent}")
    return found


def training_faults(
    config: SweepConfig, trials: Sequence[TrialRecord], draws: random.Random, most: int
) -> list[str]:
    """Of some trials, those whose results differ from an undisturbed training, a sentence each."""
    found = []
    for trial in draws.sample(trials, min(most, len(trials))):
        for seed, results in trial.results.items():
            again = list(Trainer(train_config(config, trial).replace(seed=seed)))
            if [*map(repeatable, again)] != [*map(repeatable, results)]:
                found.append(f"trial {trial.number}, seed {seed} does not repeat")
    return found
