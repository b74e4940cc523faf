"""Pure decisions: which hooks to ask now. Time is an argument; nothing here waits.

Every job rests, waits for a seat, or is in flight. Starts are paced by a token bucket a little above the normal rate of
all jobs together, so that after an outage of all of them the recovery is no rush. A host has few seats, so that one
that hangs holds up its own jobs only.
"""

import heapq
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Literal

PACE = 1.12
BURST_SECONDS = 0.05
LEAST_BURST = 8.0


@dataclass(slots=True)
class _Seat:
    host: str
    interval: float
    due: float
    turn: int
    state: Literal["resting", "waiting", "flying"] = "resting"
    failures: int = 0
    started: float = 0.0
    hastened: bool = False


class Cadence:
    """The order in which jobs are asked. Not thread-safe; all times are seconds of one monotonic clock."""

    def __init__(
        self, chance: Random, per_host: int = 2, in_flight: int = 256, jitter: float = 0.1, longest: float = 4.0
    ) -> None:
        self._chance = chance
        self._per_host = per_host
        self._in_flight = in_flight
        self._jitter = jitter
        self._longest = longest
        self._seats: dict[str, _Seat] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._ready: deque[tuple[str, int]] = deque()
        self._urgent: deque[tuple[str, int]] = deque()
        self._held: dict[str, deque[tuple[str, int, bool]]] = {}
        self._flying: dict[str, int] = {}
        self._airborne = 0
        self._turns = 0
        self._rate = 0.0
        self._tokens = LEAST_BURST
        self._filled_at: float | None = None

    def __len__(self) -> int:
        return len(self._seats)

    def add(self, job: str, host: str, interval: float, now: float) -> None:
        """Ask a job from now on, every ``interval`` seconds, jittered. One that is there is given the new values."""
        known = self._seats.get(job)
        if known is not None:
            if (known.host, known.interval) == (host, interval):
                return
            self.remove(job)
        self._rate += 1 / interval
        self._seats[job] = _Seat(host, interval, now, self._next_turn())
        self._push(job)

    def remove(self, job: str) -> None:
        """Ask a job no more. One in flight is forgotten when it lands."""
        seat = self._seats.pop(job, None)
        if seat is None:
            return
        self._rate = max(self._rate - 1 / seat.interval, 0.0) if self._seats else 0.0
        if seat.state == "flying":
            self._land(seat.host)

    def hasten(self, job: str, now: float) -> None:
        """Ask a job next, without regard to the pace. One in flight is asked again when it lands."""
        seat = self._seats.get(job)
        if seat is None or seat.hastened:
            return
        seat.hastened = True
        if seat.state != "flying":
            seat.turn = self._next_turn()
            seat.state = "waiting"
            self._urgent.append((job, seat.turn))

    def starts(self, now: float) -> list[tuple[str, int]]:
        """Take the jobs to ask now, each with the number of this turn, to be handed back to ``landed``."""
        while self._heap and self._heap[0][0] <= now:
            _, turn, job = heapq.heappop(self._heap)
            seat = self._seats.get(job)
            if seat is not None and seat.turn == turn and seat.state == "resting":
                seat.state = "waiting"
                self._ready.append((job, turn))
        self._fill(now)
        started: list[tuple[str, int]] = []
        self._drain(self._urgent, now, True, started)
        self._drain(self._ready, now, False, started)
        return started

    def landed(self, job: str, turn: int, ok: bool, now: float) -> bool:
        """Note the end of a turn; say whether something may now be to start sooner than ``wait`` said."""
        seat = self._seats.get(job)
        if seat is not None and seat.turn == turn and seat.state == "flying":
            self._land(seat.host)
            seat.failures = 0 if ok else seat.failures + 1
            seat.due = max(now, seat.started + self._gap(seat))
            seat.state, seat.turn = "resting", self._next_turn()
            if seat.hastened:
                seat.hastened = False
                self.hasten(job, now)
            else:
                self._push(job)
        return bool(self._urgent or self._ready or (self._heap and self._heap[0][2] == job))

    def wait(self, now: float) -> float | None:
        """Tell how many seconds may pass until there is something to start; ``None``: until something changes."""
        if self._airborne >= self._in_flight:
            return None
        if self._urgent:
            return 0.0
        waits: list[float] = []
        if self._ready and self._rate > 0:
            waits.append((1 - self._tokens) / self._rate / PACE)
        if self._heap:
            waits.append(self._heap[0][0] - now)
        return max(min(waits), 0.0) if waits else None

    def _drain(self, queue: deque[tuple[str, int]], now: float, urgent: bool, started: list[tuple[str, int]]) -> None:
        while queue and self._airborne < self._in_flight:
            job, turn = queue[0]
            seat = self._seats.get(job)
            if seat is None or seat.turn != turn or seat.state != "waiting":
                queue.popleft()
                continue
            if self._flying.get(seat.host, 0) >= self._per_host:
                queue.popleft()
                self._held.setdefault(seat.host, deque()).append((job, turn, urgent))
                continue
            if not urgent and self._tokens < 1:
                return
            queue.popleft()
            if not urgent:
                self._tokens -= 1
            self._airborne += 1
            self._flying[seat.host] = self._flying.get(seat.host, 0) + 1
            seat.state, seat.started, seat.hastened = "flying", now, False
            started.append((job, turn))

    def _land(self, host: str) -> None:
        """Free a seat; the next job held for this host goes back to the head of its queue."""
        self._airborne -= 1
        left = self._flying[host] - 1
        if left:
            self._flying[host] = left
        else:
            del self._flying[host]
        held = self._held.get(host)
        while held:
            job, turn, urgent = held.popleft()
            seat = self._seats.get(job)
            if seat is not None and seat.turn == turn and seat.state == "waiting":
                (self._urgent if urgent else self._ready).appendleft((job, turn))
                break
        if not held:
            self._held.pop(host, None)

    def _gap(self, seat: _Seat) -> float:
        """Seconds from one start to the next: from the second failure in a row on they double, up to a limit."""
        back_off = min(2.0 ** max(min(seat.failures, 16) - 1, 0), self._longest)
        return seat.interval * back_off * self._chance.uniform(1 - self._jitter, 1 + self._jitter)

    def _fill(self, now: float) -> None:
        rate = self._rate * PACE
        passed = 0.0 if self._filled_at is None else now - self._filled_at
        self._filled_at = now
        self._tokens = min(self._tokens + passed * rate, max(LEAST_BURST, rate * BURST_SECONDS))

    def _push(self, job: str) -> None:
        seat = self._seats[job]
        heapq.heappush(self._heap, (seat.due, seat.turn, job))

    def _next_turn(self) -> int:
        self._turns += 1
        return self._turns
