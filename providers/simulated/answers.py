"""Edge: a JSON answer over HTTP, written so that it arrives at once."""

import json
from http.server import BaseHTTPRequestHandler
from typing import Any


class JsonHandler(BaseHTTPRequestHandler):
    """A request whose answer is JSON, on a connection that stays open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits for a delayed acknowledgement

    def answer(self, status: int, value: Any) -> None:
        """Write the answer. Raises ``ValueError`` for a NaN: it is no JSON."""
        data = json.dumps(value, allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a cloud keeps its own records."""
