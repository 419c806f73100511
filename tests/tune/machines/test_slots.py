"""Slots on nodes, and the choice of a node for the next trial."""

from typing import Any

import pytest

from dynamos.errors import UserError
from tests.helpers.ledgers import config
from tune.machines.slots import Node, Slot, Slots, refuse_unless_fit


def slots(nodes: list[Node], **changes: Any) -> Slots:
    return Slots(config(**changes), lambda: nodes)


@pytest.mark.parametrize(
    "changes, cpus, gpus, expected",
    [
        ({}, 8, 0, 8),
        ({"cpus_per_trial": 3.0}, 8, 0, 2),
        ({"max_concurrent": 2}, 8, 0, 2),
        ({"gpus_per_trial": 0.125}, 16, 1, 8),
        ({"gpus_per_trial": 1.0}, 16, 4, 4),
        ({"cpus_per_trial": 0.1}, 1, 0, 10),
        ({"gpus_per_trial": 0.2}, 16, 1, 5),
        ({"gpus_per_trial": 0.75}, 16, 4, 4),  # what is left of two GPUs holds no third trial
        ({"gpus_per_trial": 0.5}, 16, 0, 0),
    ],
)
def test_what_a_node_holds(
    changes: dict[str, Any], cpus: float, gpus: float, expected: int
) -> None:
    assert slots([Node("a", "host", cpus, gpus)], **changes).count() == expected


def test_what_is_left_of_two_nodes_holds_no_trial() -> None:
    assert slots([Node("a", "one", 3, 0), Node("b", "two", 3, 0)], cpus_per_trial=2.0).count() == 2


def test_nodes_come_and_go() -> None:
    nodes = [Node("a", "one", 2, 0)]
    there = slots(nodes)
    taken = [Slot(1, 0, None)] * 2
    assert there.free(taken[:1]) == Slot(1, 0, None) and there.free(taken) is None
    nodes.append(Node("b", "two", 1, 0))
    assert there.free(taken) == Slot(1, 0, None) and there.count() == 3
    nodes.clear()
    assert there.free([]) is None and there.count() == 0


def test_memory_that_ran_out_halves_the_packing_of_that_node_once() -> None:
    nodes = [Node("a", "one", 16, 1), Node("b", "two", 16, 1)]
    there = slots(nodes, gpus_per_trial=0.25)
    first = there.free([])
    assert first == Slot(1, 0.25, None) and there.count() == 8
    # Two trials of the same packing run out of memory; the second changes nothing.
    assert there.thin_out(first, "b") and there.thin_out(first, "b")
    assert there.count() == 6
    taken: list[Slot] = []
    while (slot := there.free(taken)) is not None:
        taken.append(slot)
    assert sorted((p.node, p.gpus) for p in taken) == [("a", 0.25)] * 4 + [("b", 0.5)] * 2
    assert there.thin_out(Slot(1, 0.5, "b"), "b") and there.count() == 5
    assert not there.thin_out(Slot(1, 1.0, "b"), "b"), (
        "a trial alone on its GPU gets no more by fewer neighbours"
    )


def test_a_head_without_gpus_changes_nothing() -> None:
    there = slots([Node("head", "zero", 8, 0), Node("a", "one", 8, 1, "H200")], gpus_per_trial=1.0)
    there.pack("H200", 8)
    assert there.count() == 8 and there.free([]) == Slot(1, 0.125, None)
    alone = slots([Node("head", "zero", 8, 0), Node("a", "one", 8, 1)], gpus_per_trial=0.125)
    assert alone.thin_out(Slot(1, 0.125, None), "a") and alone.free([]) == Slot(1, 0.25, None)


def test_where_nodes_differ_a_trial_counts_where_it_was_seen() -> None:
    there = slots([Node("a", "one", 8, 1), Node("b", "two", 8, 1)], gpus_per_trial=0.125)
    assert there.thin_out(Slot(1, 0.125, None), "a") and there.count() == 12
    seen = [Slot(1, 0.125, "a")] * 3 + [Slot(1, 0.125, "b")] * 8
    assert (
        there.free(seen) == Slot(1, 0.25, "a") and there.free([*seen, Slot(1, 0.25, "a")]) is None
    )


