"""Live table of a running sweep: counts, the best so far, the running trials, the time left."""

import time
from collections import Counter
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from results.ledger.ledger import Ledger
from results.names import ENDED
from results.sweep import Sweep
from results.trial import TrialRecord
from results.wording import count, duration, parameters
from tune.cli.flags.naming import with_flags
from tune.machines import status


class LiveTable:
    """A live table on a terminal; on anything else a line per finished trial.

    It is a context manager and a listener.
    """

    def __init__(self, ledger: Ledger, more: int = 0, console: Console | None = None) -> None:
        self._ledger = ledger
        self._console = console or Console(stderr=True)
        self._metric = ledger.config.objectives[0].metric
        self._trials = {trial.number: trial for trial in ledger.trials()}
        self._budget, self._note = ledger.budget + more, "starting Ray"
        self._slots: Callable[[], int] | None = None
        self._started: float | None = None  # when this session's first trial began to train
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self.render,
                console=self._console,
                refresh_per_second=4,
                transient=True,
            )

    def __enter__(self) -> "LiveTable":
        if self._live is not None:
            self._live.start()
        self._say(f"sweep {self._ledger.config.name}: {self._note}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def begin(self, slots: Callable[[], int]) -> None:
        """Show that trials begin; `slots` returns how many can run at a time now."""
        status.tell(status.BEGAN)
        self._slots, self._note = slots, "starting workers"
        self._budget = self._ledger.budget  # a grid may have fewer trials than asked for
        self._say(
            f"sweep {self._ledger.config.name}: {count(self._budget, 'trial')}, {slots()} at a time"
        )
        if self._ledger.sessions == 1:
            for text in self._ledger.remarks:
                self.say(f"note: {with_flags(text)}")

    def note(self, text: str) -> None:
        """Show the present activity."""
        self._note = text

    def __call__(self, trial: TrialRecord) -> None:
        """Show a trial that has changed."""
        self._trials[trial.number] = trial
        if self._started is None and trial.state == "RUNNING" and not trial.starting:
            self._started, self._note = time.monotonic(), ""
        if trial.state in ENDED:
            outcome = (
                f"{self._metric} {trial.value:.4g}"
                if trial.value is not None
                else f"{trial.reason}"
            )
            self._say(
                f"trial {trial.number:4d} {trial.state.lower():8} {outcome}  "
                f"{parameters(trial.config)}  [{self._summary()}]"
            )

    def render(self) -> RenderableType:
        """The live picture of the sweep."""
        sweep = self._sweep
        counts = Counter(t.state for t in sweep.own)
        done = sum(counts[state] for state in ENDED)
        head = Text.assemble(
            (f"Sweep {self._ledger.config.name}", "bold"), f"  {self._summary()}  {self._note}"
        )
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=self._budget, completed=done, width=60), f"{done}/{self._budget}"
        )
        parts: list[RenderableType] = [head, bar]
        chosen = sweep.leader
        if chosen is not None:
            parts.append(
                Text(
                    f"best so far: {chosen.label}, {self._metric} {chosen.value:.4g}  "
                    f"{parameters(chosen.config)}"
                )
            )
        running = [t for t in sweep.records if t.state == "RUNNING"]
        if running:
            table = Table(box=None, pad_edge=False)
            for column in ("running", "tasks", self._metric, "seconds", "parameters"):
                table.add_column(column, no_wrap=column != "parameters")
            for t in running[:10]:
                value = t.last(self._metric)
                table.add_row(
                    f"trial {t.number}",
                    str(t.tasks_done),
                    "" if value is None else f"{value:.4g}",
                    "starting" if t.starting else f"{t.seconds or 0:.0f}",
                    parameters(t.config),
                )
            parts.append(table)
        return Group(*parts)

    @property
    def _sweep(self) -> Sweep:
        # a copy of the trials: the screen's thread reads while trials come in
        return Sweep(self._ledger.config, {}, list(self._trials.values()))

    def _summary(self) -> str:
        counts = Counter(t.state for t in self._sweep.own)
        return (
            f"{counts['COMPLETE']} done, {counts['RUNNING']} running, {counts['PRUNED']} pruned, "
            f"{counts['FAIL']} failed of {self._budget}, {self._left(counts)}"
        )

    def _left(self, counts: Counter[str]) -> str:
        trials = list(self._trials.values())  # the screen's thread reads while trials come in
        took = [t.seconds for t in trials if t.state in ENDED and t.seconds is not None]
        slots = self._slots and self._slots()
        if slots == 0:
            return "waiting for a node with a free slot"
        if not took or slots is None:
            return "time left: not known yet"
        mean = sum(took) / len(took)
        to_start = max(self._budget - sum(counts[s] for s in (*ENDED, "RUNNING")), 0)
        under_way = sum(max(mean - (t.seconds or 0), 0) for t in trials if t.state == "RUNNING")
        left = (to_start * mean + under_way) / slots
        limit = self._ledger.config.time_budget_seconds
        if limit is not None:
            spent = 0.0 if self._started is None else time.monotonic() - self._started
            left = min(left, max(limit - spent, 0))
        return f"about {duration(left)} left"

    def say(self, line: str) -> None:
        """Print a line once."""
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    def _say(self, line: str) -> None:
        """Print a line, unless the live picture shows it."""
        if self._live is None:
            self.say(line)
