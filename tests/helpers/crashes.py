"""Sweeps that are watched, killed and resumed, and checks of their results. `python -m
benchmarks.kills` kills more kinds of processes, and more often."""

import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.kills.faults import mirror_faults
from dynamos import checkpoints
from dynamos.files import AnyPath
from results.choice import train_config
from results.ledger.ledger import Ledger
from results.ledger.stored_trial import repeatable
from results.trial import TrialRecord
from tests.helpers.processes import Driver, sweep
from tests.helpers.small import together

TASKS = 5  # of every trial
# Trials take a second or two, so a kill comes at the start of a task as often as at its end.
SHORT = [
    "nf=4",
    "hidden_dim_ratio=4",
    "max_train_images_per_task=30",
    "warmup_steps=2",
    "n_epochs=3",
]
# Tasks take a second or two, so that a task is not over yet when a test has seen the state that it
# waits for.
LONG = [*SHORT[:-1], "n_epochs=15", "warmup_epochs=2"]
# Trials that still run when another command or node has started, on a fast machine too.
LONGER = [*SHORT[:-1], "n_epochs=45", "warmup_epochs=2"]
ENDLESS = 10**6  # epochs
MOST_EVENTS = 14  # from the start of a session to its kill; a trial is about a dozen
# share of kills right after a task was saved, often before the ledger has it
AT_A_BORDER = 0.3


def endless(folder: Path, others: int) -> list[str]:
    """Flags of a sweep whose trial 0 does not end by itself, so that it is always running. The
    other trials are SHORT."""
    space = {"lr": {"low": 0.01, "high": 0.2}, "n_epochs": {"choices": [3, ENDLESS]}}
    points = [{"lr": 0.01 * number, "n_epochs": 3} for number in range(1, others + 1)]
    (folder / "endless.yaml").write_text(yaml.safe_dump({"parameters": space}))
    (folder / "points.yaml").write_text(yaml.safe_dump({"points": points}))
    return [
        "--space",
        str(folder / "endless.yaml"),
        "--points",
        str(folder / "points.yaml"),
        f"--trials={others + 1}",
        "--set",
        *SHORT,
        f"n_epochs={ENDLESS}",
    ]


class Watched:
    """A sweep seen from outside, before and after it exists."""

    def __init__(self, storage: AnyPath, name: str) -> None:
        self.storage, self.name = storage, name
        self.folder = storage / name
        self._ledger: Ledger | None = None

    @property
    def store(self) -> str:
        """URI of the MLflow store that the sweeps of a storage folder share."""
        return f"sqlite:///{self.storage / 'mlflow.db'}"

    @property
    def there(self) -> bool:
        """True if the sweep exists."""
        return (self.folder / "sweep.yaml").exists()

    @property
    def ledger(self) -> Ledger:
        """The sweep's ledger, for reading."""
        self._ledger = self._ledger or Ledger.open(self.storage, self.name)
        return self._ledger

    def trials(self) -> list[TrialRecord]:
        """Return the trials; [] before the sweep exists."""
        return self.ledger.trials() if self.there else []

    def state(self, number: int) -> str | None:
        """Return a trial's state; None before the trial exists."""
        trials = self.trials()
        return trials[number].state if number < len(trials) else None

    def at_work(self, number: int, attempt: int = 1) -> bool:
        """True if an attempt of a trial has started to train and has not ended."""
        return (
            self.state(number) == "RUNNING"
            and (
                self.folder / "trials" / f"{number:04d}" / f"attempt-{attempt}" / "config.yaml"
            ).exists()
        )

    def running(self, tasks: int) -> list[TrialRecord]:
        """Running trials with at least `tasks` tasks in the ledger and some tasks left."""
        return [t for t in self.trials() if t.state == "RUNNING" and tasks <= t.tasks_done < TASKS]

    def checkpoints(self, number: int) -> list[AnyPath]:
        """Checkpoint files of a trial, the newest last."""
        folder = self.ledger.trial_folder(number)
        paths: list[AnyPath] = [*folder.glob("attempt-*/seed-*/checkpoint-*.pt")]
        return sorted(paths)

    def saved(self, trial: TrialRecord, attempt: int | None = None) -> int:
        """Number of tasks in a trial's newest checkpoint, of one attempt or of all."""
        attempts = range(1, trial.attempt + 1) if attempt is None else [attempt]
        folders = [
            self.ledger.trial_folder(trial.number) / f"attempt-{k}" / f"seed-{trial.seed}"
            for k in attempts
        ]
        return max(
            (
                len(state["results"]) if (state := checkpoints.latest(folder)) else 0
                for folder in folders
            ),
            default=0,
        )

    def tasks_saved(self) -> int:
        """Number of checkpoints written so far, deleted ones included."""
        newest: dict[AnyPath, int] = {}
        for path in self.folder.glob("trials/*/attempt-*/seed-*/checkpoint-*.pt"):
            newest[path.parent] = max(newest.get(path.parent, 0), int(path.stem.partition("-")[2]))
        return sum(newest.values())

    def events(self, driver: Driver) -> int:
        """Number of events so far: start of this driver, attempts, tasks saved, tasks in the
        ledger, trials ended."""
        if not self.there:
            return 0
        return (
            str(self.ledger.driver).endswith(f":{driver.pid}")
            + self.tasks_saved()
            + sum(t.attempt + t.tasks_done + (t.ended_at is not None) for t in self.trials())
        )


