import copy
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynamos import checkpoints
from dynamos.cohort import Cohort
from dynamos.config import TrainConfig
from dynamos.errors import NonFiniteError, UserError
from dynamos.methods import METHODS
from dynamos.metrics import TaskResult
from dynamos.trainer import Trainer
from tests.helpers.small import assert_same_outcome, facts, outcome, small

# Settings in which the runs of a cohort may differ.
VARIED: list[dict[str, Any]] = [
    dict(lr=0.02, alpha=0.5, temperature=0.4),
    dict(lr=0.05, beta=1.0, policy_alpha=0.7, policy_penalty=-20.0),
    dict(lr=0.03, keep_ratio=0.4, reward_weight=0.2, prototype_loss=0.9, infer_mode="sample"),
]


def varied(**changes: Any) -> list[TrainConfig]:
    """Configurations of three runs that differ in everything that may differ in a step.

    A task has four steps, the last of five images. The first two steps are warm-up, then the buffer
    fills.
    """
    changes = dict(max_train_images_per_task=35) | changes
    return [small(seed=seed, **own | changes) for seed, own in enumerate(VARIED, 1)]


def state(trainer: Trainer) -> dict[str, Tensor]:
    """Everything of a run's state that a step changes."""
    state = trainer.state_dict()
    # the row after the last slot holds images that were not stored
    buffer = {
        f"buffer {name}": value[:-1] if value.dim() else value
        for name, value in state["buffer"].items()
    }
    rest = {name: state[name] for name in ("generator", "sums", "first_bad_step", "point_sums")}
    average = {} if state["average"] is None else state["average"]["network"]
    averaged = {f"average {name}": value for name, value in average.items()}
    return copy.deepcopy(state["network"] | averaged | buffer | rest)


def assert_close(run: Trainer, alone: Trainer, within: float = 1e-11) -> None:
    found, expected = state(run), state(alone)
    assert found.keys() == expected.keys()
    # one comparison for all, as each takes its time
    flat, wanted = (
        torch.cat([value.double().flatten() for value in values.values()])
        for values in (found, expected)
    )
    if not torch.allclose(flat, wanted, rtol=within, atol=within):
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=within, atol=within, msg=name)


def assert_equal(run: Trainer, other: Trainer) -> None:
    found, expected = state(run), state(other)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert [facts(r) for r in run.results] == [facts(r) for r in other.results]


def trained(cohort: Cohort) -> list[tuple[int, TaskResult | NonFiniteError]]:
    return list(cohort)


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
@pytest.mark.parametrize("model", [name for name, of in METHODS.items() if of.stacked])
def test_a_step_does_to_each_run_what_its_own_step_does(
    model: str, augment: str, double: None
) -> None:
    """Before each step, the runs of the cohort are as those that train alone."""
    configs = varied(model=model, n_epochs=2, minibatch_size=4, log_every=4, augment=augment)
    steps = own_steps(configs)
    assert len(steps) == 3 * 16
    assert {n for n, _, _ in steps} == {10, 5}
    assert {bypass for _, bypass, _ in steps} == {METHODS[model].gated, False}
    held = {held for _, _, held in steps}
    assert (bool(held & {1, 2, 3}) and max(held) >= 4) == METHODS[model].rehearses


def test_a_step_of_a_rotating_stream_does_what_each_run_alone_does(double: None) -> None:
    stream = dict(dataset="digits-360", n_tasks=None, max_train_images_per_task=108, batch_size=4)
    assert {n for n, _, _ in own_steps(varied(**stream), most=8)} == {2, 4}


def own_steps(configs: list[TrainConfig], most: int | None = None) -> list[tuple[int, bool, int]]:
    """Compare each step of a cohort, or `most` of a task, with the steps of its runs alone.

    Returns (images, bypass, images in a run's buffer) of each step of each run.
    """
    alone = [Trainer(config) for config in configs]
    stream, steps = alone[0].stream, list[tuple[int, bool, int]]()
    cohort = Cohort([Trainer(config, stream) for config in configs])
    for _ in stream.tasks:
        walks = zip(*(trainer.steps_of_task() for trainer in alone), strict=True)
        for wanted in islice(walks, most):
            for slot, trainer in enumerate(alone):
                cohort.runs[slot].load_state_dict(copy.deepcopy(trainer.state_dict()))
            cohort.step(dict(enumerate(wanted)))
            for slot, trainer in enumerate(alone):
                trainer._train_step(*wanted[slot])
                assert_close(cohort.runs[slot], trainer)
                steps.append((len(wanted[slot][0]), wanted[slot][1], trainer.buffer.held))
    return steps


