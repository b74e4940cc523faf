"""Edge: the hook that the daemon polls. Few routes, loopback by default, a bearer token, TLS, small requests only."""

import contextlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from scaleahead.checkpoint import Request, read_request

MOST_REQUEST_BYTES = 16 * 1024
MOST_CONNECTIONS = 16
SECONDS_A_READ = 5.0
ROOTS = ("", "/observations")


class Run(Protocol):
    """What the hook speaks for."""

    def body(self, after: int) -> bytes:
        """Write the reply to ``GET ?after=``."""

    def prepare(self, request: Request) -> bool:
        """Take a request for a checkpoint; False if there is nothing left to save."""

    def proceed(self) -> None:
        """Let the run go on."""

    def hear(self, said: Any) -> None:
        """Take what another rank uses. Raises ``ValueError`` with what is wrong."""


class _Server(ThreadingHTTPServer):
    """One thread a connection, at most ``MOST_CONNECTIONS`` at once; the rest are closed at once."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(
        self, address: tuple[str, int], make: Callable[..., BaseHTTPRequestHandler], tls: ssl.SSLContext | None
    ) -> None:
        self._tls = tls
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, make)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._tls is None:
            return super().finish_request(request, client_address)
        # In the connection's own thread, and no longer than any other read: nobody else waits for it.
        request.settimeout(SECONDS_A_READ)
        with self._tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is no business of the training's output."""


class Hook:
    """Serves one run from a thread of its own, over TLS where ``certificate`` and ``key`` (PEM files) are given.

    Raises ``OSError`` if the port is taken, or a file cannot be read or is not what it should be.
    """

    def __init__(
        self,
        run: Run,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
    ) -> None:
        tls = None
        if certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificate, key)

        def make(*given: Any) -> BaseHTTPRequestHandler:
            return _Answer(run, token, *given)

        self._server = _Server((host, port), make, tls)
        self.port: int = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.2,), name="scaleahead-hook", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def forget(self) -> None:
        """Close the socket only: for a forked child, which must not keep the port."""
        self._server.socket.close()


class _Answer(BaseHTTPRequestHandler):
    timeout = SECONDS_A_READ
    server_version = "scaleahead"
    sys_version = ""

    def __init__(self, run: Run, token: str | None, *given: Any) -> None:
        self._run, self._token = run, token
        super().__init__(*given)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path.rstrip("/") not in ROOTS:
            return self._say(HTTPStatus.NOT_FOUND, "no such route")
        if not self._known():
            return self._say(HTTPStatus.UNAUTHORIZED, "a bearer token is needed")
        text = parse_qs(parts.query).get("after", ["-1"])[-1]
        try:
            after = int(text) if len(text) <= 20 else None
        except ValueError:
            after = None
        if after is None:
            return self._say(HTTPStatus.BAD_REQUEST, "after must be a whole number")
        return self._send(HTTPStatus.OK, self._run.body(after))

    def do_POST(self) -> None:
        path, _, verb = urlsplit(self.path).path.rstrip("/").rpartition("/")
        if path not in ROOTS or verb not in ("prepare", "proceed", "usage"):
            return self._say(HTTPStatus.NOT_FOUND, "no such route")
        if not self._known():
            return self._say(HTTPStatus.UNAUTHORIZED, "a bearer token is needed")
        length = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding") or not length.isdigit():
            return self._say(HTTPStatus.LENGTH_REQUIRED, "Content-Length is needed")
        if int(length) > MOST_REQUEST_BYTES:
            return self._say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MOST_REQUEST_BYTES} bytes")
        body = self.rfile.read(int(length))
        if verb == "proceed":
            self._run.proceed()
            return self._say(HTTPStatus.ACCEPTED, "")
        try:
            if verb == "usage":
                self._run.hear(json.loads(body))
                return self._say(HTTPStatus.ACCEPTED, "")
            request = read_request(json.loads(body))
        except (ValueError, RecursionError) as error:
            return self._say(HTTPStatus.BAD_REQUEST, str(error))
        if not self._run.prepare(request):
            return self._say(HTTPStatus.CONFLICT, "the run is done")
        return self._say(HTTPStatus.ACCEPTED, "")

    def _known(self) -> bool:
        if self._token is None:
            return True
        given = self.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {self._token}".encode())

    def _say(self, status: HTTPStatus, error: str) -> None:
        self._send(status, json.dumps({"error": error} if error else {"accepted": True}).encode())

    def _send(self, status: HTTPStatus, body: bytes) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Connection", "close")
            if status == HTTPStatus.UNAUTHORIZED:
                self.send_header("WWW-Authenticate", "Bearer")
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: standard error belongs to the training."""
