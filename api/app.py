"""Edge: the FastAPI app: routes, error answers, limits, security headers, figures, and the dashboard's files."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.answers import Problems
from api.auth import Failures
from api.deps import Services
from api.routes import decisions, events, fleet, health, jobs, policies, stateless, telemetry, tokens

DASHBOARD = Path(__file__).parent / "dashboard"

BODY_BYTES = 1024 * 1024
REPORT_BYTES = 64 * 1024

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

OPEN = frozenset({"/healthz", "/readyz"})
"""The described routes that need no token."""


def create_app(given: Services, registry: CollectorRegistry | None = None) -> FastAPI:
    """Make the app over its services. ``registry`` may already hold the daemon's own figures."""
    app = FastAPI(
        title="Scaleahead",
        version=given.version,
        summary="Forecasts training jobs and moves them to the right machine before the need arrives.",
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = given
    app.state.failures = Failures(given.clock.monotonic)
    app.state.registry = registry or CollectorRegistry(auto_describe=False)
    app.state.registry.register(health.Standing(given))
    problems.install(app)
    for module in (jobs, telemetry, decisions, stateless, policies, fleet, events, tokens, health):
        app.include_router(module.router)
    _pages(app)
    app.add_middleware(Border, registry=app.state.registry)
    app.openapi = lambda: described(app)  # type: ignore[method-assign]  # the way FastAPI documents for this
    return app


def _pages(app: FastAPI) -> None:
    def index() -> FileResponse:
        return FileResponse(DASHBOARD / "index.html", headers={"Cache-Control": "no-cache"})

    def reference() -> FileResponse:
        return FileResponse(DASHBOARD / "docs.html", headers={"Cache-Control": "no-cache"})

    app.add_api_route("/", index, include_in_schema=False)
    app.add_api_route("/docs", reference, include_in_schema=False)
    app.mount("/dashboard", StaticFiles(directory=DASHBOARD), name="dashboard")


class Border:
    """The outermost layer: limits bodies, sets security headers, counts requests."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        labels = ["method", "route", "status"]
        self._count = Counter("scaleahead_requests", "Requests answered.", labels, registry=registry)
        self._seconds = Histogram("scaleahead_request_seconds", "Seconds to answer.", ["route"], registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if scope["path"].startswith("/v1/"):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        try:
            await self._limited(scope, receive, guarded)
        finally:
            found = scope.get("route")
            route = getattr(found, "path", None) or "other"
            method = scope["method"] if scope["method"] in ("GET", "POST", "PUT", "PATCH", "DELETE") else "other"
            self._count.labels(method, route, str(status)).inc()
            if route != "/v1/events":
                self._seconds.labels(route).observe(time.perf_counter() - began)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = REPORT_BYTES if scope["path"].endswith("/observations") else BODY_BYTES
        detail = f"the body is larger than {most // 1024} KiB - send it in smaller parts"
        claimed = Headers(scope=scope).get("content-length", "0")
        if not claimed.isdigit() or int(claimed) > most:
            answer = problems.answer(Request(scope), 413, detail, {"Connection": "close"})
            await answer(scope, receive, send)
            return
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > most:
                raise HTTPException(413, detail, {"Connection": "close"})
            return message

        await self._app(scope, counted, send)


def described(app: FastAPI) -> dict[str, Any]:
    """Describe the API (OpenAPI 3.1): FastAPI's own description, with our problems and tokens put in."""
    if app.openapi_schema:
        return app.openapi_schema
    schema = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes, openapi_version="3.1.0"
    )
    parts = schema.setdefault("components", {})
    shapes = parts.setdefault("schemas", {})
    shapes["Problems"] = Problems.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        shapes.pop(unused, None)
    parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            _describe(path, operation)
    app.openapi_schema = schema
    return schema


def _describe(path: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    for found in answers.values():
        stream = found.get("content", {}).get("text/event-stream", {})
        stream.pop("itemSchema", None)  # FastAPI writes this word of OpenAPI 3.2 into 3.1 as well
    statuses = {503: "unavailable for now"}
    if path not in OPEN:
        operation["security"] = [{"token": []}]
        statuses |= {401: "no valid token", 403: "the token lacks the scope", 429: "too many refused tokens"}
    statuses |= {404: "no such thing", 409: "in conflict with what is", 413: "body too large", 422: "not valid"}
    statuses |= {400: "malformed request"}
    for status, text in statuses.items():
        answers[str(status)] = _problem(text)


def _problem(text: str) -> Mapping[str, Any]:
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problems"}}}
    return {"description": text, "content": content}
