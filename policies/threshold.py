"""Pure decisions: a threshold on how busy the GPUs are, as autoscalers have it; for comparison.

One step of the price ladder up when they are busier than ``busy_up``, one down when they are less busy than
``busy_down``. How soon it may move again is ``moves.cooldown_minutes``, as for every policy.
"""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from policies.guards import must_leave, percent, usd
from policies.types import Choice, Option, Rejection, Settings, Situation

Share = Annotated[float, Field(ge=0, le=1)]


class ThresholdOptions(BaseModel):
    """What a policy file may set for ``threshold``."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)

    busy_up: Share = 0.9
    busy_down: Share = 0.6

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.busy_down >= self.busy_up:
            raise ValueError(f"busy_down {self.busy_down:g} is not below busy_up {self.busy_up:g} - set them apart")
        return self


class Threshold:
    """Go by GPU use only: no forecast, no regard for speed, dollars only as the order of the ladder."""

    foresees = False
    options = ThresholdOptions

    def choose(self, situation: Situation) -> Choice:
        """Take one step up, one step down, or none. An unknown use changes nothing."""
        stay, rules = situation.stay, _rules(situation.settings)
        up, down = _next(situation, dearer=True), _next(situation, dearer=False)
        if must_leave(situation):
            out = up or down
            why = "the job was killed here" if situation.killed else "staying does not fit"
            return Choice(out, _step(out, why)) if out else Choice(stay, f"no change although {why}: no rung is left")
        busy = situation.observed.get("usage.gpu_util")
        if busy is None:
            return Choice(stay, "no change, because how busy the GPUs are is not known")
        found = f"the GPUs are {percent(busy)} busy"
        if busy > rules.busy_up and up is not None:
            return Choice(up, _step(up, f"{found}, over {percent(rules.busy_up)}"))
        if busy < rules.busy_down and down is not None:
            return Choice(down, _step(down, f"{found}, under {percent(rules.busy_down)}"))
        return Choice(stay, f"no change, because {found} and there is no rung to take for that")

    def payback(self, situation: Situation, option: Option) -> Rejection | None:
        """Refuse nothing: a threshold does not ask whether a move pays."""
        return None


def _rules(settings: Settings) -> ThresholdOptions:
    return ThresholdOptions.model_validate(dict(settings.extra))


def _next(situation: Situation, dearer: bool) -> Option | None:
    """Find the next rung of the ladder of allowed prices; of equal prices the one with the least objective."""
    here = situation.stay.usd_per_hour
    rungs = [option for option in situation.options[1:] if (option.usd_per_hour > here) is dearer]
    rungs = [option for option in rungs if option.usd_per_hour != here]
    return min(rungs, key=lambda o: (abs(o.usd_per_hour - here), o.objective.mean, o.offer.id), default=None)


def _step(option: Option, why: str) -> str:
    return f"moving to {option.offer.id} ({usd(option.usd_per_hour)} an hour), because {why}"