def test_each_kind_of_gpu_has_a_packing_of_its_own_and_its_trials_their_node() -> None:
    nodes = [Node("a", "one", 8, 2, "H200"), Node("b", "two", 8, 1, "T4")]
    there = slots(nodes, gpus_per_trial=1.0)
    there.pack("H200", 4)
    assert there.count() == 9
    taken: list[Slot] = []
    while (slot := there.free(taken)) is not None:
        taken.append(slot)
    assert sorted((p.node, p.gpus) for p in taken) == [("a", 0.25)] * 8 + [("b", 1.0)]
    nodes.append(Node("c", "three", 8, 1, "H200"))
    assert there.count() == 13 and there.free(taken) == Slot(1, 0.25, "c")
    bound = taken[0]
    assert not there.gone(bound)
    nodes[:] = [node for node in nodes if node.id != bound.node]
    assert there.gone(bound) and not there.gone(Slot(1, 0.5, None))


def all_of(there: Slots) -> list[Slot]:
    """The slots in the order in which they are given."""
    taken: list[Slot] = []
    while (slot := there.free(taken)) is not None:
        taken.append(slot)
    return taken


def test_a_worker_has_several_places_and_the_emptiest_worker_is_next() -> None:
    there = slots([Node("a", "one", 3, 0), Node("b", "two", 1, 0)], cohort=2, cpus_per_trial=1.5)
    assert (there.count(), there.workers(), there.hosted) == (4, 2, True)
    assert all_of(there) == [
        Slot(1.5, 0.0, "a", 2, worker, place) for place in (0, 1) for worker in (0, 1)
    ]
    few = slots([Node("a", "one", 3, 0)], cohort=2, max_concurrent=3)
    assert (few.count(), few.workers(), len(all_of(few))) == (3, 3, 3)


def test_a_trial_gets_the_place_that_it_asks_for_if_it_is_free() -> None:
    there = slots([Node("a", "one", 2, 0)], cohort=3)
    one = there.free([], 5)
    assert one == Slot(1, 0.0, "a", 3, 0, 2)
    two = there.free([one], 2)
    assert two == Slot(1, 0.0, "a", 3, 1, 2)
    other = there.free([one, two], 2)
    assert other is not None and other.place == 0
    assert there.free([one, two], 2, only=True) is None
    assert there.free([one, two], 3, only=True) == other


def test_memory_that_ran_out_halves_the_trials_of_a_worker_and_then_the_workers_on_a_gpu() -> None:
    nodes = [Node("a", "one", 16, 1), Node("b", "two", 16, 0)]
    there = slots(nodes, gpus_per_trial=0.5, cohort=4)
    first, second, *_ = taken = all_of(there)
    assert len(taken) == 8 and (first.worker, second.worker) == (0, 1)
    assert there.thin_out(first, "a") and there.thin_out(second, "a")
    assert (there.count(), there.packings) == (4, 1)
    assert there.packing("a") == "one trains 2 workers on each GPU, 2 trials in a worker"
    rest = [slot for slot in taken if slot.worker == 1]
    # The worker that trains as before takes no further trial, and the other is made anew.
    assert there.free(rest[:3]) == Slot(1, 0.5, "a", 2, 0, 0)
    assert there.free([*rest[:1], Slot(1, 0.5, "a", 2, 0, 0), Slot(1, 0.5, "a", 2, 0, 1)]) is None
    assert there.free([]) == Slot(1, 0.5, "a", 2, 0, 0)
    assert there.thin_out(Slot(1, 0.5, "a", 2, 0, 0), "a") and there.count() == 2
    assert there.thin_out(Slot(1, 0.5, "a", 1, 0, 0), "a") and there.count() == 1
    assert all_of(there) == [Slot(1, 1.0, "a", 1, 0, 0)]
    assert not there.thin_out(Slot(1, 1.0, "a", 1, 0, 0), "a")


def test_a_node_may_be_left_out() -> None:
    there = slots([Node("a", "one", 1, 0), Node("b", "two", 1, 0)], cohort=2, cpus_per_trial=1.0)
    taken: list[Slot] = []
    while (slot := there.free(taken, without={"a"})) is not None:
        taken.append(slot)
    assert [(s.node, s.place) for s in taken] == [("b", 0), ("b", 1)]
    other = there.free([])
    assert other is not None and other.node == "a"


def test_a_trial_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(UserError, match="--gpus-per-trial 1 is too many: the largest node has 0"):
        refuse_unless_fit(config(gpus_per_trial=1.0), [Node("a", "one", 2, 0)])
    apart = [Node("a", "one", 1, 4), Node("b", "two", 16, 0)]
    with pytest.raises(UserError, match="--cpus-per-trial 32 is too many: the largest node has 16"):
        refuse_unless_fit(config(cpus_per_trial=32.0), apart)
    with pytest.raises(UserError, match="no node has both"):
        refuse_unless_fit(config(cpus_per_trial=2.0, gpus_per_trial=1.0), apart)
