"""Slots of trials: their number on each node, and their shares of its CPUs and GPUs."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dynamos.errors import UserError
from results.definition.sweep_config import SweepConfig
from results.wording import count


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that runs trials."""

    id: str
    host: str  # its name and address
    cpus: float
    gpus: float
    kind: str | None = None  # the kind of its GPUs, as Ray names it; None if Ray names none


@dataclass(slots=True)
class Departures:
    """Ids of nodes that have announced that they leave."""

    now: set[str] = field(default_factory=set)  # those that are still there
    ever: set[str] = field(default_factory=set)  # all so far


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for a trial: resources of a worker, and the trial's part of them.

    A worker trains one trial, or several as one program. Only in the second case it has a number.
    """

    cpus: float  # of the worker
    gpus: float
    node: str | None  # id of the only node that it may run on; None: any
    cohort: int = 1  # number of places of the worker
    worker: int = 0  # its number on the node
    place: int = 0  # the trial's place, from 0

    def like(self, other: "Slot") -> bool:
        """True if the workers of two slots train alike."""
        return (self.cpus, self.gpus, self.cohort) == (other.cpus, other.gpus, other.cohort)


class Slots:
    """The slots of a session, as nodes come and go.

    While all nodes are packed alike, Ray chooses a trial's node. Once they are not, and if workers
    train several trials, each trial is given its node.

    Attributes:
        hosted: True if workers train several trials each, on one kind of node at least.
        packings: number of changes of packing so far.
    """

    def __init__(
        self,
        config: SweepConfig,
        nodes: Callable[[], Sequence[Node]],
        departures: Departures | None = None,
    ) -> None:
        """`nodes` lists the nodes that take trials at the moment, and updates `departures`."""
        self._config, self._nodes = config, nodes
        self._departures = departures or Departures()
        # GPUs of a trial that differ from the configuration: by kind of GPU, and by node.
        self._of_kind: dict[str | None, float] = {}
        self._of_node: dict[str, float] = {}
        # trials of a worker that differ from the configuration, by node, and on other nodes
        self._cohort_of_node: dict[str, int] = {}
        self._cohort = config.cohort
        self.hosted = config.cohort > 1
        self.packings = 0

    def count(self) -> int:
        """Number of trials that may run at a time."""
        return self._count(self._nodes())

    def _count(self, nodes: Sequence[Node]) -> int:
        return int(min(sum(map(self.on, nodes)), self._config.max_concurrent or math.inf))

    def workers(self) -> int:
        """Number of workers that may train at a time."""
        return min(sum(map(self._workers_on, self._nodes())), self.count())

    def on(self, node: Node) -> int:
        """Number of trials that a node holds at a time."""
        return self._workers_on(node) * self.cohort(node)

    def _workers_on(self, node: Node) -> int:
        return fit(node.cpus, node.gpus, self._config.cpus_per_trial, self.gpus(node))

    def free(
        self,
        taken: Iterable[Slot],
        place: int | None = None,
        only: bool = False,
        without: Collection[str] = (),
    ) -> Slot | None:
        """A free slot; None if all are taken.

        If workers train several trials, it is one at `place`, modulo their number, where such a
        slot is free; with `only` there is no other choice. It is not on a node of `without`.
        """
        slots, nodes = list(taken), [n for n in self._nodes() if n.id not in without]
        if len(slots) >= self._count(nodes):
            return None
        if self.hosted:
            places = [slot for node in nodes for slot in self._places(node, slots)]
            wanted = [s for s in places if place is None or s.place == place % s.cohort]
            empty = Counter((slot.node, slot.worker) for slot in places)
            # the emptiest worker, so that all workers have work
            return max(
                wanted or ([] if only else places),
                key=lambda s: (empty[s.node, s.worker], -s.place),
                default=None,
            )
        cpus = self._config.cpus_per_trial
        packings = {self.gpus(node) for node in nodes if self.on(node)}
        if len(packings) == 1:
            return Slot(cpus, packings.pop(), None)
        there = Counter(slot.node for slot in slots)
        left = {node: self.on(node) - there[node.id] for node in nodes}
        node = max(left, key=lambda one: left[one])
        return Slot(cpus, self.gpus(node), node.id) if left[node] > 0 else None

    def _places(self, node: Node, taken: Sequence[Slot]) -> list[Slot]:
        """The free places of a node's workers.

        A worker that still trains as its node did before takes no further trial.
        """
        new = Slot(self._config.cpus_per_trial, self.gpus(node), node.id, self.cohort(node))
        there = [slot for slot in taken if slot.node == node.id]
        busy = {slot.worker for slot in there}
        old = {slot.worker for slot in there if not slot.like(new)}
        idle = [worker for worker in range(self._workers_on(node)) if worker not in busy]
        workers = [*(busy - old), *idle[: max(self._workers_on(node) - len(busy), 0)]]
        held = {(slot.worker, slot.place) for slot in there}
        return [
            replace(new, worker=worker, place=place)
            for worker in workers
            for place in range(new.cohort)
            if (worker, place) not in held
        ]

    @property
    def departing(self) -> bool:
        """True while a node is there that has announced that it leaves."""
        return bool(self._departures.now)

    def leaves(self, slot: Slot) -> bool:
        """True if the node of a slot has announced that it leaves."""
        self._nodes()
        return slot.node in self._departures.ever

    def gone(self, slot: Slot) -> bool:
        """True if the node of a slot has left, so that no trial can start on it."""
        return slot.node is not None and slot.node not in {node.id for node in self._nodes()}

    def gpus(self, node: Node) -> float:
        """Number of GPUs of a trial on a node."""
        return self._of_node.get(node.id, self._of_kind.get(node.kind, self._config.gpus_per_trial))

    def cohort(self, node: Node) -> int:
        """Number of trials that a worker trains as one program on a node."""
        return self._cohort_of_node.get(node.id, self._cohort)

    def packing(self, node: str) -> str:
        """The packing of a node, in words."""
        there = next((n for n in self._nodes() if n.id == node), None)
        if there is None:
            return "its node has left"
        share, cohort = self.gpus(there), self.cohort(there)
        words = [f"{1 / share:.0f} workers on each GPU"] if 0 < share < 1 else []
        words += [f"{count(cohort, 'trial')} in a worker"] if self.hosted else []
        return f"{there.host} trains {', '.join(words)}"

    def pack(self, kind: str | None, workers: int) -> None:
        """Set the number of workers on each GPU of a kind, on present and on future nodes."""
        self._of_kind[kind] = 1 / workers
        self.packings += 1

    def join(self, cohorts: Mapping[str, int]) -> None:
        """Set the number of trials of a worker, by node, before the first trial.

        A node that comes later has the smallest of them.
        """
        self._cohort_of_node.update(cohorts)
        self._cohort = min(cohorts.values(), default=self._cohort)
        self.hosted = max(cohorts.values(), default=self._cohort) > 1

    def thin_out(self, slot: Slot, node: str) -> bool:
        """Give trials on a node more memory after the trial at `slot` ran out of it.

        The trials of a worker are halved, or, if it had one, the workers on each GPU. Returns False
        if the trial shared neither. A second such trial of the same packing changes nothing.
        """
        if slot.cohort > 1:
            if slot.cohort <= self._cohort_of_node.get(node, slot.cohort):
                self._cohort_of_node[node] = slot.cohort // 2
                self.packings += 1
            return True
        if not 0 < slot.gpus < 1:
            return False
        now = next((self.gpus(n) for n in self._nodes() if n.id == node), slot.gpus)
        if now <= slot.gpus:
            self._of_node[node] = min(2 * slot.gpus, 1.0)
            self.packings += 1
        return True


def fit(cpus: float, gpus: float, cpus_per_trial: float, gpus_per_trial: float) -> int:
    """Number of trials that a node with these CPUs and GPUs holds at a time."""
    fits = math.inf
    for there, wanted, whole in (
        (cpus, cpus_per_trial, False),
        (gpus, gpus_per_trial, gpus_per_trial < 1),
    ):
        if wanted:
            # A fraction of a GPU lies on one GPU; 1 / 0.2 must be 5.
            units = int(there) if whole else 1
            fits = min(fits, units * math.floor(there / units / wanted + 1e-9) if units else 0)
    return int(fits)


def refuse_unless_fit(config: SweepConfig, nodes: Sequence[Node]) -> None:
    """Raise UserError if no node holds a trial; it names the scarce resource."""
    for kind, wanted, most in (
        ("cpus", config.cpus_per_trial, max((n.cpus for n in nodes), default=0)),
        ("gpus", config.gpus_per_trial, max((n.gpus for n in nodes), default=0)),
    ):
        if wanted > most:
            raise UserError(
                f"--{kind}-per-trial {wanted:g} is too many: the largest node has {most:g}."
            )
    if not any(fit(n.cpus, n.gpus, config.cpus_per_trial, config.gpus_per_trial) for n in nodes):
        raise UserError(
            f"no node has both `cpus_per_trial` {config.cpus_per_trial:g} and `gpus_per_trial` "
            f"{config.gpus_per_trial:g}."
        )
