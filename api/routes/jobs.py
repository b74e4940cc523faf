"""Edge: registering jobs, changing them, taking them away."""

import re
from dataclasses import replace
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Header, Response
from fastapi.responses import JSONResponse

from api.answers import JobOut, JobsOut
from api.auth import Caller, Operator, Reader
from api.deps import Policies, Services, services
from api.problems import Problem
from api.schemas import JobIn, JobPatch
from daemon.store.base import Conflict
from daemon.types import Job, JobStatus
from policies.base import LetsGo

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Given = Annotated[Services, Depends(services)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255)]

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def policy_for(wanted: str | None, policies: Policies) -> str:
    """Find the policy for a job: the one asked for, else ``default``, else the only one. Raises a 422 problem."""
    names = sorted(policies.names())
    listed = ", ".join(names) or "none"
    if wanted is not None:
        if wanted not in names:
            raise Problem(422, f"there is no policy '{wanted}' - take one of: {listed}")
        return wanted
    if "default" in names:
        return "default"
    if len(names) == 1:
        return names[0]
    raise Problem(422, f"the job names no policy and there is no default - take one of: {listed}")


def _stoppable(job: Job, policies: Policies) -> None:
    """Refuse a group under a policy whose hard stop needs a VM: its nodes' disks would go, and the work with them."""
    if job.target is None or job.target.kind == "vm":
        return
    settings, policy = policies.get(job.policy)
    if isinstance(policy, LetsGo) and policy.lets_go:
        raise Problem(
            422, f"policy '{settings.name}' ({settings.kind}) stops a job for good when its money is spent, and a"
            f" {job.target.kind} cannot be stopped with its disks kept - take a policy of another kind"
            " with limits.usd_total, which refuses dearer hours, or a VM as the target",
        )  # fmt: skip


@router.post("", status_code=201)
async def add(sent: JobIn, given: Given, who: Operator, response: Response, key: Key = None) -> JobOut:
    """Register a job. With an ``Idempotency-Key`` a repetition gives the job that the first one made."""
    if key is not None and not _KEY.fullmatch(key):
        raise Problem(422, "Idempotency-Key holds 1 to 255 visible ASCII characters")
    job, status = await run_sync(_add, sent, given, who, key)
    await given.control.registered(job)
    response.headers["Location"] = f"/v1/jobs/{job.name}"
    return JobOut.of(job, status)


def _add(sent: JobIn, given: Services, who: Caller, key: str | None) -> tuple[Job, JobStatus]:
    values: dict[str, Any] = {**sent.values(), "policy": policy_for(sent.policy, given.policies)}
    job = Job(**{"registered_at": given.clock.now(), **values})
    _stoppable(job, given.policies)
    made = given.store.jobs.add(job, key)
    if made.name != job.name:
        raise Problem(409, f"this Idempotency-Key registered '{made.name}' - take a new key for '{job.name}'")
    given.store.audit.note(who.name, "job registered", made.name, {"policy": made.policy})
    return given.store.jobs.get(made.name)


@router.get("")
def list_all(given: Given, who: Reader) -> JobsOut:
    """List the jobs by name."""
    known = given.store.status.all()
    return JobsOut(jobs=[JobOut.of(job, known.get(job.name, JobStatus())) for job in given.store.jobs.all()])


@router.get("/{name}")
def show(name: str, given: Given, who: Reader) -> JobOut:
    """Show one job."""
    return JobOut.of(*given.store.jobs.get(name))


@router.patch("/{name}")
async def change(name: str, sent: JobPatch, given: Given, who: Operator) -> JobOut:
    """Change a job. A field that is left out stays; ``null`` clears it; ``state`` pauses and resumes."""
    job, status = await run_sync(_change, name, sent, given, who)
    await given.control.changed(job)
    return JobOut.of(job, status)


def _change(name: str, sent: JobPatch, given: Services, who: Caller) -> tuple[Job, JobStatus]:
    job, status = given.store.jobs.get(name)
    if job.state == "deleting":
        raise Problem(409, f"'{name}' is being deleted - register it anew once it is gone")
    values: dict[str, Any] = sent.values()
    if "policy" in values:
        values["policy"] = policy_for(sent.policy, given.policies)
    if values.get("hook", job.hook) != job.hook:
        # A token is for the hook that it was given with: another one must not be told it.
        values.setdefault("hook_token", None)
    changed = replace(job, **values)
    if values.keys() & {"policy", "target"}:
        _stoppable(changed, given.policies)
    given.store.jobs.replace(changed)
    given.store.audit.note(who.name, "job changed", name, {"fields": sorted(values)})
    return changed, status


@router.delete("/{name}", status_code=204, responses={202: {"description": "An action is finished first."}})
async def remove(name: str, given: Given, who: Operator) -> Response:
    """Take a job away. While an action is under way that is finished first: the answer is then 202."""
    waiting = await run_sync(_remove, name, given, who)
    if waiting is None:
        await given.control.removed(name)
        return Response(status_code=204)
    await given.control.changed(waiting)
    return JSONResponse({"job": name, "state": "deleting"}, 202)


def _remove(name: str, given: Services, who: Caller) -> Job | None:
    job, _ = given.store.jobs.get(name)
    waiting: Job | None = None
    try:
        given.store.jobs.remove(name)
    except Conflict:
        waiting = replace(job, state="deleting")
        given.store.jobs.replace(waiting)
    given.store.audit.note(who.name, "job removed" if waiting is None else "job deleting", name, {})
    return waiting
