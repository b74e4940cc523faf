"""Pure decisions: the least dollars that hold a deadline with the certainty asked for."""

from policies.cost_per_progress import CostPerProgress
from policies.guards import PAYBACK_SHARE, must_leave, percent, rescues, usd
from policies.guards import payback as default_payback
from policies.types import Choice, Option, Rejection, Situation


class Deadline(CostPerProgress):
    """Take the least objective among the options whose chance of being late is within ``safety.deadline_risk``.

    The objective is dollars, plus the value of the time where the policy sets one. Where no option holds the deadline,
    the least late is taken, and of equally late ones the cheapest. Without a deadline it is ``cost_per_progress``.
    """

    def choose(self, situation: Situation) -> Choice:
        """Stay on time as cheaply as possible; be as little late as possible where that cannot be had."""
        allowed = situation.settings.safety.deadline_risk
        if must_leave(situation) or situation.stay.late <= allowed:
            return super().choose(situation)
        # A rescue does not wait for the plan's time: the plan knows costs, not deadlines.
        best = min(situation.options, key=lambda option: self._least_late(situation, option))
        if best.stays:
            late = percent(best.late)
            return Choice(best, f"no change, because nothing allowed is likelier on time: {late} late where it is")
        change = (
            f"lowers the chance of missing the deadline from {percent(situation.stay.late)} to {percent(best.late)}"
        )
        short = "" if best.late <= allowed else f"; none holds it within {percent(allowed)}"
        return Choice(
            best, f"moving to {best.offer.id}, because it {change}{short} ({usd(best.usd.mean)} to the finish)"
        )

    def _least_late(self, situation: Situation, option: Option) -> tuple[float, float, bool]:
        late = option.late if option.late > situation.settings.safety.deadline_risk else 0.0
        return late, option.objective.mean, not option.stays

    def payback(self, situation: Situation, option: Option) -> Rejection | None:
        """Let a move through that makes the job likelier on time where staying is too late; else it must pay."""
        if must_leave(situation) or rescues(situation, option):
            return None
        stay, safety = situation.stay, situation.settings.safety
        if stay.late <= safety.deadline_risk:
            return default_payback(situation, option)
        if option.late <= safety.deadline_risk or option.late <= stay.late * (1 - PAYBACK_SHARE):
            return None
        detail = (
            f"the chance of missing the deadline stays at {percent(option.late)}, against {percent(stay.late)} here"
        )
        return Rejection(option.offer.id, "payback", detail)
