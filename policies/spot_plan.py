"""Pure decisions: a stochastic dynamic programme over time left, work left, machine, and age of the availability run.

With ``T`` steps to the deadline, ``w`` steps of work left and slack ``s = T - w``, the value is the least expected
dollars to the finish. Every step either works (``s`` stays) or does not (``s`` falls by one); a changeover of ``c``
steps takes ``c`` of slack and is billed. On demand is always to be had, so the deadline is certain: wherever slack
would not pay for the changeover to it, the value is infinite. Availability follows ``policies.availability``: the
chance that a run ends depends on its age.

With several offers the state is that of the best one that is up, or of the run in which none is. When it ends, another
is up with the chance seen so far, at an age drawn from the ages that one had whenever it was up.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from policies.availability import AGES, CLASSES, Floats, Market, Prior

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
    """A solved programme, for as many steps as were kept.

    ``values[T]`` float32[rows, slack] are the dollars of going on for one step and then best. Rows are classes of age:
    waiting while none is up, then while each offer is the best; on demand, by the same; then on spot, by offer.
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
        block = CLASSES * (1 + len(market.offers))
        left = {machine: slack - (starting if machine == held else self.changeover) for machine in _there(market)}
        found = {o: self._at(layer, 2 * block + _row(market, o), left[o]) for o in left if o != ON_DEMAND}
        best = min(found, key=lambda offer: (found[offer], offer), default=None)
        state = market.whole.state if best is None else CLASSES + _row(market, best)
        found[ON_DEMAND] = self._at(layer, block + state, left[ON_DEMAND])
        if self.waits:
            found[WAIT] = self._at(layer, state, slack - 1)
        return min(found, key=lambda machine: (found[machine], machine != held, machine))

    def _at(self, layer: Singles, row: int, slack: float) -> float:
        place = math.floor(slack + 1e-9)
        return float(layer[row, min(place, layer.shape[1] - 1)]) if place >= 0 else NEVER


def _there(market: Market) -> list[int]:
    return [ON_DEMAND, *(o for o, offer in enumerate(market.offers) if offer.up)]


def _row(market: Market, offer: int) -> int:
    return offer * CLASSES + market.offers[offer].state


def solve(market: Market, prior: Prior, costs: Costs, time: float, work: float, keep: float) -> Plan:
    """Solve from ``time`` looks before the deadline with ``work`` looks of work left, to be asked for ``keep`` looks.

    An offer that works faster than on-demand is taken to be as fast: the plan then errs to the safe side.
    """
    looks = max(1.0, costs.changeover, time / MOST_STEPS)
    steps, todo = math.ceil(time / looks - 1e-9), math.floor(work / looks + 1e-9)
    changeover = costs.changeover / looks
    width = max(1, steps - todo + 1)
    chain = csr_array(_chain(market, prior, looks).astype(np.float32))
    block = 1 + len(market.offers)
    hourly = np.array([0.0] * block + [costs.on_demand_usd_per_hour] * block + [*costs.spot_usd_per_hour])
    price = np.repeat(hourly + costs.value_of_time_usd_per_hour, CLASSES)[:, None] * (looks * costs.look_hours)
    price = price.astype(np.float32)
    state = np.zeros((len(price), width), dtype=np.float32)
    values: dict[int, Singles] = {}
    last = steps - math.ceil(keep / looks) - 2
    for step in range(1, steps + 1):
        low = max(0, step - todo - 2)  # less slack means more work left than now, a part of a step counted whole
        value: Singles = chain @ state[:, low:] + price
        _paced(value[2 * block * CLASSES :], costs.paces)
        if step >= last:
            values[step] = np.pad(value, ((0, 0), (low, 0)), constant_values=NEVER)
        state[:, low:] = _best(value, block * CLASSES, changeover, costs.waits)
        state[:, min(step, width) :] = 0.0  # no work is left there
    return Plan(looks, changeover, costs.waits, values)


def _paced(value: Singles, paces: tuple[float, ...]) -> None:
    """Let an offer that does less than on-demand in a step use up slack for the rest."""
    for offer, pace in enumerate(paces):
        if pace < 1:
            rows = slice(offer * CLASSES, (offer + 1) * CLASSES)
            value[rows] = _less(value[rows], 1 - pace)


