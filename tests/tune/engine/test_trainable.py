"""SweepTrial without Ray."""

import dataclasses
import errno
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray.tune
import torch
from upath import UPath

from dynamos import checkpoints
from dynamos.config import TEST_LOCK, TrainConfig, read_config
from dynamos.errors import NonFiniteError, UserError
from dynamos.trainer import Trainer
from results.names import STOP_FILE
from tests.helpers.small import facts, small, together
from tune.engine.report import OUT_OF_MEMORY, PUT_BACK, Report
from tune.engine.trainable import SweepTrial
from tune.machines.images import raw_images

SEEDS = (42, 43)


@pytest.fixture(autouse=True)
def test_images_unlocked_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(TEST_LOCK, "")  # so that what the worker sets goes with the test
    monkeypatch.delenv(TEST_LOCK)
    yield


def settings(folder: Path, attempt: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "number": 7,
        "attempt": attempt,
        "folders": json.dumps(
            [str(folder / f"attempt-{number}") for number in range(attempt, 0, -1)]
        ),
        "changes": json.dumps(changes),
        "seed": SEEDS[0],
    }


def worker(folder: Path, attempt: int = 1, **changes: Any) -> SweepTrial:
    made: SweepTrial = ray.tune.with_parameters(
        SweepTrial, base=small(), seeds=len(SEEDS), images=None, hashes={}
    )(settings(folder, attempt, **changes))
    return ready(made)


def ready(trial: SweepTrial) -> SweepTrial:
    """Return the trial after its first step, which reports that training begins."""
    report = Report.decode(trial.step())
    assert report.began and report.state is None and report.results == {}
    return trial


def step(trial: SweepTrial) -> dict[str, Any]:
    """Return the report of a step, with results as {seed: [facts by task]}."""
    told = trial.step()
    report = Report.decode(told)
    assert told["done"] == (report.state is not None)
    results = {seed: [facts(r) for r in report.results.get(seed, ())] for seed in SEEDS}
    return dataclasses.asdict(report) | {"results": results}


def test_a_gpu_s_memory_is_given_back_when_a_trial_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(True))
    trial = worker(tmp_path)
    while step(trial)["state"] is None:
        assert not freed
    assert freed == [True]


def test_images_that_were_sent_are_as_good_as_those_that_are_read(tmp_path: Path) -> None:
    sent = ray.tune.with_parameters(
        SweepTrial, base=small(), seeds=len(SEEDS), images=raw_images(small()), hashes={}
    )
    results = step(ready(sent(settings(tmp_path / "sent"))))["results"]
    assert results == step(worker(tmp_path / "read"))["results"] and results[SEEDS[0]]


def curve_of(folder: Path, attempt: int, seed: int) -> list[str]:
    """Return the steps of the points in a trial's curve."""
    lines = (folder / f"attempt-{attempt}" / f"seed-{seed}" / "curve.csv").read_text().splitlines()
    assert lines[0].startswith("steps,task,loss_task")
    return [line.split(",")[0] for line in lines[1:]]


def unready(folder: Path, base: TrainConfig, attempt: int = 1, **changes: Any) -> SweepTrial:
    """Return a trial that has not taken its first step and asks Ray for nothing."""
    made: SweepTrial = ray.tune.with_parameters(
        SweepTrial, base=base, seeds=len(SEEDS), images=None, hashes={}
    )(settings(folder, attempt, **changes))
    return made


def test_a_trial_keeps_a_curve_for_each_of_its_seeds_whole_in_every_attempt(tmp_path: Path) -> None:
    unready(tmp_path, small(log_every=3))._train_task()
    assert curve_of(tmp_path, 1, 42) == curve_of(tmp_path, 1, 43) == ["3", "4"]
    unready(tmp_path, small(log_every=3), 2)._train_task()
    assert curve_of(tmp_path, 2, 42) == curve_of(tmp_path, 2, 43) == ["3", "4", "6", "8"]


def test_a_trial_that_diverges_keeps_its_curve_and_one_without_log_every_has_none(
    tmp_path: Path,
) -> None:
    with pytest.raises(NonFiniteError):
        unready(tmp_path, small(log_every=3, warmup=False), lr=1e30)._train_task()
    assert (
        curve_of(tmp_path, 1, 42)
        and "nan" in (tmp_path / "attempt-1" / "seed-42" / "curve.csv").read_text()
    )
    unready(tmp_path / "without", small())._train_task()
    assert not list((tmp_path / "without").rglob("curve.csv"))


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.fixture(scope="module")
def undisturbed() -> dict[int, list[dict[str, Any]]]:
    """Facts of the two tasks of every seed, trained as one cohort."""
    runs = together([small(seed=seed) for seed in SEEDS])
    return {run.config.seed: [facts(result) for result in run.results] for run in runs}


