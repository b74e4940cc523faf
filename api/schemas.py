"""Values: what callers may send. Strict: no unknown field, no NaN, no number in a string. Each makes a plain value."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

import numpy as np
from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from daemon.forecast.base import Horizon
from daemon.types import Declared, Floats, Forecast, History, Job, JobStatus
from policies.types import Mode
from providers.types import LaunchPlace, LaunchRecipe, Offer, Price, Resources, Target, TargetKind

JOB_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
MOST_ROWS = 10_000
MOST_CELLS = 400_000


class Sent(BaseModel):
    """The base of all that is sent."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("a time is a text such as 2026-11-23T10:00:00Z")
    return value


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs its zone - add Z for UTC")
    return value.astimezone(UTC)


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("only printable characters on one line")
    return value


def _hook(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a hook is an http or https URL with a host")
    if parts.username or parts.password:
        raise ValueError("a hook's URL carries no user or password: it is shown and logged")
    return value


Time = Annotated[datetime, Field(strict=False), BeforeValidator(_text), AfterValidator(_aware)]
Name = Annotated[str, Field(pattern=JOB_PATTERN, examples=["bert-large"])]
Word = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Hook = Annotated[str, Field(min_length=8, max_length=2048), AfterValidator(_printable), AfterValidator(_hook)]
Secret = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[\x21-\x7e]+$")]
Steps = Annotated[int, Field(ge=1, le=10**15)]
Step = Annotated[int, Field(ge=0, le=10**15)]
Dollars = Annotated[float, Field(gt=0, le=1e9)]
Amount = Annotated[float, Field(ge=0, le=1e12)]
Cell = float | None


class DeclaredIn(Sent):
    """A change of hyperparameters that is known to come."""

    from_step: Step
    hyperparameters: Annotated[dict[Word, float], Field(min_length=1, max_length=64)]

    def value(self) -> Declared:
        return Declared(self.from_step, dict(self.hyperparameters))


class TargetIn(Sent):
    """The cloud resource under a job. ``place`` (or ``zone``, or ``region``) is its zone or region."""

    provider: Word
    kind: TargetKind
    id: Word
    place: Annotated[Word, Field(validation_alias=AliasChoices("place", "zone", "region"))]

    def value(self) -> Target:
        return Target(self.provider, self.kind, self.id, self.place)


class PlaceIn(Sent):
    """A template of another provider, and the zone in which it is launched there."""

    template: Word
    place: Word


class RecipeIn(Sent):
    """How to start a new machine for a job; ``places`` gives by a provider's name how to do so there."""

    template: Word
    labels: Annotated[dict[Word, Word], Field(max_length=64)] = {}
    places: Annotated[dict[Word, PlaceIn], Field(max_length=16)] = {}

    def value(self) -> LaunchRecipe:
        places = {name: LaunchPlace(one.template, one.place) for name, one in self.places.items()}
        return LaunchRecipe(self.template, dict(self.labels), places)


class MetricIn(Sent):
    """A metric to reach: training ends when it is at or beyond ``value``."""

    name: Word
    value: float


class JobChange(Sent):
    """What may be changed of a job; a field that is left out stays, ``null`` clears it."""

    hook: Hook | None = None
    target: TargetIn | None = None
    policy: Word | None = None
    mode: Mode | None = None
    total_steps: Steps | None = None
    target_metric: MetricIn | None = None
    deadline: Time | None = None
    budget_usd: Dollars | None = None
    declared: Annotated[list[DeclaredIn], Field(max_length=256)] = []
    recipe: RecipeIn | None = None
    owner: Word | None = None
    group: Word | None = None
    hook_token: Secret | None = None
    grace_seconds: Annotated[float, Field(gt=0, le=86400)] | None = None

    def values(self) -> dict[str, object]:
        """Give the fields that were sent, as those of ``daemon.types.Job``."""
        given: dict[str, object] = {}
        for name in self.model_fields_set:
            given[name] = _plain(getattr(self, name))
        return given


class JobPatch(JobChange):
    """A change of a registered job."""

    state: Literal["active", "paused"] = "active"


class JobIn(JobChange):
    """A job to register. Without ``hook`` it only pushes; without ``policy`` the default one is taken."""

    name: Name


def _plain(value: object) -> object:
    match value:
        case DeclaredIn() | TargetIn() | RecipeIn():
            return value.value()
        case MetricIn():
            return (value.name, value.value)
        case list():
            return tuple(_plain(item) for item in value)
        case _:
            return value


class TokenIn(Sent):
    """A token to make."""

    name: Word
    scopes: Annotated[
        list[Annotated[str, Field(pattern=r"^(read|operate|admin|observe:[A-Za-z0-9][A-Za-z0-9._-]{0,127})$")]],
        Field(min_length=1, max_length=64),
    ]


class HorizonIn(Sent):
    """How far to look ahead: ``steps`` where the end is unknown."""

    steps: Annotated[int, Field(ge=1, le=10**9)] = 1000
    points: Annotated[int, Field(ge=2, le=256)] = 32
    trajectories: Annotated[int, Field(ge=1, le=512)] = 64

    def value(self) -> Horizon:
        return Horizon(self.steps, self.points, self.trajectories)


class HistoryIn(Sent):
    """A run so far, as columns of one length; ``null`` is unknown.

    Columns are named as in the history file: ``hp.<name>``, ``metric.<name>``, ``usage.<name>``, ``step_seconds``.
    """

    job: Name = "request"
    step: Annotated[list[Step], Field(max_length=MOST_ROWS)]
    elapsed_s: Annotated[list[Amount], Field(max_length=MOST_ROWS)]
    columns: Annotated[dict[Word, list[Cell]], Field(max_length=128)]
    offers: Annotated[list[str], Field(max_length=MOST_ROWS)] = []
    total_steps: Steps | None = None
    declared: Annotated[list[DeclaredIn], Field(max_length=256)] = []
    owner: Word | None = None
    group: Word | None = None

    @model_validator(mode="after")
    def _even(self) -> "HistoryIn":
        rows = len(self.step)
        lengths = {"elapsed_s": len(self.elapsed_s), **{name: len(column) for name, column in self.columns.items()}}
        for name, length in lengths.items():
            if length != rows:
                raise ValueError(f"{name} has {length} rows where step has {rows}")
        if self.offers and len(self.offers) != rows:
            raise ValueError(f"offers has {len(self.offers)} rows where step has {rows}")
        if any(b <= a for a, b in zip(self.step, self.step[1:], strict=False)):
            raise ValueError("step must ascend")
        return self

    def value(self, now: datetime) -> History:
        """Make the history, as if its last row had been received ``now``."""
        elapsed = np.asarray(self.elapsed_s, dtype=np.float64)
        start = now.timestamp() - (elapsed[-1] if len(elapsed) else 0.0)
        return History(
            job=self.job,
            step=np.asarray(self.step, dtype=np.int64),
            at_s=start + elapsed,
            columns={name: _floats(column) for name, column in self.columns.items()},
            offers=tuple(self.offers),
            total_steps=self.total_steps,
            declared=tuple(d.value() for d in self.declared),
            owner=self.owner,
            group=self.group,
        )


def _floats(column: Sequence[Cell]) -> Floats:
    return np.array([math.nan if cell is None else cell for cell in column], dtype=np.float64)


class ForecastIn(Sent):
    """A forecast made elsewhere: ``paths[name]`` holds one row of values a trajectory, on the common ``steps``."""

    at_step: Step
    steps: Annotated[list[Step], Field(min_length=1, max_length=512)]
    probability: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1, max_length=512)]
    paths: Annotated[dict[Word, list[list[Cell]]], Field(min_length=1, max_length=64)]
    deviations: Annotated[dict[Word, list[list[Cell]]], Field(max_length=64)] = {}
    finish_step: Step | None = None

    @model_validator(mode="after")
    def _even(self) -> "ForecastIn":
        if abs(sum(self.probability) - 1.0) > 1e-6:
            raise ValueError("probability must sum to 1")
        if any(b <= a for a, b in zip([self.at_step, *self.steps], self.steps, strict=False)):
            raise ValueError("steps must ascend from after at_step")
        for name, rows in [*self.paths.items(), *self.deviations.items()]:
            if len(rows) != len(self.probability) or any(len(row) != len(self.steps) for row in rows):
                raise ValueError(f"{name} must have {len(self.probability)} rows of {len(self.steps)} values")
        if any(name not in self.paths for name in self.deviations):
            raise ValueError("deviations names a path that is not there")
        return self

    def value(self, job: str, now: datetime) -> Forecast:
        return Forecast(
            job=job,
            made_at=now,
            at_step=self.at_step,
            steps=np.asarray(self.steps, dtype=np.int64),
            probability=np.asarray(self.probability, dtype=np.float64),
            paths={name: np.stack([_floats(row) for row in rows]) for name, rows in self.paths.items()},
            deviations={name: np.stack([_floats(row) for row in rows]) for name, rows in self.deviations.items()},
            finish_step=self.finish_step,
            method="given",
        )


