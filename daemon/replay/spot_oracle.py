"""Pure decisions: the least that a job under a deadline could have cost, had all availability been known.

A dynamic programme over (tick, work done, machine and what is left of its changeover), exact for the world's rules:
every machine is considered at every tick, and the state holds all that the future depends on. With several zones it
may change between them as any rule may.
"""

import numpy as np

from daemon.replay.spot_trace import Bools, Terms
from daemon.types import Floats


def least_usd(terms: Terms, up: Bools) -> float:
    """Find the least dollars to finish in time over availability bool[zones, ticks]."""
    zones = len(up)
    phases = -(-terms.changeover // terms.tick) + 1  # units of a changeover left at a tick's beginning: none, or some
    rest = [max(0, terms.changeover - terms.tick * (phases - 1 - p)) if p else 0 for p in range(phases)]
    rates = [*([terms.spot_usd_per_hour] * zones), terms.on_demand_usd_per_hour]
    never = np.full(terms.work + 1, np.inf)
    never[0] = 0.0
    off = never.copy()
    held = [[never.copy() for _ in rest] for _ in rates]  # by machine and phase, over the work left
    for tick in range(terms.ticks - 1, -1, -1):
        there = [*(bool(zone[tick]) for zone in up), True]
        run = [
            [_tick(terms, rates[m], rest[p], held[m][max(p - 1, 0)]) if there[m] else None for p in range(phases)]
            for m in range(len(rates))
        ]
        fresh = off  # waiting, or a machine whose changeover begins now
        for of_machine in run:
            if (starting := of_machine[-1]) is not None:
                fresh = np.minimum(fresh, starting)
        fresh[0] = 0.0
        off = fresh
        held = [[fresh if one is None else np.minimum(fresh, one) for one in of_machine] for of_machine in run]
    return float(off[terms.work])


def _tick(terms: Terms, usd_per_hour: float, starting: int, after: Floats) -> Floats:
    """Price a tick on a machine for each amount of work left, and what follows with it held."""
    left = np.arange(terms.work + 1)
    spent = min(starting, terms.tick)
    done = np.minimum(terms.tick - spent, left)
    return np.asarray(terms.usd(usd_per_hour, 1.0) * (spent + done) + after[left - done])
