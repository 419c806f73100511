"""Of several processes that try to drive a sweep, one does; it notices if it loses the lease."""

import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import OperationalError

from dynamos.errors import UserError
from results.ledger import holder, lease
from results.ledger.holder import LEASE, gone
from results.ledger.lease import LAPSE_SECONDS, TRUST_SECONDS, Lease, LeaseLost
from results.ledger.ledger import Ledger
from tests.helpers.ledgers import SEED, config, driven, result

HERE = f"{socket.gethostname()}:{os.getpid()}"


def row(
    owner: str | None, heartbeat: int = 0, epoch: int = 3, processes: str | None = None
) -> dict[str, Any]:
    """Return a lease as a driver writes it; by default a driver in the PID namespace of this
    process."""
    return {
        "owner": owner,
        "processes": processes or holder.processes(),
        "epoch": epoch,
        "heartbeat": heartbeat,
    }


class Study:
    """A study with a lease, in a database that other processes may open."""

    def __init__(self, url: str) -> None:
        self.storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
        self.id = self.storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE])
        lease.free(self.storage, self.id)

    def lease(self) -> Lease:
        return Lease(self.storage, self.id, "s", "dynamos-sweep {} s".format)

    def hold(self, owner: str | None, heartbeat: int = 0) -> None:
        """Write a lease as a driver on another machine would."""
        self.storage.set_study_user_attr(self.id, LEASE, row(owner, heartbeat))

    def row(self) -> dict[str, Any]:
        return lease.read(self.storage, self.id)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('lease') / 'study.db'}"


@pytest.fixture
def study(url: str) -> Study:
    return Study(url)


