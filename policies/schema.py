"""Values: the shape of one policy in a policy file, strict: unknown keys and wrong types are refused."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from policies import quiet
from policies.types import Capacity, Limits, Mode, Moves, Prices, Safety, Settings, Trust

Positive = Annotated[float, Field(gt=0, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]
Minutes = Annotated[float, Field(ge=0, le=60 * 24 * 7)]


def _glob(text: str) -> str:
    """Refuse a pattern that can match no offer: each has the form ``cloud/place/machine``."""
    if text.count("[") > text.count("]"):
        raise ValueError(f"{text!r} opens a bracket that nothing closes - write [[] for the character itself")
    if "/" not in text and "*" not in text:
        raise ValueError(f'{text!r} can match no offer - write it like "aws/us-east-1/*" or "*/{text}"')
    return text


Glob = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_glob)]


def _quiet(text: str) -> str:
    quiet.read(text)
    return text


class Strict(BaseModel):
    """What every part of a policy file keeps to."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class OffersModel(Strict):
    """Patterns of offers."""

    allow: list[Glob] = Field(default=["*"], min_length=1, max_length=200)
    deny: list[Glob] = Field(default=[], max_length=200)


class GpusModel(Strict):
    """A range of GPU counts."""

    min: Annotated[int, Field(ge=0, le=100_000)] | None = None
    max: Annotated[int, Field(ge=0, le=100_000)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max} - exchange them")
        return self


class LimitsModel(Strict):
    """Caps."""

    usd_per_hour: Positive | None = None
    usd_total: Positive | None = None
    offers: OffersModel = OffersModel()
    gpus: GpusModel = GpusModel()


class SafetyModel(Strict):
    """Certainties."""

    memory_quantile: Annotated[float, Field(ge=0.5, lt=1)] = 0.99
    memory_margin: Annotated[float, Field(ge=0, le=10)] = 0.08
    deadline_risk: Share = 0.05
    budget_risk: Share = 0.05


class MovesModel(Strict):
    """Rates and times of moves."""

    max_per_hour: Annotated[int, Field(ge=0, le=60)] = 2
    cooldown_minutes: Minutes = 10.0
    payback_quantile: Share = 0.2
    quiet: list[Annotated[str, AfterValidator(_quiet)]] = Field(default=[], max_length=20)


class CapacityModel(Strict):
    """Ways of buying."""

    spot: Literal["allowed", "never", "only"] = "never"
    on_shortage: Literal["next_best", "wait"] = "next_best"
    shortage_memory_minutes: Minutes = 30.0


class ModeModel(Strict):
    """The trust ladder."""

    default: Mode = "recommend"
    change_machine: Mode | None = None
    attach_gpu: Mode | None = None
    resize_group: Mode | None = None
    release: Mode | None = None


class PricesModel(Strict):
    """Corrections of the catalog."""

    discount: dict[Glob, Annotated[float, Field(ge=0, lt=1)]] = {}
    override: dict[Glob, Positive] = {}
    max_age_hours: Positive = Prices().max_age_hours
    disk_usd_per_hour: Annotated[float, Field(ge=0, le=1e6)] = 0.0


class PolicyModel(Strict):
    """One policy as it stands in a file."""

    kind: str = "cost_per_progress"
    value_of_time_usd_per_hour: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    limits: LimitsModel = LimitsModel()
    safety: SafetyModel = SafetyModel()
    moves: MovesModel = MovesModel()
    capacity: CapacityModel = CapacityModel()
    checkpoint: Literal["required", "not_needed"] = "required"
    mode: ModeModel = ModeModel()
    prices: PricesModel = PricesModel()

    def settings(self, name: str, version: str, extra: Mapping[str, object] | None = None) -> Settings:
        """Make the frozen value that policies see."""
        limits = self.limits
        return Settings(
            name=name,
            kind=self.kind,
            version=version,
            value_of_time_usd_per_hour=self.value_of_time_usd_per_hour,
            limits=Limits(
                limits.usd_per_hour,
                limits.usd_total,
                tuple(limits.offers.allow),
                tuple(limits.offers.deny),
                limits.gpus.min,
                limits.gpus.max,
            ),
            safety=Safety(**self.safety.model_dump()),
            moves=Moves(**self.moves.model_dump(exclude={"quiet"}), quiet=tuple(self.moves.quiet)),
            capacity=Capacity(**self.capacity.model_dump()),
            checkpoint=self.checkpoint,
            trust=Trust(**self.mode.model_dump()),
            prices=Prices(**self.prices.model_dump()),
            extra=dict(extra or {}),
        )
