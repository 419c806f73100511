"""One long sweep whose processes are killed at random moments."""

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.kills.faults import changed_faults
from benchmarks.kills.postgresql import Server
from benchmarks.kills.processes import PATIENCE_SECONDS, Driver, send
from benchmarks.kills.service import Service
from results.ledger.ledger import Ledger
from results.trial import TrialRecord

NAME = "hit"
# "driver" is its process alone; Ray's processes notice that it is gone. "session" is all of them.
TARGETS = ("driver", "session", "worker", "mirror", "service", "postgresql")
# Trials take a second or two, so that a kill comes at any point of a trial's life.
SHORT = (
    "nf=4",
    "hidden_dim_ratio=4",
    "max_train_images_per_task=30",
    "warmup_steps=2",
    "n_epochs=3",
)
MOST_EVENTS = 14  # of the ledger between two kills; a trial is about a dozen
MOST_SECONDS = 1.0  # from the last of these events to the kill
EARLY = 0.15  # share of kills of a driver during its start
EARLY_SECONDS = 12.0
FURTHER = 8  # trials that are added when all have ended before the last kill
POLL_SECONDS = 0.2
MOST_FAULTS = 3  # then a campaign is broken off


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill, and the sweep right after it."""

    target: str
    seconds: float  # since the start of the driver's session
    trials: int
    ended: int
    running: int  # trials that were training

    def __str__(self) -> str:
        return (
            f"{self.target:10} after {self.seconds:5.1f} s of a session: {self.trials} trials, "
            f"{self.ended} ended, {self.running} running"
        )


class Campaign:
    """A sweep in a folder, with everything that serves it.

    Attributes:
        kills: the kills so far.
        faults: what went wrong so far, a sentence each.
    """

    def __init__(
        self,
        folder: Path,
        draws: random.Random,
        targets: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        """Prepare a sweep.

        Args:
            folder: an empty folder.
            draws: decides what is killed, and when.
            targets: some of TARGETS.
            say: takes a line for each kill.
        """
        self._folder, self._draws, self._targets, self._say = folder, draws, targets, say
        self._storage = folder / "runs"
        self._storage.mkdir()
        self._server: Server | None = None
        self._service: Service | None = None
        self._driver: Driver | None = None
        self._began = 0.0  # time of the driver's start
        self._excused = False  # the driver may end with an error: its database was killed
        self._known: list[TrialRecord] = []
        self._ledger: Ledger | None = None
        self.kills: list[Kill] = []
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        if "postgresql" in self._targets:
            self._server = Server("mlflow")
        if "service" in self._targets:
            self._service = Service(self._storage)
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._driver, self._service):
            if process is not None:
                process.__exit__()
        if self._server is not None:
            self._server.remove()

    @property
    def tracking_uri(self) -> str:
        """The MLflow store of the sweep."""
        if self._server is not None:
            return self._server.url("mlflow")
        return f"sqlite:///{self._storage / 'mlflow.db'}"

    @property
    def ledger(self) -> Ledger:
        """The sweep's ledger, for reading."""
        self._ledger = self._ledger or Ledger.open(self._storage, NAME)
        return self._ledger

    def run(self, kills: int) -> None:
        """Kill as often as asked; then let the sweep, with two further trials, go to its end."""
        deck: list[str] = []
        while len(self.kills) < kills:
            if not deck:  # each target is as frequent as any other
                deck = self._draws.sample(self._targets, len(self._targets))
            self._hit(deck.pop())
        if self._driver is not None:
            self._driver.kill()
        # This session also repairs MLflow, if the mirror was killed in the last one.
        self._start("extend", NAME, "--trials=+2")
        assert self._driver is not None
        ended = self._driver.end()
        if ended.status != 0:
            self.faults.append(f"the last session ended with status {ended.status}: {ended.err}")
        self._look()

    def _hit(self, target: str) -> None:
        """Kill a target at a random moment."""
        if self._driver is None or not self._driver.alive:
            self._go_on()
        driver, draws = self._driver, self._draws
        assert driver is not None
        if target in ("driver", "session") and draws.random() < EARLY:
            time.sleep(draws.uniform(0, EARLY_SECONDS))
        else:
            wanted = self._events() + draws.randint(1, MOST_EVENTS)
            until = time.monotonic() + PATIENCE_SECONDS
            while driver.alive and (self._events() < wanted or not self._pids(target)):
                if time.monotonic() > until:
                    self.faults.append(f"nothing happened for {PATIENCE_SECONDS:.0f} s")
                    driver.kill()
                    return
                time.sleep(POLL_SECONDS)
            time.sleep(draws.uniform(0, MOST_SECONDS))
        if not driver.alive:
            return  # it ended before; the next session takes the kill
        if self._strike(target, driver):
            trials = self._look()
            self.kills.append(
                Kill(
                    target,
                    time.monotonic() - self._began,
                    len(trials),
                    sum(t.ended_at is not None for t in trials),
                    sum(t.trains for t in trials),
                )
            )
            self._say(f"kill {len(self.kills):3d}: {self.kills[-1]}")

    def _strike(self, target: str, driver: Driver) -> bool:
        """Kill a target; return False if it has just ended by itself."""
        match target:
            case "driver":
                driver.send(signal.SIGKILL)
                driver.end()  # Ray's processes notice it
            case "session":
                driver.kill()
            case "service":
                assert self._service is not None
                port = self._service.url.rpartition(":")[2]
                self._service.kill()
                self._service = Service(self._storage, port=int(port))
                self._service.client.sweep(NAME)  # it raises an error if it does not know it
            case "postgresql":
                assert self._server is not None
                self._server.kill()
                time.sleep(self._draws.uniform(0, MOST_SECONDS))
                self._server.start()
                self._excused = True
            case _:
                pids = self._pids(target)
                return bool(pids) and send(self._draws.choice(pids), signal.SIGKILL)
        return True

    def _pids(self, target: str) -> list[int]:
        """Processes to kill for a target; this process for those that are no part of a driver."""
        assert self._driver is not None
        named = {"worker": self._driver.workers, "mirror": self._driver.mirrors}
        return named[target]() if target in named else [os.getpid()]

    def _go_on(self) -> None:
        """Start the next session of the sweep."""
        if self._driver is not None:
            ended = self._driver.end()
            if ended.status not in (0, -signal.SIGKILL) and not self._excused:
                self.faults.append(f"a session ended with status {ended.status}: {ended.err}")
                if len(self.faults) > MOST_FAULTS:
                    raise AssertionError("\n".join(self.faults))
        if not (self._storage / NAME / "sweep.yaml").exists():
            url = [] if self._server is None else [f"--ledger-url={self._server.url()}"]
            self._start(
                *("run", f"--name={NAME}", "--sampler=random", "--pruner=none", "--retries=1000"),
                *(f"--trials={FURTHER}", f"--tracking-uri={self.tracking_uri}"),
                *(*url, "--set", *SHORT),
            )
        elif all(t.ended_at for t in self.ledger.trials()):
            self._start("extend", NAME, f"--trials=+{FURTHER}")
        else:
            self._start("resume", NAME)

    def _start(self, *arguments: str) -> None:
        if self._driver is not None:
            self._driver.__exit__(None, None, None)
        self._driver, self._began = Driver(*arguments, cwd=self._folder), time.monotonic()
        self._excused = False

    def _events(self) -> int:
        """Number of attempts, tasks in the ledger and ends of trials so far."""
        if not (self._storage / NAME / "sweep.yaml").exists():
            return 0
        trials = self.ledger.trials()
        return sum(t.attempt + t.tasks_done + (t.ended_at is not None) for t in trials)

    def _look(self) -> list[TrialRecord]:
        """The trials, compared with the last look."""
        if not (self._storage / NAME / "sweep.yaml").exists():
            return []
        before, self._known = self._known, self.ledger.trials()
        self.faults += changed_faults(before, self._known)
        return self._known
