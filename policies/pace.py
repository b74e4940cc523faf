"""Pure decisions: how a job stands against its deadline, and the uniform-progress rule.

Source: Wu et al., "Can't Be Late: Optimizing Spot Instance Savings under Deadlines", NSDI 2024.
"""

from dataclasses import dataclass
from typing import Literal

Way = Literal["none", "spot", "on_demand"]
"""What a job runs on: no machine at all, a spot machine, one on demand."""


@dataclass(frozen=True, slots=True)
class Pace:
    """A job under a deadline, in hours: its work in all and left, the time since it began and in all."""

    work: float
    left: float
    elapsed: float
    deadline: float
    changeover: float

    @property
    def slack(self) -> float:
        """Give the hours to the deadline that are not needed for work."""
        return self.deadline - self.elapsed - self.left

    def behind(self, lead: float = 0.0) -> bool:
        """Say whether less is done than uniform progress asks for ``lead`` hours from now."""
        return self.work - self.left < (self.elapsed + lead) * self.work / self.deadline - 1e-9


def uniform_progress(pace: Pace, now: Way, spot: bool) -> Way:
    """Choose what to run on next; ``spot`` says that spot capacity is to be had.

    The rules of the paper: spot is kept until it is lost, and taken whenever the job has no machine (also behind
    schedule); without spot, an idle job waits unless it is behind, then it takes on-demand; on-demand is kept until
    progress is ahead of what is asked two changeovers from now; with slack for less than two changeovers an idle job
    goes to on-demand and stays there.
    """
    if now == "spot" and spot:
        return "spot"
    if now == "on_demand" and (pace.behind(2 * pace.changeover) or pace.slack < 2 * pace.changeover):
        return "on_demand"
    if pace.slack < 2 * pace.changeover:
        return "on_demand"
    if spot:
        return "spot"
    return "on_demand" if pace.behind() else "none"
