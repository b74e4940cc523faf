"""The metadata services of EC2 (version 2, token asked for) and Compute Engine, over HTTP, as strict as theirs."""
# ruff: noqa: ANN001, ANN002 - shipped beside the client; these types say nothing a reader needs

import contextlib
import json
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Metadata:
    """One machine's service. ``reclaim(at)`` gives the notice."""

    def __init__(self) -> None:
        self.ends, self.asked, self.refused = None, 0, 0
        self.tokens = set()
        self.changed = threading.Condition()

        given = type("Answer", (_Answer,), {"service": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), given)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def reclaim(self, at=None):
        """Give notice; on EC2 it names when the machine goes."""
        with self.changed:
            self.ends = time.time() + 30 if at is None else at
            self.changed.notify_all()

    def tag(self):
        """Give what tells this answer of Compute Engine's from others."""
        return str(self.ends or 0)

    def close(self):
        """Stop, letting go of whoever waits."""
        self.reclaim()
        self.server.shutdown()
        self.server.server_close()


class _Answer(BaseHTTPRequestHandler):
    service: Metadata

    def do_PUT(self):
        ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token" or not ttl.isdigit() or not 1 <= int(ttl) <= 21600:
            return self.say(400)
        self.service.tokens.add(f"token-{len(self.service.tokens)}")
        return self.say(200, f"token-{len(self.service.tokens) - 1}")

    def do_GET(self):
        self.service.asked += 1
        if self.path == "/latest/meta-data/spot/instance-action":
            return self.ec2()
        if urlsplit(self.path).path == "/computeMetadata/v1/instance/preempted":
            return self.gce()
        return self.say(404)

    def ec2(self):
        if self.headers.get("X-aws-ec2-metadata-token") not in self.service.tokens:
            self.service.refused += 1
            return self.say(401)
        if self.service.ends is None:
            return self.say(404)
        moment = datetime.fromtimestamp(self.service.ends, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: UP017
        return self.say(200, json.dumps({"action": "terminate", "time": moment}))

    def gce(self):
        if self.headers.get("Metadata-Flavor") != "Google":
            self.service.refused += 1
            return self.say(403)
        wanted = parse_qs(urlsplit(self.path).query)
        if wanted.get("wait_for_change") == ["true"]:
            with self.service.changed:
                last = wanted["last_etag"][0]
                self.service.changed.wait_for(lambda: self.service.tag() != last, float(wanted["timeout_sec"][0]))
        return self.say(200, "FALSE" if self.service.ends is None else "TRUE", self.service.tag())

    def say(self, status, text="", tag=None):
        with contextlib.suppress(OSError):
            self.send_response(status)
            if tag is not None:
                self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

    def log_message(self, *given):
        pass
