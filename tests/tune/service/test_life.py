"""The service as a process: it may end or be killed without disturbing a running sweep."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dynamos.errors import RunError
from tests.helpers.crashes import ENDLESS, Watched
from tests.helpers.processes import wait_for
from tests.helpers.service import BASE, Service

KILLS = 3
# Trial 0 does not end by itself, so that the sweep runs however slow the machine is; the others do.
SWEEP = {
    "name": "a",
    "trials": 3,
    "base": BASE | {"n_epochs": ENDLESS},
    "points": [{"lr": 0.02, "n_epochs": 3}, {"lr": 0.03, "n_epochs": 3}],
    "space": {
        "parameters": {"lr": {"low": 0.01, "high": 0.2}, "n_epochs": {"choices": [3, ENDLESS]}}
    },
}


@contextmanager
def cleaned(storage: Path, name: str) -> Iterator[Watched]:
    """A sweep whose driver outlives the service, but not the test."""
    seen = Watched(storage, name)
    try:
        yield seen
    finally:
        if (
            seen.there
            and not seen.ledger.driver_gone
            and (driver := seen.ledger.driver) is not None
        ):
            os.killpg(int(driver.rpartition(":")[2]), signal.SIGKILL)


def kills_disturb_no_sweep(folder: Path, kills: int) -> None:
    storage = folder / "runs"
    with cleaned(storage, "a") as seen:
        service = Service(storage)
        service.client.create(SWEEP)
        wait_for(lambda: service.client.sweep("a")["counts"]["running"] > 0)
        driver = service.client.sweep("a")["driver"]
        for _ in range(kills):
            events = service.client.events("a")
            assert next(events)[0] == "snapshot"
            service.send(signal.SIGKILL)
            with pytest.raises(RunError, match="closed the connection"):
                list(events)
            service.over()
            service = Service(storage, port=int(service.url.rpartition(":")[2]))
            kind, told = next(service.client.events("a"))
            assert kind == "snapshot" and len(told["trials"]) == len(seen.trials())
            assert (told["sweep"]["driver"], told["sweep"]["state"]) == (driver, "running")
            assert service.client.create(SWEEP)["driver"] == driver, (
                "asked for again, it is the one that runs"
            )
        wait_for(lambda: service.client.sweep("a")["counts"]["complete"] == 2)
        service.client.stop("a")
        wait_for(lambda: service.client.sweep("a")["state"] == "stopped")
        with service:
            assert [(t.state, t.attempt, t.losses) for t in seen.trials()] == [
                ("INTERRUPTED", 1, 0),
                ("COMPLETE", 1, 0),
                ("COMPLETE", 1, 0),
            ]


@pytest.mark.slow
def test_kill_9_of_the_service_disturbs_no_sweep(tmp_path: Path) -> None:
    kills_disturb_no_sweep(tmp_path, KILLS)


@pytest.mark.long
def test_kill_9_of_the_service_twenty_times(tmp_path: Path) -> None:
    kills_disturb_no_sweep(tmp_path, 20)


@pytest.mark.slow
def test_a_service_that_is_told_to_end_ends_its_streams_and_no_sweep(tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    with cleaned(storage, "a") as seen:
        service = Service(storage)
        service.client.create(SWEEP)
        wait_for(lambda: service.client.sweep("a")["state"] == "running")
        events = service.client.events("a")
        assert next(events)[0] == "snapshot"
        service.send(signal.SIGTERM)
        for _ in events:
            pass  # until the service ends it
        service.over()
        assert service.status == 0 and not service._said().err.count("Traceback")
        assert seen.ledger.state.name == "running"
