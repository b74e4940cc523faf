"""Edge: one decision, and a person's word on it."""

from typing import Annotated

from fastapi import APIRouter, Depends

from api.accounts import ReplayOut, said
from api.answers import DecisionOut
from api.auth import Operator, Reader
from api.deps import Services, services
from api.problems import Problem
from daemon import again, turn
from policies.config import policy_of
from policies.kinds import installed

router = APIRouter(prefix="/v1/decisions", tags=["decisions"])

Given = Annotated[Services, Depends(services)]


@router.get("/{decision}")
def show(decision: str, given: Given, who: Reader) -> DecisionOut:
    """Show a decision with everything that led to it."""
    return DecisionOut.of(given.store.decisions.get(decision))


@router.get("/{decision}/replay")
def replay(decision: str, given: Given, who: Reader) -> ReplayOut:
    """Make a decision again from its record, and say whether it comes out the same, bit for bit."""
    kept = given.store.decisions.get(decision)
    if kept.situation is None:
        return ReplayOut(
            decision=decision, same=None, chosen=None, reason="its record has been removed, or was never kept"
        )
    try:
        policy = policy_of(kept.situation.settings.kind, installed())
    except ValueError as error:
        raise Problem(409, str(error)) from None
    made = turn.replay(kept, policy)
    return ReplayOut(decision=decision, same=again.same(kept, policy), chosen=said(made.option), reason=made.reason)


@router.post("/{decision}/approve")
async def approve(decision: str, given: Given, who: Operator) -> DecisionOut:
    """Let a waiting decision be acted on."""
    return DecisionOut.of(await given.control.approve(decision, who.name))


@router.post("/{decision}/reject")
async def reject(decision: str, given: Given, who: Operator) -> DecisionOut:
    """Refuse a waiting decision."""
    return DecisionOut.of(await given.control.reject(decision, who.name))
