"""Access checks, and headers of every answer."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from dynamos.errors import UserError
from tests.helpers.service import Served, served
from tune.cli.main import main
from tune.client import Client
from tune.service.api import guard
from tune.service.serve import JsonLines, listening_on

TOKEN = "0123456789abcdef-token"


@pytest.fixture(scope="module")
def open_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("open")) as made:
        yield made


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("closed"), TOKEN) as made:
        yield made


def problem(answer: requests.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status and found["title"] and found["detail"]
    return found


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8700", "127.0.0.1.evil.example", "", "[", "10.0.0.1"]
)
def test_without_a_token_a_request_must_name_this_machine(open_service: Served, host: str) -> None:
    answer = open_service.ask("GET", "/sweeps", headers={"Host": host})
    assert "answers only requests to this machine" in problem(answer, 421)["detail"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.2", "localhost:1", "[::1]:8700", "LOCALHOST"]
)
def test_every_name_of_this_machine_will_do(open_service: Served, host: str) -> None:
    assert open_service.ask("GET", "/sweeps", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_from_elsewhere_changes_nothing(
    open_service: Served, headers: dict[str, str]
) -> None:
    problem(open_service.ask("POST", "/sweeps", json={"name": "a"}, headers=headers), 403)
    assert open_service.client.sweeps() == [] and open_service.drivers.started == []


def test_a_request_that_a_form_of_another_page_could_send_is_not_read(open_service: Served) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        problem(
            open_service.ask(
                "POST", "/sweeps", data='{"name": "a"}', headers={"Content-Type": kind}
            ),
            415,
        )


def test_nothing_of_another_origin_may_read(open_service: Served) -> None:
    answer = open_service.ask(
        "OPTIONS",
        "/sweeps",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/sweeps", "/api/v1/sweeps/none", "/static/none", "/none"]
)
def test_every_answer_has_the_headers_that_keep_browsers_safe(
    open_service: Served, path: str
) -> None:
    headers = requests.get(open_service.url + path, timeout=30).headers
    for name, value in guard.HEADERS.items():
        assert headers[name] == value


def test_a_fault_is_answered_counted_and_noted_as_everything_is(
    open_service: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("told to nobody")

    monkeypatch.setattr("tune.service.state.sweeps.Sweeps.newest", fails)
    answer = open_service.ask("POST", "/sweeps/a/stop")
    assert (
        "told to nobody" not in str(problem(answer, 500))
        and answer.headers["x-content-type-options"] == "nosniff"
    )
    metrics = requests.get(f"{open_service.url}/metrics", timeout=60).text
    assert 'route="/api/v1/sweeps/{name}/stop",status="500"' in metrics
    assert any(
        "ZeroDivisionError" in (record.exc_text or str(record.exc_info))
        for record in caplog.records
    )


def test_invented_methods_are_counted_as_one(open_service: Served) -> None:
    for method in ("FIRST", "SECOND"):
        requests.request(method, open_service.url, timeout=60)
    metrics = requests.get(f"{open_service.url}/metrics", timeout=60).text
    assert "FIRST" not in metrics and 'method="other"' in metrics


def test_an_answer_in_two_packets_is_not_held_up() -> None:
    with (
        listening_on("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()),
    ):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_service_without_its_storage_is_not_ready(tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    storage.mkdir()
    with served(storage) as service:
        assert requests.get(f"{service.url}/readyz", timeout=60).text == "ready: 0 sweeps\n"
        storage.rmdir()
        problem(requests.get(f"{service.url}/readyz", timeout=60), 503)


def test_a_body_may_not_be_too_large_whatever_it_says_of_itself(open_service: Served) -> None:
    large = b"x" * (guard.MOST_BYTES + 1)
    headers = {"Content-Type": "application/json"}
    problem(open_service.ask("POST", "/sweeps", data=large, headers=headers), 413)
    problem(
        open_service.ask("POST", "/sweeps", data=iter([large[:500_000]] * 3), headers=headers), 413
    )


def test_a_body_that_does_not_come_is_not_waited_for(
    open_service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.2)
    parts = urlsplit(open_service.url)
    with socket.create_connection((parts.hostname, parts.port)) as slow:
        slow.sendall(
            b"POST /api/v1/sweeps HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{"
        )
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_with_a_token_every_request_for_data_needs_it(closed: Served) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer é"},
    ):
        answer = closed.ask("GET", "/sweeps", headers={k: v.encode() for k, v in headers.items()})
        problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer" and TOKEN not in answer.text
    for path in ("/metrics", "/readyz", "/api/v1/events", "/api/v1/options"):
        assert requests.get(closed.url + path, timeout=30).status_code == 401
    for path in ("/", "/healthz", "/docs", "/openapi.json", "/static/style.css"):
        assert requests.get(closed.url + path, timeout=30).status_code == 200


def test_with_a_token_any_name_will_do_and_the_client_sends_it(
    closed: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Client(closed.url, TOKEN).sweeps() == []
    monkeypatch.setenv("DYNAMOS_TOKEN", TOKEN)
    assert Client(closed.url).sweeps() == []
    answer = closed.ask(
        "GET", "/sweeps", headers={"Host": "gpu.example", "Authorization": f"Bearer {TOKEN}"}
    )
    assert answer.status_code == 200


def test_every_change_is_a_line_in_the_log_and_no_secret_is(
    closed: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "tune.service"):
        closed.ask("POST", "/sweeps/none/stop", headers={"Authorization": f"Bearer {TOKEN}"})
        closed.ask("GET", "/sweeps", headers={"Authorization": f"Bearer {TOKEN}"})
    (record,) = [r for r in caplog.records if r.name == "tune.service.api.guard"]
    told = JsonLines().format(record)
    assert (
        '"method": "POST", "path": "/api/v1/sweeps/none/stop"' in told and '"status": 404' in told
    )
    assert TOKEN not in told


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--host", "0.0.0.0"], "it needs a token"),
        (["--host", "::"], "it needs a token"),
        (["--token-file", "~nosuch/x"], "'~nosuch/x' is not a path"),
        (["--data-path", "~nosuch/x"], "'~nosuch/x' is not a path"),
        (["--token-file", "none"], "cannot be read"),
        (["--token-file", "short"], "contains no token"),
        (["--port", "65536"], "from 0 to 65535"),
        (["--host", "nowhere.invalid"], "it needs a token"),
        (["--address", "ftp://x"], "--address ftp://x"),
        (["--storage", "gopher://x"], "unknown kind of object store"),
    ],
)
def test_a_service_that_would_not_be_safe_does_not_start(
    flags: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DYNAMOS_TOKEN", raising=False)
    Path("short").write_text("secret")
    assert main(["serve", "--port", "0", *flags]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1


def test_a_client_says_in_a_line_what_is_wrong(closed: Served) -> None:
    with pytest.raises(UserError, match=r"send the service's token.*401"):
        Client(closed.url).sweeps()
    with pytest.raises(UserError, match="not the URL of a service"):
        Client("localhost:8700")
