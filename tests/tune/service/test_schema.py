"""The API against its own description, and against bodies of every kind."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from results.ledger import Ledger
from tests.results.test_ledger import complete, config, driven
from tests.tune.service.service import BASE, Served, served

BODIES = 10_000
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    storage = tmp_path_factory.mktemp("schema")
    with driven(Ledger.create(storage, config(), {})) as ledger:
        complete(ledger, 10.0, 20.0)
    with served(storage) as made:
        yield made


@pytest.fixture
def described(service: Served) -> Any:
    found = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    # A sweep that is described as it may be can still ask for what does not go together, a range from 2 to 1 for one.
    found.config.checks.positive_data_acceptance.expected_statuses = ["2xx", "400", "404", "409", "422"]
    return found


# A stream of events does not end, so its description is checked by the tests of events.
schema = schemathesis.pytest.from_fixture("described").exclude(path_regex="/events$")


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_answer_is_as_described(case: schemathesis.Case) -> None:
    case.call_and_validate()


def test_no_body_is_a_fault_of_the_service(service: Served) -> None:
    draw = random.Random(0)
    seeds = [json.dumps({"name": "fuzz", "trials": 3, "base": BASE}).encode(), b"name: fuzz\ntrials: 3\n", b"", b"null"]
    session = service.client._session
    for number in range(BODIES):
        answer = session.post(f"{service.url}/api/v1/sweeps?dry_run=true", data=mangled(draw, seeds), timeout=60,
                              headers={"Content-Type": draw.choice(["application/json", "application/yaml"])})
        assert answer.status_code in (200, 400, 415, 422), (number, answer.text)
        assert "Traceback" not in answer.text and (answer.ok or answer.json()["status"] == answer.status_code)
    assert service.client.sweeps()[0]["name"] == "s", "and it still works"


VALUES = [None, True, -1, 0, 1e308, 2**70, "", "x" * 300, [], {}, [[]], {"a": {}}, "\x00", "../..", "!!python/none",
          0.5]
NAMES = ["name", "space", "base", "objectives", "constraints", "protocol", "report_on", "sampler", "points", "trials",
         "seeds", "target", "warm_start", "pack_gpus", "grid_levels", "unknown"]


def mangled(draw: random.Random, seeds: list[bytes]) -> bytes:
    """A body that is wrong in one way or another, most often."""
    kind = draw.randrange(4)
    if kind == 0:  # a well-formed one with fields of wrong kinds
        body: dict[str, Any] = {"name": "fuzz", "base": {"nf": draw.choice(VALUES)}}
        for _ in range(draw.randrange(4)):
            body[draw.choice(NAMES)] = draw.choice(VALUES)
        return json.dumps(body).encode()
    text = bytearray(draw.choice(seeds))
    for _ in range(draw.randrange(1, 6)):
        place = draw.randrange(len(text) + 1)
        if kind == 1:
            text[place:place] = bytes(draw.randrange(256) for _ in range(draw.randrange(4)))
        elif kind == 2:
            del text[place:place + draw.randrange(1, 9)]
        else:
            text[place:place] = draw.choice([b"{", b"[", b'"', b"&a ", b"*a", b"\\u0000", b": ", b"- ", b"\n", b"}"])
    return bytes(text)
