"""Edge: making tokens."""

from typing import Annotated

from fastapi import APIRouter, Depends

from api.answers import Answer
from api.auth import Admin, new_token
from api.deps import Services, services
from api.schemas import TokenIn

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])


class TokenOut(Answer):
    """A new token: shown this once, kept nowhere."""

    name: str
    scopes: list[str]
    token: str


@router.post("", status_code=201)
def add(sent: TokenIn, given: Annotated[Services, Depends(services)], who: Admin) -> TokenOut:
    """Make a token. It is shown this once: only its digest is kept."""
    token = new_token(given.store, sent.name, sent.scopes)
    given.store.audit.note(who.name, "token added", sent.name, {"scopes": list(sent.scopes)})
    return TokenOut(name=sent.name, scopes=sent.scopes, token=token)
