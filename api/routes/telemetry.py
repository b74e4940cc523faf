"""Edge: what a job reports, and what is foretold, decided and paid for it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Query, Request

from api.accounts import LedgerOut
from api.answers import (
    Answer,
    DecisionBrief,
    DecisionOut,
    PlanOut,
    ReceivedOut,
    TrajectoriesOut,
)
from api.auth import Reader, Sender
from api.chart import ForecastOut, HistoryOut, forecast_out, history_out
from api.deps import Services, services
from api.problems import Problem
from daemon.account import account
from daemon.look import Look
from daemon.types import Drift
from providers.types import Offer

router = APIRouter(prefix="/v1/jobs/{name}", tags=["telemetry"])

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
DECISIONS_READ, ROWS_READ = 200, 2000
"""What the ledger reads for its estimates; older decisions and rows do not count in them."""
Given = Annotated[Services, Depends(services)]
Columns = Annotated[str, Query(max_length=2000, description="names of columns with commas between; none means all")]
Rows = Annotated[int, Query(ge=1, le=5000)]
Count = Annotated[int, Query(ge=1, le=500)]


class DecisionsOut(Answer):
    job: str
    decisions: list[DecisionBrief | DecisionOut]


def listed(text: str) -> list[str]:
    """Read a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def by_id(offers: Sequence[Offer]) -> dict[str, Offer]:
    """Find offers by their id."""
    return {offer.id: offer for offer in offers}


@router.post(
    "/observations",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object", "title": "a hook's answer, protocol 1"}}},
        }
    },
)
async def push(name: str, request: Request, given: Given, who: Sender) -> ReceivedOut:
    """Push a report: the body is what the job's hook would answer, at most 64 KiB. Durable once answered."""
    report = await given.control.receive(name, await request.body())
    return ReceivedOut.of(report)


async def newest(name: str, given: Services) -> Look:
    """Find the newest look at a job without doing work: the loop's own, else what the store has kept of it."""
    job, status = await run_sync(given.store.jobs.get, name)
    seen = given.control.seen(name)
    if seen is not None:
        return seen
    histories = await run_sync(given.store.telemetry.histories, [name])
    forecast = await run_sync(given.store.telemetry.forecast, name)
    drifts = await run_sync(given.store.telemetry.drifts)
    return Look(job, status, histories[name], drifts.get(name, Drift()), forecast=forecast)


@router.get("/forecast")
async def forecast(name: str, given: Given, who: Reader, columns: Columns = "") -> ForecastOut:
    """Show the newest forecast: the 10, 50 and 90 % quantiles of each column, the plan, the capacity ahead."""
    look = await newest(name, given)
    offers = by_id(await run_sync(given.offers))
    return forecast_out(look, listed(columns), offers, given.clock.now())


@router.get("/trajectories")
async def trajectories(name: str, given: Given, who: Reader) -> TrajectoriesOut:
    """Show the newest forecast as weighted trajectories."""
    look = await newest(name, given)
    if look.forecast is None:
        raise Problem(404, f"there is no forecast of '{name}' yet - {look.reason or 'it must be heard of first'}")
    return TrajectoriesOut.of(look.forecast)


@router.get("/plan")
async def plan(name: str, given: Given, who: Reader) -> PlanOut:
    """Say what would be done now, with every option beside what became of it. Nothing is done."""
    return PlanOut.of(await given.control.look(name))


@router.get("/decisions")
def decisions(name: str, given: Given, who: Reader, limit: Count = 50, full: bool = False) -> DecisionsOut:
    """List a job's decisions, newest first; ``full`` adds their options. They outlive the job."""
    found = given.store.decisions.of(name, limit)
    if not found:
        given.store.jobs.get(name)
    made: list[DecisionBrief | DecisionOut] = [(DecisionOut if full else DecisionBrief).of(d) for d in found]
    return DecisionsOut(job=name, decisions=made)


@router.get("/history")
def history(name: str, given: Given, who: Reader, columns: Columns = "", rows: Rows = 512) -> HistoryOut:
    """Show the newest rows of a job as columns, with the machines it ran on."""
    given.store.jobs.get(name)
    found = given.store.telemetry.histories([name], rows)[name]
    return history_out(found, listed(columns), by_id(given.offers()))


@router.get("/ledger")
def ledger(name: str, given: Given, who: Reader) -> LedgerOut:
    """Show what a job has cost and what its moves came to. The ledger outlives the job."""
    store = given.store
    charges, outcomes = store.ledger.charges(name), store.ledger.outcomes(name)
    if not charges and not outcomes:
        store.jobs.get(name)
    known = store.decisions.since(BEGINNING, name)[-DECISIONS_READ:]
    made = account(
        charges,
        store.runs.spans(name),
        (store.decisions.get(decision) for decision in known),
        [(outcome, store.decisions.get(outcome.decision)) for outcome in outcomes],
        store.telemetry.histories([name], ROWS_READ)[name],
    )
    return LedgerOut.of(name, made, charges, outcomes)