class StatelessForecast(Sent):
    """A history to forecast."""

    history: HistoryIn
    horizon: HorizonIn = HorizonIn()


class ResourcesIn(Sent):
    """What one node has."""

    cpu_cores: Annotated[float, Field(gt=0, le=1e6)]
    memory_gib: Annotated[float, Field(gt=0, le=1e6)]
    gpus: Annotated[int, Field(ge=0, le=1024)] = 0
    gpu_model: Word | None = None
    gpu_memory_gib: Annotated[float, Field(ge=0, le=1e5)] = 0.0
    network_gbps: Amount | None = None
    disk_mb_per_s: Amount | None = None


class OfferIn(Sent):
    """A machine that could be had; ``usd_per_hour`` is for all its nodes together."""

    provider: Word
    region: Word
    machine_type: Word
    resources: ResourcesIn
    usd_per_hour: Dollars
    zone: Word | None = None
    nodes: Annotated[int, Field(ge=1, le=100_000)] = 1
    attached_gpus: Annotated[int, Field(ge=0, le=64)] = 0
    buying: Literal["on_demand", "spot", "reserved"] = "on_demand"

    def value(self, now: datetime) -> Offer:
        """Make the offer, its price as of ``now``."""
        return Offer(
            provider=self.provider,
            region=self.region,
            machine_type=self.machine_type,
            resources=Resources(**self.resources.model_dump()),
            price=Price(self.usd_per_hour, "request", now),
            zone=self.zone,
            nodes=self.nodes,
            attached_gpus=self.attached_gpus,
            buying=self.buying,
        )


