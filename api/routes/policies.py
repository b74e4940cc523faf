"""Edge: the policies in force, putting a new one, checking one without putting it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Query, Request
from pydantic import TypeAdapter

from api.accounts import PolicyDiffOut
from api.answers import Answer
from api.auth import Admin, Reader
from api.deps import Services, services
from api.problems import Problem
from api.text import plain
from daemon import again
from policies.config import load, policy_of
from policies.kinds import installed
from policies.types import Settings

router = APIRouter(prefix="/v1", tags=["policies"])

Given = Annotated[Services, Depends(services)]
Days = Annotated[float, Query(gt=0, le=36500)]

_YAML = {
    "requestBody": {
        "required": True,
        "content": {"application/yaml": {"schema": {"type": "string", "title": "the text of a policy file"}}},
    }
}


class PolicyOut(Answer):
    """A policy in force; ``settings`` is everything it says, defaults included."""

    name: str
    kind: str
    version: str
    settings: dict[str, Any]

    @classmethod
    def of(cls, settings: Settings) -> "PolicyOut":
        dumped = TypeAdapter(Settings).dump_python(settings, mode="json")
        return cls(name=settings.name, kind=settings.kind, version=settings.version, settings=dumped)


class PoliciesOut(Answer):
    """``problems`` are those of the files as they are now; the last good version stays in force."""

    policies: list[PolicyOut]
    problems: list[str]


class CheckedOut(Answer):
    """What is wrong with a policy file, each line ``file:line:column: message``."""

    valid: bool
    policies: list[str]
    problems: list[str]


@router.get("/policies")
def list_all(given: Given, who: Reader) -> PoliciesOut:
    """List the policies in force, and what is wrong with their files."""
    found = [given.policies.get(name)[0] for name in sorted(given.policies.names())]
    return PoliciesOut(
        policies=[PolicyOut.of(settings) for settings in found],
        problems=[plain(str(p)) for p in given.policies.problems],
    )


@router.put("/policies/{name}", openapi_extra=_YAML)
async def put(name: str, request: Request, given: Given, who: Admin) -> PolicyOut:
    """Put a policy: the body is the text of a policy file that holds it. A bad one is refused with its lines."""
    text = await text_of(request)
    problems = await run_sync(given.policies.put, name, text)
    if problems:
        lines = [plain(str(p)) for p in problems]
        raise Problem(422, lines[0], errors=lines)
    settings = (await run_sync(given.policies.get, name))[0]
    detail = {"version": settings.version}
    await run_sync(given.store.audit.note, who.name, "policy put", name, detail)
    return PolicyOut.of(settings)


@router.post("/policies:check", openapi_extra=_YAML)
async def check(request: Request, who: Reader, file: str = "policy.yaml") -> CheckedOut:
    """Check the text of a policy file without putting it."""
    text = await text_of(request)
    found, problems = await run_sync(load, text, file)
    lines = [plain(str(p)) for p in problems]
    return CheckedOut(valid=not lines, policies=[s.name for s in found], problems=lines)


@router.post("/policies:diff", openapi_extra=_YAML)
async def diff(
    request: Request, given: Given, who: Reader, file: str = "policy.yaml", days: Days = 7.0
) -> PolicyDiffOut:
    """Say what an edited policy file would have changed on the decisions on record, and what that would have cost."""
    text = await text_of(request)
    found, problems = await run_sync(load, text, file)
    if problems:
        raise Problem(422, plain(str(problems[0])), errors=[plain(str(p)) for p in problems])
    return await run_sync(_diff, found, given, given.clock.now() - timedelta(days=days))


def _diff(found: Sequence[Settings], given: Services, since: datetime) -> PolicyDiffOut:
    kept = given.store.decisions
    decisions = (kept.get(decision) for decision in kept.since(since))
    made = again.diff(
        decisions, given.store.ledger.charges, found, lambda rules: policy_of(rules.kind, installed()), since
    )
    return PolicyDiffOut.of(made)


async def text_of(request: Request) -> str:
    """Read the body as text. Raises a 422 problem if it is not UTF-8."""
    try:
        return (await request.body()).decode()
    except UnicodeDecodeError as error:
        raise Problem(422, "the body is not UTF-8 text - send the policy file as it is") from error