@pytest.mark.parametrize("model", METHODS)
def test_whole_runs_end_where_they_end_alone(model: str, double: None) -> None:
    configs = varied(model=model, average_decay=0.6, log_every=3)
    alone = [Trainer(config) for config in configs]
    for trainer in alone:
        outcome(trainer)
    cohort = Cohort([Trainer(config) for config in configs])
    runs = cohort.runs
    results = trained(cohort)
    assert [slot for slot, _ in results] == [0, 1, 2, 0, 1, 2]
    assert [r for slot, r in results if slot == 1] == runs[1].results
    for slot, trainer in enumerate(alone):
        run = runs[slot]
        assert_close(run, trainer, within=1e-7)
        assert (run.steps, run.task, run.done) == (trainer.steps, trainer.task, True)
        for found, expected in zip(run.results, trainer.results, strict=True):
            assert found.class_il_row == expected.class_il_row
            assert found.train_loss == pytest.approx(expected.train_loss, rel=1e-6)
        assert [point["steps"] for point in run.curve] == [p["steps"] for p in trainer.curve]
        for point, expected_point in zip(run.curve, trainer.curve, strict=True):
            assert point == pytest.approx(expected_point, rel=1e-6, abs=1e-6)


def test_a_freed_slot_takes_another_run_at_another_task(double: None) -> None:
    first, second, third = varied()
    later = small(seed=9, max_train_images_per_task=35)
    # the run that comes later has learned a task already
    ahead, alone = Trainer(later), Trainer(later)
    ahead.run_task(), outcome(alone)
    cohort = Cohort([Trainer(c) for c in (first, second, third)])
    runs, places = cohort.runs, []
    for slot, _ in cohort:
        places.append((slot, cohort.slots[slot]))
        if len(places) == 3:  # all have learned their first task
            pruned = cohort.release(0)
            cohort.put(0, ahead)
    assert [slot for slot, _ in places] == [0, 1, 2, 0, 1, 2]
    assert places[3][1] is ahead and len(pruned.results) == 1
    assert_close(ahead, alone, within=1e-7)
    # a released run goes on alone, and neither disturbs the other
    for run, config in ((pruned, first), (runs[1], second), (runs[2], third)):
        expected = Trainer(config)
        outcome(expected), outcome(run)
        assert_close(run, expected, within=1e-7)


def test_runs_wait_for_their_first_image_in_single_precision() -> None:
    """Without a replayed image there are no statistics to normalise with."""
    wide = dict(nf=32, hidden_dim_ratio=16, max_train_images_per_task=30, warmup=False)
    configs = [small(seed=seed, **wide) for seed in (0, 1)]
    cohort = Cohort([Trainer(config) for config in configs])
    walks = [run.steps_of_task() for run in cohort.runs.values()]
    held = []
    for _ in range(2):
        held.append(cohort.runs[0].buffer.seen.item())
        cohort.step({slot: next(walk) for slot, walk in enumerate(walks)})
    assert held == [0, 0]
    assert all(run._sums.isfinite().all() for run in cohort.runs.values())


X = small(seed=4, lr=0.05, average_decay=0.5)


def beside(partners: list[TrainConfig], leaves: bool = False) -> Trainer:
    """Train X in a cohort with these partners; one of them may leave after its first task."""
    run = Trainer(X)
    cohort = Cohort([run, *map(Trainer, partners)])
    for ended, found in cohort:
        if leaves and ended and isinstance(found, TaskResult):
            cohort.release(ended)
            leaves = False
    return run


@pytest.fixture(scope="module")
def expected() -> Trainer:
    return beside([small(seed=1), small(seed=2)])


@settings(max_examples=5, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    seeds=st.lists(st.integers(0, 99), min_size=2, max_size=2),
    lr=st.sampled_from([1e-4, 0.3, 1e30]),
    epochs=st.integers(1, 2),
    warmup=st.booleans(),
    images=st.integers(13, 40),
    leaves=st.booleans(),
)
def test_partners_change_nothing_in_a_run(
    expected: Trainer,
    seeds: list[int],
    lr: float,
    epochs: int,
    warmup: bool,
    images: int,
    leaves: bool,
) -> None:
    """They may diverge, leave, take longer, or be at steps of another kind."""
    partners = [
        small(seed=seeds[0], lr=lr, warmup=warmup),
        small(seed=seeds[1], n_epochs=epochs, max_train_images_per_task=images, warmup=False),
    ]
    assert_equal(beside(partners, leaves), expected)


def test_a_run_that_diverges_ends_alone(expected: Trainer) -> None:
    bad = small(seed=1, lr=1e30)
    with pytest.raises(NonFiniteError) as error:
        Trainer(bad).run_task()
    runs = [Trainer(config) for config in (X, bad, small(seed=2))]
    cohort = Cohort(runs)
    results = trained(cohort)
    (failure,) = [r for slot, r in results if slot == 1]
    assert isinstance(failure, NonFiniteError) and failure.place == error.value.place
    assert [slot for slot, _ in results] == [1, 0, 2, 0, 2] or [slot for slot, _ in results] == [
        0,
        1,
        2,
        0,
        2,
    ]
    assert list(cohort.runs) == [0, 2] and not runs[1].results
    assert_equal(runs[0], expected)