@dataclass(frozen=True)
class Kill:
    """State of a sweep when it was killed."""

    events: int  # seconds from the start of the session to the kill
    running: int  # trials that this session had started or continued
    # of these, the trials that had trained a task in this session, but not the next one yet
    in_a_task: int
    ahead: int  # of these, the trials with a task in a checkpoint that the ledger did not have

    def __str__(self) -> str:
        return (
            f"after {self.events:2d} events: {self.running} running, {self.in_a_task} in the "
            f"middle of a task, {self.ahead} saved and not entered"
        )


def disturbed(
    kills: int,
    folder: Path,
    seed: int,
    say: Callable[[str], None] = print,
    flags: Sequence[str] = (),
) -> tuple[Watched, list[Kill]]:
    """Return (a sweep that was killed N times and then resumed to its end, the kills). Each kill
    must come while trials run. `flags` are further flags of `run`."""
    say(f"seed {seed}")
    draws = random.Random(seed)
    seen, struck = Watched(folder / "runs", "hit"), []
    trials = kills + 4
    for number in range(1, kills + 1):
        # a sweep may be resumed with other resources
        concurrent = f"--max-concurrent={draws.choice([1, 2])}"
        start = (
            ["resume", "hit"]
            if seen.there
            else ["run", "--name=hit", *flags, f"--trials={trials}", "--set", *SHORT]
        )
        with Driver(start[0], concurrent, *start[1:], cwd=folder) as driver:
            struck.append(_killed(driver, seen, draws))
        assert driver.status == -signal.SIGKILL
        assert sum(t.ended_at is not None for t in seen.trials()) < trials, (
            "the kill came when all was over"
        )
        say(f"kill {number:3d} {struck[-1]}")
    ended = sweep("resume", "hit", cwd=folder)
    assert ended.status == 0 and not ended.errors, ended
    return seen, struck


def _killed(driver: Driver, seen: Watched, draws: random.Random) -> Kill:
    """Kill a driver at a random moment and return the state of the sweep."""
    before, attempts = seen.events(driver), {t.number: t.attempt for t in seen.trials()}
    wanted, at_a_border = before + draws.randint(1, MOST_EVENTS), draws.random() < AT_A_BORDER
    driver.until(lambda: seen.events(driver) >= wanted)
    if at_a_border:
        saved = seen.tasks_saved()
        driver.until(lambda: seen.tasks_saved() > saved, poll_seconds=0.001)
    assert driver.alive, "the kill struck nothing"
    driver.kill()
    events = seen.events(driver) - before
    running = [
        t for t in seen.trials() if t.state == "RUNNING" and t.attempt > attempts.get(t.number, 0)
    ]
    return Kill(
        events,
        len(running),
        sum(0 < seen.saved(t, t.attempt) == t.tasks_done < TASKS for t in running),
        sum(seen.saved(t) > t.tasks_done for t in running),
    )


def check_whole(
    seen: Watched, trials: int, states: Sequence[str] = ("COMPLETE",), cohort: int = 1
) -> None:
    """Assert that a finished sweep has lost nothing, has nothing twice, and equals an uninterrupted
    one. The results of trials that train together depend on their places, so they are not compared.
    """
    records = seen.trials()
    assert [t.number for t in records] == list(range(trials)), "every trial once"
    assert {t.state for t in records} <= set(states), [
        (t.number, t.state, t.reason) for t in records
    ]
    if cohort == 1:
        check_undisturbed(seen)
    check_mirrored(seen, seen.store)


def check_undisturbed(seen: Watched) -> None:
    """Assert that the results of every complete trial equal those of an uninterrupted run."""
    stream = None
    for trial in seen.trials():
        if trial.state == "COMPLETE":
            train = train_config(seen.ledger.config, trial)
            runs = together([train.replace(seed=seed) for seed in trial.results], stream)
            stream = runs[0].stream
            for run, results in zip(runs, trial.results.values(), strict=True):
                assert [*map(repeatable, results)] == [*map(repeatable, run.results)], (
                    f"trial {trial.number}"
                )


def check_mirrored(seen: Watched, uri: str) -> None:
    """Assert that MLflow has one ended run per trial and one for the sweep, each metric once."""
    assert mirror_faults(seen.name, seen.trials(), uri) == []