OfferRef = Word | OfferIn
"""An offer by its id, or in full."""


class JobFacts(Sent):
    """What the engine should know of a job beside its history."""

    total_steps: Steps | None = None
    deadline: Time | None = None
    budget_usd: Dollars | None = None
    spent_usd: Amount = 0.0
    checkpoint_seconds: Amount | None = None
    restore_seconds: Amount | None = None
    memory_floor_gib: Amount = 0.0
    gpu_memory_floor_gib: Amount = 0.0

    def job(self, name: str, policy: str, history: History, now: datetime) -> Job:
        """Make the job that the engine weighs offers for."""
        return Job(
            name=name,
            registered_at=now,
            policy=policy,
            total_steps=self.total_steps or history.total_steps,
            deadline=self.deadline,
            budget_usd=self.budget_usd,
            declared=history.declared,
            owner=history.owner,
            group=history.group,
        )

    def status(self, now: datetime) -> JobStatus:
        """Make its status, as if it had just been heard of."""
        return JobStatus(
            heard_at=now,
            checkpoint_seconds=self.checkpoint_seconds,
            restore_seconds=self.restore_seconds,
            memory_floor_gib=self.memory_floor_gib,
            gpu_memory_floor_gib=self.gpu_memory_floor_gib,
        )


class StatelessPlan(Sent):
    """A question to the allocation engine: from ``current``, which of ``offers`` under this policy?

    ``history`` or ``forecast`` (or both) tell where the job is heading. ``offers`` left out means all that are listed
    now. ``policy`` names one in force, ``settings`` is the text of a policy file with one policy.
    """

    current: OfferRef
    history: HistoryIn | None = None
    forecast: ForecastIn | None = None
    offers: Annotated[list[OfferRef], Field(max_length=2000)] | None = None
    policy: Word | None = None
    settings: Annotated[str, Field(max_length=256 * 1024)] | None = None
    job: JobFacts = JobFacts()

    @model_validator(mode="after")
    def _enough(self) -> "StatelessPlan":
        if self.history is None and self.forecast is None:
            raise ValueError("history or forecast is needed")
        if self.policy is not None and self.settings is not None:
            raise ValueError("give policy or settings, not both")
        return self


def empty(job: str) -> History:
    """Make the history of a job that nothing is known of."""
    nothing: Mapping[str, Floats] = {}
    return History(job, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64), nothing)