class Clock:
    """The lease's clock, which moves only when it is set or slept on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.while_asleep: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.while_asleep()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(
        lease, "time", SimpleNamespace(monotonic=lambda: made.now, sleep=made.sleep)
    )
    return made


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.02)


def test_a_lease_is_taken_and_given_up_and_counts_its_drivers(study: Study) -> None:
    for epoch in (1, 2):
        held = study.lease()
        held.take()
        assert held.epoch == epoch and study.row()["owner"] == HERE
        held.check()
        held.release()
        assert study.row()["owner"] is None and study.row()["epoch"] == epoch


@pytest.mark.usefixtures("fast")
def test_a_second_driver_is_refused_while_the_first_beats(study: Study) -> None:
    first = study.lease()
    first.take()
    with pytest.raises(UserError) as error:
        study.lease().take()
    assert str(error.value) == (
        f"another process is running the sweep 's' ({HERE}); wait for it, or stop it: "
        "dynamos-sweep stop s"
    )
    first.check()
    assert study.row()["epoch"] == 1
    first.release()


def test_a_driver_that_died_on_this_host_is_followed_at_once(study: Study, clock: Clock) -> None:
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait()
    study.hold(f"{socket.gethostname()}:{dead.pid}")
    held = study.lease()
    held.take()
    assert clock.now == 0 and held.epoch == 4
    held.release()


def test_processes_of_this_host_are_known_to_live_others_may() -> None:
    for owner in (HERE, f"{socket.gethostname()}:1", "elsewhere:1"):
        assert not gone(row(owner))


def test_a_container_of_the_same_host_name_has_processes_of_its_own() -> None:
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait()
    owner = f"{socket.gethostname()}:{dead.pid}"
    assert gone(row(owner)) and not gone(row(owner, processes="another container's"))


def test_a_renewal_whose_answer_was_lost_is_not_taken_for_another_driver(
    study: Study, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = study.lease()
    held.take()
    swap = held._swap

    def lost(*leases: Any) -> bool:
        monkeypatch.setattr(held, "_swap", swap)
        swap(*leases)
        raise OperationalError("UPDATE", {}, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(held, "_swap", lost)
    clock.now = TRUST_SECONDS + 1
    with pytest.raises(OperationalError):
        held.check()
    for heartbeat in (1, 2):
        held.check()
        assert study.row()["heartbeat"] == heartbeat
        clock.now += TRUST_SECONDS + 1
    held.release()
    assert study.row()["owner"] is None


@pytest.mark.usefixtures("fast")
def test_a_driver_learns_from_its_next_heartbeat_that_another_has_taken_over(study: Study) -> None:
    held = study.lease()
    held.take()
    study.hold("elsewhere:1")
    deadline = time.monotonic() + TRUST_SECONDS / 2  # before it would check the lease by itself
    with pytest.raises(LeaseLost):
        while time.monotonic() < deadline:
            held.check()
    held.release()
    assert study.row() == row("elsewhere:1")


def test_a_silent_driver_elsewhere_is_waited_for(study: Study, clock: Clock) -> None:
    study.hold("elsewhere:1")
    held = study.lease()
    held.take()
    assert LAPSE_SECONDS <= clock.now < LAPSE_SECONDS + 1 and held.epoch == 4
    held.release()


def test_a_driver_elsewhere_that_shows_life_is_left_alone(study: Study, clock: Clock) -> None:
    study.hold("elsewhere:1")

    def beat() -> None:
        if clock.now > LAPSE_SECONDS - 1:
            study.hold("elsewhere:1", heartbeat=1)

    clock.while_asleep = beat
    with pytest.raises(
        UserError, match=r"another process is running the sweep 's' \(elsewhere:1\)"
    ):
        study.lease().take()
    assert study.row() == row("elsewhere:1", 1)


def test_a_driver_elsewhere_that_gives_up_is_followed_at_once(study: Study, clock: Clock) -> None:
    study.hold("elsewhere:1")
    clock.while_asleep = lambda: study.hold(None, heartbeat=9)
    held = study.lease()
    held.take()
    assert clock.now < 1 and study.row()["owner"] == HERE
    held.release()


def reach(url: str, study_id: int, start: Any, over: Any, outcomes: Any) -> None:
    """A process that tries to take the lease."""
    storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
    held = Lease(storage, study_id, "s", "dynamos-sweep {} s".format)
    start.wait()
    try:
        held.take()
        outcomes.put("taken")
    except UserError:
        outcomes.put("refused")
    over.wait()  # the process that gets it keeps it until all have tried
    os._exit(0)


@pytest.mark.usefixtures("fast")
def test_one_of_many_processes_gets_a_free_lease(study: Study, url: str) -> None:
    context = multiprocessing.get_context("fork")
    start, over, outcomes = context.Barrier(6), context.Event(), context.Queue()
    processes = [
        context.Process(target=reach, args=(url, study.id, start, over, outcomes)) for _ in range(6)
    ]
    for process in processes:
        process.start()
    told = sorted(outcomes.get(timeout=120) for _ in processes)
    over.set()
    for process in processes:
        process.join()
    assert told == ["refused"] * 5 + ["taken"] and study.row()["epoch"] == 1


def test_a_driver_that_was_held_up_notices_that_another_took_over(
    study: Study, clock: Clock
) -> None:
    held = study.lease()
    held.take()
    study.hold("elsewhere:1")
    clock.now += TRUST_SECONDS + 1
    with pytest.raises(
        LeaseLost,
        match="another process has taken over the sweep 's' while this process was suspended",
    ):
        held.check()
    held.release()
    assert study.row() == row("elsewhere:1"), "the other's lease is not given up"


def test_a_driver_that_was_held_up_but_not_missed_goes_on(study: Study, clock: Clock) -> None:
    held = study.lease()
    held.take()
    for _ in range(3):
        clock.now += TRUST_SECONDS + 1
        held.check()
    assert study.row()["heartbeat"] == 3 and study.row()["owner"] == HERE
    held.release()


def test_a_driver_stops_writing_before_others_take_over() -> None:
    assert TRUST_SECONDS + 2 * lease.HEARTBEAT_SECONDS < LAPSE_SECONDS


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    "error",
    [
        OperationalError("UPDATE", {}, Exception("database is locked")),
        StorageInternalError("An exception is raised during the commit"),
    ],
)
def test_a_database_that_is_locked_for_a_while_costs_no_lease(
    error: Exception,
    study: Study,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    held, tries, beaten = study.lease(), iter(range(10**9)), threading.Event()
    swap = Lease._swap

    def locked(self: Lease, *arguments: Any) -> bool:
        number = next(tries)
        if number in (1, 2):
            raise error
        if number == 4:
            beaten.set()
        return swap(self, *arguments)

    monkeypatch.setattr(Lease, "_swap", locked)
    held.take()
    assert beaten.wait(60)
    held.release()
    assert study.row()["owner"] is None
    assert len([r for r in caplog.records if "could not be renewed" in r.getMessage()]) == 2


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    yield Ledger.create(tmp_path_factory.mktemp("sweep"), config(trials=9), {})


WRITES: dict[str, Callable[[Ledger], object]] = {
    "ask": lambda ledger: ledger.ask(),
    "extend": lambda ledger: ledger.extend(1),
    "add_result": lambda ledger: ledger.add_result(0, 1, SEED, result()),
    "finish": lambda ledger: ledger.finish(0, "FAIL", "because"),
    "interrupt": lambda ledger: ledger.interrupt(0),
    "batch_size": lambda ledger: ledger.batch_size(2),
    # A driver that has nothing to write only asks this. It must not go on training.
    "stop_requested": lambda ledger: ledger.stop_requested(),
}


@pytest.mark.parametrize("write", WRITES)
def test_only_a_driver_writes(write: str, sweep: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [(t.state, t.attempt) for t in sweep.trials()], sweep.budget
    with pytest.raises(AssertionError, match="write only while driving"):
        WRITES[write](sweep)
    with sweep.driving():
        sweep._storage.set_study_user_attr(sweep._study_id, LEASE, row("elsewhere:1", epoch=9))
        monkeypatch.setattr(lease, "TRUST_SECONDS", -1.0)  # as if the last heartbeat were long ago
        with pytest.raises(LeaseLost):
            WRITES[write](sweep)
    lease.free(sweep._storage, sweep._study_id)
    assert ([(t.state, t.attempt) for t in sweep.trials()], sweep.budget) == before


def test_a_stop_is_for_the_driver_that_runs_and_none_after_it(sweep: Ledger) -> None:
    with driven(sweep):
        assert not sweep.stop_requested()
        Ledger.open(sweep.folder.parent, "s").request_stop()
        assert sweep.stop_requested()
    Ledger.open(sweep.folder.parent, "s").request_stop()  # too late
    with driven(sweep):
        assert not sweep.stop_requested()
