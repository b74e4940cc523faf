"""Values: the samples of a run, bounded. Fast training is thinned, both sides of a change of hyperparameters stay."""

import math
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_NAMES = 32
LONGEST_NAME = 64

Values = dict[str, Any]


@dataclass(slots=True)
class Sample:
    """One step, or several that were thinned into one. ``seconds`` is the sum over ``steps`` steps that were timed.

    Values of ``metrics`` may still be tensors: they are read when the hook is asked, not in the training loop.
    """

    step: int
    at: float
    hyperparameters: Values
    metrics: Values
    usage: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    steps: int = 0
    edge: bool = False
    seq: int = 0


def tidy(values: Mapping[str, Any] | None) -> Values:
    """Keep what can be sent: at most 32 short names, numbers as floats; tensors are detached and read later."""
    if not values:
        return {}
    kept: Values = {}
    for name, value in values.items():
        if len(kept) >= MOST_NAMES or not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            continue
        number = _number(value)
        if number is not None:
            kept[name] = number
    return kept


def _number(value: Any) -> Any:
    if type(value) is float or type(value) is int:
        return value
    detach = getattr(value, "detach", None)
    if detach is not None:
        return detach()
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def finite(value: Any) -> float | None:
    """Read one value as a finite float; ``None`` if it is not one. May wait for a device: not for the training loop."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return number if math.isfinite(number) else None


class Buffer:
    """The last samples of a run, at most ``capacity``. Safe to write from training and to read from the hook.

    Closer together than ``every_seconds`` steps are merged: their mean step time, their highest usage, the newest
    values. A step at which a hyperparameter changes is kept, and so is the one before it. ``seq`` rises by two, so
    that a reply's ``next`` (the last ``seq`` plus one) is never taken: ``after=next`` and ``after=seq`` ask the same.
    A full buffer first lets go what was already fetched, then every second sample that is no edge, then the oldest.
    """

    def __init__(self, capacity: int = 4096, every_seconds: float = 0.2) -> None:
        self.capacity = max(2, capacity)
        self.every_seconds = every_seconds
        self.merged = 0
        self.dropped = 0
        self.newest: Sample | None = None
        self._kept: deque[Sample] = deque()
        self._waiting: Sample | None = None
        self._hyperparameters: Values = {}
        self._moving: frozenset[str] = frozenset()
        self._kept_at = -math.inf
        self._seq = -1
        self._fetched = -1
        self._lock = threading.Lock()

    @property
    def hyperparameters(self) -> Values:
        """Give those of the newest step."""
        return self._hyperparameters

    def wants(self, hyperparameters: Values, now: float) -> bool:
        """Say whether a step with these hyperparameters would be kept now rather than merged."""
        return now - self._kept_at >= self.every_seconds or bool(self._jumps(hyperparameters) - self._moving)

    def add(self, sample: Sample, now: float) -> None:
        """Take one step in; O(1) but for the rare halving of a full buffer."""
        with self._lock:
            jumps = self._jumps(sample.hyperparameters)
            # What changes at every step (a learning rate) is no edge; what changes after a rest is.
            sample.edge = bool(jumps - self._moving)
            self._moving = jumps
            self._hyperparameters = sample.hyperparameters
            self.newest = sample
            if sample.edge:
                self._settle(edge=True)
                self._keep(sample, now)
            elif now - self._kept_at >= self.every_seconds:
                self._keep(self._merge(sample), now)
            else:
                self._waiting = self._merge(sample)

    def settle(self) -> None:
        """Make the step that waits to be merged readable now."""
        with self._lock:
            self._settle(edge=False)

    def after(self, seq: int) -> tuple[list[Sample], int]:
        """Give the samples beyond ``seq`` and the next ``seq`` but one; a ``seq`` of another run gives all."""
        with self._lock:
            self._settle(edge=False)
            if seq > self._seq + 1:
                seq = -1
            self._fetched = max(self._fetched, seq)
            return [sample for sample in self._kept if sample.seq > seq], self._seq + 1

    def __len__(self) -> int:
        return len(self._kept)

    def _jumps(self, hyperparameters: Values) -> frozenset[str]:
        before = self._hyperparameters
        if hyperparameters is before or hyperparameters == before:
            return frozenset()
        return frozenset(n for n in {*before, *hyperparameters} if before.get(n) != hyperparameters.get(n))

    def _merge(self, sample: Sample) -> Sample:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return sample
        self.merged += 1
        sample.seconds += waiting.seconds
        sample.steps += waiting.steps
        for name, value in waiting.usage.items():
            sample.usage[name] = max(value, sample.usage.get(name, value))
        sample.metrics = {**waiting.metrics, **sample.metrics}
        return sample

    def _settle(self, *, edge: bool) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.edge = edge
            self._append(waiting)

    def _keep(self, sample: Sample, now: float) -> None:
        self._kept_at = now
        self._append(sample)

    def _append(self, sample: Sample) -> None:
        if len(self._kept) >= self.capacity:
            self._make_room()
        self._seq += 2
        sample.seq = self._seq
        self._kept.append(sample)

    def _make_room(self) -> None:
        while self._kept and self._kept[0].seq <= self._fetched:
            self._kept.popleft()
        if len(self._kept) < self.capacity:
            return
        thin = [s for place, s in enumerate(self._kept) if s.edge or place % 2 == 0]
        self.dropped += len(self._kept) - len(thin)
        self._kept = deque(thin)
        self.every_seconds = max(self.every_seconds * 2, 0.001)
        while len(self._kept) >= self.capacity:
            self._kept.popleft()
            self.dropped += 1
