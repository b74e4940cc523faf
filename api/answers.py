"""Values: what callers are answered with. Each is made from the daemon's own values by ``of``; unknown is ``null``."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from daemon.forecast.base import seconds_to
from daemon.look import Look, PlannedMove
from daemon.types import (
    Checkpoint,
    Decision,
    DecisionStatus,
    Declared,
    Drift,
    Forecast,
    Job,
    JobState,
    JobStatus,
    Report,
    TrainingState,
)
from policies.types import ActionKind, Choice, Mode, Option, Rejection, RouteName, Spread
from providers.types import Allocation, LaunchRecipe, Offer, Target


def finite(value: object) -> object:
    """Read NaN and infinity as unknown: JSON has neither."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Real = Annotated[float | None, BeforeValidator(finite)]


def cells(values: Sequence[float]) -> list[float | None]:
    """Make a JSON column of an array, six significant digits, NaN as ``null``."""
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in (float(x) for x in values)]


class Answer(BaseModel):
    """The base of all that is answered."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ResourcesOut(Answer):
    cpu_cores: Real
    memory_gib: Real
    gpus: int
    gpu_model: str | None
    gpu_memory_gib: Real
    network_gbps: Real
    disk_mb_per_s: Real


class OfferOut(Answer):
    """``usd_per_hour`` is for all nodes; ``null`` while no sourced price is known."""

    id: str
    provider: str
    region: str
    zone: str | None
    machine_type: str
    nodes: int
    attached_gpus: int
    buying: str
    resources: ResourcesOut
    usd_per_hour: Real
    price_source: str | None
    price_at: datetime | None

    @classmethod
    def of(cls, offer: Offer) -> "OfferOut":
        has, price = offer.resources, offer.price
        return cls(
            id=offer.id,
            provider=offer.provider,
            region=offer.region,
            zone=offer.zone,
            machine_type=offer.machine_type,
            nodes=offer.nodes,
            attached_gpus=offer.attached_gpus,
            buying=offer.buying,
            resources=ResourcesOut(
                cpu_cores=has.cpu_cores,
                memory_gib=has.memory_gib,
                gpus=has.gpus,
                gpu_model=has.gpu_model,
                gpu_memory_gib=has.gpu_memory_gib,
                network_gbps=has.network_gbps,
                disk_mb_per_s=has.disk_mb_per_s,
            ),
            usd_per_hour=price.usd_per_hour if price else None,
            price_source=price.source if price else None,
            price_at=price.at if price else None,
        )


class SpreadOut(Answer):
    mean: Real
    p10: Real
    p50: Real
    p90: Real

    @classmethod
    def of(cls, spread: Spread) -> "SpreadOut":
        return cls(mean=spread.mean, p10=spread.deciles[0], p50=spread.deciles[4], p90=spread.deciles[8])


class OptionOut(Answer):
    """One thing that could be done. ``limit`` is the first limit it ran into, ``null`` for the one taken."""

    offer: OfferOut
    route: RouteName
    kind: ActionKind | None
    taken: bool
    limit: str | None
    detail: str | None
    usd: SpreadOut
    hours: SpreadOut
    objective: SpreadOut
    saving: SpreadOut
    usd_per_hour: Real
    usd_per_progress: Real
    misfit: Real
    misfit_resource: str | None
    late: Real
    over_budget: Real
    move_usd: Real
    pause_seconds: Real
    lead_seconds: Real
    due_seconds: Real
    price_age_hours: Real

    @classmethod
    def of(cls, option: Option, rejection: Rejection | None = None, taken: bool = False) -> "OptionOut":
        return cls(
            offer=OfferOut.of(option.offer),
            route=option.route,
            kind=option.kind,
            taken=taken,
            limit=rejection.limit if rejection else None,
            detail=rejection.detail if rejection else None,
            usd=SpreadOut.of(option.usd),
            hours=SpreadOut.of(option.hours),
            objective=SpreadOut.of(option.objective),
            saving=SpreadOut.of(option.saving),
            usd_per_hour=option.usd_per_hour,
            usd_per_progress=option.usd_per_progress,
            misfit=option.misfit,
            misfit_resource=option.misfit_resource,
            late=option.late,
            over_budget=option.over_budget,
            move_usd=option.move_usd,
            pause_seconds=option.pause_seconds,
            lead_seconds=option.lead_seconds,
            due_seconds=option.due_seconds,
            price_age_hours=option.price_age_hours,
        )


class RejectionOut(Answer):
    offer: str
    limit: str
    detail: str

    @classmethod
    def of(cls, rejection: Rejection) -> "RejectionOut":
        return cls(offer=rejection.offer, limit=rejection.limit, detail=rejection.detail)


class DecisionBrief(Answer):
    """A decision without its options."""

    id: str
    job: str
    at: datetime
    last_at: datetime | None
    repeats: int
    policy: str
    policy_version: str
    mode: Mode
    status: DecisionStatus
    current: str
    chosen: str
    route: RouteName
    changes: bool
    reason: str
    advice: dict[str, Real]
    shadow: str
    by: str

    @classmethod
    def of(cls, decision: Decision) -> "DecisionBrief":
        return cls(**_brief(decision))


def _brief(decision: Decision) -> dict[str, Any]:
    taken = decision.choice.option
    return {
        "id": decision.id,
        "job": decision.job,
        "at": decision.at,
        "last_at": decision.last_at,
        "repeats": decision.repeats,
        "policy": decision.policy,
        "policy_version": decision.policy_version,
        "mode": decision.mode,
        "status": decision.status,
        "current": decision.current.id,
        "chosen": taken.offer.id,
        "route": taken.route,
        "changes": not taken.stays,
        "reason": decision.choice.reason,
        "advice": dict(decision.choice.advice),
        "shadow": decision.shadow,
        "by": decision.by,
    }


class DecisionOut(DecisionBrief):
    """A decision with everything that led to it."""

    inputs_hash: str
    current_offer: OfferOut
    options: list[OptionOut]
    rejected: list[RejectionOut]
    forecast: dict[str, object]

    @classmethod
    def of(cls, decision: Decision) -> "DecisionOut":
        return cls(
            **_brief(decision),
            inputs_hash=decision.inputs_hash,
            current_offer=OfferOut.of(decision.current),
            options=options_out(decision.options, decision.choice),
            rejected=[RejectionOut.of(r) for r in decision.rejected],
            forecast={key: tame(value) for key, value in decision.forecast.items()},
        )


def options_out(options: Sequence[Option], choice: Choice | None) -> list[OptionOut]:
    """Put each option beside what became of it."""
    if choice is None:
        return [OptionOut.of(option) for option in options]
    why, taken = {r.offer: r for r in choice.rejected}, choice.option
    shown = [*options, taken] if taken.route == "release" else list(options)
    here = [(o.offer.id, o.route == "release") == (taken.offer.id, taken.route == "release") for o in shown]
    return [
        OptionOut.of(o, None if is_it else why.get(o.offer.id), is_it) for o, is_it in zip(shown, here, strict=True)
    ]


def tame(value: object) -> object:
    """Make any digest value fit for JSON."""
    match value:
        case float():
            return finite(value)
        case Mapping():
            return {str(key): tame(item) for key, item in value.items()}
        case list() | tuple():
            return [tame(item) for item in value]
        case datetime():
            return value.isoformat()
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)


class TargetOut(Answer):
    provider: str
    kind: str
    id: str
    place: str

    @classmethod
    def of(cls, target: Target) -> "TargetOut":
        return cls(provider=target.provider, kind=target.kind, id=target.id, place=target.place)


class PlaceOut(Answer):
    template: str
    place: str


class RecipeOut(Answer):
    template: str
    labels: dict[str, str]
    places: dict[str, PlaceOut]

    @classmethod
    def of(cls, recipe: LaunchRecipe) -> "RecipeOut":
        places = {name: PlaceOut(template=one.template, place=one.place) for name, one in recipe.places.items()}
        return cls(template=recipe.template, labels=dict(recipe.labels), places=places)


class DeclaredOut(Answer):
    from_step: int
    hyperparameters: dict[str, Real]

    @classmethod
    def of(cls, declared: Declared) -> "DeclaredOut":
        return cls(from_step=declared.from_step, hyperparameters=dict(declared.hyperparameters))


class CheckpointOut(Answer):
    id: str
    step: int
    seconds: Real
    uri: str | None

    @classmethod
    def of(cls, made: Checkpoint) -> "CheckpointOut":
        return cls(id=made.id, step=made.step, seconds=made.seconds, uri=made.uri)


class StatusOut(Answer):
    """What is known of a job beside its telemetry; ``error`` is why it was not heard last time."""

    heard_at: datetime | None
    run: str | None
    training: TrainingState
    checkpoint: CheckpointOut | None
    answers_prepare: bool
    memory_floor_gib: Real
    gpu_memory_floor_gib: Real
    kills: int
    checkpoint_seconds: Real
    restore_seconds: Real
    error: str | None

    @classmethod
    def of(cls, status: JobStatus) -> "StatusOut":
        return cls(
            heard_at=status.heard_at,
            run=status.run,
            training=status.state,
            checkpoint=CheckpointOut.of(status.checkpoint) if status.checkpoint else None,
            answers_prepare=status.answers_prepare,
            memory_floor_gib=status.memory_floor_gib,
            gpu_memory_floor_gib=status.gpu_memory_floor_gib,
            kills=status.kills,
            checkpoint_seconds=status.checkpoint_seconds,
            restore_seconds=status.restore_seconds,
            error=status.error,
        )


class JobOut(Answer):
    name: str
    registered_at: datetime
    state: JobState
    policy: str
    mode: Mode | None
    hook: str | None
    target: TargetOut | None
    total_steps: int | None
    target_metric: dict[str, str | Real] | None
    deadline: datetime | None
    budget_usd: Real
    declared: list[DeclaredOut]
    recipe: RecipeOut | None
    owner: str | None
    group: str | None
    grace_seconds: Real
    has_hook_token: bool
    status: StatusOut

    @classmethod
    def of(cls, job: Job, status: JobStatus) -> "JobOut":
        metric, recipe = job.target_metric, job.recipe
        return cls(
            name=job.name,
            registered_at=job.registered_at,
            state=job.state,
            policy=job.policy,
            mode=job.mode,
            hook=job.hook,
            target=TargetOut.of(job.target) if job.target else None,
            total_steps=job.total_steps,
            target_metric={"name": metric[0], "value": metric[1]} if metric else None,
            deadline=job.deadline,
            budget_usd=job.budget_usd,
            declared=[DeclaredOut.of(d) for d in job.declared],
            recipe=RecipeOut.of(recipe) if recipe else None,
            owner=job.owner,
            group=job.group,
            grace_seconds=job.grace_seconds,
            has_hook_token=job.hook_token is not None,
            status=StatusOut.of(status),
        )


class JobsOut(Answer):
    jobs: list[JobOut]


class ReceivedOut(Answer):
    """What became of a pushed report: all of ``accepted`` is durable; send from ``next`` on."""

    accepted: int
    dropped: dict[str, int]
    next: int

    @classmethod
    def of(cls, report: Report) -> "ReceivedOut":
        return cls(accepted=len(report.observations), dropped=dict(report.dropped), next=report.next)


class DriftOut(Answer):
    """How right the forecasts were lately; ``gain`` is the share of error taken off persistence's."""

    pairs: int
    margin: Real
    gain: Real
    coverage80: Real
    trusted: bool
    reason: str

    @classmethod
    def of(cls, drift: Drift) -> "DriftOut":
        return cls(
            pairs=drift.pairs,
            margin=drift.margin,
            gain=drift.gain,
            coverage80=drift.coverage80,
            trusted=drift.trusted,
            reason=drift.reason,
        )


