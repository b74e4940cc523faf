"""Values: small makers of what the store keeps."""

from datetime import UTC, datetime, timedelta
from typing import Any

from daemon.types import Action, CallRecord, Decision, Job, JobStatus, Observation, Report
from policies.types import Choice, Option, Rejection, Settings, Situation, Spread
from providers.types import Offer, Price, Resources, Stop, Target

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def offer(machine: str = "small") -> Offer:
    return Offer("simulated", "here", machine, Resources(4, 16.0), Price(1.5, "a test", NOW))


def target(name: str = "vm-1") -> Target:
    return Target("simulated", "vm", name, "here")


def job(name: str = "bert", **more: Any) -> Job:
    return Job(name, NOW, "default", **more)


def option(machine: str = "small") -> Option:
    exact = Spread.exactly(2.5)
    return Option(
        offer=offer(machine), route="stay", kind=None, usd=exact, hours=exact, objective=exact, saving=exact,
        usd_per_hour=1.5, usd_per_progress=None, misfit=0.0, misfit_resource=None, late=0.0, over_budget=0.0,
        move_usd=0.0, pause_seconds=0.0, lead_seconds=0.0, due_seconds=None, price_age_hours=1.0,
    )  # fmt: skip


def decision(name: str = "d-1", of: str = "bert", machine: str = "small", **more: Any) -> Decision:
    settings: dict[str, Any] = {"status": "recommended", "at": NOW, "policy_version": "v1", **more}
    choice = Choice(option(machine), "it is cheapest", (Rejection("big", "price", "too dear"),))
    settings.setdefault("options", (option(),))
    return Decision(
        id=name, job=of, policy="default", mode="auto", current=offer(), choice=choice, inputs_hash="0f",
        forecast={"memory_gib": [1.0, 2.0], "method": "persist"}, **settings,
    )  # fmt: skip


def action(name: str = "a-1", of: str = "d-1", on: str = "vm-1", **more: Any) -> Action:
    settings: dict[str, Any] = {"stage": "intended", "job": "bert", **more}
    return Action(
        id=name, decision=of, target=target(on), old=offer(), new=offer("big"), route="in_place", opened_at=NOW,
        stage_at=NOW, deadline=later(600), next_at=NOW, **settings,
    )  # fmt: skip


def call(name: str = "c-1", of: str = "a-1", number: int = 1, **more: Any) -> CallRecord:
    return CallRecord(name, of, number, Stop(target()), f"token-{name}", 0, NOW, **more)


def row(run: str, seq: int, step: int, **more: Any) -> Observation:
    settings: dict[str, Any] = {"at": None, "received_at": later(seq), "metrics": {"loss": 1.0 / (1 + seq)}, **more}
    return Observation(run=run, seq=seq, step=step, **settings)


def report(run: str, *rows: Observation, of: str = "bert") -> Report:
    return Report(of, run, len(rows), tuple(rows))


def status(**more: Any) -> JobStatus:
    return JobStatus(heard_at=NOW, **more)


def situation(**more: Any) -> Situation:
    return Situation("bert", NOW, Settings("default", "cost_per_progress", "v1"), (option(), option("big")), **more)
