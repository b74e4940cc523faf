"""Pure decisions: the least time that a budget pays for, and a hard stop when it is spent.

The stop is a checkpoint, then the machine is let go; nothing starts it again. It is an action of its own kind,
``release``, so that it happens only where the policy's mode for it is ``approve`` or ``auto``.
"""

from policies.cost_per_progress import CostPerProgress
from policies.guards import PAYBACK_SHARE, must_leave, percent, usd
from policies.guards import payback as default_payback
from policies.types import Choice, Option, Rejection, Situation

SAME_HOURS = 0.01
"""Options within this share of the least hours count as equally fast; the cheapest of them is taken."""


class Budget(CostPerProgress):
    """Take the fastest option whose chance of exceeding the budget is within ``safety.budget_risk``.

    The budget is the job's own, or ``limits.usd_total`` where that is less. Where no option is within it, the least
    likely to exceed it is taken. Without a budget it is ``cost_per_progress``.
    """

    lets_go = True

    def choose(self, situation: Situation) -> Choice:
        """Stop when the money is gone, else be as fast as it allows."""
        if situation.budget_usd is None:
            told = super().choose(situation)
            return Choice(told.option, f"{told.reason} (no budget is set)", told.rejected)
        if self._spent(situation):
            return self._stop(situation)
        if must_leave(situation):
            return super().choose(situation)
        best = self._fastest(situation)
        left = f"{usd(situation.budget_usd - situation.spent_usd)} of the budget left"
        if best.stays:
            return Choice(best, f"no change, because nothing allowed is faster within the budget ({left})")
        hours = f"{best.hours.mean:.1f} h to the finish against {situation.stay.hours.mean:.1f} h"
        over = f"the chance of exceeding the budget is {percent(best.over_budget)}"
        return Choice(best, f"moving to {best.offer.id}, because it takes {hours} and {over} ({left})")

    def payback(self, situation: Situation, option: Option) -> Rejection | None:
        """Refuse a move that neither saves more time than it stands still, nor money, nor the budget."""
        stay, risk = situation.stay, situation.settings.safety.budget_risk
        if must_leave(situation):
            return None
        if situation.budget_usd is None:
            return default_payback(situation, option)
        least = PAYBACK_SHARE * option.pause_seconds / 3600
        faster = stay.hours.mean - option.hours.mean > max(least, SAME_HOURS * stay.hours.mean)
        safer = stay.over_budget > risk and option.over_budget <= stay.over_budget * (1 - PAYBACK_SHARE)
        if faster or safer or default_payback(situation, option) is None:
            return None
        detail = f"{option.hours.mean:.1f} h to the finish against {stay.hours.mean:.1f} h where it is"
        return Rejection(option.offer.id, "payback", f"{detail} is not worth the move")

    def _fastest(self, situation: Situation) -> Option:
        risk = situation.settings.safety.budget_risk
        within = [option for option in situation.options if option.over_budget <= risk]
        if not within:
            return min(situation.options, key=lambda option: (option.over_budget, option.usd.mean, not option.stays))
        least = min(option.hours.mean for option in within) * (1 + SAME_HOURS)
        return min(
            (option for option in within if option.hours.mean <= least),
            key=lambda option: (option.usd.mean, option.usd_per_hour, not option.stays),
        )

    def _spent(self, situation: Situation) -> bool:
        """Say whether the money is gone, the cost of stopping included."""
        stop = situation.release.move_usd if situation.release is not None else 0.0
        return situation.budget_usd is not None and situation.spent_usd + stop >= situation.budget_usd

    def _stop(self, situation: Situation) -> Choice:
        spent = f"{usd(situation.spent_usd)} of {usd(situation.budget_usd or 0.0)} is spent"
        if situation.release is None:
            return Choice(situation.stay, f"no change, because {spent} and there is no running machine to let go")
        lost = tuple(Rejection(option.offer.id, "budget", spent) for option in situation.options)
        return Choice(situation.release, f"letting the machine go after a checkpoint, because {spent}", lost)
