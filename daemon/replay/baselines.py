"""Pure decisions: what people do without foresight: one machine for the peak, the best one machine, a threshold."""

import math
from typing import Literal

import numpy as np

from daemon.replay import oracle
from daemon.replay.trace import Trace
from daemon.replay.world import World

POLL_SECONDS = 30.0
BUSY_UP = 0.9
BUSY_DOWN = 0.6
COOLDOWN_SECONDS = 600.0
MOST_KILLS = 1000


def static(trace: Trace, value_of_time: float, kind: Literal["peak", "best"]) -> World:
    """Run on one offer that fits every segment: the fastest ("peak"), or the best in hindsight ("best").

    Gives the world at its end. Raises ``ValueError`` where no offer fits every segment.
    """
    hours = oracle.segment_hours(trace).sum(axis=1)
    rank = hours if kind == "peak" else hours * (trace.prices + value_of_time)
    best = int(np.argmin(rank))
    if not math.isfinite(hours[best]):
        raise ValueError(f"{trace.job}: no offer fits every segment - leave the static policies out")
    world = World(trace, best)
    world.advance(math.inf)
    return world


def threshold(trace: Trace) -> World:
    """Run from the cheapest offer that starts, one step of the price ladder at a time by how busy the GPUs are."""
    prices = trace.prices
    ladder = [int(o) for o in np.lexsort((np.arange(len(prices)), prices))]
    starts = np.isfinite(trace.pace()[:, 0])
    world = World(trace, next(o for o in ladder if starts[o]))
    moved_at = -math.inf
    while not world.done:
        rung = ladder.index(world.offer)
        to = _step(world, rung, len(ladder), world.now - moved_at >= COOLDOWN_SECONDS)
        if to != rung and world.coming is None:
            world.launch(ladder[to])
            world.advance(world.now + trace.boot_seconds + trace.restart_seconds + 60)
            moved_at = world.now
            continue
        if world.out_of_memory > MOST_KILLS:
            raise ValueError(f"{trace.job}: a threshold never finishes this trace - leave it out")
        world.advance(world.now + POLL_SECONDS)
    return world


def _step(world: World, rung: int, rungs: int, rested: bool) -> int:
    if world.stranded:
        return rung + 1 if rung + 1 < rungs else rung - 1
    if not rested or not world.running:
        return rung
    busy = world.trace.busy(world.offer, world.segment)
    if busy > BUSY_UP:
        return min(rung + 1, rungs - 1)
    return max(rung - 1, 0) if busy < BUSY_DOWN else rung
