"""The API, checked against its description and with bodies of every kind."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from results.ledger.ledger import Ledger
from tests.helpers.ledgers import SEED, begun, config, driven, result
from tests.helpers.service import BASE, Served, served

SETTINGS = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Served]:
    """A service with one sweep of one complete trial. Each test has a new one, because a request
    may delete the sweep."""
    storage = tmp_path / "runs"
    with driven(Ledger.create(storage, config(), {})) as ledger:
        number = begun(ledger).number
        for task, value in enumerate((10.0, 20.0)):  # with all that a real trial reports
            metrics = dict.fromkeys(ledger.config.metrics, value)
            ledger.add_result(number, 1, SEED, result(task, 2, **metrics))
        ledger.finish(number, "COMPLETE")
    with served(storage) as made:
        yield made


@pytest.mark.slow
def test_every_answer_is_as_described(service: Served, tmp_path: Path) -> None:
    # A stream of events does not end; other tests check it.
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "--config-file",
            SETTINGS,
            "run",
            f"{service.url}/openapi.json",
            "--checks",
            "all",
            "--exclude-path",
            "/api/v1/events",
            "--phases",
            "coverage,fuzzing",
            "--max-examples",
            "5",
            "--request-timeout",
            "120",
            "--max-response-time",
            "60",
            "--generation-deterministic",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert " passed" in done.stdout, "it looked at something"


@pytest.mark.slow
def test_no_body_is_a_fault_of_the_service(service: Served) -> None:
    malformed_bodies(service, 1000)


@pytest.mark.long
def test_none_of_ten_thousand_bodies_is(service: Served) -> None:
    malformed_bodies(service, 10_000)


def malformed_bodies(service: Served, count: int) -> None:
    draw = random.Random(0)
    # With no trials, so that a body that is still valid is refused too, and starts no work.
    seeds = [
        json.dumps({"trials": 0, "name": "fuzz", "base": BASE}).encode(),
        b"trials: 0\nname: fuzz\n",
        b"",
        b"null",
    ]
    session = service.client._session
    for number in range(count):
        answer = session.post(
            f"{service.url}/api/v1/sweeps?dry_run=true",
            data=mangled(draw, seeds),
            timeout=60,
            headers={"Content-Type": draw.choice(["application/json", "application/yaml"])},
        )
        assert answer.status_code in (200, 400, 415, 422), (number, answer.text)
        assert "Traceback" not in answer.text and (
            answer.ok or answer.json()["status"] == answer.status_code
        )
    assert service.client.sweep("s")["counts"]["complete"] == 1, "and it still works"


VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    2**70,
    "",
    "x" * 300,
    [],
    {},
    [[]],
    {"a": {}},
    "\x00",
    "../..",
    "!!python/none",
    0.5,
]
NAMES = [
    "name",
    "space",
    "base",
    "objectives",
    "constraints",
    "protocol",
    "report_on",
    "sampler",
    "points",
    "trials",
    "seeds",
    "target",
    "warm_start",
    "pack_gpus",
    "grid_levels",
    "unknown",
]


def mangled(draw: random.Random, seeds: list[bytes]) -> bytes:
    """Return a body that usually has a fault."""
    kind = draw.randrange(4)
    if kind == 0:  # a well-formed one with fields of wrong kinds
        body: dict[str, Any] = {"name": "fuzz", "base": {"nf": draw.choice(VALUES)}}
        if draw.random() < 0.9:  # otherwise it may be valid, and is tried
            body["target"] = "none"
        for _ in range(draw.randrange(4)):
            body[draw.choice(NAMES)] = draw.choice(VALUES)
        return json.dumps(body).encode()
    text = bytearray(draw.choice(seeds))
    for _ in range(draw.randrange(1, 6)):
        place = draw.randrange(len(text) + 1)
        if kind == 1:
            text[place:place] = bytes(draw.randrange(256) for _ in range(draw.randrange(4)))
        elif kind == 2:
            del text[place : place + draw.randrange(1, 9)]
        else:
            text[place:place] = draw.choice(
                [
                    b"{",
                    b"[",
                    b'"',
                    b"&a ",
                    b"*a",
                    b"\\u0000",
                    b": ",
                    b"- ",
                    b"\n",
                    b"}",
                    b"!!int ",
                    b"!!bool ",
                    b"!!float ",
                    b"!!timestamp ",
                    b"!!omap ",
                ]
            )
    return bytes(text)
