"""Pure decisions: the least that a trace could have cost, and the machines that would have done it.

Rates are constant inside a segment, so where a move begins, its cost is linear in the progress made so far: some best
plan moves at the ends of segments only. Dynamic programming over (segment, offer) finds it. A clairvoyant launches
machines ahead in time, so a move costs what it bills and the standing still of its restart, and boot costs no time.
A move sooner than one boot after the start is allowed to it, so on such a trace it is a bound that none may reach.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from daemon.replay.trace import Trace
from daemon.types import Floats


@dataclass(frozen=True, slots=True)
class Optimum:
    """The least ``usd + value_of_time x hours``, and the offer of each segment."""

    usd: float
    hours: float
    offers: tuple[int, ...]

    @property
    def moves(self) -> int:
        """Count the moves."""
        return sum(a != b for a, b in itertools.pairwise(self.offers))

    def objective(self, value_of_time: float) -> float:
        """Give dollars and the value of the hours."""
        return self.usd + value_of_time * self.hours


def solve(trace: Trace, value_of_time: float) -> Optimum:
    """Find the best plan. Raises ``ValueError`` where some segment fits on no offer."""
    hours = segment_hours(trace)
    if not np.isfinite(hours).any(axis=0).all():
        raise ValueError(f"{trace.job}: some segment fits on no offer - add a larger one to the trace")
    rate = trace.prices + value_of_time
    cost = (hours * rate[:, None]).T  # [S, O]
    leave, enter = move_usd(trace)
    move = leave[:, None] + enter[None, :] + value_of_time * trace.restart_seconds / 3600
    np.fill_diagonal(move, 0.0)
    count = len(cost)
    best = cost[0]
    came = np.zeros(cost.shape, dtype=np.int64)
    for s in range(1, count):
        through = best[:, None] + move
        came[s] = through.argmin(axis=0)
        best = through.min(axis=0) + cost[s]
    path = [int(best.argmin())]
    for s in range(count - 1, 0, -1):
        path.append(int(came[s, path[-1]]))
    return price(trace, tuple(reversed(path)))


def price(trace: Trace, offers: tuple[int, ...]) -> Optimum:
    """Price a plan of one offer a segment, infinite where it does not fit."""
    hours = segment_hours(trace)
    leave, enter = move_usd(trace)
    each = hours[list(offers), range(len(offers))]
    usd = float(each @ trace.prices[list(offers)])
    moves = [(a, b) for a, b in itertools.pairwise(offers) if a != b]
    usd += float(sum(leave[a] + enter[b] for a, b in moves))
    return Optimum(usd, float(each.sum()) + len(moves) * trace.restart_seconds / 3600, offers)


def segment_hours(trace: Trace) -> Floats:
    """Give hours float[O, S] of each segment on each offer, infinite where it does not fit."""
    return np.asarray(trace.pace() * np.diff(trace.ends, prepend=0.0) / 3600)


def move_usd(trace: Trace) -> tuple[Floats, Floats]:
    """Give the dollars of leaving and of entering each offer, both float[O]."""
    leave = trace.prices * trace.restart_seconds / 2 / 3600
    enter = trace.prices * (trace.boot_seconds + trace.restart_seconds) / 3600
    return leave, enter
