"""Pure decisions: what people do about spot under a deadline: on-demand throughout, greedily, uniform progress."""

from daemon.replay.spot_world import OFF, ON_DEMAND, Sight
from policies.pace import Pace, Way, uniform_progress


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
