"""The packing of a session's nodes: measured, remembered and reported."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.definition.sweep_config import SweepConfig
from search_spaces.space import SearchSpace
from tests.helpers.ledgers import config
from tune.engine.listener import Silent
from tune.engine.sweep import _even, _pack
from tune.machines.packing import Packing
from tune.machines.remembered import FILE
from tune.machines.slots import Node, Slots

NODES = [Node("a", "one", 2, 0), Node("b", "two", 2, 0), Node("c", "three", 4, 0)]


class Heard(Silent):
    """A listener that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Keep a line."""
        self.lines.append(line)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The nodes that are measured."""
    ids: list[str] = []

    def measure(config: SweepConfig, node: Node, *_: Any) -> dict[Packing, float]:
        ids.append(node.id)
        workers = int(node.cpus)
        return {Packing(workers, 1): 1.0, Packing(workers, 16 // workers): 9.0}

    kind: Callable[[Node], str] = lambda node: f"P ({node.cpus:g} CPUs)"  # noqa: E731
    monkeypatch.setattr("tune.engine.sweep.measure", measure)
    monkeypatch.setattr("tune.engine.sweep.kind_of_machine", kind)
    return ids


def test_a_packing_is_measured_once_for_each_kind_of_machine(
    tmp_path: Path, measured: list[str]
) -> None:
    made, heard = config(pack_cohorts=True), Heard()
    for _ in range(2):
        slots = Slots(made, lambda: NODES)
        _pack(made, tmp_path, slots, NODES, None, heard, threading.Event())
        assert slots.hosted and [slots.cohort(node) for node in NODES] == [8, 8, 4]
        assert slots.count() == 48 and slots.cohort(Node("d", "later", 2, 0)) == 4
    assert measured == ["a", "c"]
    first, second, *again = heard.lines
    assert first == (
        "P (2 CPUs): 8 trials in a worker; total steps per second, by trials in a worker: 1: 1.0, "
        "8: 9.0"
    )
    assert second.startswith("P (4 CPUs): 4 trials in a worker; total")
    assert [line.partition(" on ")[0] for line in again] == [
        "P (2 CPUs): 8 trials in a worker; measured",
        "P (4 CPUs): 4 trials in a worker; measured",
    ]
    assert all(str(tmp_path / FILE) in line for line in again)


def test_a_measurement_that_was_interrupted_is_not_remembered(
    tmp_path: Path, measured: list[str]
) -> None:
    (interrupted := threading.Event()).set()
    made = config(pack_cohorts=True)
    _pack(made, tmp_path, Slots(made, lambda: NODES), NODES[:1], None, Heard(), interrupted)
    assert not (tmp_path / FILE).exists()


def test_where_trials_cannot_train_as_one_program_auto_is_one_and_says_why() -> None:
    heard = Heard()
    wide = SearchSpace.from_dict("wide", {"parameters": {"nf": {"choices": [32, 64]}}})
    made = _even(config(pack_cohorts=True, space=wide), heard)
    assert not made.pack_cohorts and heard.lines == [
        "cohort auto: 1, because the space wide varies nf, in which the trials of a worker must "
        "agree"
    ]
    assert _even(config(pack_cohorts=True), heard).pack_cohorts and len(heard.lines) == 1
