"""Packing of nodes: the choice, and its measurement."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from dynamos.errors import UserError
from tests.helpers.ledgers import config
from tests.helpers.small import small
from tune.machines import packing
from tune.machines.packing import Packing, best_packing, kind_of_machine, measure, rates, words
from tune.machines.remembered import FILE, key_of, remember, remembered
from tune.machines.slots import Node

HERE = Node("n", "host", 4, 0)
GPU = Node("g", "host", 8, 1, "H200")


@pytest.mark.parametrize(
    "found, expected",
    [
        ({(1, 1): 10.0}, (1, 1)),
        ({(1, 1): 10.0, (2, 1): 18.0, (4, 1): 25.0, (8, 1): 24.0}, (4, 1)),
        ({(1, 1): 10.0, (2, 1): 10.4}, (1, 1)),
        ({(1, 1): 10.0, (2, 1): 10.4, (4, 1): 10.8}, (4, 1)),
        ({(2, 1): 5.0, (1, 1): 4.0}, (2, 1)),
        ({(1, 1): 1.0, (1, 8): 7.0, (2, 4): 7.2, (2, 8): 7.3}, (1, 8)),
        ({(2, 4): 7.0, (1, 8): 7.0}, (1, 8)),
    ],
)
def test_the_fastest_packing_is_taken_and_of_equally_fast_ones_the_smallest(
    found: dict[tuple[int, int], float], expected: tuple[int, int]
) -> None:
    assert best_packing({Packing(*p): rate for p, rate in found.items()}) == expected


class Machine:
    """Stands for workers whose speed and memory follow from their number and their trials."""

    def __init__(self, speed: Any, memory: Any = lambda workers, cohort: 0.1) -> None:
        self.speed, self.memory, self.asked = speed, memory, list[Packing]()

    def climb(
        self,
        probes: int,
        workers: int,
        cohorts: Any,
        interrupted: Any,
        found: dict[Packing, float],
    ) -> bool:
        machine, at = self, [1]

        class Call:
            def __init__(self, value: float) -> None:
                self.value = value

        class Method:
            def __init__(self, function: Any) -> None:
                self.remote = function

        class Probe:
            @property
            def train(self) -> Method:
                def call(cohort: int, seconds: float) -> Call:
                    at[0] = cohort
                    return Call(machine.speed(workers, cohort) / workers)

                return Method(call)

            memory = Method(lambda: Call(machine.memory(workers, at[0])))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ray, "get", lambda calls, timeout: [call.value for call in calls])
            before = set(found)
            room: bool = _climb(
                [Probe() for _ in range(probes)], workers, cohorts, interrupted, found
            )
            self.asked += [p for p in found if p not in before]
            return room


_climb: Any = packing._climb


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def run(
        machine: Machine, node: Node, interrupted: bool = False, **fields: Any
    ) -> list[Packing]:
        monkeypatch.setattr(
            packing, "_probes", lambda config, node, workers, images: [None] * workers
        )
        monkeypatch.setattr(
            packing, "_climb", lambda probes, *rest: machine.climb(len(probes), *rest)
        )
        monkeypatch.setattr(ray, "put", lambda value: value)
        monkeypatch.setattr(ray, "kill", lambda probe: None)
        measure(config(**fields), node, None, lambda: interrupted)
        return machine.asked

    yield run


def test_more_trials_in_a_worker_are_tried_as_long_as_they_are_faster(measured: Any) -> None:
    machine = Machine(lambda workers, cohort: workers * min(cohort, 8) ** 0.5)
    asked = measured(machine, HERE, cpus_per_trial=2.0, pack_cohorts=True)
    assert asked == [(2, 1), (2, 2), (2, 4), (2, 8), (2, 16), (2, 32)]


def test_on_a_gpu_workers_and_trials_are_tried_together(measured: Any) -> None:
    machine = Machine(lambda workers, cohort: min(workers * cohort, 16) + workers / 10)
    asked = measured(machine, GPU, gpus_per_trial=1.0, pack_gpus=True, pack_cohorts=True)
    assert asked[:7] == [(1, 2**doublings) for doublings in range(7)]
    assert asked[7:] == [(2, 8), (2, 16), (2, 32)], "no gain by more workers"
    only = measured(Machine(lambda w, k: w), GPU, gpus_per_trial=1.0, pack_gpus=True)
    assert only == [(1, 1), (2, 1), (4, 1), (8, 1)], "as many as there are CPUs"
    fixed = measured(Machine(lambda w, k: k), GPU, gpus_per_trial=0.5, pack_cohorts=True)
    assert {p.workers for p in fixed} == {2}


def test_nothing_is_tried_that_the_memory_cannot_hold(measured: Any) -> None:
    full = Machine(lambda w, k: k, lambda workers, cohort: 0.3 + 0.1 * cohort)
    assert [p.cohort for p in measured(full, HERE, pack_cohorts=True)] == [1, 2, 4]


def test_an_interrupt_ends_the_measurement(measured: Any) -> None:
    machine = Machine(lambda w, k: k)
    assert measured(machine, HERE, interrupted=True, pack_cohorts=True) == [(4, 1)]


def test_a_packing_in_words() -> None:
    found = {Packing(1, 1): 10.0, Packing(2, 4): 20.0}
    both = config(gpus_per_trial=1.0, pack_gpus=True, pack_cohorts=True)
    assert words(both, Packing(2, 1)) == "2 workers on each, 1 trial in a worker"
    assert rates(both, found) == "by workers x trials: 1x1: 10.0, 2x4: 20.0"
    cohorts = config(pack_cohorts=True)
    assert words(cohorts, Packing(2, 4)) == "4 trials in a worker"
    assert rates(cohorts, found) == "by trials in a worker: 1: 10.0, 4: 20.0"
    workers = config(gpus_per_trial=1.0, pack_gpus=True)
    assert words(workers, Packing(2, 1)) == "2 trials on each"
    assert rates(workers, found) == "by number of trials: 1: 10.0, 2: 20.0"
    assert kind_of_machine(GPU) == "GPU H200"


def test_a_packing_is_remembered_for_the_same_machine_shape_and_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = config(pack_cohorts=True)
    key = key_of(made, "a processor", HERE)
    assert remembered(tmp_path, key) is None
    remember(tmp_path, key, Packing(4, 2), {Packing(4, 2): 1.0})
    remember(tmp_path, key, Packing(4, 8), {Packing(4, 1): 10.04, Packing(4, 8): 40.0})
    remember(tmp_path, key_of(made, "another", HERE), Packing(4, 1), {Packing(4, 1): 9.0})
    found = remembered(tmp_path, key_of(made, "a processor", HERE))
    assert found is not None and found[0] == (4, 8) and (tmp_path / FILE).exists()
    assert (tmp_path / FILE).read_text().count("4x1: 10.0") == 1
    for other in (
        config(pack_cohorts=True, seeds=2),
        config(pack_cohorts=True, base=made.base.replace(nf=8)),
        config(pack_cohorts=True, cpus_per_trial=2.0),
    ):
        assert remembered(tmp_path, key_of(other, "a processor", HERE)) is None
    monkeypatch.setattr("tune.machines.remembered.version", lambda name: "0")
    assert remembered(tmp_path, key_of(made, "a processor", HERE)) is None


def test_a_packing_is_of_one_content_of_the_users_file(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    made = config(base=config().base.replace(model=f"{own}:method"))
    own.write_text("def method(step): ...\n")
    key = key_of(made, "a processor", HERE)
    assert key == key_of(made, "a processor", HERE)
    own.write_text("def method(step): pass\n")
    assert key != key_of(made, "a processor", HERE)


@pytest.mark.parametrize("content", ["packings: 3", "packings: [3, {of: {}}]", "{", "- 1"])
def test_without_a_readable_file_all_is_measured_anew(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content)
    key = key_of(config(), "a processor", HERE)
    assert remembered(tmp_path, key) is None
    remember(tmp_path, key, Packing(1, 2), {Packing(1, 2): 1.0})
    assert remembered(tmp_path, key) is not None


def test_a_probe_trains_runs_to_their_ends_and_goes_on_with_others() -> None:
    probe = packing._Probe(small(), 2, None)
    rate = probe.train(2, 1.0)
    assert rate > 0 and probe._made > 2 + 4, "a run is over after a fraction of a second"
    assert 0 < probe.memory() < 1


def test_a_trainer_in_a_users_file_shows_no_steps_to_measure() -> None:
    example = Path(__file__).parents[3] / "examples" / "own_trainer.py"
    with pytest.raises(UserError, match=r"own_trainer.py:Loop shows no steps to measure"):
        packing._Probe(small(model=f"{example}:Loop"), 1, None)
