"""A host: it trains several trials as one program, in one thread.

It knows no Ray; see actors.py.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, cast

from dynamos.errors import NonFiniteError
from tune.engine.report import LOST, OUT_OF_MEMORY, Report
from tune.engine.workers.attempt import Attempt, Workplace, free_memory

if TYPE_CHECKING:
    from dynamos.cohort import Cohort
    from dynamos.data import Images
    from dynamos.trainer import Trainer


class Gone(Exception):
    """Raised to a caller whose attempt has lost its place to a later one, or was let go."""


@dataclass(eq=False)
class _Member:
    """An attempt in a place.

    Attributes:
        ticket: number of the driver's suggestion that gave it the place; later ones are higher.
        end: (state, reason) at its end, None while it trains.
        lost: an error of a store, which is not the trial's.
        reported: number of results and EpochReadings of each seed that its caller knows.
        waiting: the caller's answer, if it waits for the next task.
    """

    attempt: Attempt
    ticket: int
    end: tuple[str, str | None] | None = None
    lost: Exception | None = None
    reported: int = 0
    waiting: "Future[Report] | None" = None
    slots: dict[int, int] = field(default_factory=dict)  # seeds by slot of the cohort


class Host:
    """Trains up to `trials` trials as one cohort.

    The cohort always has `trials` times as many slots as a trial has seeds, and the slots of a
    trial follow from its place. So the results of a trial depend on the number of trials and on its
    place, and never on the other trials or on time. A trial trains until its end; `task` waits for
    its next result.

    A step of the cohort costs about the same for few runs as for all. Runs whose steps have other
    numbers of images, or bypass the gates, cannot take a step together. So the largest group of
    runs that can goes first, and others wait for it; runs that drift apart meet again this way.

    Any thread may call `join`, `task` and `leave`. One thread calls `run` or `turn`.
    """

    def __init__(self, workplace: Workplace, trials: int) -> None:
        self._workplace, self._trials = workplace, trials
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._members: dict[int, _Member] = {}  # by place
        self._closed: dict[int, int] = {}  # by place, the highest ticket that is over
        self._cohort: Cohort | None = None
        self._next: dict[int, tuple[Images, bool]] = {}  # by slot, the step that it takes next

    @property
    def runs(self) -> int:
        """Number of runs that train as one program."""
        return self._trials * self._workplace.seeds

    def join(self, place: int, ticket: int, settings: Mapping[str, Any]) -> "Future[Report]":
        """Give a place to an attempt, with the searcher's settings; whoever had it is let go.

        Torch and images are loaded then, and the answer is the attempt's first report. It is Gone
        if the ticket is over.
        """
        answer: Future[Report] = Future()
        self._inbox.put(lambda: self._join(place, ticket, settings, answer))
        return answer

    def task(self, place: int, ticket: int) -> "Future[Report]":
        """Train; the answer is the report of the attempt's next task or of its end.

        It is Gone if the attempt has lost its place.
        """
        answer: Future[Report] = Future()
        self._inbox.put(lambda: self._task(place, ticket, answer))
        return answer

    def leave(self, place: int, ticket: int) -> None:
        """Let an attempt go, whether it has joined, has ended, or has still to come."""
        self._inbox.put(lambda: self._leave(place, ticket))

    def run(self) -> None:
        """Train for ever."""
        while True:
            if not self.turn():
                self._inbox.get()()

    def turn(self) -> bool:
        """Do what was asked for, and one step; return False if there is nothing to train."""
        with suppress(Empty):
            while True:
                self._inbox.get_nowait()()
        self._advance()
        group = self._largest_group()
        if not group:
            return False
        assert self._cohort is not None
        try:
            self._cohort.step({slot: self._next.pop(slot) for slot in group})
        except Exception as error:
            self._break(error)
        return True

    def _join(
        self, place: int, ticket: int, settings: Mapping[str, Any], answer: "Future[Report]"
    ) -> None:
        there = self._members.get(place)
        if ticket <= self._closed.get(place, 0) or (there is not None and ticket < there.ticket):
            answer.set_exception(Gone())
            return
        self._let_go(place)
        member = self._members[place] = _Member(Attempt(settings, self._workplace), ticket)
        state, reason = member.attempt.prepare()
        if state is None:
            with self._guarded(member):
                self._built()
            state, reason = member.end or (None, None)
        number = member.attempt.number
        answer.set_result(Report(number, {}, state, reason, began=True, cohort=self.runs))

    def _task(self, place: int, ticket: int, answer: "Future[Report]") -> None:
        member = self._members.get(place)
        if member is None or member.ticket != ticket:
            answer.set_exception(Gone())
            return
        member.waiting = answer
        if not member.slots and member.end is None:
            with self._guarded(member):
                self._begin(place, member)
        self._settle(member)

    def _leave(self, place: int, ticket: int) -> None:
        self._closed[place] = max(ticket, self._closed.get(place, 0))
        if place in self._members and self._members[place].ticket <= ticket:
            self._let_go(place)

    def _let_go(self, place: int) -> None:
        """Free a place, if an attempt has it."""
        member = self._members.pop(place, None)
        if member is None:
            return
        self._closed[place] = max(member.ticket, self._closed.get(place, 0))
        self._free(member)
        if member.waiting is not None:
            member.waiting.set_exception(Gone())
        member.attempt.close()

    def _built(self) -> "Cohort":
        """The cohort, which is made with free slots."""
        from dynamos.cohort import Cohort
        from dynamos.trainer import Trainer

        if self._cohort is None:
            base = self._workplace.base
            stream = self._workplace.stream(base)
            cohort = Cohort([Trainer(base, stream) for _ in range(self.runs)])
            for slot in cohort.runs:
                cohort.release(slot)
            self._cohort = cohort
        return self._cohort

    def _begin(self, place: int, member: _Member) -> None:
        """Put a member's runs into the slots of its place."""
        attempt, cohort = member.attempt, self._built()
        with attempt.logged():
            attempt.begin()
        member.reported = attempt.events
        for index, (seed, run) in enumerate(attempt.runs.items()):
            slot = place * self._workplace.seeds + index
            member.slots[slot] = seed
            if not run.done:
                cohort.put(slot, cast("Trainer", run))
        if attempt.done:
            member.end = "COMPLETE", None

    def _advance(self) -> None:
        """Find the next step of every run; save those that have a new result or EpochReading."""
        cohort = self._cohort
        for member in self._members.values():
            if member.end is not None:
                continue
            with self._guarded(member):
                member.attempt.stop_if_asked()
                for slot, seed in member.slots.items():
                    while cohort is not None and cohort.slots[slot] and slot not in self._next:
                        self._look_up(cohort, member, slot, seed)
            self._settle(member)

    def _look_up(self, cohort: "Cohort", member: _Member, slot: int, seed: int) -> None:
        """Find the next step of a run, or save it if it has a new result or EpochReading."""
        attempt = member.attempt
        with attempt.logged():
            try:
                step = cohort.next(slot)
            except NonFiniteError:
                attempt.write_curve(seed)
                raise
            if step is not None:
                self._next[slot] = step
                return
            attempt.write_curve(seed)
            attempt.save(seed)
        if attempt.runs[seed].done:
            cohort.release(slot)
        if attempt.done:
            member.end = "COMPLETE", None

    def _largest_group(self) -> list[int]:
        """The slots of the most runs that can take a step together.

        Of equally large groups, the one with the run that has done the fewest steps.
        """
        groups: dict[tuple[int, bool], list[int]] = {}
        for slot, (images, bypass) in self._next.items():
            groups.setdefault((len(images), bypass), []).append(slot)
        if not groups:
            return []
        assert self._cohort is not None
        runs = self._cohort.runs
        return max(
            groups.values(), key=lambda slots: (len(slots), -min(runs[s].steps for s in slots))
        )

    @contextmanager
    def _guarded(self, member: _Member) -> Iterator[None]:
        """End a member by an error of its own; the others go on."""
        try:
            yield
        except Exception as error:
            self._end(member, error)

    def _end(self, member: _Member, error: Exception) -> tuple[str, str | None]:
        """End a member by an error; return its end."""
        try:
            member.end = member.attempt.ended_by(error)
        except Exception as lost:
            member.end, member.lost = (LOST, None), lost
        self._free(member)
        return member.end

    def _free(self, member: _Member) -> None:
        """Free a member's slots."""
        for slot in member.slots:
            self._next.pop(slot, None)
            if self._cohort is not None and self._cohort.slots[slot] is not None:
                self._cohort.release(slot)

    def _break(self, error: Exception) -> None:
        """End all members after an error of the program, which none of them is known to cause."""
        self._cohort = None
        self._next.clear()
        for member in self._members.values():
            if member.end is None and member.slots:
                state, reason = self._end(member, error)
                if state != OUT_OF_MEMORY:
                    member.end = LOST, reason
            self._settle(member)
        free_memory()

    def _settle(self, member: _Member) -> None:
        """Answer the caller that waits for a member, if there is something to report."""
        if member.waiting is None:
            return
        attempt, done = member.attempt, member.attempt.events
        state, reason = None, None
        if done > member.reported:
            # One event at a time, as if the host had waited for the decision after each.
            member.reported += 1
            if member.end is not None and member.end[0] == "COMPLETE" and done == member.reported:
                state, reason = member.end
        elif member.lost is not None:
            answer, member.waiting = member.waiting, None
            answer.set_exception(member.lost)
            return
        elif member.end is not None:
            state, reason = member.end
        else:
            return
        answer, member.waiting = member.waiting, None
        results, readings = attempt.results(member.reported), attempt.readings(member.reported)
        answer.set_result(
            Report(attempt.number, results, state, reason, cohort=self.runs, readings=readings)
        )
