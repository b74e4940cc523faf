"""Edge: how many calls an account may still make: a token bucket an API, shared by all that use it.

Clouds count calls by account, place and API; a storm of refusals makes them refuse more. So a call that has no token is
not sent, and a refusal by the cloud itself closes its API for a while, doubling.
"""

import threading
from dataclasses import dataclass

from providers.clock import Clock
from providers.errors import Throttled

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 120.0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float
    pause: float = 0.0
    closed_until: float = 0.0


class Budget:
    """Token buckets by name of an API. ``per_second`` tokens come back, up to ``burst``. Safe for threads."""

    def __init__(self, clock: Clock, per_second: float = 10.0, burst: float = 40.0) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = burst
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def spend(self, api: str) -> None:
        """Take a token. Raises ``Throttled``, with nothing sent, where there is none."""
        with self._lock:
            now = self._clock.monotonic()
            bucket = self._buckets.setdefault(api, _Bucket(self._burst, now))
            bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._per_second)
            bucket.at = now
            if now < bucket.closed_until:
                raise Throttled(
                    f"{api} is closed for {bucket.closed_until - now:.0f} s more: the cloud refused it before"
                )
            if bucket.tokens < 1.0:
                raise Throttled(f"{api} was called too often - nothing was sent")
            bucket.tokens -= 1.0

    def refused(self, api: str) -> None:
        """Note that the cloud itself throttled an API: it stays closed, twice as long each time."""
        with self._lock:
            now = self._clock.monotonic()
            bucket = self._buckets.setdefault(api, _Bucket(self._burst, now))
            bucket.pause = min(max(2 * bucket.pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
            bucket.closed_until = now + bucket.pause

    def answered(self, api: str) -> None:
        """Note that an API works again."""
        with self._lock:
            bucket = self._buckets.get(api)
            if bucket is not None:
                bucket.pause = 0.0