def test_a_cohort_of_one_is_the_trainer() -> None:
    run = Trainer(X)
    assert [slot for slot, _ in Cohort([run])] == [0, 0]
    assert_same_outcome(run, Trainer(X))


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_a_run_goes_on_from_its_checkpoint_in_another_cohort(
    steps: int, tmp_path: Path, expected: Trainer
) -> None:
    def save(trainer: Trainer) -> None:
        if trainer.steps == steps:
            checkpoints.save(trainer.state_dict(), tmp_path)

    list(Cohort([Trainer(X, on_step=save), Trainer(small(seed=1)), Trainer(small(seed=2))]))
    again = Trainer(X)
    found = checkpoints.latest(tmp_path)
    assert found is not None
    again.load_state_dict(found)
    list(Cohort([again, Trainer(small(seed=7)), Trainer(small(seed=8))]))
    assert_equal(again, expected)


def test_a_checkpoint_has_no_other_run(tmp_path: Path) -> None:
    run = Trainer(X)
    alone = checkpoints.save(run.state_dict(), tmp_path / "alone").stat().st_size
    Cohort([Trainer(small(seed=seed)) for seed in (1, 2, 3)] + [run])
    assert checkpoints.save(run.state_dict(), tmp_path / "row").stat().st_size <= 1.05 * alone


def test_a_cohort_shrinks_to_the_runs_that_are_kept(double: None) -> None:
    configs = varied(average_decay=0.6)
    cohort = Cohort([Trainer(config) for config in configs])
    runs = cohort.runs
    for _ in cohort.until(lambda trainer: trainer.task == 1):
        pass
    cohort.keep([2, 0])
    assert cohort.slots == [runs[2], runs[0]]
    results = trained(cohort)
    assert [slot for slot, _ in results] == [0, 1] and not runs[1].done
    for slot, config in enumerate(configs):
        alone = Trainer(config)
        outcome(alone), outcome(runs[slot])
        assert_close(runs[slot], alone, within=1e-7)


def test_runs_share_the_seconds_of_their_steps() -> None:
    cohort = Cohort([Trainer(config) for config in varied(n_epochs=2)])
    began = time.perf_counter()
    results = [r for _, r in cohort if isinstance(r, TaskResult)]
    wall = time.perf_counter() - began
    spent = [r.train_seconds for r in results]
    assert min(spent) > 0 and 0.5 * wall < sum(spent) + sum(r.eval_seconds for r in results) < wall


def test_half_precision_is_that_of_the_trainer() -> None:
    config = small(precision="bf16", warmup=False)
    alone, run = Trainer(config), Trainer(config)
    cohort = Cohort([Trainer(small(seed=1, precision="bf16", warmup=False)), run])
    before = alone.network.linear.weight.detach().clone()
    images, bypass = next(alone.steps_of_task())
    alone._train_step(images, bypass)
    cohort.step({1: (images, bypass)})
    moved, expected = (t.network.linear.weight.detach() - before for t in (run, alone))
    assert 0 < (moved - expected).norm() < 0.1 * expected.norm() or torch.equal(moved, expected)
    exact = Trainer(small(warmup=False))
    exact._train_step(images, bypass)
    assert not torch.equal(exact.network.linear.weight, run.network.linear.weight)


@pytest.mark.parametrize(
    "changes, says",
    [
        (dict(nf=8), "agree in nf; they have 4 and 8"),
        (dict(batch_size=7), "agree in batch_size; they have 10 and 7"),
        (dict(model="sgd"), "agree in model; they have dynamos and sgd"),
        (dict(classes_per_task=3, buffer_size=9), "agree in buffer_size; they have 20 and 9"),
    ],
)
def test_runs_that_do_not_fit_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Cohort([Trainer(small()), Trainer(small(**changes))])
    cohort = Cohort([Trainer(small()), Trainer(small(seed=1))])
    with pytest.raises(UserError, match="slot 1 has a run; release it first"):
        cohort.put(1, Trainer(small(**changes)))
    cohort.release(1)
    with pytest.raises(UserError, match=says):
        cohort.put(1, Trainer(small(**changes)))


def test_a_cohort_is_not_compiled() -> None:
    with pytest.raises(UserError, match="step_mode compile is for single runs"):
        Cohort([Trainer(small(step_mode="compile", seed=seed)) for seed in (1, 2)])
    Cohort([Trainer(small(step_mode="compile"))])


def test_a_cohort_without_runs_is_refused() -> None:
    with pytest.raises(UserError, match="at least one run"):
        Cohort([])
