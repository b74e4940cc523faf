"""Edge: everything that can be had, and how every job stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from api.answers import Answer, OfferOut, Real
from api.auth import Reader
from api.chart import FinishOut, finish_of
from api.deps import Services, services
from api.text import plain
from daemon.look import Look
from daemon.types import Decision, Drift, History, Job, JobStatus
from providers.types import Offer

router = APIRouter(prefix="/v1", tags=["fleet"])

Given = Annotated[Services, Depends(services)]
Glob = Annotated[str, Query(max_length=300, description="matches the offer's id, as in a policy's allow list")]


class OffersOut(Answer):
    """``total`` counts all that match; ``next`` is what to send as ``after`` for more, ``null`` at the end."""

    offers: list[OfferOut]
    total: int
    next: str | None


class NextOut(Answer):
    """The next thing that the plan would do with a job."""

    offer: str
    in_seconds: Real
    at: datetime | None
    waiting: bool


class StandingOut(Answer):
    """How one job stands. ``usd_per_hour`` is that of its machine now; ``null`` while it is not known."""

    name: str
    state: str
    training: str
    heard_at: datetime | None
    error: str | None
    policy: str
    machine: str | None
    usd_per_hour: Real
    spent_usd: float
    budget_usd: Real
    deadline: datetime | None
    step: int | None
    total_steps: int | None
    progress: Real
    finish: FinishOut
    next: NextOut | None
    decision: str | None
    status: str | None
    reason: str
    trusted: bool
    kills: int


class FleetOut(Answer):
    """The jobs in name order, one page of them; the sums are over this page."""

    at: datetime
    version: str
    ready: bool
    reasons: list[str]
    policy_problems: list[str]
    usd_per_hour: float
    spent_usd: float
    total: int
    next: str | None
    jobs: list[StandingOut]


@router.get("/offers")
def offers(
    given: Given,
    who: Reader,
    match: Glob = "*",
    priced: bool = False,
    after: Annotated[str, Query(max_length=300)] = "",
    limit: Annotated[int, Query(ge=1, le=2000)] = 500,
) -> OffersOut:
    """List what can be had now, by id, with price, its source and its age."""
    found = sorted((o for o in given.offers() if fnmatchcase(o.id, match)), key=lambda o: o.id)
    found = [o for o in found if o.price is not None or not priced]
    rest = [o for o in found if o.id > after]
    more = rest[limit - 1].id if len(rest) > limit else None
    return OffersOut(offers=[OfferOut.of(o) for o in rest[:limit]], total=len(found), next=more)


@router.get("/fleet")
def fleet(
    given: Given,
    who: Reader,
    after: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    job: Annotated[str, Query(max_length=200, description="only this job")] = "",
) -> FleetOut:
    """Show how every job stands: machine, money, progress, when it ends, what is planned next."""
    jobs = [given.store.jobs.get(job)[0]] if job else given.store.jobs.all()
    rest = [one for one in jobs if one.name > after]
    page = rest[:limit]
    standings = _standings(page, given)
    health = given.control.health()
    reasons = health.get("reasons", ())
    return FleetOut(
        at=given.clock.now(),
        version=given.version,
        ready=bool(health.get("ready")),
        reasons=[plain(str(r)) for r in reasons] if isinstance(reasons, list | tuple) else [plain(str(reasons))],
        policy_problems=[plain(str(p)) for p in given.policies.problems],
        usd_per_hour=sum(s.usd_per_hour or 0.0 for s in standings),
        spent_usd=sum(s.spent_usd for s in standings),
        total=len(jobs),
        next=page[-1].name if len(rest) > limit else None,
        jobs=standings,
    )


@dataclass(frozen=True, slots=True)
class _Known:
    status: Mapping[str, JobStatus]
    histories: Mapping[str, History]
    drifts: Mapping[str, Drift]


def _standings(page: Sequence[Job], given: Services) -> list[StandingOut]:
    store = given.store
    names = [job.name for job in page]
    known = _Known(store.status.all(), store.telemetry.histories(names, 1), store.telemetry.drifts())
    return [_standing(job, known, given) for job in page]


def _standing(job: Job, known: _Known, given: Services) -> StandingOut:
    store, now = given.store, given.clock.now()
    status = known.status.get(job.name, JobStatus())
    drift = known.drifts.get(job.name, Drift())
    history = known.histories[job.name]
    look = given.control.seen(job.name) or Look(job, status, history, drift)
    newest = next(iter(store.decisions.of(job.name, 1)), None)
    machine = machine_of(look, newest)
    step = int(history.step[-1]) if len(history) else None
    total = job.total_steps or history.total_steps
    return StandingOut(
        name=job.name,
        state=job.state,
        training=status.state if status.heard_at else "unheard",
        heard_at=status.heard_at,
        error=plain(status.error) if status.error else None,
        policy=job.policy,
        machine=machine.id if machine else None,
        usd_per_hour=machine.price.usd_per_hour if machine and machine.price else None,
        spent_usd=store.ledger.spent(job.name),
        budget_usd=job.budget_usd,
        deadline=job.deadline,
        step=step,
        total_steps=total,
        progress=min(step / total, 1.0) if step is not None and total else None,
        finish=finish_of(look, now),
        next=next_of(look, newest, now),
        decision=newest.id if newest else None,
        status=newest.status if newest else None,
        reason=newest.choice.reason if newest else look.reason,
        trusted=look.drift.trusted,
        kills=status.kills,
    )


def machine_of(look: Look, newest: Decision | None) -> Offer | None:
    """Say what a job runs on: what its cloud said last, else what its newest decision knew."""
    if look.allocation is not None:
        return look.allocation.offer
    return newest.current if newest else None


def next_of(look: Look, newest: Decision | None, now: datetime) -> NextOut | None:
    """Find the next thing that would be done: the decision that waits, else the plan's first move."""
    if newest is not None and newest.status in ("waiting", "approved", "acting"):
        offer = newest.choice.option.offer.id
        return NextOut(offer=offer, in_seconds=0.0, at=now, waiting=newest.status == "waiting")
    if not look.plan:
        return None
    move = look.plan[0]
    start = look.forecast.made_at if look.forecast else now
    at = max(start + timedelta(seconds=move.in_seconds), now)
    return NextOut(offer=move.offer, in_seconds=(at - now).total_seconds(), at=at, waiting=False)
