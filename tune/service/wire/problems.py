"""Errors as problem documents (RFC 9457)."""

import dataclasses
import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from dynamos.errors import DynamosError, UserError, unknown
from results.definition.sweep_config import SweepConfig
from results.ledger.study import DATABASE_ERRORS, unusable

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "the request cannot be read",
    401: "a token is needed",
    403: "request from another page",
    404: "not found",
    405: "method not allowed",
    408: "the request came too slowly",
    409: "conflict with the present state",
    413: "the request is too large",
    415: "unsupported content type",
    421: "another host",
    422: "not allowed",
    500: "internal error",
    503: "unavailable",
}
TAGS = ("{mapping}", "{choices}", "{text}")  # parts of an error's place that are not names
SHOWN_CHARACTERS = 80  # of a value that was refused
log = logging.getLogger(__name__)


class Problem(DynamosError):
    """An error whose answer is a problem document."""

    def __init__(
        self, status: int, detail: str, field: str | None = None, near: str | None = None
    ) -> None:
        """`field` is the path of the fault in the body or query, `near` the nearest right name."""
        super().__init__(detail)
        self.status, self.field, self.near = status, field, near

    @classmethod
    def of(cls, error: UserError, field: str | None = None, status: int = 422) -> "Problem":
        """The problem of a user's error, in a field of the request."""
        return cls(status, str(error), field, error.near)


class ProblemDocument(BaseModel):
    """RFC 9457; `field` and `nearest` are ours."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    field: str | None = None
    nearest: str | None = None


def answer(
    status: int,
    detail: str,
    field: str | None = None,
    near: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The response with a problem document."""
    content = ProblemDocument(
        title=TITLES.get(status, "refused"),
        status=status,
        detail=_utf8(detail),
        field=field,
        nearest=near,
    )
    return JSONResponse(
        content.model_dump(exclude_none=True), status, dict(headers or {}), MEDIA_TYPE
    )


def _field_in(text: str) -> str | None:
    """The field of SweepConfig that a message names first."""
    fields = {field.name for field in dataclasses.fields(SweepConfig)}
    return next((name for name in re.findall(r"`(\w+)`", text) if name in fields), None)


def _utf8(text: str) -> str:
    """Text that can be sent: half of a surrogate pair becomes an escape."""
    return text.encode(errors="backslashreplace").decode()


def add_handlers(app: FastAPI) -> None:
    """Make the application answer every error with a problem document."""

    @app.exception_handler(Problem)
    def _(_: Request, error: Problem) -> JSONResponse:
        return answer(error.status, str(error), error.field, error.near)

    @app.exception_handler(DynamosError)
    def _(_: Request, error: DynamosError) -> JSONResponse:
        if isinstance(error, UserError):
            return answer(422, str(error), _field_in(str(error)), error.near)
        return answer(503, str(error))

    def of_a_database(_: Request, error: Exception) -> JSONResponse:
        log.error("a ledger cannot be used", exc_info=error)
        return answer(503, unusable(error))

    for kind in DATABASE_ERRORS:
        app.add_exception_handler(kind, of_a_database)

    @app.exception_handler(RequestValidationError)
    def _(_: Request, error: RequestValidationError) -> JSONResponse:
        return _of_validation(error.errors()[0])

    @app.exception_handler(HTTPException)
    def _(request: Request, error: HTTPException) -> JSONResponse:
        # Starlette names only the methods of the first route of that path
        if error.status_code == 405:
            path = request.scope["path"]
            methods = {
                method.upper()
                for route, operations in app.openapi()["paths"].items()
                for method in operations
                if re.fullmatch(re.sub(r"{\w+}", "[^/]+", route), path)
            }
            return answer(
                405,
                f"{request.method} is not allowed for {path}.",
                headers={"allow": ", ".join(sorted(methods))},
            )
        return answer(error.status_code, str(error.detail), headers=error.headers)


def _of_validation(error: Mapping[str, Any]) -> JSONResponse:
    """The answer to pydantic's first error."""
    where, kind, context = list(error["loc"]), error["type"], error.get("ctx") or {}
    if kind == "json_invalid":
        return answer(400, f"the body is not readable: {context.get('error', 'not JSON')}.")
    inside = [str(part) for part in where[1:] if part not in TAGS]
    field = ".".join(inside) or None
    given = error.get("input")
    if "allowed" in context:  # an unknown name
        name, allowed = context["name"], context["allowed"]
        if isinstance(given, Mapping):
            field = ".".join([*inside, name])
        found = unknown(context["what"], name, allowed)
        return answer(422, str(found), field, found.near)
    if kind == "own":
        name = context["name"]
        return answer(422, f"{name} is set by the service; remove it.", ".".join([*inside, name]))
    if kind == "missing":
        return answer(422, f"{inside[-1] if inside else 'a body'} is missing.", field)
    shown = json.dumps(given, default=str)
    shown = shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[:SHOWN_CHARACTERS]}…"
    said = str(error["msg"])
    return answer(422, f"{field or where[0]} {shown}: {said[0].lower() + said[1:]}.", field)
