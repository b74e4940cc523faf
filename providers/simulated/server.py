"""Edge: a simulated cloud as an HTTP server on loopback: ``python -m providers.simulated.server --config FILE``.

Every method is ``POST /NAME`` with its arguments as a JSON object; the answer is ``{"value": ...}``, or an error's
name and message. ``GET /state`` and ``GET /healthz`` serve a person. A scripted ``AnswerLost`` breaks the connection.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from providers.clock import Clock, ScaledClock, SystemClock
from providers.errors import (
    AnswerLost,
    Invalid,
    NotFound,
    NotPermitted,
    ProviderError,
    Throttled,
    Unavailable,
)
from providers.simulated import config, wire
from providers.simulated.answers import JsonHandler
from providers.simulated.cloud import Cloud, NoIntent

BODY_LIMIT_BYTES = 1024 * 1024
TICK_SECONDS = 0.02
STATUSES: tuple[tuple[type[ProviderError], int], ...] = (
    (Throttled, 429),
    (Unavailable, 503),
    (NotPermitted, 403),
    (Invalid, 400),
    (NotFound, 404),
)

Report = Callable[[], wire.Json]
"""Something more that a person may read: served at ``GET /NAME``."""


class Server:
    """Serves one cloud until closed, and lets time pass over it. ``reports`` are further pages, by name."""

    def __init__(self, cloud: Cloud, port: int = 0, reports: Mapping[str, Report] | None = None) -> None:
        pages = {"healthz": lambda: {"ok": True}, "state": lambda: wire.encode(cloud.state()), **(reports or {})}
        handler = type("BoundHandler", (_Asked,), {"cloud": cloud, "pages": pages, "methods": wire.methods()})
        self._http = _Http(("127.0.0.1", port), handler)
        self._cloud = cloud
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._http.serve_forever, args=(0.05,), name="simulated cloud", daemon=True),
            threading.Thread(target=self._pass_time, name="simulated time", daemon=True),
        ]
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> None:
        """Begin to serve, in threads of its own."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop serving and free the port."""
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        for thread in self._threads:
            thread.join()

    def _pass_time(self) -> None:
        while not self._closing.wait(TICK_SECONDS):
            self._cloud.tick()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a client that went away go; anything else is told on stderr."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Asked(JsonHandler):
    """One request. The class attributes are set by ``Server``."""

    cloud: Cloud
    pages: Mapping[str, Report]
    methods: Mapping[str, wire.Method]
    timeout = 30

    def do_GET(self) -> None:
        """Serve a page for a person."""
        page = self.pages.get(self.path.strip("/"))
        if page is None:
            self.answer(404, {"error": "NotFound", "message": f"there is no page {self.path}"})
        elif self._is_local():
            self.answer(200, page())

    def do_POST(self) -> None:
        """Call a method."""
        if not self._is_local():
            return
        try:
            value = self._call(self.path.strip("/"))
        except AnswerLost:
            self.close_connection = True
        except NoIntent as error:
            self.answer(400, {"error": "Invalid", "message": f"no committed intent: {error}"})
        except ProviderError as error:
            status = next((status for kind, status in STATUSES if isinstance(error, kind)), 409)
            self.answer(status, {"error": type(error).__name__, "message": str(error)})
        else:
            self.answer(200, {"value": value})

    def _call(self, name: str) -> wire.Json:
        if name not in self.methods:
            raise NotFound(f"there is no method {name!r} - there are {', '.join(self.methods)}")
        method = self.methods[name]
        given = self._body()
        if set(given) != set(method.takes):
            raise Invalid(f"{name} takes {', '.join(method.takes) or 'nothing'}, not {', '.join(given) or 'nothing'}")
        arguments = {key: wire.decode(kind, given[key], key) for key, kind in method.takes.items()}
        return wire.encode(getattr(self.cloud, name)(**arguments))

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > BODY_LIMIT_BYTES:
            self.close_connection = True
            raise Invalid(f"a request has a length of at most {BODY_LIMIT_BYTES} bytes")
        try:
            body = json.loads(self.rfile.read(int(length)) or b"{}")
        except ValueError as error:
            raise Invalid(f"the request is no JSON: {error}") from error
        if not isinstance(body, dict):
            raise Invalid("the request must be a JSON object of the method's arguments")
        return body

    def _is_local(self) -> bool:
        """Refuse what a web page could send: another host name, or a body that is not declared as JSON."""
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        plain = self.command == "POST" and self.headers.get("Content-Type") != "application/json"
        if host not in ("127.0.0.1", "localhost") or plain:
            self.close_connection = True
            self.answer(403, {"error": "NotPermitted", "message": "ask 127.0.0.1, with Content-Type application/json"})
            return False
        return True


def clock_of(options: dict[str, Any]) -> Clock:
    """Take ``rate`` and ``origin`` out of a configuration and make its clock; without them that of this host.

    ``origin`` is in real seconds since the epoch; without one the scaled clock begins now. Raises ``Invalid``.
    """
    rate = wire.decode(float | None, options.pop("rate", None), "rate")
    origin = wire.decode(float | None, options.pop("origin", None), "origin")
    if rate is None:
        return SystemClock()
    if not rate > 0:
        raise Invalid(f"rate must be above 0, not {rate:g}")
    return ScaledClock(rate, time.time() if origin is None else origin)


def main(arguments: list[str] | None = None) -> int:
    """Serve a cloud from its configuration file until interrupted; the first line printed is its address."""
    parser = argparse.ArgumentParser(prog="python -m providers.simulated.server", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="a JSON file: a Setup, with rate and origin")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    given = parser.parse_args(arguments)
    try:
        options = json.loads(given.config.read_text())
        clock = clock_of(options)
        cloud = config.build("simulated", config.read(options), clock)
    except (OSError, ValueError, Invalid) as error:
        sys.stderr.write(f"simulated cloud: {given.config}: {error}\n")
        return 2
    server = Server(cloud, given.port)
    server.start()
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        server.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
