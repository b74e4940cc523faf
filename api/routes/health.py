"""Edge: whether the daemon lives, whether it is ready, and its figures for Prometheus."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from api.answers import Answer, tame
from api.auth import Reader
from api.deps import Services, services
from api.problems import answer
from daemon.types import Job, JobStatus

SILENT_SECONDS = 300.0

router = APIRouter(tags=["health"])

Given = Annotated[Services, Depends(services)]


class AliveOut(Answer):
    alive: bool
    version: str


@router.get("/healthz")
async def alive(given: Given) -> AliveOut:
    """Say that the daemon lives. Needs no token."""
    return AliveOut(alive=True, version=given.version)


@router.get("/readyz")
async def ready(request: Request, given: Given) -> Response:
    """Say whether the daemon does its work: 200, or 503 with the reasons. Needs no token."""
    health = given.control.health()
    told = {str(key): tame(value) for key, value in health.items()}
    if health.get("ready"):
        return JSONResponse(told)
    reasons = health.get("reasons") or ["it has not started yet"]
    first = "; ".join(str(r) for r in reasons) if isinstance(reasons, list | tuple) else str(reasons)
    return answer(request, 503, f"not ready: {first}", {"Retry-After": "2"}, **told)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request, who: Reader) -> Response:
    """Give the daemon's figures in the Prometheus text form. No series is named after a job."""
    registry: CollectorRegistry = request.app.state.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class Standing(Collector):
    """Counts jobs, open actions and readiness at the moment of a scrape; bounded whatever the number of jobs."""

    def __init__(self, given: Services) -> None:
        self._given = given

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        given = self._given
        jobs = GaugeMetricFamily("scaleahead_jobs", "Registered jobs by state.", labels=["state"])
        registered, known = given.store.jobs.all(), given.store.status.all()
        for state, count in Counter(job.state for job in registered).items():
            jobs.add_metric([state], count)
        yield jobs
        since = given.clock.now() - timedelta(seconds=SILENT_SECONDS)
        silent = sum(heard_at(job, known) < since for job in registered if job.state == "active")
        yield gauge("scaleahead_jobs_silent", "Active jobs not heard from for five minutes.", silent)
        drifts = given.store.telemetry.drifts()
        untrusted = sum(not drift.trusted for drift in drifts.values())
        yield gauge("scaleahead_jobs_untrusted", "Jobs whose forecasts are not trusted now.", untrusted)
        kills = sum(status.kills for status in known.values())
        yield gauge("scaleahead_out_of_memory_kills", "Out-of-memory kills of the registered jobs.", kills)
        open_actions = len(given.store.actions.unfinished())
        yield gauge("scaleahead_actions_open", "Changes of resources under way.", open_actions)
        yield gauge("scaleahead_policy_problems", "Faults in the policy files.", len(given.policies.problems))
        health = given.control.health()
        shards = GaugeMetricFamily("scaleahead_shard", "Shards of jobs that this replica holds.", labels=["shard"])
        held = health.get("shards")
        for shard in held if isinstance(held, list) else ():
            shards.add_metric([str(shard)], 1)
        yield shards
        yield gauge("scaleahead_leads", "Whether this replica does the store's chores.", bool(health.get("leads")))
        yield gauge("scaleahead_ready", "Whether the daemon is ready.", bool(health.get("ready")))
        yield gauge("scaleahead_event_streams", "Open streams of events.", given.bus.readers)


def heard_at(job: Job, known: Mapping[str, JobStatus]) -> datetime:
    """Say when a job was last heard from: when it was registered, if it has not spoken since."""
    status = known.get(job.name)
    return status.heard_at if status and status.heard_at else job.registered_at


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """Make a gauge without labels."""
    return GaugeMetricFamily(name, text, value=float(value))
