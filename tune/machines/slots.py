"""Slots of trials: their number on each node, and the share of a GPU of each."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dynamos.errors import UserError
from results.definition.sweep_config import SweepConfig


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that runs trials."""

    id: str
    host: str  # its name and address
    cpus: float
    gpus: float
    kind: str | None = None  # the kind of its GPUs, as Ray names it; None if Ray names none


@dataclass(frozen=True, slots=True)
class Slot:
    """Resources that a trial holds, and its node."""

    cpus: float
    gpus: float
    node: str | None  # id of the only node that it may run on; None: any


class Slots:
    """The slots of a session, as nodes come and go.

    While all nodes are packed alike, Ray chooses a trial's node. Once they are not, each trial is
    given its node.
    """

    def __init__(self, config: SweepConfig, nodes: Callable[[], Sequence[Node]]) -> None:
        """`nodes` lists the nodes that take trials at the moment."""
        self._config, self._nodes = config, nodes
        # GPUs of a trial that differ from the configuration: by kind of GPU, and by node.
        self._of_kind: dict[str | None, float] = {}
        self._of_node: dict[str, float] = {}
        self.packings = 0  # number of changes of packing so far

    def count(self) -> int:
        """Number of trials that may run at a time."""
        return self._count(self._nodes())

    def _count(self, nodes: Sequence[Node]) -> int:
        return int(min(sum(map(self.on, nodes)), self._config.max_concurrent or math.inf))

    def on(self, node: Node) -> int:
        """Number of trials that a node holds at a time."""
        return fit(node.cpus, node.gpus, self._config.cpus_per_trial, self.gpus(node))

    def free(self, taken: Iterable[Slot]) -> Slot | None:
        """A free slot; None if all are taken."""
        slots, nodes = list(taken), self._nodes()
        if len(slots) >= self._count(nodes):
            return None
        cpus = self._config.cpus_per_trial
        packings = {self.gpus(node) for node in nodes if self.on(node)}
        if len(packings) == 1:
            return Slot(cpus, packings.pop(), None)
        there = Counter(slot.node for slot in slots)
        left = {node: self.on(node) - there[node.id] for node in nodes}
        node = max(left, key=lambda one: left[one])
        return Slot(cpus, self.gpus(node), node.id) if left[node] > 0 else None

    def gone(self, slot: Slot) -> bool:
        """True if the node of a slot has left, so that no trial can start on it."""
        return slot.node is not None and slot.node not in {node.id for node in self._nodes()}

    def gpus(self, node: Node) -> float:
        """Number of GPUs of a trial on a node."""
        return self._of_node.get(node.id, self._of_kind.get(node.kind, self._config.gpus_per_trial))

    def pack(self, kind: str | None, trials: int) -> None:
        """Set the number of trials on each GPU of a kind, on present and on future nodes."""
        self._of_kind[kind] = 1 / trials
        self.packings += 1

    def thin_out(self, slot: Slot, node: str) -> bool:
        """Halve the trials on each GPU of a node after the trial at `slot` ran out of memory.

        Returns False if the trial did not share its GPU. A second such trial of the same packing
        changes nothing.
        """
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
