"""Edge: the other ranks of a job: each tells rank 0's hook what it uses, and rank 0 makes one usage of all."""

import json
import logging
import math
import os
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from scaleahead.checkpoint import Request

log = logging.getLogger("scaleahead")

TELL_SECONDS = 2.0
STALE_SECONDS = 30.0
MOST_RANKS = 4096
SUMMED = ("memory_gib", "cpu_cores", "disk_mbps")
"""What the ranks of one node add up to; of all else a node shows its highest."""


class Peers:
    """What rank 0 has heard of the other ranks."""

    def __init__(self, node: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._node, self._clock = node, clock
        self._heard: dict[int, tuple[float, int, dict[str, float]]] = {}

    def hear(self, said: Any) -> None:
        """Take one rank's word. Raises ``ValueError`` with what is wrong."""
        if not isinstance(said, dict) or not isinstance(said.get("usage"), dict):
            raise ValueError("the body must be a JSON object with rank, node and usage")
        rank, node = said.get("rank"), said.get("node")
        if type(rank) is not int or type(node) is not int or not 0 < rank < MOST_RANKS or not 0 <= node < MOST_RANKS:
            raise ValueError(f"rank and node must be whole numbers below {MOST_RANKS}")
        numbers = {str(n): float(v) for n, v in list(said["usage"].items())[:16] if type(v) in (int, float)}
        self._heard[rank] = self._clock(), node, {n: v for n, v in numbers.items() if math.isfinite(v)}

    def joined(self, own: Mapping[str, float]) -> dict[str, float]:
        """Give the usage of the fullest node: machines of a group are alike, so the fullest must fit. GPUs by mean use.

        A rank that has not been heard of for 30 seconds is left out.
        """
        if not self._heard or not own:
            return dict(own)
        since = self._clock() - STALE_SECONDS
        said = [(self._node, dict(own))]
        said += [(node, usage) for at, node, usage in list(self._heard.values()) if at >= since]
        nodes: dict[int, dict[str, float]] = {}
        for node, usage in said:
            seen = nodes.setdefault(node, {})
            for name, value in usage.items():
                before = seen.get(name, 0.0)
                seen[name] = before + value if name in SUMMED else max(before, value)
        fullest = {name: max(seen.get(name, 0.0) for seen in nodes.values()) for name in own}
        shares = [usage["gpu_util"] for _, usage in said if "gpu_util" in usage]
        return {**fullest, "gpu_util": sum(shares) / len(shares)} if shares else fullest


class Teller:
    """Tells rank 0's hook, in a thread, what this rank uses; hands a spot notice of this node on to it."""

    def __init__(self, url: str, token: str | None, usage: Callable[[], Mapping[str, float]]) -> None:
        self._url, self._usage = url, usage
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        self._open = opener(os.environ.get("SCALEAHEAD_HOOK_CA"))
        self._closing = threading.Event()

    def start(self) -> "Teller":
        """Begin to tell, in a thread that ends with the process."""
        threading.Thread(target=self._tell, name="scaleahead-teller", daemon=True).start()
        return self

    def close(self) -> None:
        """Stop telling."""
        self._closing.set()

    def prepare(self, request: Request) -> bool:
        """Ask rank 0 for a checkpoint, again and again until it has heard."""
        while not self._post("prepare", asdict(request)) and not self._closing.wait(0.5):
            pass
        return True

    def _tell(self) -> None:
        environ = os.environ
        while not self._closing.wait(TELL_SECONDS):
            said = {"rank": int(environ["RANK"]), "node": int(environ.get("GROUP_RANK", "0"))}
            self._post("usage", {**said, "usage": dict(self._usage())})

    def _post(self, verb: str, body: Mapping[str, Any]) -> bool:
        try:
            asked = urllib.request.Request(f"{self._url}/{verb}", json.dumps(body).encode(), self._headers)
            self._open(asked, timeout=5).close()
            return True
        except (OSError, ValueError) as error:
            log.debug("rank 0 did not hear: %r", error)
            return False


def opener(ca: str | None) -> Callable[..., Any]:
    """Give what opens a hook's address, never by way of a proxy. ``ca`` is a file of more certificates to trust."""
    trust = ssl.create_default_context()
    if ca:
        trust.load_verify_locations(ca)
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
    return urllib.request.build_opener(*handlers).open


def rank0_url(port: int | None) -> str | None:
    """Give the hook of rank 0 where torchrun says who that is; ``None`` where nobody can know."""
    host = os.environ.get("MASTER_ADDR")
    scheme = "https" if os.environ.get("SCALEAHEAD_HOOK_CERT") else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}" if host and port else None
