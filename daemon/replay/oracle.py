"""Pure decisions: the least that a trace could have cost, and the machines that would have done it.

Rates are constant inside a segment, so where a move begins, its cost is linear in the progress made so far: some best
plan moves at the ends of segments only. Dynamic programming over (segment, offer) finds it. A clairvoyant launches
machines ahead in time, so a move costs what it bills and the standing still of its restart, and boot costs no time.
A move sooner than one boot after the start is allowed to it, so on such a trace it is a bound that none may reach.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.replay.trace import Trace
from daemon.replay.world import Point
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


def solve(trace: Trace, value_of_time: float, unwarned: bool = False) -> Optimum:
    """Find the best plan. Raises ``ValueError`` where some segment fits on no offer.

    ``unwarned``: the best that knows everything but takes no chance on a jump: under ``crash`` it is never on an offer
    that a profiled setting not yet seen would not fit. Who is not told when a setting comes, and must not be killed
    whenever it does, cannot cost less.
    """
    hours = segment_hours(trace)
    if unwarned:
        hours = np.where(_fits_what_may_come(trace), hours, np.inf)
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


def _fits_what_may_come(trace: Trace) -> NDArray[np.bool_]:
    """Say of each offer and segment whether all settings fit there that are new from that segment on: bool[O, S]."""
    fits = np.isfinite(trace.pace())
    if trace.on_misfit != "crash":
        return fits
    settings = [tuple(sorted(segment.hyperparameters.items())) for segment in trace.segments]
    first = np.array([settings.index(setting) for setting in settings])
    new = first == np.arange(len(settings))
    # From the last to the first: a segment's own fit, and that of every new setting after it.
    later = np.logical_and.accumulate(np.where(new, fits, True)[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(fits & later)


def price(trace: Trace, offers: tuple[int, ...]) -> Optimum:
    """Price a plan of one offer a segment, infinite where it does not fit."""
    hours = segment_hours(trace)
    leave, enter = move_usd(trace)
    each = hours[list(offers), range(len(offers))]
    usd = float(each @ trace.prices[list(offers)])
    moves = [(a, b) for a, b in itertools.pairwise(offers) if a != b]
    usd += float(sum(leave[a] + enter[b] for a, b in moves))
    return Optimum(usd, float(each.sum()) + len(moves) * trace.restart_seconds / 3600, offers)


def track(trace: Trace, plan: Optimum) -> tuple[Point, ...]:
    """Lay out a plan as a run that is seen where segments end; what a move costs falls due where it is made."""
    hours, (leave, enter) = segment_hours(trace), move_usd(trace)
    at, usd, progress = 0.0, 0.0, 0.0
    points: list[Point] = []
    for s, offer in enumerate(plan.offers):
        if s and offer != plan.offers[s - 1]:
            at += trace.restart_seconds / 3600
            usd += float(leave[plan.offers[s - 1]] + enter[offer])
        points.append(Point(at, usd, progress, offer))
        at, usd = at + float(hours[offer, s]), usd + float(hours[offer, s] * trace.prices[offer])
        progress = float(trace.ends[s])
    return (*points, Point(at, usd, progress, plan.offers[-1]))


def segment_hours(trace: Trace) -> Floats:
    """Give hours float[O, S] of each segment on each offer, infinite where it does not fit."""
    return np.asarray(trace.pace() * np.diff(trace.ends, prepend=0.0) / 3600)


def move_usd(trace: Trace) -> tuple[Floats, Floats]:
    """Give the dollars of leaving and of entering each offer, both float[O]."""
    leave = trace.prices * trace.restart_seconds / 2 / 3600
    enter = trace.prices * (trace.boot_seconds + trace.restart_seconds) / 3600
    return leave, enter
