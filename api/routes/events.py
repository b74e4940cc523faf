"""Edge: the stream of events (server-sent events)."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.auth import Reader
from api.deps import Services, services

router = APIRouter(prefix="/v1", tags=["events"])

Last = Annotated[int | None, Header(alias="Last-Event-ID", ge=0)]


@router.get("/events", response_class=EventSourceResponse)
async def follow(
    given: Annotated[Services, Depends(services)], who: Reader, last: Last = None
) -> AsyncIterator[ServerSentEvent]:
    """Follow what happens: ``audit`` entries, replayed from ``Last-Event-ID`` on, and ``turn`` as passing news."""
    async for event in given.bus.follow(given.store.audit, last):
        number = None if event.number is None else str(event.number)
        yield ServerSentEvent(data=dict(event.data), event=event.kind, id=number)
