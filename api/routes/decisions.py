"""Edge: one decision, and a person's word on it."""

from typing import Annotated

from fastapi import APIRouter, Depends

from api.answers import DecisionOut
from api.auth import Operator, Reader
from api.deps import Services, services

router = APIRouter(prefix="/v1/decisions", tags=["decisions"])

Given = Annotated[Services, Depends(services)]


@router.get("/{decision}")
def show(decision: str, given: Given, who: Reader) -> DecisionOut:
    """Show a decision with everything that led to it."""
    return DecisionOut.of(given.store.decisions.get(decision))


@router.post("/{decision}/approve")
async def approve(decision: str, given: Given, who: Operator) -> DecisionOut:
    """Let a waiting decision be acted on."""
    return DecisionOut.of(await given.control.approve(decision, who.name))


@router.post("/{decision}/reject")
async def reject(decision: str, given: Given, who: Operator) -> DecisionOut:
    """Refuse a waiting decision."""
    return DecisionOut.of(await given.control.reject(decision, who.name))