def test_seeds_train_as_one_program_task_by_task(
    tmp_path: Path, undisturbed: dict[int, list[dict[str, Any]]]
) -> None:
    trial = worker(tmp_path)
    first = step(trial)
    assert first["results"] == {seed: results[:1] for seed, results in undisturbed.items()}
    assert (first["state"], first["reason"], first["attempt"]) == (None, None, 1)
    second = step(trial)
    assert second["results"] == undisturbed and (second["state"], second["reason"]) == (
        "COMPLETE",
        None,
    )
    assert read_config(tmp_path / "attempt-1" / "config.yaml") == small().to_dict()


def test_a_later_attempt_goes_on_from_the_newest_whole_checkpoints_of_any_earlier_one(
    tmp_path: Path, undisturbed: dict[int, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[int, int]] = []
    steps_of_task = Trainer.steps_of_task

    def noted(self: Trainer) -> Any:
        trained.append((self.config.seed, self.task))
        return steps_of_task(self)

    monkeypatch.setattr(Trainer, "steps_of_task", noted)
    step(worker(tmp_path))
    for checkpoint in (tmp_path / "attempt-1" / "seed-43").iterdir():
        checkpoint.unlink()  # as if the first attempt had been killed while it trained seed 43
    # and the second while it saved
    damaged = tmp_path / "attempt-2" / "seed-42" / "checkpoint-000001.pt"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(checkpoints.MAGIC + b"half a")
    trained.clear()
    trial = worker(tmp_path, attempt=3)
    first = step(trial)
    assert trained == [(43, 0)] and first["state"] is None and first["attempt"] == 3
    assert first["results"] == {seed: results[:1] for seed, results in undisturbed.items()}
    assert step(trial)["results"] == undisturbed and trained == [(43, 0), (42, 1), (43, 1)]

    monkeypatch.setattr(
        Trainer, "steps_of_task", failing(AssertionError("there is nothing left to train"))
    )
    again = step(worker(tmp_path, attempt=4))
    assert again["state"] == "COMPLETE" and again["results"] == undisturbed


def test_a_trial_that_is_asked_to_stop_ends_and_keeps_what_it_has(
    tmp_path: Path, undisturbed: dict[int, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.engine.workers.attempt.STOP_POLL_SECONDS", 0)
    # on a busy machine a look may take long
    monkeypatch.setattr("tune.engine.workers.attempt.STOP_POLL_SHARE", math.inf)
    trial = worker(tmp_path)
    assert step(trial)["state"] is None
    (tmp_path / STOP_FILE).touch()
    stopped = step(trial)
    assert (stopped["state"], stopped["reason"]) == ("PRUNED", "stopped on request")
    assert stopped["results"] == {seed: results[:1] for seed, results in undisturbed.items()}


@pytest.mark.parametrize(
    "error, reason",
    [
        (MemoryError("much"), "out of memory: MemoryError: much"),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "out of memory: OutOfMemoryError: CUDA out of memory",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "out of memory: RuntimeError: DefaultCPUAllocator",
        ),
        (ValueError("a bug"), "ValueError: a bug"),
        (UserError("it does not fit"), "it does not fit"),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            "PermissionError: [Errno 13] Permission denied",
        ),
    ],
)
def test_an_error_fails_the_trial_with_its_reason_and_a_traceback(
    error: Exception, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "steps_of_task", failing(error))
    report = step(worker(tmp_path))
    lacks = reason.startswith("out of memory")
    assert report["state"] == (OUT_OF_MEMORY if lacks else "FAIL") and report["reason"].startswith(
        reason
    )
    path = tmp_path / "attempt-1" / "traceback.txt"
    assert report["reason"].endswith(f"({path})") and type(error).__name__ in path.read_text()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_fault_of_the_trials(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "save", failing(OSError(number, os.strerror(number))))
    report = step(worker(tmp_path))
    assert report["state"] == PUT_BACK and os.strerror(number) in report["reason"]
    assert not (tmp_path / "attempt-1" / "traceback.txt").exists()


def test_a_trial_whose_traceback_finds_no_room_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "steps_of_task", failing(MemoryError("much")))
    (tmp_path / "attempt-1").mkdir()
    (tmp_path / "attempt-1" / "traceback.txt").symlink_to("/dev/full")
    report = step(worker(tmp_path))
    assert report["state"] == PUT_BACK and "No space left on device" in report["reason"]


