"""Pure decisions: dollars for each unit of useful progress, after Pollux (OSDI'21).

Pollux counts progress as goodput: throughput times statistical efficiency. With batch size ``m``, the batch size
``m0`` for which the job was tuned, and the gradient noise scale ``phi``::

    efficiency(m) = (phi + m0) / (phi + m)
    goodput(m)    = m / seconds(m) x efficiency(m)        seconds(m) = fixed_s + per_sample_s x m

``phi`` is ``metric.gradient_noise_scale`` as the job reports it, else the one declared in the policy. ``seconds`` is
fitted to the batch sizes that the job has shown. Without either there is no efficiency to tell options apart: the
choice falls back to throughput for each dollar, and says so.
"""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from policies.guards import PAYBACK_SHARE, fits, must_leave, percent, rescues, usd
from policies.types import Choice, Option, Rejection, Settings, Situation

Batch = Annotated[float, Field(ge=1, le=1e9)]


class BatchOptions(BaseModel):
    """Where the batch size may be chosen: at most ``max_per_gpu`` samples on one GPU, ``min`` to ``max`` in all."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)

    max_per_gpu: Batch
    min: Batch = 1.0
    max: Batch = 1e9

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g} - exchange them")
        return self


class GoodputOptions(BaseModel):
    """What a policy file may set. ``base_batch_size`` is the one that the learning rate is tuned for."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)

    base_batch_size: Batch | None = None
    gradient_noise_scale: Annotated[float, Field(gt=0, le=1e12)] | None = None
    batch_size: BatchOptions | None = None


class Goodput:
    """Take the least dollars (and time, valued) for each unit of goodput."""

    foresees = True
    options = GoodputOptions

    def choose(self, situation: Situation) -> Choice:
        """Weigh every option at the best batch size that it allows."""
        stay, known = situation.stay, _Known.of(situation)
        best = min(situation.options, key=lambda option: self._rank(situation, known, option))
        if must_leave(situation) and best.stays and len(situation.options) > 1:
            best = min(situation.options[1:], key=lambda option: self._rank(situation, known, option))
        batch, gain = known.best(best)
        advice = {"batch_size": batch} if known.chooses and abs(batch - known.batch) >= 1 else {}
        told = (
            f"; a batch of {batch:g} in place of {known.batch:g} makes {gain:.2f} times the goodput" if advice else ""
        )
        if best.stays:
            return Choice(
                stay, f"no change, because nothing has more {known.measure} for a dollar{told}", advice=advice
            )
        if best.due_seconds is not None and best.due_seconds > 0 and not must_leave(situation):
            return Choice(stay, f"no change, because the move to {best.offer.id} is due in {best.due_seconds:.0f} s")
        why = f"it has the most {known.measure} for a dollar: {usd(self._cost(known, best))} to the finish"
        if must_leave(situation):
            why = f"staying does not fit, and {why}"
        return Choice(best, f"moving to {best.offer.id}, because {why}{told}", advice=advice)

    def payback(self, situation: Situation, option: Option) -> Rejection | None:
        """Refuse a move whose saving, counted in goodput, is not surely above a share of the move's cost."""
        if must_leave(situation) or rescues(situation, option):
            return None
        known = _Known.of(situation)
        level, value = situation.settings.moves.payback_quantile, situation.settings.value_of_time_usd_per_hour
        paired = option.saving.quantile(level) - option.saving.mean
        sure = _beaten(option) / known.best(situation.stay)[1] - self._cost(known, option) + paired
        least = PAYBACK_SHARE * (option.move_usd + value * option.pause_seconds / 3600)
        if sure > least:
            return None
        detail = f"moving now saves {usd(sure)} at the {percent(level)} quantile, counted in {known.measure}"
        return Rejection(option.offer.id, "payback", f"{detail}; it must be above {usd(least)}")

    def _cost(self, known: "_Known", option: Option) -> float:
        return option.objective.mean / known.best(option)[1]

    def _rank(self, situation: Situation, known: "_Known", option: Option) -> tuple[bool, bool, float, bool]:
        unfit, cost = not fits(situation.settings, option), self._cost(known, option)
        if option.stays:
            # Where the plan moves now, staying would only put the same move off, by one interval at every turn.
            planned = [_beaten(other) for other in situation.options[1:] if other.due_seconds == 0]
            cost = max(cost, max(planned, default=0.0) / known.best(option)[1])
        return unfit, not rescues(situation, option), cost, not option.stays


def _beaten(option: Option) -> float:
    """The objective of not making a move, in dollars, as its saving counts it."""
    return option.objective.mean + option.saving.mean


class _Known:
    """What is known of a job's goodput: the batch size now, the noise, and how a step grows with the batch."""

    def __init__(
        self, rules: GoodputOptions, batch: float | None, noise: float | None, pace: tuple[float, float] | None
    ) -> None:
        self.batch = batch or 0.0
        self.noise = noise if noise is not None and noise > 0 else rules.gradient_noise_scale
        self.base = rules.base_batch_size or self.batch
        self.pace = pace
        self._limits = rules.batch_size
        self.measured = bool(self.batch) and self.noise is not None
        self.chooses = self.measured and pace is not None and self._limits is not None
        self.measure = "goodput" if self.measured else "throughput"
        if not self.measured:
            self.measure += " (no gradient noise scale is known)"

    @classmethod
    def of(cls, situation: Situation) -> "_Known":
        seen = situation.observed
        fixed, each = seen.get("pace.fixed_s"), seen.get("pace.per_sample_s")
        pace = (fixed, each) if fixed is not None and each is not None else None
        noise = seen.get("metric.gradient_noise_scale")
        return cls(_rules(situation.settings), seen.get("hp.batch_size"), noise, pace)

    def goodput(self, batch: float) -> float:
        """Give useful samples a second on the present machine; options keep their ratio to it."""
        assert self.pace is not None
        assert self.noise is not None
        efficiency = (self.noise + self.base) / (self.noise + batch)
        return batch / (self.pace[0] + self.pace[1] * batch) * efficiency

    def best(self, option: Option) -> tuple[float, float]:
        """Give the best batch size that an option allows, and how many times the present goodput it makes there."""
        if not self.chooses or self._limits is None:
            return self.batch, 1.0
        most = min(
            self._limits.max, self._limits.max_per_gpu * max(1, option.offer.resources.gpus * option.offer.nodes)
        )
        sizes = [self.batch * 2.0**power for power in range(-6, 7)]
        allowed = [size for size in sizes if self._limits.min <= size <= most] or [min(self.batch, most)]
        batch = max(allowed, key=self.goodput)
        return batch, self.goodput(batch) / self.goodput(self.batch)


def _rules(settings: Settings) -> GoodputOptions:
    return GoodputOptions.model_validate(dict(settings.extra))
