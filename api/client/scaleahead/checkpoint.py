"""Values: the handshake before a move. Asked for (prepare), saved, held in ``ready``, let go (proceed)."""

import datetime
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["training", "checkpointing", "ready", "done", "diverged"]
Release = Literal["proceed", "expired", "nothing"]

LONGEST_HOLD_SECONDS = 3600.0
GRACE_SECONDS = 30.0
LOOK_SECONDS = 0.2
"""How often a hold looks at the wall clock, which may run at another rate than the host's."""


@dataclass(frozen=True, slots=True)
class Request:
    """A checkpoint that the daemon asked for. ``deadline`` is seconds since 1970, ``None`` if it named none.

    ``advice`` names hyperparameters that would serve the run better where it goes, such as ``batch_size``; it may go by
    them when it comes back, and need not.
    """

    decision: str
    deadline: float | None = None
    reason: str = ""
    advice: Mapping[str, float] = field(default_factory=dict)


def read_request(body: Any) -> Request:
    """Read the body of ``prepare``. Raises ``ValueError`` with what is wrong."""
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    decision, reason = body.get("decision"), body.get("reason", "")
    if not isinstance(decision, str) or not 0 < len(decision) <= 200:
        raise ValueError("decision must be a string of at most 200 characters")
    words = reason[:500] if isinstance(reason, str) else ""
    return Request(decision, _moment(body.get("deadline")), words, _numbers(body.get("advice")))


def _numbers(value: Any) -> dict[str, float]:
    """Keep the finite numbers of a mapping: advice that cannot be read is no advice."""
    if not isinstance(value, dict):
        return {}
    kept = {n: v for n, v in list(value.items())[:64] if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return {str(name): float(number) for name, number in kept.items() if math.isfinite(number)}


def _moment(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        moment = datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        raise ValueError("deadline must be an RFC 3339 time or seconds since 1970") from None
    return moment.replace(tzinfo=moment.tzinfo or datetime.timezone.utc).timestamp()  # noqa: UP017 - Python 3.10


class Handshake:
    """Where a run stands with a request for a checkpoint. Safe to use from training and from the hook at once.

    ``training`` -> (prepare) ``checkpointing`` -> (saved) ``ready`` -> (proceed, or the deadline) ``training``.
    A checkpoint answers a request only if it was begun after it: the loop has seen the request, or steps have passed.
    """

    def __init__(self, wall: Callable[[], float] = time.time, grace_seconds: float = GRACE_SECONDS) -> None:
        self.pending: Request | None = None
        self.checkpoint: dict[str, Any] | None = None
        self.failures = 0
        self._wall = wall
        self._grace_seconds = grace_seconds
        self._changed = threading.Condition()
        self._state: State = "training"
        self._seen = False
        self._asked_at_step = -1

    @property
    def state(self) -> State:
        """Give ``training``, ``checkpointing``, ``ready`` or ``done``."""
        return self._state

    def prepare(self, request: Request, step: int) -> bool:
        """Ask for a checkpoint; the same decision again changes nothing. False if the run is done."""
        with self._changed:
            if self._state == "done":
                return False
            if self.pending is not None and self.pending.decision == request.decision:
                return True
            self.pending, self._seen, self._asked_at_step = request, False, step
            self._state = "checkpointing"
            return True

    def due(self) -> Request | None:
        """Give the request that no checkpoint has answered yet; the loop calls it once a step."""
        request = self.pending
        if request is None or self._state != "checkpointing":
            return None
        self._seen = True
        return request

    def saved(self, id: str, step: int, uri: str | None, seconds: float | None) -> str:
        """Take note of a checkpoint and give the id it goes by: one that was used already gets a suffix."""
        with self._changed:
            if self.checkpoint is not None and self.checkpoint["id"] == id:
                id = f"{id}+"
            entry = {"id": id, "step": step, "seconds": seconds, "uri": uri}
            self.checkpoint = {name: value for name, value in entry.items() if value is not None}
            if self._state == "checkpointing" and (self._seen or step > self._asked_at_step):
                self._state = "ready"
            return id

    def failed(self) -> None:
        """Drop the request that could not be answered; the daemon sees no checkpoint and may ask again."""
        with self._changed:
            self.failures += 1
            self._release()

    def proceed(self) -> None:
        """Let the run go on."""
        with self._changed:
            self._release()

    def done(self) -> None:
        """End it: nothing more will be saved."""
        with self._changed:
            self._release()
            self._state = "done"

    def hold(self, timeout: float | None = None) -> Release:
        """Wait in ``ready`` until told to proceed, or until the deadline and a grace have passed.

        At most ``timeout`` seconds where it is given, never more than an hour, so that no training stands for ever.
        """
        with self._changed:
            request = self.pending
            if self._state != "ready" or request is None:
                return "nothing"
            longest = LONGEST_HOLD_SECONDS if timeout is None else min(timeout, LONGEST_HOLD_SECONDS)
            ends = time.monotonic() + longest
            # A deadline that has passed (or a clock that is off) still leaves the grace.
            last = None if request.deadline is None else max(request.deadline, self._wall()) + self._grace_seconds
            while self.pending is request:
                left = ends - time.monotonic()
                if left <= 0 or (last is not None and self._wall() >= last):
                    self._release()
                    return "expired"
                self._changed.wait(min(left, LOOK_SECONDS))
            return "proceed"

    def _release(self) -> None:
        self.pending, self._seen = None, False
        if self._state in ("checkpointing", "ready"):
            self._state = "training"
        self._changed.notify_all()
