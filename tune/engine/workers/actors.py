"""Hosts in Ray: the actor that trains several trials, and the Trainable of one of them.

A trial with a host is a trial of Ray as every other, so that it reports, is pruned, stopped and
resumed by itself. But its own process only waits: it holds no CPU and imports no torch.
"""

import itertools
import json
import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import ray
import ray.tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dynamos.config import TrainConfig
from tune.engine.report import LOST, Report
from tune.engine.workers.attempt import Workplace
from tune.engine.workers.host import Host
from tune.machines.images import RawImages
from tune.machines.slots import Slot

# Calls that a host answers at a time, beyond one of each of its trials: calls of trials that are
# over, and the driver's.
MORE_CALLS = 16


class CohortHost:
    """A process that trains the trials of a worker, in a thread of its own."""

    def __init__(
        self,
        trials: int,
        base: TrainConfig,
        seeds: int,
        images: dict[str, RawImages] | None,
        hashes: Mapping[str, str],
        shuffled: bool = False,
        grace_epochs: int = 0,
    ) -> None:
        """Start a host of so many trials; for the other arguments see Workplace."""
        self._host = Host(Workplace(base, seeds, images, hashes, shuffled, grace_epochs), trials)
        threading.Thread(target=self._run, daemon=True).start()

    def join(self, place: int, ticket: int, settings: dict[str, Any]) -> dict[str, Any]:
        """Host.join; the report as a step's result."""
        return self._sent(self._host.join(place, ticket, settings).result())

    def task(self, place: int, ticket: int) -> dict[str, Any]:
        """Host.task; the report as a step's result."""
        return self._sent(self._host.task(place, ticket).result())

    def leave(self, place: int, ticket: int) -> None:
        """Host.leave."""
        self._host.leave(place, ticket)

    def _sent(self, report: Report) -> dict[str, Any]:
        return report.on(ray.get_runtime_context().get_node_id()).encode()

    def _run(self) -> None:
        try:
            self._host.run()
        finally:  # without its thread the process would only keep its callers waiting
            os._exit(1)


class HostedTrial(ray.tune.Trainable):
    """A trial that a host trains. Its configuration is that of SweepTrial; "host" is added."""

    _settings: dict[str, Any]
    _joined: bool

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> ray.tune.PlacementGroupFactory:
        """Next to nothing: the host holds CPUs and GPUs. Ray accepts no empty request."""
        return ray.tune.PlacementGroupFactory([{"memory": 1}])

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first trial."""
        self._settings, self._joined = config, False

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Wait until the host has trained the next task; return its Report.

        The first step of an attempt only waits until the host is ready.
        """
        slot = json.loads(self._settings["slot"])
        held = slot["place"], self._settings["ticket"]
        try:
            host: Any = ray.get_actor(self._settings["host"])
            if self._joined:
                call = host.task.remote(*held)
            else:
                self._joined = True
                call = host.join.remote(*held, self._settings)
            answer: dict[str, Any] = ray.get(call)
        except ray.exceptions.RayTaskError:
            raise  # an error of the store: another worker may reach it
        except (ray.exceptions.RayError, ValueError):  # ValueError: no actor has this name any more
            return Report(self._settings["attempt"], state=LOST).encode()
        return answer


@ray.remote(num_cpus=0, max_retries=0)
def _answers() -> bool:
    return True


class Hosts:
    """The hosts of a session, owned by its driver, and made when a trial needs one."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """`arguments` are those of CohortHost, without the number of trials."""
        # stored once on each node
        self._arguments = {name: ray.put(value) for name, value in arguments.items()}
        self._made = itertools.count()
        self._hosts: dict[tuple[str | None, int], tuple[Slot, str, Any]] = {}
        self._asked: dict[str, Any] = {}  # by node, a task that shows that it still answers

    def silent(self) -> set[str]:
        """The nodes that lost a host and have not answered since.

        Ray lists a node that died for some seconds more. A host on it would be lost at once.
        """
        ready, _ = ray.wait([*self._asked.values()], num_returns=len(self._asked), timeout=0)
        for node, task in list(self._asked.items()):
            if task in ready:
                with suppress(ray.exceptions.RayError):  # the node has left
                    ray.get(task)
                    del self._asked[node]
        return set(self._asked)

    def of(self, slot: Slot, taken: Iterable[Slot]) -> str:
        """Return the name of the host for a slot.

        Hosts on its node that train otherwise than its node does now, and that no trial of `taken`
        needs, are ended: they hold resources of the new ones.
        """
        needed = {(other.node, other.worker) for other in taken}
        for key, (first, _, actor) in list(self._hosts.items()):
            if key not in needed and first.node == slot.node and not first.like(slot):
                ray.kill(actor)
                del self._hosts[key]
        key = slot.node, slot.worker
        if key not in self._hosts:
            name = f"host-{next(self._made)}"
            made: Any = ray.remote(CohortHost).options(
                name=name,
                num_cpus=slot.cpus,
                num_gpus=slot.gpus,
                max_concurrency=slot.cohort + MORE_CALLS,
                scheduling_strategy=_on(slot),
            )
            self._hosts[key] = slot, name, made.remote(slot.cohort, **self._arguments)
        return self._hosts[key][1]

    def leave(self, slot: Slot, name: str, ticket: int) -> None:
        """Let an attempt go, if its host lives."""
        there = self._hosts.get((slot.node, slot.worker))
        if there is not None and there[1] == name:
            there[2].leave.remote(slot.place, ticket)

    def lost(self, slot: Slot, name: str) -> bool:
        """End a host that a trial has lost; return True if this host was not known to be lost."""
        there = self._hosts.get((slot.node, slot.worker))
        if there is None or there[1] != name:
            return False
        ray.kill(there[2])
        del self._hosts[slot.node, slot.worker]
        assert slot.node is not None
        self._asked[slot.node] = _answers.options(scheduling_strategy=_on(slot)).remote()
        return True


def _on(slot: Slot) -> NodeAffinitySchedulingStrategy:
    assert slot.node is not None
    return NodeAffinitySchedulingStrategy(slot.node, soft=False)
