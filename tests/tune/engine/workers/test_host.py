"""A host without Ray: its thread is the test's, turn by turn."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from dynamos import checkpoints
from dynamos.cohort import Cohort
from dynamos.config import TEST_LOCK
from results.names import STOP_FILE
from tests.helpers.small import facts, in_slot, small
from tune.engine.report import LOST, OUT_OF_MEMORY, PUT_BACK, Report
from tune.engine.workers.attempt import Workplace
from tune.engine.workers.host import Gone, Host

FIRST_SEED = 42


@pytest.fixture(autouse=True)
def test_images_unlocked_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(TEST_LOCK, "")  # so that what the host sets goes with the test
    monkeypatch.delenv(TEST_LOCK)
    yield


class Caller:
    """A trial that a host trains, as its Trainable calls the host."""

    def __init__(self, host: Host, folder: Path, place: int, ticket: int, **changes: Any) -> None:
        self.host, self.place, self.ticket = host, place, ticket
        attempt = changes.pop("attempt", 1)
        self.folder = folder / f"attempt-{attempt}"
        self._settings = {
            "attempt": attempt,
            "folders": json.dumps([str(folder / f"attempt-{n}") for n in range(attempt, 0, -1)]),
            "changes": json.dumps(changes),
            "seed": FIRST_SEED,
        }

    def ask_to_join(self) -> "Future[Report]":
        return self.host.join(self.place, self.ticket, self._settings)

    def join(self) -> Report:
        return played(self.host, self.ask_to_join())

    def task(self) -> Report:
        return played(self.host, self.host.task(self.place, self.ticket))

    def whole(self) -> list[Report]:
        """The reports from the first task to the end."""
        assert self.join().began
        found = [self.task()]
        while found[-1].state is None:
            found.append(self.task())
        return found


def played(host: Host, answer: "Future[Report]", turns: int = 200) -> Report:
    """Return an answer; take the host's turns until it comes."""
    for _ in range(turns):
        host.turn()
        if answer.done():
            return answer.result()
    raise AssertionError("no answer")


def host(trials: int = 2, seeds: int = 1, **changes: Any) -> Host:
    return Host(Workplace(small(**changes), seeds, None, {}), trials)


def results(report: Report) -> dict[int, list[dict[str, Any]]]:
    return {seed: [facts(r) for r in of_seed] for seed, of_seed in report.results.items()}


def alone_in(place: int, of: int = 2, **changes: Any) -> list[dict[str, Any]]:
    """Facts of a run that trains alone in a slot of a cohort."""
    return [facts(result) for result in in_slot(small(**changes), place, of).results]


def test_a_trial_depends_on_its_place_and_not_on_the_others(tmp_path: Path) -> None:
    there = host()
    first = Caller(there, tmp_path / "0", 0, 1)
    first.join()
    one = first.task()
    late = Caller(there, tmp_path / "1", 1, 2, lr=0.01)
    reports = late.whole()
    assert results(reports[-1])[FIRST_SEED] == alone_in(1, lr=0.01)
    assert results(first.task())[FIRST_SEED] == alone_in(0)
    assert len(one.results[FIRST_SEED]) == 1 and one.state is None and one.cohort == 2


def test_a_report_has_one_more_task_though_the_host_is_ahead(tmp_path: Path) -> None:
    there = host()
    slow = Caller(there, tmp_path / "0", 0, 1)
    slow.join()
    answer = there.task(0, 1)
    while there.turn():
        pass
    assert len(checkpoints.latest(tmp_path / "0" / "attempt-1" / "seed-42")["results"]) == 2  # type: ignore[index]
    first = answer.result()
    assert len(first.results[FIRST_SEED]) == 1 and first.state is None
    second = slow.task()
    assert len(second.results[FIRST_SEED]) == 2 and second.state == "COMPLETE"


def test_every_seed_of_every_trial_has_a_slot(tmp_path: Path) -> None:
    there = host(seeds=2)
    last = Caller(there, tmp_path, 1, 1).whole()[-1]
    assert last.cohort == 4
    assert results(last) == {
        seed: alone_in(2 + seed - FIRST_SEED, 4, seed=seed) for seed in (42, 43)
    }


