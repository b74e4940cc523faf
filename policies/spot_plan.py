"""Pure decisions: a stochastic dynamic programme over time left, work left, machine, and age of the availability run.

With ``T`` steps to the deadline, ``w`` steps of work left and slack ``s = T - w``, the value is the least expected
dollars to the finish. Every step either works (``s`` stays) or does not (``s`` falls by one); a changeover of ``c``
steps takes ``c`` of slack and is billed. On demand is always to be had, so the deadline is certain: wherever slack
would not pay for the changeover to it, the value is infinite. Availability follows ``policies.availability``: the
chance that a run ends depends on its age. With several offers, waiting and on-demand follow the run of "any offer is
up"; on spot the run of that offer counts, and when it ends another is up with the chance seen so far.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from policies.availability import AGES, CLASSES, Availability, Floats, Market, Prior

Singles = NDArray[np.float32]

NEVER = 1e9
"""Stands for infinite in the programme, so that a chance of nought times it is nought."""
MOST_STEPS = 600

WAIT = -1
ON_DEMAND = -2
"""What to do for the next look: run on an offer, counted from 0, or one of these two."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What machines cost and do: dollars an hour, and the looks that a changeover takes.

    ``paces[o]`` is the work that offer ``o`` does in the time that on-demand does one of it. Without ``waits`` the job
    is never left without a machine. The value of time is paid for every hour to the finish.
    """

    on_demand_usd_per_hour: float
    spot_usd_per_hour: tuple[float, ...]
    changeover: float
    look_hours: float = 1 / 6
    paces: tuple[float, ...] = ()
    waits: bool = True
    value_of_time_usd_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A solved programme, good from ``steps`` steps before the deadline on, for as many as were kept.

    ``values[T]`` float32[rows, slack] are the dollars of going on for one step and then best: waiting by the state of
    the whole market, then on demand by the same, then each offer by its run's age.
    """

    looks: float
    changeover: float
    waits: bool
    values: Mapping[int, Singles]

    def choose(self, market: Market, time: float, work: float, held: int, starting: float = 0.0) -> int | None:
        """Choose what to do; ``None`` where the plan does not reach. Times are in looks.

        ``held`` is what runs (``WAIT``: nothing), ``starting`` what is left of its changeover.
        """
        time, work, starting = time / self.looks, work / self.looks, starting / self.looks
        slack = time - work
        layer = self.values.get(math.floor(slack + 1e-9) + math.ceil(work - 1e-9))
        if layer is None or slack < -1e-9:
            return None
        found = {WAIT: self._at(layer, market.whole.place, slack - 1)} if self.waits else {}
        for machine in (ON_DEMAND, *(o for o, offer in enumerate(market.offers) if offer.up)):
            spent = starting if machine == held else self.changeover
            found[machine] = self._at(layer, self._row(market, machine), slack - spent)
        return min(found, key=lambda machine: (found[machine], machine != held, machine))

    def _row(self, market: Market, machine: int) -> int:
        if machine == ON_DEMAND:
            return 2 * CLASSES + market.whole.place
        return (4 + machine) * CLASSES + market.offers[machine].place - CLASSES

    def _at(self, layer: Singles, row: int, slack: float) -> float:
        place = math.floor(slack + 1e-9)
        return float(layer[row, min(place, layer.shape[1] - 1)]) if place >= 0 else NEVER


def solve(market: Market, prior: Prior, costs: Costs, time: float, work: float, keep: float) -> Plan:
    """Solve from ``time`` looks before the deadline with ``work`` looks of work left, to be asked for ``keep`` looks.

    An offer that works faster than on-demand is taken to be as fast: the plan then errs to the safe side.
    """
    looks = max(1.0, costs.changeover, time / MOST_STEPS)
    steps, todo = math.ceil(time / looks - 1e-9), math.floor(work / looks + 1e-9)
    changeover = costs.changeover / looks
    width = max(1, steps - todo + 1)
    chain = csr_array(_chain(market, prior, looks).astype(np.float32))
    hourly = np.array([0.0] * 2 + [costs.on_demand_usd_per_hour] * 2 + [*costs.spot_usd_per_hour])
    price = np.repeat(hourly + costs.value_of_time_usd_per_hour, CLASSES)[:, None] * (looks * costs.look_hours)
    price = price.astype(np.float32)
    share = _shares(market)
    rows = slice(4 * CLASSES, None)
    state = np.zeros((len(price), width), dtype=np.float32)
    values: dict[int, Singles] = {}
    last = steps - math.ceil(keep / looks) - 2
    for step in range(1, steps + 1):
        value: Singles = chain @ state + price
        _paced(value[rows], costs.paces)
        if step >= last:
            values[step] = value
        state = _best(value, changeover, share, costs.waits)
        state[:, min(step, width) :] = 0.0  # no work is left there
    return Plan(looks, changeover, costs.waits, values)


