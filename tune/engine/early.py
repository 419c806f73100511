"""Early start of what a session on this machine needs, while its command still prepares it."""

from collections.abc import Iterator
from contextlib import contextmanager

from results.definition.sweep_config import SweepConfig
from tune.machines import private
from tune.machines.cluster import this_machine
from tune.machines.private import Workers
from tune.machines.slots import Node, Slots

MODULE = "tune.engine.workers.imports"  # imports what trials need


@contextmanager
def early(config: SweepConfig, address: str | None, trials: int) -> Iterator[None]:
    """Let Ray and its workers start while a `with` block prepares a session of so many trials.

    run_sweep in the block takes them over; if it is not called, they end with the block. On a
    cluster, whose Ray runs already, nothing happens.
    """
    if address is not None or trials < 1:
        yield
        return

    def machine() -> tuple[Node, Workers | None]:
        node = this_machine(config)
        slots = Slots(config, lambda: [node])
        if slots.hosted:  # the workers of most trials only wait, without torch
            return node, None
        return node, Workers(
            min(slots.workers(), trials), MODULE, max(1, int(config.cpus_per_trial))
        )

    def then() -> None:
        import tune.engine.sweep  # noqa: F401 (the command needs it next)

    with private.early(machine, then):
        yield