class MoveOut(Answer):
    """A move that the plan foresees."""

    offer: str
    at_step: int
    in_seconds: Real

    @classmethod
    def of(cls, move: PlannedMove) -> "MoveOut":
        return cls(offer=move.offer, at_step=move.at_step, in_seconds=move.in_seconds)


class TrajectoryOut(Answer):
    """One future. ``paths``: ``hp.``, ``metric.`` and ``usage.`` columns and ``step_seconds``, a value a grid step.

    ``seconds`` are those from ``at_step`` until each grid step is done, on the present machine; ``null`` where no step
    time is known.
    """

    probability: float
    seconds: list[float | None] | None
    paths: dict[str, list[float | None]]


class TrajectoriesOut(Answer):
    """Weighted trajectories on the common grid ``steps``, likeliest first; probabilities sum to 1."""

    job: str
    made_at: datetime
    at_step: int
    steps: list[int]
    finish_step: int | None
    method: str
    reason: str
    declared: list[str]
    unknown: list[str]
    trajectories: list[TrajectoryOut]
    deviations: dict[str, list[list[float | None]]]

    @classmethod
    def of(cls, forecast: Forecast) -> "TrajectoriesOut":
        order = sorted(range(len(forecast.probability)), key=lambda m: -float(forecast.probability[m]))
        seconds = seconds_to(forecast)
        return cls(
            job=forecast.job,
            made_at=forecast.made_at,
            at_step=forecast.at_step,
            steps=[int(step) for step in forecast.steps],
            finish_step=forecast.finish_step,
            method=forecast.method,
            reason=forecast.reason,
            declared=list(forecast.declared),
            unknown=list(forecast.unknown),
            trajectories=[
                TrajectoryOut(
                    probability=t.probability,
                    seconds=None if seconds is None else cells(list(seconds[m])),
                    paths={name: cells(list(path)) for name, path in t.paths.items()},
                )
                for m, t in zip(order, forecast.trajectories, strict=True)
            ],
            deviations={name: [cells(list(rows[m])) for m in order] for name, rows in forecast.deviations.items()},
        )


