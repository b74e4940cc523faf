"""Edge: a spot machine's own notice of its end, seen on the node and turned into the handshake of a move.

EC2: instance metadata service version 2, ``spot/instance-action``, looked at every two seconds (AWS asks for at most
five). Google Compute Engine: ``instance/preempted?wait_for_change=true``, which answers when it changes.
"""

import json
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Literal, Protocol

from scaleahead.checkpoint import Request

log = logging.getLogger("scaleahead")

EC2_URL = "http://169.254.169.254"
GCE_URL = "http://metadata.google.internal"
TOKEN_SECONDS = 21600
LOOK_SECONDS = 2.0
GCE_WAIT_SECONDS = 60
GCE_NOTICE_SECONDS = 30.0
MOST_BYTES = 4096
Cloud = Literal["aws", "gcp"]


class Asked(Protocol):
    """What is asked for a checkpoint: a ``Reporter``."""

    def prepare(self, request: Request) -> bool:
        """Take a request for a checkpoint; False if there is nothing left to save."""


class Notices:
    """Watches one cloud's metadata service in a thread of its own and asks ``run`` for a checkpoint, once.

    ``url`` replaces the address that ``service`` gives; ``wall`` gives seconds since 1970. A service that does not
    answer is asked again, for ever: training never hears of it. ``close`` ends it within a few seconds.
    """

    def __init__(
        self,
        run: Asked,
        cloud: Cloud,
        *,
        url: str | None = None,
        wall: Callable[[], float] = time.time,
        every_seconds: float = LOOK_SECONDS,
    ) -> None:
        if cloud not in ("aws", "gcp"):
            raise ValueError(f"cloud is {cloud!r} - it must be aws or gcp")
        self._run, self._cloud, self._wall, self._every_seconds = run, cloud, wall, every_seconds
        self._url = (url or service(cloud, os.environ)).rstrip("/")
        # The metadata service is this machine's own: never by way of a proxy.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._closing = threading.Event()
        self._token, self._tag = "", ""
        self.seen: Request | None = None

    def start(self) -> "Notices":
        """Begin to watch, in a thread that ends with the process."""
        threading.Thread(target=self._watch, name="scaleahead-notice", daemon=True).start()
        return self

    def close(self) -> None:
        """Stop watching."""
        self._closing.set()

    def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                request = self._ec2() if self._cloud == "aws" else self._gce()
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                log.debug("the metadata service did not answer: %r", error)
                request = None
            if request is not None:
                self.seen = request
                log.warning("%s: a checkpoint is asked for", request.reason)
                self._run.prepare(request)
                return
            self._closing.wait(self._every_seconds)

    def _ec2(self) -> Request | None:
        """Look once; an old token is renewed at the next look."""
        if not self._token:
            asked = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            self._token = self._read("/latest/api/token", asked, "PUT")
        try:
            said = self._read("/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": self._token})
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 401:
                self._token = ""
            return None
        action = json.loads(said)
        ends = datetime.fromisoformat(action["time"].replace("Z", "+00:00"))
        ends = ends.replace(tzinfo=ends.tzinfo or timezone.utc)  # noqa: UP017 - Python 3.10
        name = f"spot notice {action['action']} {action['time']}"[:200]
        return Request(name, ends.timestamp(), f"EC2 says {action['action']} at {action['time']}"[:200])

    def _gce(self) -> Request | None:
        """Ask until the answer differs from the last one: by its tag, so that no change falls between two questions."""
        path = "/computeMetadata/v1/instance/preempted"
        if self._tag:
            path += f"?wait_for_change=true&timeout_sec={GCE_WAIT_SECONDS}&last_etag={self._tag}"
        if self._read(path, {"Metadata-Flavor": "Google"}) != "TRUE":
            return None
        return Request("preempted", self._wall() + GCE_NOTICE_SECONDS, "Compute Engine says that it is preempted")

    def _read(self, path: str, headers: dict[str, str], method: str = "GET") -> str:
        asked = urllib.request.Request(self._url + path, headers=headers, method=method)
        with self._open(asked, timeout=GCE_WAIT_SECONDS + 10 if "wait_for_change" in path else 2) as reply:
            self._tag = reply.headers.get("ETag") or ""
            return str(reply.read(MOST_BYTES).decode("utf-8", "replace")).strip()


def service(cloud: Cloud, environ: Mapping[str, str]) -> str:
    """Give the metadata service's address: the one that the cloud's own libraries are told of, else the usual."""
    if cloud == "aws":
        return environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or EC2_URL
    host = environ.get("GCE_METADATA_HOST")
    return f"http://{host}" if host else GCE_URL
