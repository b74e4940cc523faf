"""Values: time as an argument. Everything that asks for the time asks one of these.

``ScaledClock`` lets the demonstration run an hour in a minute; ``VirtualClock`` lets replay and tests own the time.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall time for records, a monotonic second count for intervals, and how long a wait is in real seconds."""

    def now(self) -> datetime:
        """Wall time in UTC. It may jump; never subtract two of these to measure a duration that matters."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def real_seconds(self, seconds: float) -> float:
        """Real seconds that these seconds last, for a sleep."""


class SystemClock:
    """The time of this host."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def real_seconds(self, seconds: float) -> float:
        return seconds


class ScaledClock:
    """A clock that runs ``rate`` times as fast as the host's from ``origin`` on.

    Processes that share ``origin`` (real wall seconds since the epoch) and ``rate`` read the same time.
    """

    def __init__(self, rate: float, origin: float) -> None:
        if not rate > 0:
            raise ValueError(f"the rate of a clock must be above 0, not {rate}")
        self.rate = rate
        self.origin = origin

    def now(self) -> datetime:
        elapsed = (time.time() - self.origin) * self.rate
        return datetime.fromtimestamp(self.origin, UTC) + timedelta(seconds=elapsed)

    def monotonic(self) -> float:
        return time.monotonic() * self.rate

    def real_seconds(self, seconds: float) -> float:
        return seconds / self.rate


class VirtualClock:
    """A clock that stands still until it is told to advance."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._elapsed = 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    def real_seconds(self, seconds: float) -> float:
        return 0.0

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass. Raises ``ValueError`` for a negative count."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._elapsed += seconds
