"""Edge: every error leaves as RFC 9457 problem details, with one clear line in ``detail``.

No answer repeats what the caller sent beyond names: a value may be a secret.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from api.text import plain
from daemon.report import ReportRefused
from daemon.store.base import Busy, Conflict, Missing, Stale, StoreError

MEDIA_TYPE = "application/problem+json"

TITLES = {
    400: "malformed request",
    401: "no valid token",
    403: "not allowed",
    404: "not found",
    405: "method not allowed",
    409: "conflict",
    413: "body too large",
    415: "unsupported media type",
    422: "not valid",
    429: "too many failures",
    500: "internal error",
    503: "unavailable for now",
}

RETRY_SECONDS = 2


class Problem(Exception):
    """An error that a route answers with. ``extra`` members stand beside the five of the RFC."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **extra: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra


def body(status: int, detail: str, path: str, **extra: object) -> dict[str, object]:
    """Make the problem document."""
    title = TITLES.get(status, "error")
    kind = "urn:scaleahead:" + title.replace(" ", "-")
    line = plain(detail)
    return {"type": kind, "title": title, "status": status, "detail": line, "instance": path, **extra}


def answer(
    request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None, **extra: object
) -> JSONResponse:
    """Answer a request with a problem."""
    content = body(status, detail, plain(request.url.path), **extra)
    return JSONResponse(content, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return answer(request, error.status, error.detail, error.headers, **error.extra)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"there is no route {request.url.path} - see /docs for those there are"
    elif error.status_code == 405:
        detail = f"{request.url.path} does not answer {request.method} - see /docs for what it answers"
    return answer(request, error.status_code, detail, error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"where": place(e["loc"]), "what": plain(str(e["msg"]).removeprefix("Value error, "), 200)}
        for e in error.errors()[:20]
    ]
    first = errors[0] if errors else {"where": "body", "what": "not valid"}
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return answer(request, 422, f"{first['where']}: {first['what']}{more}", errors=errors)


def place(loc: Sequence[Any]) -> str:
    """Name where in a request something stands: ``body.target.place``."""
    return plain(".".join(str(part) for part in loc), 200)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    return answer(request, 422, str(error))


async def _store(request: Request, error: Exception) -> JSONResponse:
    match error:
        case Missing():
            return answer(request, 404, str(error))
        case Conflict() | Stale():
            return answer(request, 409, str(error))
        case Busy():
            return answer(request, 503, str(error), {"Retry-After": str(RETRY_SECONDS)})
        case _:
            structlog.get_logger().error("the store failed", path=plain(request.url.path), error=str(error))
            detail = "the database does not answer as it should - see the daemon's log"
            return answer(request, 503, detail, {"Retry-After": str(RETRY_SECONDS)})


async def _fault(request: Request, error: Exception) -> JSONResponse:
    # The border of a request: one caller's failure must not end the daemon, and must not tell them its insides.
    structlog.get_logger().error("a request failed", path=plain(request.url.path), exc_info=error)
    return answer(request, 500, "the daemon failed on this request - its log says why")


def install(app: FastAPI) -> None:
    """Let an app answer every error as a problem."""
    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[JSONResponse]]] = {
        Problem: _problem,
        HTTPException: _http,
        RequestValidationError: _invalid,
        ReportRefused: _refused,
        StoreError: _store,
        Exception: _fault,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
