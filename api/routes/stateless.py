"""Edge: the forecaster and the allocation engine as an API of their own; nothing is kept of what is sent."""

from collections.abc import Mapping
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends

from api.answers import PlanOut, TrajectoriesOut
from api.auth import Reader
from api.deps import Services, services
from api.problems import Problem
from api.routes.jobs import policy_for
from api.routes.telemetry import by_id
from api.schemas import OfferIn, StatelessForecast, StatelessPlan, empty
from policies.config import load
from policies.types import Settings
from providers.types import Offer

router = APIRouter(prefix="/v1", tags=["stateless"])

Given = Annotated[Services, Depends(services)]


@router.post("/forecast")
async def forecast(sent: StatelessForecast, given: Given, who: Reader) -> TrajectoriesOut:
    """Forecast a history: weighted trajectories of every column and of the time to each step."""
    history = sent.history.value(given.clock.now())
    return TrajectoriesOut.of(await given.control.forecast(history, sent.horizon.value()))


@router.post("/plan")
async def plan(sent: StatelessPlan, given: Given, who: Reader) -> PlanOut:
    """Weigh offers for a run: what each would cost and take, which the policy chooses, and why not the others."""
    now = given.clock.now()
    known = by_id(await run_sync(given.offers))
    current = find_offer(sent.current, known, given)
    offers = list(known.values()) if sent.offers is None else [find_offer(o, known, given) for o in sent.offers]
    settings = await run_sync(settings_for, sent, given)
    history = sent.history.value(now) if sent.history else empty("request")
    made = sent.forecast.value(history.job, now) if sent.forecast else None
    look = await given.control.plan(
        sent.job.job(history.job, settings.name, history, now),
        sent.job.status(now),
        history,
        made,
        current,
        offers,
        settings,
        sent.job.spent_usd,
    )
    return PlanOut.of(look)


def find_offer(sent: str | OfferIn, known: Mapping[str, Offer], given: Services) -> Offer:
    """Take an offer in full, or find it by its id. Raises a 422 problem."""
    if isinstance(sent, OfferIn):
        return sent.value(given.clock.now())
    if sent not in known:
        raise Problem(422, f"there is no offer '{sent}' - see GET /v1/offers, or send it in full")
    return known[sent]


def settings_for(sent: StatelessPlan, given: Services) -> Settings:
    """Find the policy of a request: the text it carries, else one in force. Raises a 422 problem."""
    if sent.settings is None:
        return given.policies.get(policy_for(sent.policy, given.policies))[0]
    found, problems = load(sent.settings, "settings")
    if problems:
        raise Problem(422, str(problems[0]), errors=[str(p) for p in problems])
    if len(found) != 1:
        raise Problem(422, f"settings holds {len(found)} policies - send exactly one")
    return next(iter(found))