def _best(value: Singles, block: int, changeover: float, waits: bool) -> Singles:
    """Take the best of going on, waiting, and beginning on another machine."""
    started = _less(value[block:], changeover)
    fresh = np.minimum(_less(value[:block], 1.0), started[:block]) if waits else started[:block]
    np.minimum(fresh[CLASSES:], started[block:], out=fresh[CLASSES:])
    best = np.empty_like(value)
    best[:block] = fresh
    np.minimum(value[block : 2 * block], fresh, out=best[block : 2 * block])
    np.minimum(value[2 * block :], fresh[CLASSES:], out=best[2 * block :])
    return best


def _less(value: Singles, slack: float) -> Singles:
    """Give the values with so much less slack, at most one step."""
    if slack <= 1e-9:
        return value
    found = np.empty_like(value)
    found[:, 0] = NEVER
    if slack >= 1 - 1e-9:
        found[:, 1:] = value[:, :-1]
    else:
        found[:, 1:] = (1 - slack) * value[:, 1:] + slack * value[:, :-1]
    return found


def _chain(market: Market, prior: Prior, looks: float) -> Floats:
    """Give the chances float[rows, rows] of what a state is one step later, in the order of ``Plan.values``."""
    offers = len(market.offers)
    block = CLASSES * (1 + offers)
    shares, ages = _shares(market, prior)
    free = np.zeros((block, block))
    free[:CLASSES, :CLASSES], ends = _older(prior.chances(market.whole)[:CLASSES], looks)
    free[:CLASSES, CLASSES:] = np.outer(ends, (shares[:, None] * _begun(market, prior)).ravel())
    fallen = _first(prior.long(market.whole, up=False))
    saved = (market.saved + prior.elsewhere) / (market.lost + 1) if offers > 1 else 0.0
    chain = np.zeros((2 * block + CLASSES * offers,) * 2)
    for offer, seen in enumerate(market.offers):
        rows = slice(CLASSES * (1 + offer), CLASSES * (2 + offer))
        stays, ends = _older(prior.chances(seen)[CLASSES:], looks)
        others = np.where(np.arange(offers) == offer, 0.0, shares)
        free[rows, :CLASSES] = np.outer(ends * (1 - saved), fallen)
        if saved:
            free[rows, CLASSES:] = np.outer(ends * saved, (others[:, None] * ages / others.sum()).ravel())
        spot = slice(2 * block + CLASSES * offer, 2 * block + CLASSES * (offer + 1))
        chain[spot, :block] = free[rows]
        chain[spot, spot] = stays
        free[rows, rows] += stays
    chain[:block, :block] = chain[block : 2 * block, block : 2 * block] = free
    return chain


def _older(chance: Floats, looks: float) -> tuple[Floats, Floats]:
    """Give the chances float[class, class] that a run goes on at an age one step later, and float[class] that it ends.

    A run stays in a class for as many looks as that has, on average.
    """
    ends = 1 - (1 - np.clip(chance, 0.0, 1.0)) ** looks
    older = np.tile(np.minimum(looks / np.diff(AGES, append=np.inf), 1.0), 2)
    goes_on = np.diag((1 - ends) * (1 - older)) + np.diag(((1 - ends) * older)[:-1], 1)
    return goes_on, ends


def _first(long: float) -> Floats:
    """Give the chances float[class] of a run that has just begun, after a long one with chance ``long``."""
    found = np.zeros(CLASSES)
    found[[0, len(AGES)]] = 1 - long, long
    return found


def _begun(market: Market, prior: Prior) -> Floats:
    """Give the chances float[offers, class] of an up run of each offer that has just begun."""
    return np.array([_first(prior.long(offer, up=True)) for offer in market.offers])


def _shares(market: Market, prior: Prior) -> tuple[Floats, Floats]:
    """Give how often each offer was up among all, float[offers], and in which classes, float[offers, class].

    A look at each age that the prior makes likely is added to what was seen.
    """
    chance = np.array(prior.up).reshape(2, -1)[:, :-1]
    lasting = np.cumprod(np.concatenate([np.ones((2, 1)), (1 - chance) ** np.diff(AGES)], axis=1), axis=1)
    seen = np.array([offer.looks[CLASSES:] for offer in market.offers]) + lasting.ravel() / 2
    up = seen.sum(axis=1)
    return up / up.sum(), seen / up[:, None]