def _paced(value: Singles, paces: tuple[float, ...]) -> None:
    """Let an offer that does less than on-demand in a step use up slack for the rest."""
    for offer, pace in enumerate(paces):
        if pace < 1:
            rows = slice(offer * CLASSES, (offer + 1) * CLASSES)
            value[rows] = _less(value[rows], 1 - pace)


def _best(value: Singles, changeover: float, share: Singles, waits: bool) -> Singles:
    """Take the best of going on, waiting, and beginning on another machine."""
    two = 2 * CLASSES
    started = _less(value[two:], changeover)
    fresh = np.minimum(_less(value[:two], 1.0), started[:two]) if waits else started[:two]
    spot = np.einsum("o,ocs->cs", share, started[two:].reshape(len(share), CLASSES, -1))
    fresh[CLASSES:] = np.minimum(fresh[CLASSES:], spot)
    best = np.empty_like(value)
    best[:two] = fresh
    best[two : 2 * two] = np.minimum(value[two : 2 * two], fresh)
    best[2 * two :] = np.minimum(value[2 * two :], np.tile(fresh[CLASSES:], (len(share), 1)))
    return best


def _less(value: Singles, slack: float) -> Singles:
    """Give the values with so much less slack, at most one step."""
    found = np.full_like(value, NEVER)
    if slack >= 1 - 1e-9:
        found[:, 1:] = value[:, :-1]
    elif slack <= 1e-9:
        found[:] = value
    else:
        found[:, 1:] = (1 - slack) * value[:, 1:] + slack * value[:, :-1]
    return found


def _chain(market: Market, prior: Prior, looks: float) -> Floats:
    """Give the chances float[rows, rows] of what a state is one step later, in the order of ``Plan.values``."""
    two = 2 * CLASSES
    whole = _moves(prior, market.whole, looks)
    chain = np.zeros((two * 2 + CLASSES * len(market.offers),) * 2)
    chain[:two, :two] = chain[two : 2 * two, two : 2 * two] = whole
    saved = (market.saved + prior.elsewhere) / (market.lost + 1) if len(market.offers) > 1 else 0.0
    for offer, seen in enumerate(market.offers):
        own = _moves(prior, seen, looks)[CLASSES:]
        rows = slice(two * 2 + offer * CLASSES, two * 2 + (offer + 1) * CLASSES)
        chain[rows, rows] = own[:, CLASSES:]
        ends = own[:, 0]
        chain[rows, 0] = ends * (1 - saved)
        chain[rows, CLASSES:two] = np.diag(ends * saved)
    return chain


def _moves(prior: Prior, seen: Availability, looks: float) -> Floats:
    """Give the chances of a run's classes one step later; a class lasts as long as its looks on average."""
    chance = 1 - (1 - np.clip(prior.chances(seen), 0.0, 1.0)) ** looks
    older = np.minimum(looks / np.diff(AGES, append=np.inf), 1.0)
    moves = np.zeros((2 * CLASSES, 2 * CLASSES))
    for row, end in enumerate(chance):
        side, age = divmod(row, CLASSES)
        moves[row, (1 - side) * CLASSES] = end
        moves[row, row] += (1 - end) * (1 - older[age])
        if age + 1 < CLASSES:
            moves[row, row + 1] += (1 - end) * older[age]
    return moves


def _shares(market: Market) -> Singles:
    """Give the chance that each offer is the one to be had when any is: by how often it was up, one look added."""
    up = np.array([1 + sum(offer.looks[CLASSES:]) for offer in market.offers])
    return np.asarray(up / up.sum(), dtype=np.float32)