def test_a_trial_that_diverges_ends_alone(tmp_path: Path) -> None:
    there = host()
    good = Caller(there, tmp_path / "0", 0, 1)
    good.join()
    bad = Caller(there, tmp_path / "1", 1, 2, lr=1e30, log_every=0)
    answer = there.task(0, 1)
    report = bad.whole()[-1]
    assert report.state == "PRUNED" and "in task 1, step 2" in str(report.reason)
    assert results(played(there, answer))[FIRST_SEED] == alone_in(0)[:1]
    again = Caller(there, tmp_path / "2", 1, 3, lr=0.01).whole()[-1]
    assert results(again)[FIRST_SEED] == alone_in(1, lr=0.01), "its slot is as good as new"


@pytest.mark.parametrize(
    "error, state, reason",
    [
        (PermissionError(13, "Permission denied"), "FAIL", "PermissionError"),
        (OSError(28, os.strerror(28)), PUT_BACK, "no disk space left"),
        (MemoryError("much"), OUT_OF_MEMORY, "out of memory: MemoryError: much"),
    ],
)
def test_an_error_in_a_trials_files_ends_that_trial_alone(
    error: Exception, state: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = checkpoints.save

    def failing(content: dict[str, Any], folder: Path) -> Any:
        if folder.is_relative_to(tmp_path / "1"):
            raise error
        return save(content, folder)

    monkeypatch.setattr(checkpoints, "save", failing)
    there = host()
    good, bad = Caller(there, tmp_path / "0", 0, 1), Caller(there, tmp_path / "1", 1, 2)
    good.join()
    answer = there.task(0, 1)
    report = bad.whole()[-1]
    assert report.state == state and str(report.reason).startswith(reason)
    assert (bad.folder / "traceback.txt").exists() == (state != PUT_BACK)
    played(there, answer)
    assert results(good.task())[FIRST_SEED] == alone_in(0)


def test_a_trial_that_is_asked_to_stop_ends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.engine.workers.attempt.STOP_POLL_SECONDS", 0)
    there = host()
    good, stopped = Caller(there, tmp_path / "0", 0, 1), Caller(there, tmp_path / "1", 1, 2)
    for caller in (good, stopped):
        caller.join()
    answers = [there.task(0, 1), there.task(1, 2)]
    there.turn()
    (tmp_path / "1" / STOP_FILE).touch()
    report = played(there, answers[1])
    assert (report.state, report.reason) == ("PRUNED", "stopped on request")
    assert played(there, answers[0]).state is None and good.task().state == "COMPLETE"


def test_an_attempt_continues_from_the_newest_checkpoint_in_the_same_place(tmp_path: Path) -> None:
    first = Caller(host(), tmp_path, 1, 1)
    first.join()
    first.task()
    again = Caller(host(), tmp_path, 1, 1, attempt=2)
    (last,) = again.whole()
    assert last.state == "COMPLETE" and last.attempt == 2
    assert results(last)[FIRST_SEED] == alone_in(1)
    (third,) = Caller(host(), tmp_path, 1, 1, attempt=3).whole()
    assert third.state == "COMPLETE" and results(third) == results(last), "nothing was left"


def test_a_place_is_taken_over_and_the_earlier_attempt_is_gone(tmp_path: Path) -> None:
    there = host()
    old = Caller(there, tmp_path / "0", 0, 1)
    old.join()
    waits = there.task(0, 1)
    there.turn()
    new = Caller(there, tmp_path / "0", 0, 2, attempt=2)
    assert results(new.whole()[-1])[FIRST_SEED] == alone_in(0)
    with pytest.raises(Gone):
        played(there, waits)
    with pytest.raises(Gone):
        old.task()
    with pytest.raises(Gone):
        old.join()
    newest = Caller(there, tmp_path / "1", 1, 5)
    newest.join()
    with pytest.raises(Gone):
        Caller(there, tmp_path / "2", 1, 4).join()
    assert newest.task().state is None
    assert not list(old.folder.glob("seed-*/checkpoint-*"))


def test_an_attempt_is_let_go_before_it_comes_while_it_trains_and_after_its_end(
    tmp_path: Path,
) -> None:
    there = host()
    there.leave(0, 1)
    with pytest.raises(Gone):
        Caller(there, tmp_path / "0", 0, 1).join()
    trains = Caller(there, tmp_path / "1", 0, 2)
    trains.join()
    answer = there.task(0, 2)
    there.turn()
    there.leave(0, 1)  # late, and no longer about this one
    assert there.turn() and not answer.done()
    there.leave(0, 2)
    assert not there.turn(), "nothing is left to train"
    with pytest.raises(Gone):
        answer.result()
    ended = Caller(there, tmp_path / "2", 0, 3)
    ended.whole()
    there.leave(0, 3)
    with pytest.raises(Gone):
        ended.task()


@pytest.mark.parametrize(
    "error, state, reason",
    [
        (RuntimeError("a bug"), LOST, "RuntimeError: a bug"),
        (MemoryError("much"), OUT_OF_MEMORY, "out of memory: MemoryError: much"),
    ],
)
def test_an_error_of_the_program_ends_all_of_its_trials(
    error: Exception, state: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = host()
    callers = [Caller(there, tmp_path / str(n), n, n + 1) for n in range(2)]
    for caller in callers:
        caller.join()
    first = callers[0].task()
    assert first.state is None
    with monkeypatch.context() as patch:

        def failing(*_: object) -> None:
            raise error

        patch.setattr(Cohort, "step", failing)
        found = [caller.task() for caller in callers]
    assert [report.state for report in found] == [state] * 2
    assert all(str(report.reason).startswith(reason) for report in found)
    assert [len(report.results[FIRST_SEED]) for report in found] == [1, 0]
    again = [Caller(there, tmp_path / str(n), n, n + 3, attempt=2).whole()[-1] for n in range(2)]
    assert [results(report)[FIRST_SEED] for report in again] == [alone_in(0), alone_in(1)]


def test_images_that_differ_are_no_fault_of_the_trials(tmp_path: Path) -> None:
    there = Host(Workplace(small(), 1, None, {"data_hash": "0" * 16}), 2)
    report = Caller(there, tmp_path, 0, 1).join()
    assert report.state == PUT_BACK and report.began


def test_runs_that_have_drifted_apart_meet_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped: list[list[int]] = []
    step = Cohort.step

    def noted(self: Cohort, wanted: Any) -> None:
        stepped.append(sorted(wanted))
        step(self, wanted)

    monkeypatch.setattr(Cohort, "step", noted)
    there = host(3, max_train_images_per_task=45, n_tasks=3)  # 4 steps of 10 images, one of 5
    callers = [Caller(there, tmp_path / str(n), n, n + 1) for n in range(3)]
    for caller in callers:
        caller.join()
    there.task(0, 1)
    there.turn()
    stepped.clear()
    there.task(1, 2)
    there.task(2, 3)
    while there.turn():
        pass
    # The first two steps bypass the gates. The first run waits until the others have done them.
    assert stepped[:2] == [[0, 1, 2], [1, 2]] and stepped.count([0]) <= 1
    assert sum(map(len, stepped)) == 3 * 15 - 1
    assert len(stepped) <= 17, "hardly more than the 15 steps of a trial"


def test_a_report_has_one_more_reading_or_task_and_a_later_attempt_the_rest(tmp_path: Path) -> None:
    def there() -> Host:
        return Host(Workplace(small(n_epochs=3), 2, None, {}, grace_epochs=1), 1)

    def events(report: Report) -> list[tuple[int, list[int]]]:
        return [
            (len(report.results[seed]), [r.epochs for r in report.readings.get(seed, ())])
            for seed in (42, 43)
        ]

    whole = Caller(there(), tmp_path / "whole", 0, 1).whole()
    # rungs at 1, 2 and 4 epochs of two tasks of 3
    expected = [(0, [1]), (0, [1, 2]), (1, [1, 2]), (1, [1, 2, 4]), (2, [1, 2, 4])]
    assert [events(report) for report in whole] == [[one, one] for one in expected]
    first = Caller(there(), tmp_path / "cut", 0, 1)
    first.join()
    for _ in range(4):
        first.task()
    state = checkpoints.latest(tmp_path / "cut" / "attempt-1" / "seed-42")
    assert state is not None and state["place"][:2] == [1, 1], "saved after the reading"
    second = Caller(there(), tmp_path / "cut", 0, 1, attempt=2).whole()
    assert [events(report) for report in second] == [[expected[-1]] * 2]
    assert results(second[-1]) == results(whole[-1])
    assert second[-1].readings == whole[-1].readings
    plain = Caller(Host(Workplace(small(n_epochs=3), 2, None, {}), 1), tmp_path / "p", 0, 1).whole()
    assert results(plain[-1]) == results(whole[-1]) and not plain[-1].readings
