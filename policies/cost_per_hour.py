"""Pure decisions: the cheapest dollars an hour that hold the predicted need with its margin."""

from policies.guards import must_leave, percent, usd
from policies.types import Choice, Option, Rejection, Situation


class CostPerHour:
    """Take the least dollars an hour among the options that fit; speed does not count."""

    foresees = True

    def choose(self, situation: Situation) -> Choice:
        """Take the cheapest hour; equal prices are told apart by the objective, and staying wins a tie."""
        stay = situation.stay
        best = min(situation.options[1:], key=lambda option: (option.usd_per_hour, option.objective.mean), default=None)
        leaving = must_leave(situation)
        if best is None:
            short = " although staying does not fit" if leaving else ""
            return Choice(stay, f"no change{short}, because no allowed option is left beside {_priced(stay)}")
        if leaving:
            why = "the job was killed here" if situation.killed else f"staying does not fit ({percent(stay.misfit)})"
            return self._take(
                situation, best, f"moving to {_priced(best)}, because {why} and it is the cheapest that fits"
            )
        if best.usd_per_hour < stay.usd_per_hour:
            reason = f"moving to {_priced(best)}, because it fits and {stay.offer.id} costs {usd(stay.usd_per_hour)}"
            return self._take(situation, best, reason)
        return self._take(situation, stay, f"no change, because nothing that fits is cheaper than {_priced(stay)}")

    def payback(self, situation: Situation, option: Option) -> Rejection | None:
        """Refuse a move that cheaper hours do not pay for before the finish, counted in hours likely to be left."""
        if must_leave(situation):
            return None
        stay = situation.stay
        hours = stay.hours.quantile(situation.settings.moves.payback_quantile)
        saved = (stay.usd_per_hour - option.usd_per_hour) * hours - option.move_usd
        if saved > 0:
            return None
        detail = f"{usd(option.usd_per_hour)} an hour against {usd(stay.usd_per_hour)} over {hours:.1f} h left"
        return Rejection(option.offer.id, "payback", f"{detail} does not pay the move's {usd(option.move_usd)}")

    def _take(self, situation: Situation, taken: Option, reason: str) -> Choice:
        lost = (
            Rejection(
                option.offer.id, "dearer", f"{usd(option.usd_per_hour)} an hour against {usd(taken.usd_per_hour)}"
            )
            for option in situation.options
            if option is not taken
        )
        return Choice(taken, reason, tuple(lost))


def _priced(option: Option) -> str:
    return f"{option.offer.id} ({usd(option.usd_per_hour)} an hour)"
