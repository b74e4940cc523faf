"""Pure decisions: how a job stands between on-demand and spot capacity when it has a deadline."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from policies import guards
from policies.types import Option, Rejection, Situation

LONGEST_HOLD_MINUTES = 60.0
"""The guard on moves an hour can hold a move back for so long; a plan must not need one sooner."""


class SpotOptions(BaseModel):
    """What a policy file may say for the kinds of spot beside the common keys."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)

    changeover_minutes: Annotated[float, Field(ge=0, le=24 * 60)] = 10.0


@dataclass(frozen=True, slots=True)
class Stand:
    """The best on-demand option, the spot options, cheapest first, and times in hours.

    ``left`` is work left on the on-demand option, the longer of what the forecast finds likely; ``time`` is what there
    is until the deadline, less what the guards may hold a move back; ``changeover`` is what a move takes.
    """

    on_demand: Option
    spot: tuple[Option, ...]
    time: float
    left: float
    changeover: float

    def pace(self, option: Option) -> float:
        """Give the work that an option does in the time that the on-demand option does one of it."""
        mine, reference = _working(option), _working(self.on_demand)
        return reference / mine if mine > 0 else 1.0


def stand(situation: Situation) -> Stand | None:
    """Find how a job stands. ``None`` where there is nothing to choose: no deadline, no forecast, no spot offer left.

    Spot capacity that the cloud takes back counts as gone; then on-demand is a choice also without another spot offer.
    """
    open_ = [option for option in situation.options if not (option.stays and situation.reclaimed)]
    on_demand = [option for option in open_ if option.offer.buying != "spot"]
    spot = sorted((o for o in open_ if o.offer.buying == "spot"), key=lambda o: (o.objective.mean, o.offer.id))
    nothing = not on_demand or not (spot or situation.reclaimed)
    if situation.deadline is None or nothing or situation.settings.moves.max_per_hour == 0:
        return None
    best = min(on_demand, key=lambda option: (option.objective.mean, option.offer.id))
    left = best.hours.quantile(1 - situation.settings.safety.deadline_risk) - best.pause_seconds / 3600
    if not left > 0:
        return None
    held = max(situation.settings.moves.cooldown_minutes, LONGEST_HOLD_MINUTES) / 60
    time = (situation.deadline - situation.now).total_seconds() / 3600 - held
    told = situation.settings.extra.get("changeover_minutes", SpotOptions().changeover_minutes)
    lead = max(option.lead_seconds for option in (best, *spot)) / 3600
    minutes = float(told) if isinstance(told, int | float) else 0.0
    return Stand(best, tuple(spot), time, left, max(minutes / 60, lead))


def _working(option: Option) -> float:
    # The plan counts interruptions itself: what they add to the engine's hours comes off.
    return (option.hours.mean - option.pause_seconds / 3600) / option.stretch


def payback(situation: Situation, option: Option) -> Rejection | None:
    """Leave moves to and from spot to the plan, which counts their cost; judge all others as every policy does."""
    ways = {situation.stay.offer.buying, option.offer.buying}
    if "spot" in ways and situation.deadline is not None:
        return None
    return guards.payback(situation, option)