def test_an_object_store_that_fails_is_no_fault_of_the_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = OSError(errno.ETIMEDOUT, "the store does not answer")
    monkeypatch.setattr(checkpoints, "save", failing(lost))
    trial = worker(tmp_path)
    trial._attempt.folder = UPath("memory://trial-7/attempt-1")
    with pytest.raises(OSError) as caught:  # Ray takes the worker for lost, and another one tries
        trial.step()
    assert caught.value is lost


def test_a_diverged_trial_is_pruned_with_task_and_step(tmp_path: Path) -> None:
    report = step(worker(tmp_path, lr=1e30))
    assert report["state"] == "PRUNED" and report["reason"].endswith("in task 1, step 2")


@pytest.mark.parametrize(
    "hashes, reason",
    [
        (
            {"data_hash": "0" * 16},
            "the images of seq-digits differ from those that the sweep started with: data_hash ",
        ),
        ({"validation_hash": "0" * 16}, "validation_hash"),
    ],
)
def test_other_images_than_the_sweep_s_are_no_fault_of_the_trial_s(
    hashes: dict[str, str], reason: str, tmp_path: Path
) -> None:
    made = ray.tune.with_parameters(
        SweepTrial, base=small(), seeds=len(SEEDS), images=None, hashes=hashes
    )
    report = step(made(settings(tmp_path)))
    assert (
        report["state"] == PUT_BACK
        and reason in report["reason"]
        and report["reason"].endswith(f"not {'0' * 16}.")
    )


def test_images_that_are_gone_are_no_fault_of_the_trial_s(tmp_path: Path) -> None:
    base = small(dataset="seq-mnist", data_path=str(tmp_path / "away"))
    made = ray.tune.with_parameters(SweepTrial, base=base, seeds=len(SEEDS), images=None, hashes={})
    report = step(made(settings(tmp_path)))
    assert report["state"] == PUT_BACK and "no MNIST under data_path" in report["reason"]


def test_test_images_are_locked(tmp_path: Path) -> None:
    report = step(worker(tmp_path, evaluate_on="test"))
    assert (
        report["state"] == "FAIL"
        and "test images cannot be read during a sweep" in report["reason"]
    )
    assert report["results"] == {seed: [] for seed in SEEDS}


def test_a_worker_takes_over_the_next_trial_and_loads_the_images_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynamos import streams

    loaded: list[str] = []
    load_stream = streams.load_stream

    def noted(train: TrainConfig, device: torch.device, images: Any) -> streams.Stream:
        loaded.append(train.dataset)
        return load_stream(train, device, images=images)

    monkeypatch.setattr(streams, "load_stream", noted)
    trial = worker(tmp_path / "0000")
    step(trial)
    assert trial.reset_config(settings(tmp_path / "0001", lr=0.01))
    step(ready(trial))
    second = step(trial)
    assert second["state"] == "COMPLETE" and loaded == ["seq-digits"]
    first, _ = together([small(lr=0.01, seed=seed) for seed in SEEDS])
    assert second["results"][42] == [facts(result) for result in first.results]


def test_seeds_are_cut_into_cohorts_of_about_equal_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sizes(seeds: int, **changes: Any) -> list[int]:
        made: SweepTrial = ray.tune.with_parameters(
            SweepTrial, base=small(**changes), seeds=seeds, images=None, hashes={}
        )(settings(tmp_path))
        report = Report.decode(made.step())
        parts = made._parts()
        assert [seed for part in parts for seed in part] == [*range(42, 42 + seeds)]
        assert report.began and report.cohort == max(map(len, parts))
        return [len(part) for part in parts]

    assert sizes(1) == [1] and sizes(8) == [8] and sizes(9) == [4, 5] and sizes(17) == [5, 6, 6]
    assert sizes(3, step_mode="compile") == [1, 1, 1] and sizes(3, step_mode="graph") == [3]
    monkeypatch.setattr("tune.engine.trainable.LARGEST_IMAGE", 63)  # the digits have 64 pixels
    assert sizes(3) == [1, 1, 1]


def test_seeds_of_several_cohorts_learn_each_task_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.engine.trainable.LARGEST_COHORT", 1)
    trial = worker(tmp_path)
    alone = {seed: [facts(result) for result in Trainer(small(seed=seed))] for seed in SEEDS}
    assert step(trial)["results"] == {seed: results[:1] for seed, results in alone.items()}
    assert step(trial)["results"] == alone
