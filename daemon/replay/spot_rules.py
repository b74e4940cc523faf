"""Pure decisions: the rules that a spot replay compares: what people do, and the daemon's own plan."""

from daemon.replay.spot_world import OFF, ON_DEMAND, Sight
from policies import spot_plan
from policies.availability import Market, Prior
from policies.pace import Pace, Way, uniform_progress

AGAIN_SHARE = 8
"""The plan is solved again when so small a part of the time left has passed."""


class OnDemand:
    """Never use spot."""

    def choose(self, sight: Sight) -> int:
        """Take on-demand."""
        return ON_DEMAND


class Greedy:
    """Use spot whenever there is any and wait otherwise; once the slack is used up, on-demand to the end."""

    def choose(self, sight: Sight) -> int:
        """Keep the machine, else take the first zone that is up. The world's net brings in on-demand."""
        return sight.machine if sight.machine != OFF else _any(sight)


class UniformProgress:
    """Follow ``policies.pace.uniform_progress``; with several zones, take the first that is up."""

    def choose(self, sight: Sight) -> int:
        """Ask the rule."""
        terms = sight.terms
        hours = terms.unit_seconds / 3600
        pace = Pace(
            work=terms.work * hours, left=sight.left * hours, elapsed=sight.tick * terms.tick * hours,
            deadline=terms.ticks * terms.tick * hours, changeover=terms.changeover * hours,
        )  # fmt: skip
        now: Way = "none" if sight.machine == OFF else "on_demand" if sight.machine == ON_DEMAND else "spot"
        way = uniform_progress(pace, now, any(sight.up))
        if way == "spot":
            return sight.machine if sight.machine >= 0 else _any(sight)
        return ON_DEMAND if way == "on_demand" else OFF


def _any(sight: Sight) -> int:
    return next((zone for zone, up in enumerate(sight.up) if up), OFF)


class Planned:
    """Follow ``policies.spot_plan``, solved again as availability is learned; nothing of it is known at the start."""

    def __init__(self, prior: Prior, solve_again_ticks: int = 18) -> None:
        """Take what is believed beforehand, and after how many ticks to solve again at the soonest."""
        self._prior = prior
        self._least = solve_again_ticks
        self._market: Market | None = None
        self._plan: spot_plan.Plan | None = None
        self._until = 0

    def choose(self, sight: Sight) -> int:
        """Learn from this tick, solve again if it is time, and take what the plan does."""
        terms = sight.terms
        self._market = self._market.look(sight.up) if self._market else Market.begin(sight.up)
        time, work = float(sight.ticks_left), sight.left / terms.tick
        if self._plan is None or sight.tick >= self._until:
            costs = spot_plan.Costs(
                terms.on_demand_usd_per_hour, (terms.spot_usd_per_hour,) * len(sight.up),
                terms.changeover / terms.tick, terms.tick * terms.unit_seconds / 3600,
            )  # fmt: skip
            again = max(self._least, sight.ticks_left // AGAIN_SHARE)
            self._plan = spot_plan.solve(self._market, self._prior, costs, time, work, again)
            self._until = sight.tick + again
        chosen = self._plan.choose(self._market, time, work, sight.machine, sight.starting / terms.tick)
        return ON_DEMAND if chosen is None else chosen
