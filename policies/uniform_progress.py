"""Pure decisions: spot beside on-demand by the uniform-progress rule, as the known rule to compare with.

Source: Wu et al., "Can't Be Late: Optimizing Spot Instance Savings under Deadlines", NSDI 2024.
"""

from dataclasses import replace

from policies import spot
from policies.cost_per_progress import CostPerProgress
from policies.guards import must_leave
from policies.pace import Pace, Way, uniform_progress
from policies.spot import SpotOptions, Stand, stand
from policies.types import Choice, Option, Rejection, Situation


class UniformProgress(CostPerProgress):
    """Keep spot until it is lost; on-demand while progress is behind an even pace to the deadline.

    Without a deadline or a spot offer, and among offers of the same way of buying, it chooses as ``cost_per_progress``.
    """

    foresees = True
    options = SpotOptions

    def choose(self, situation: Situation) -> Choice:
        """Follow the rule. A job is never left without a machine: where the rule would wait, it runs on demand."""
        found = None if must_leave(situation) else stand(situation)
        if found is None:
            return super().choose(situation)
        stay = situation.stay
        now: Way = "none" if situation.reclaimed else "spot" if stay.offer.buying == "spot" else "on_demand"
        pace = _pace(situation, found)
        way = uniform_progress(pace, now, spot=bool(found.spot))
        if way == now == "spot":
            return Choice(stay, f"no change, because spot is kept until it is lost ({_stands(pace)})")
        if way == now == "on_demand":
            kept = tuple(option for option in situation.options if option.offer.buying != "spot")
            return super().choose(replace(situation, options=kept))
        taken = found.spot[0] if way == "spot" else found.on_demand
        return Choice(taken, f"moving to {taken.offer.id}, because {_stands(pace)}")

    def payback(self, situation: Situation, option: Option) -> Rejection | None:
        """Leave moves to and from spot to the rule."""
        return spot.payback(situation, option)


def _pace(situation: Situation, found: Stand) -> Pace:
    """Count from the job's registration; without a known share of steps done, all work is what is left."""
    elapsed = 0.0 if situation.began is None else (situation.now - situation.began).total_seconds() / 3600
    done = situation.done if situation.done is not None and 0 <= situation.done < 1 else 0.0
    elapsed = max(elapsed, 0.0)
    return Pace(found.left / (1 - done), found.left, elapsed, max(elapsed + found.time, 1e-9), found.changeover)


def _stands(pace: Pace) -> str:
    done = pace.work - pace.left
    asked = min(pace.work, pace.elapsed * pace.work / pace.deadline)
    return f"{done:.1f} h of work are done, an even pace asks for {asked:.1f} h"