class AllocationOut(Answer):
    target: TargetOut
    state: str
    offer: OfferOut
    nodes: list[dict[str, str]]
    notices: list[dict[str, str]]

    @classmethod
    def of(cls, allocation: Allocation) -> "AllocationOut":
        return cls(
            target=TargetOut.of(allocation.target),
            state=allocation.state,
            offer=OfferOut.of(allocation.offer),
            nodes=[{"id": n.id, "state": n.state} for n in allocation.nodes],
            notices=[{"kind": n.kind, "at": n.at.isoformat(), "detail": n.detail} for n in allocation.notices],
        )


class PlanOut(Answer):
    """What would be done now, with every option beside what became of it."""

    job: str
    allocation: AllocationOut | None
    options: list[OptionOut]
    chosen: str | None
    changes: bool
    reason: str
    plan: list[MoveOut]
    shadow: str | None
    shadow_reason: str | None
    forecast: dict[str, object] | None
    missing: str

    @classmethod
    def of(cls, look: Look) -> "PlanOut":
        choice, shadow, forecast = look.choice, look.shadow, look.forecast
        return cls(
            job=look.job.name,
            allocation=AllocationOut.of(look.allocation) if look.allocation else None,
            options=options_out(look.options, choice),
            chosen=choice.option.offer.id if choice else None,
            changes=bool(choice and not choice.option.stays),
            reason=choice.reason if choice else look.reason,
            plan=[MoveOut.of(m) for m in look.plan],
            shadow=shadow.option.offer.id if shadow else None,
            shadow_reason=shadow.reason if shadow else None,
            forecast={"method": forecast.method, "reason": forecast.reason} if forecast else None,
            missing=look.reason,
        )


class Problems(Answer):
    """RFC 9457 problem details; more members may stand beside these, such as ``errors``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str
    title: str
    status: int
    detail: str
    instance: str


def moment(epoch_s: float) -> datetime:
    """Make a UTC time of epoch seconds."""
    return datetime.fromtimestamp(epoch_s, UTC)
