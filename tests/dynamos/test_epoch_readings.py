"""Readings within tasks change nothing, are exact, and a run continues from them exactly."""

from itertools import islice

import pytest
import torch

from dynamos.cohort import Cohort
from dynamos.config import TrainConfig
from dynamos.data import as_input
from dynamos.metrics import EpochReading, mean
from dynamos.trainer import Trainer
from tests.helpers.small import assert_same_outcome, facts, outcome, small

READ = (1, 2, 3, 4, 6)  # of two tasks of three epochs; 3 and 6 are the ends of tasks


def read(**changes: object) -> TrainConfig:
    return small(**{"n_epochs": 3, "warmup_steps": 2} | changes)


@pytest.mark.parametrize("model", ["dynamos", "er"])
def test_they_change_nothing_and_lie_within_tasks(model: str) -> None:
    config = read(model=model, average_decay=0.9)
    plain, reading = Trainer(config), Trainer(config, read_epochs=READ)
    assert_same_outcome(plain, reading)
    assert torch.equal(plain.generator.get_state(), reading.generator.get_state())
    assert [r.epochs for r in reading.epoch_readings] == [1, 2, 4]
    assert plain.epoch_readings == []


def test_a_reading_is_the_mean_accuracy_on_the_tasks_seen() -> None:
    run = Trainer(read(model="er", average_decay=0.0), read_epochs=READ)
    run.run_task()
    for images, bypass in run.steps_of_task():  # to the first epoch of the second task
        run._train_step(images, bypass)
    network = run.network.eval()
    class_il, task_il = [], []
    with torch.no_grad():
        for task, images in enumerate(run.stream.evaluation):
            logits = network(as_input(images.pixels, images.white), bypass=True).logits
            class_il.append(100 * float((logits.argmax(1) == images.labels).float().mean()))
            own = torch.tensor(run.stream.tasks[task])
            among = own[logits[:, own].argmax(1)]
            task_il.append(100 * float((among == images.labels).float().mean()))
    found = run.epoch_readings[-1]
    assert (found.epochs, found.evaluated_on) == (4, "validation")
    assert found.class_il == pytest.approx(mean(class_il[:2]), abs=1e-4)
    assert found.task_il == pytest.approx(mean(task_il[:2]), abs=1e-4)
    assert found.metrics() == {"val_class_il": found.class_il, "val_task_il": found.task_il}


def test_in_the_warm_up_the_gates_are_bypassed() -> None:
    config = read(warmup_epochs=2, n_epochs=4)
    run, dense = Trainer(config, read_epochs=(2, 3)), Trainer(config)
    seen = list[bool]()
    evaluate = run._evaluate

    def noted(task: int, bypass: bool = False, *rest: object) -> object:
        seen.append(bypass)
        return evaluate(task, bypass, *rest)  # type: ignore[arg-type]

    run._evaluate = noted  # type: ignore[method-assign, assignment]
    run.run_task()
    untrained, rest = seen[: dense.n_tasks], seen[dense.n_tasks :]
    assert all(untrained) and rest[:2] == [True, False]


@pytest.mark.parametrize("at", [1, 4])
def test_a_run_continues_exactly_from_a_reading(at: int) -> None:
    config = read()
    whole, begun = Trainer(config, read_epochs=READ), Trainer(config, read_epochs=READ)
    outcome(whole)
    while not begun.epoch_readings or begun.epoch_readings[-1].epochs < at:
        for images, bypass in begun.steps_of_task():
            begun._train_step(images, bypass)
    again = Trainer(config, read_epochs=READ)
    again.load_state_dict(begun.state_dict())
    assert_same_outcome(whole, again)
    assert again.epoch_readings == whole.epoch_readings


def test_a_state_from_before_readings_is_read() -> None:
    run = Trainer(read())
    run.run_task()
    state = run.state_dict()
    del state["epoch_readings"]
    again = Trainer(read(), read_epochs=READ)
    again.load_state_dict(state)
    assert_same_outcome(run, again)
    assert [r.epochs for r in again.epoch_readings] == [4]


def test_a_cohort_stops_at_readings_and_yields_results_only() -> None:
    configs = [read(seed=seed) for seed in (1, 2)]
    plain = [Trainer(config) for config in configs]
    list(Cohort(plain))
    runs = [Trainer(config, read_epochs=READ) for config in configs]
    cohort = Cohort(runs)
    first = list(cohort.until(lambda run: len(run.epoch_readings) > 0))
    assert [slot for slot, _ in first] == [0, 1]
    assert all(isinstance(one, EpochReading) and one.epochs == 1 for _, one in first)
    rest = list(islice(cohort, 100))
    assert [slot for slot, _ in rest] == [0, 1, 0, 1]
    for one, other in zip(runs, plain, strict=True):
        assert [facts(r) for r in one.results] == [facts(r) for r in other.results]
        assert [r.epochs for r in one.epoch_readings] == [1, 2, 4]
