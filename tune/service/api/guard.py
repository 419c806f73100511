"""Checks of each request before the application (token, origin, size), and headers of answers."""

import asyncio
import hmac
import ipaddress
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders

from dynamos.config import DoubledKey
from tune.service.api.yaml_body import YAML_KINDS, json_of_yaml
from tune.service.wire.problems import answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MOST_BYTES = 1_000_000  # largest size of a body
BODY_SECONDS = 20.0  # longest time until a body has arrived
# Paths without a token, which show nothing of any sweep: the page itself, its files, the API's
# description.
OPEN = ("/", "/docs", "/openapi.json", "/healthz")
SAFE = ("GET", "HEAD", "OPTIONS")
METHODS = (*SAFE, "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT")
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src "
    "'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
log = logging.getLogger(__name__)


class Guard:
    """ASGI middleware.

    If the service has a token, every request for data needs it. Otherwise the Host header of every
    request must name this machine.
    """

    def __init__(
        self, app: App, token: str | None, observe: Callable[[str, str, int, float], None]
    ) -> None:
        """`observe` takes method, route, status and seconds of each request."""
        self._app, self._token, self._observe = app, token, observe

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a refused request, and pass any other to the application."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                message["headers"] = headers.raw
            await send(message)

        try:
            await self._answer(scope, receive, sent)
        except Exception as error:
            log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
            if status == 0:  # otherwise the answer has started and ends here
                await answer(500, "internal error; see the service's log")(scope, receive, sent)
        seconds = time.monotonic() - began
        route = getattr(scope.get("route"), "path", "other")
        self._observe(
            scope["method"] if scope["method"] in METHODS else "other", route, status, seconds
        )
        if scope["method"] not in SAFE:
            log.info(
                "change",
                extra={
                    "audit": {
                        "method": scope["method"],
                        "path": scope["path"],
                        "query": scope["query_string"].decode("latin-1"),
                        "sweep": scope.get("sweep"),
                        "status": status,
                        "client": (scope.get("client") or ["", 0])[0],
                        "token": self._token is not None,
                        "seconds": round(seconds, 3),
                    }
                },
            )

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is None and scope["method"] not in SAFE:
            body = await _body(headers, receive)
            if isinstance(body, bytes):
                receive = _again(body, receive)
                MutableHeaders(scope=scope)["content-type"] = "application/json"
            else:
                refusal = body
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Mapping[str, Any], headers: Headers) -> Any:
        """The answer to a request that is refused; None for any other."""
        host, path, changes = headers.get("host", ""), scope["path"], scope["method"] not in SAFE
        if self._token is None:
            # Otherwise a foreign page whose host name resolves to this machine could read and write
            # sweeps as if it were the service's page.
            if not is_local(_name(host)):
                return answer(
                    421,
                    f"the host {host!r} is not allowed: the service answers only requests to this "
                    "machine.",
                )
        elif not (path in OPEN or path.startswith("/static/")):
            given = headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                return answer(
                    401,
                    "send the service's token: Authorization: Bearer TOKEN.",
                    headers={"www-authenticate": "Bearer"},
                )
        # With a token this check is not needed, and a proxy may have changed the host.
        if changes and self._token is None:
            origin = headers.get("origin")
            if (origin is not None and origin.partition("://")[2] != host) or (
                headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
            ):
                return answer(
                    403,
                    "changes are accepted only from the service's own page, or from outside a "
                    "browser.",
                )
        return None


async def _body(headers: Headers, receive: Receive) -> Any:
    """Return a request's whole body as JSON, or the answer that refuses it.

    A body is refused if it is too large, too slow, of an unknown kind or not readable.
    """
    too_large = answer(413, f"a body may have at most {MOST_BYTES} bytes.")
    if int(headers.get("content-length") or 0) > MOST_BYTES:
        return too_large
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            more = True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    return answer(400, "the request ended before its body.")
                content += message.get("body", b"")
                more = message.get("more_body", False)
                if len(content) > MOST_BYTES:
                    return too_large
    except TimeoutError:
        return answer(408, f"a body must arrive within {BODY_SECONDS:g} s.")
    # Before another page can send these kinds, a browser asks the service, which does not allow it.
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content and kind not in ("application/json", *YAML_KINDS):
        return answer(
            415,
            f"content type {kind or 'none'!r} is not supported; send application/json or "
            "application/yaml.",
        )
    read = json_of_yaml if kind in YAML_KINDS else bytes
    try:
        return await run_in_threadpool(lambda: _with_plain_keys(read(content)))
    except ValueError as error:
        return answer(400, f"the body is not readable: {error}.")


def _with_plain_keys(body: bytes) -> bytes:
    """Return the body unchanged.

    Raises DoubledKey if a mapping has a key twice, and UnicodeEncodeError for half of a surrogate
    pair.
    """

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for name, value in pairs:
            name.encode()
            if name in content:
                raise DoubledKey(f"{name} is given twice; remove one")
            content[name] = value
        return content

    try:
        json.loads(body, object_pairs_hook=mapping)
    except (DoubledKey, UnicodeEncodeError):
        raise
    except (ValueError, RecursionError):
        pass  # it is not JSON; the application, which reads it again, reports the reason
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body already read, then the messages after it."""
    first = True

    async def give() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return give


def is_local(host: str) -> bool:
    """True if a name or an address is a loopback one."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _name(host: str) -> str:
    """The host's name in a Host header."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
