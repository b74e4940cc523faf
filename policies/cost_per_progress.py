"""Pure decisions: the default policy, dollars for each unit of progress plus the value of the time it takes.

Work left is the same for every option, so the least ``usd + value_of_time x hours`` to the finish is also the least
per unit of progress.
"""

import math

from policies.guards import must_leave, percent, rescues, usd
from policies.types import Choice, Option, Situation


class CostPerProgress:
    """Take the option with the least mean objective to the finish, once the plan says that it is time."""

    foresees = True

    def choose(self, situation: Situation) -> Choice:
        """Take the best of the allowed options; stay where none pays or the plan wants the move later."""
        stay = situation.stay
        best = min(situation.options[1:], key=lambda option: self._rank(situation, option), default=None)
        if must_leave(situation):
            return self._leave(situation, best)
        if best is None:
            return Choice(stay, self._wait(situation) or self._cheapest(situation))
        if best.due_seconds is not None and best.due_seconds > 0:
            return Choice(stay, _due(best))
        if rescues(situation, best):
            return Choice(best, _rescue(situation, best))
        if best.due_seconds is None and situation.later:
            return Choice(stay, _due(situation.later[0]))
        if not best.saving.quantile(situation.settings.moves.payback_quantile) > 0:
            return Choice(stay, self._cheapest(situation))
        return Choice(best, _gain(situation, best))

    def _rank(self, situation: Situation, option: Option) -> tuple[bool, float]:
        """Order options: those that save the deadline or budget first, then by mean objective."""
        mean = option.objective.mean
        return not rescues(situation, option), math.inf if math.isnan(mean) else mean

    def _leave(self, situation: Situation, best: Option | None) -> Choice:
        stay = situation.stay
        why = "the job was killed here" if situation.killed else _misfit(stay)
        if best is None:
            return Choice(stay, f"no change although {why}, because no allowed option fits better")
        cost = f"{usd(best.objective.mean)} to the finish, time valued"
        return Choice(best, f"moving to {best.offer.id}, because {why}; there {_misfit(best)} ({cost})")

    def _wait(self, situation: Situation) -> str | None:
        return _due(situation.later[0]) if situation.later else None

    def _cheapest(self, situation: Situation) -> str:
        stay = situation.stay
        cost = f"{usd(stay.objective.mean)} to the finish, time valued"
        return f"no change, because no allowed move pays back against staying on {stay.offer.id} ({cost})"


def _due(option: Option) -> str:
    return f"no change, because the move to {option.offer.id} is due in {option.due_seconds or 0:.0f} s"


def _misfit(option: Option) -> str:
    what = (option.misfit_resource or "memory").removesuffix("_gib").replace("_", " ")
    return f"the chance that {what} does not suffice is {percent(option.misfit)}"


def _gain(situation: Situation, best: Option) -> str:
    level = situation.settings.moves.payback_quantile
    saving = f"it saves {usd(best.saving.mean)} to the finish (at least {usd(best.saving.quantile(level))} with "
    move = f"the move's {usd(best.move_usd)} and {best.pause_seconds:.0f} s of standing still counted"
    return f"moving to {best.offer.id}, because {saving}{percent(1 - level)} certainty), {move}"


def _rescue(situation: Situation, best: Option) -> str:
    stay, safety = situation.stay, situation.settings.safety
    if stay.late > safety.deadline_risk:
        change = f"lowers the chance of missing the deadline from {percent(stay.late)} to {percent(best.late)}"
    else:
        change = (
            f"lowers the chance of exceeding the budget from {percent(stay.over_budget)} to {percent(best.over_budget)}"
        )
    return f"moving to {best.offer.id}, because it {change}; it costs {usd(-best.saving.mean)} more than staying"
