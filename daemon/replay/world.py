"""Pure decisions: a world that plays a trace: progress, checkpoints, moves, kills, and bills by the second.

Nothing here chooses. Whoever plays asks what is, launches machines, and lets time pass.
"""

import math
from dataclasses import dataclass

import numpy as np

from daemon.replay.trace import Trace

NOTICE_SECONDS = 60.0
"""How long the old machine is billed after a kill, until it is noticed."""
_TINY = 1e-6
"""Seconds that count as none, so that rounding never makes time stand still."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    usd: float
    hours: float
    out_of_memory: int
    moves: int
    lost_progress: float

    def objective(self, value_of_time: float) -> float:
        """Give dollars and the value of the hours."""
        return self.usd + value_of_time * self.hours


@dataclass(frozen=True, slots=True)
class Point:
    """Where a run stood when something began: until the next point it is billed and progresses evenly."""

    hours: float
    usd: float
    progress: float
    offer: int


@dataclass(slots=True)
class _Bill:
    usd: float = 0.0

    def add(self, usd_per_hour: float, seconds: float) -> None:
        self.usd += usd_per_hour * seconds / 3600


class World:
    """One run of a trace. ``offer`` is where the job is, ``coming`` what was launched and is not yet in use.

    The state is one of: running (perhaps while ``coming`` boots), held at ``hold_at`` until the move, restarting on
    the new machine, killed and not yet noticed, or ``stranded``: noticed, and in need of a machine.
    """

    def __init__(self, trace: Trace, offer: int) -> None:
        """Begin at time 0 on an offer, which is there at once."""
        self.trace = trace
        self.offer = offer
        self.now = 0.0
        self.progress = 0.0
        self.segment = 0
        self.coming: int | None = None
        self.out_of_memory = 0
        self.moves = 0
        self.lost = 0.0
        self.killed_by = 0
        self._bill = _Bill()
        self._pace = trace.pace()
        self._prices = trace.prices
        self._ends = trace.ends
        self._boots_until = math.inf
        self._restarts_until = -math.inf
        self._half_until = -math.inf
        self._leaving: int | None = None
        self._hold_at: float | None = None
        self._killed_at: float | None = None
        self._saved = 0.0
        self._save_in = trace.checkpoint_every_seconds
        self._arrive()
        self._track = [self._point()]
        self._marked = self._state()

    @property
    def track(self) -> tuple[Point, ...]:
        """Where the run stood whenever something changed, from the beginning to now."""
        return (*self._track, self._point())

    @property
    def done(self) -> bool:
        """Whether the work is done."""
        return self.segment >= len(self._ends)

    @property
    def stranded(self) -> bool:
        """Whether the job was killed, that was noticed, and no machine is on its way."""
        return (
            self._killed_at is not None and self.coming is None and self.now >= self._killed_at + NOTICE_SECONDS - _TINY
        )

    @property
    def running(self) -> bool:
        """Whether the job makes progress now."""
        return not self.done and self._killed_at is None and self.now >= self._restarts_until - _TINY

    @property
    def present(self) -> int:
        """The segment whose hyperparameters were last seen: the one that killed the job, until it is behind."""
        return max(self.segment, self.killed_by)

    def result(self) -> Result:
        """Sum up. Only of a run that is done."""
        assert self.done
        return Result(self._bill.usd, self.now / 3600, self.out_of_memory, self.moves, self.lost)

    def launch(self, offer: int, hold_at: float | None = None) -> None:
        """Launch a machine to move to. With ``hold_at`` the job pauses at that progress until the machine is up."""
        assert self.coming is None
        assert self.now >= self._restarts_until - _TINY
        self.coming = offer
        self._boots_until = self.now + self.trace.boot_seconds
        self._hold_at = hold_at
        self._turn()
        self._mark()

    def advance(self, until: float) -> None:
        """Let time pass up to a moment, or to where someone should look: a kill noticed, a move done, the end."""
        while self.now < until and not self.done and not self.stranded:
            settled = self.coming is None and self.running
            self._pass(min(until, self._next()) - self.now)
            self._turn()
            self._mark()
            if not settled and self.coming is None and self.running:
                return

    # Time.

    def _next(self) -> float:
        """When the next thing happens by itself."""
        moments = [self._boots_until if self._can_switch() else math.inf]
        if self._killed_at is not None:
            noticed = self._killed_at + NOTICE_SECONDS
            moments.append(noticed if noticed > self.now + _TINY else math.inf)
        for moment in (self._half_until, self._restarts_until):
            if moment > self.now + _TINY:
                moments.append(moment)
        if self.running and not self._held():
            moments.append(self.now + self._save_in)
            moments.append(self.now + (self._goal() - self.progress) * self._pace[self.offer, self.segment])
        return max(self.now + _TINY / 10, min(moments))

    def _can_switch(self) -> bool:
        if self.coming is None or self.now < self._restarts_until - _TINY:
            return False
        return self._killed_at is None or self._boots_until > self.now + _TINY

    def _goal(self) -> float:
        end = float(self._ends[self.segment])
        return min(end, self._hold_at) if self._hold_at is not None and self._hold_at > self.progress else end

    def _held(self) -> bool:
        return self._hold_at is not None and self.progress >= self._hold_at

    def _pass(self, seconds: float) -> None:
        """Bill, and make progress, over a stretch in which nothing happens."""
        if seconds <= 0:
            return
        if self._killed_at is None or self.now < self._killed_at + NOTICE_SECONDS - _TINY:
            self._bill.add(self._prices[self.offer], seconds)
        if self.coming is not None:
            self._bill.add(self._prices[self.coming], seconds)
        if self._leaving is not None and self.now < self._half_until:
            self._bill.add(self._prices[self._leaving], seconds)
        if self.running and not self._held():
            pace = float(self._pace[self.offer, self.segment])
            goal, made = self._goal(), seconds / pace
            near = (goal - self.progress - made) * pace <= _TINY
            self.progress = goal if near else self.progress + made
            self._save_in -= seconds
        self.now += seconds

    def _turn(self) -> None:
        """Let happen what is due now."""
        if self._leaving is not None and self.now >= self._half_until - _TINY:
            self._leaving = None
        noticed = self._killed_at is None or self.now >= self._killed_at + NOTICE_SECONDS - _TINY
        ready = self.coming is not None and self.now >= self._boots_until - _TINY
        if ready and noticed and self.now >= self._restarts_until - _TINY:
            self._switch()
            if self.trace.restart_seconds > 0:
                return
        if not self.running:
            return
        if self._save_in <= _TINY:
            self._save()
        if self.progress >= self._ends[self.segment] and not (self._held() and self.coming is not None):
            self._enter()
        elif not np.isfinite(self._pace[self.offer, self.segment]):
            self._kill()

    # What was.

    def _state(self) -> tuple[object, ...]:
        return self.offer, self.coming, self._leaving, self.segment, self.running and not self._held()

    def _point(self) -> Point:
        return Point(self.now / 3600, self._bill.usd, self.progress, self.offer)

    def _mark(self) -> None:
        state = self._state()
        if state != self._marked:
            self._marked = state
            self._track.append(self._point())

    # What happens.

    def _save(self) -> None:
        self._saved = self.progress
        self._save_in = self.trace.checkpoint_every_seconds

    def _switch(self) -> None:
        """Checkpoint, restore: the job stands still, the old machine is billed for half of it unless it is gone."""
        assert self.coming is not None
        if self._killed_at is None:
            self._save()
            self._leaving = self.offer
            self._half_until = self.now + self.trace.restart_seconds / 2
        self._killed_at = None
        self.offer, self.coming = self.coming, None
        self.moves += 1
        self._hold_at = None
        self._boots_until = math.inf
        self._restarts_until = self.now + self.trace.restart_seconds
        self._save_in = self.trace.checkpoint_every_seconds
        while not self.done and self.progress >= self._ends[self.segment]:
            self.segment += 1

    def _enter(self) -> None:
        self.segment += 1
        if not self.done:
            self._arrive()

    def _arrive(self) -> None:
        if not np.isfinite(self._pace[self.offer, self.segment]):
            self._kill()

    def _kill(self) -> None:
        """Lose the work since the last checkpoint."""
        self.out_of_memory += 1
        self.killed_by = self.segment
        self.lost += self.progress - self._saved
        self.progress = self._saved
        self._hold_at = None
        self._killed_at = self.now
        self.segment = int(np.searchsorted(self._ends, self.progress, side="right"))
