"""Pure decisions: spot beside on-demand under a deadline, by a stochastic plan and what was seen of availability.

The plan (``policies.spot_plan``) weighs the cheapest on-demand option that fits against the spot options. Time left is
the job's deadline, work left the forecast's hours at the quantile that the policy's ``deadline_risk`` leaves. Time for
a changeover to on-demand and for all the work left is always kept, so spot is given up in time whatever it does.
"""

import math
from dataclasses import replace
from functools import lru_cache

from policies import spot, spot_plan
from policies.availability import LOOK_MINUTES, PRIOR, Availability, Market
from policies.cost_per_progress import CostPerProgress
from policies.guards import must_leave, usd
from policies.spot import SpotOptions, Stand, stand
from policies.types import Choice, Option, Rejection, Situation

MOST_OFFERS = 4
"""Spot offers that are planned with: those cheapest to the finish."""
PLAN_LOOKS = 2.0
"""A plan is made anew with every look, and asked until the next."""
PLANS_KEPT = 64


class SpotDeadline(CostPerProgress):
    """Run on spot while that is likely cheapest, on-demand when the deadline asks for it.

    Without a deadline or a spot offer, and among offers of the same way of buying, it chooses as ``cost_per_progress``.
    """

    foresees = True
    options = SpotOptions

    def __init__(self) -> None:
        """Keep the newest plans: all turns within one look ask for the same."""
        self._solve = lru_cache(maxsize=PLANS_KEPT)(spot_plan.solve)

    def choose(self, situation: Situation) -> Choice:
        """Take what the plan takes."""
        found = None if must_leave(situation) else stand(situation)
        if found is None:
            return super().choose(situation)
        taken = self._planned(situation, found)
        stay = situation.stay
        if taken.stays and stay.offer.buying == "spot":
            return Choice(stay, f"no change, because {_why(found, taken)}")
        if taken.offer.buying != "spot" and stay.offer.buying != "spot":
            kept = tuple(option for option in situation.options if option.offer.buying != "spot")
            return super().choose(replace(situation, options=kept))
        return Choice(taken, f"moving to {taken.offer.id}, because {_why(found, taken)}")

    def payback(self, situation: Situation, option: Option) -> Rejection | None:
        """Leave moves to and from spot to the plan."""
        return spot.payback(situation, option)

    def _planned(self, situation: Situation, found: Stand) -> Option:
        offers = found.spot[:MOST_OFFERS]
        if not offers:
            return found.on_demand
        if situation.stay in found.spot and situation.stay not in offers:
            offers = (*offers[:-1], situation.stay)
        looks = 60 / LOOK_MINUTES
        market = Market.of([situation.availability.get(one.offer.id, Availability(True)) for one in offers])
        costs = spot_plan.Costs(
            found.on_demand.usd_per_hour, tuple(one.usd_per_hour for one in offers), found.changeover * looks,
            paces=tuple(min(found.pace(one), 1.0) for one in offers), waits=False,
            value_of_time_usd_per_hour=situation.settings.value_of_time_usd_per_hour,
        )  # fmt: skip
        time, work = found.time * looks, found.left * looks
        plan = self._solve(market, PRIOR, costs, math.ceil(max(time, work)), math.floor(work), PLAN_LOOKS)
        stays = situation.stay
        held = offers.index(stays) if stays in offers else spot_plan.ON_DEMAND
        chosen = plan.choose(market, time, work, spot_plan.WAIT if situation.reclaimed else held)
        return found.on_demand if chosen is None or chosen < 0 else offers[chosen]


def _why(found: Stand, taken: Option) -> str:
    slack = f"{found.left:.1f} h of work stand against {found.time:.1f} h to the deadline, guards' delays taken off"
    if taken.offer.buying == "spot":
        return f"spot at {usd(taken.usd_per_hour)} an hour is worth the risk of losing it: {slack}"
    return f"on-demand at {usd(taken.usd_per_hour)} an hour is safer: {slack}"
