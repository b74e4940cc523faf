"""Pure decisions: from what is known of a job to a case for the engine, a situation for the policy and a decision."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta

import numpy as np

from daemon import act, engine, speed
from daemon.config import Timing
from daemon.forecast.base import quantiles
from daemon.look import Look
from daemon.types import Action, Decision, DecisionStatus, Drift, Forecast, History, Job, JobStatus, Report
from policies import guards
from policies.base import Policy
from policies.types import Choice, Mode, Option, Settings, Situation
from providers.types import Allocation, Offer

SILENT_POLLS = 3
"""After so many polls without an answer a job counts as stale: nothing is taken away from it then."""


def move_cost(status: JobStatus, timing: Timing) -> engine.MoveCost:
    """Take what a move costs from the job's own figures, and from the configuration while it has shown none."""
    return replace(
        engine.MoveCost(),
        stop_seconds=timing.stop_seconds,
        boot_seconds=timing.boot_seconds,
        checkpoint_seconds=_or(status.checkpoint_seconds, timing.checkpoint_seconds),
        restore_seconds=_or(status.restore_seconds, timing.restore_seconds),
        poll_seconds=max(timing.poll_seconds, timing.turn_seconds),
        notice_seconds=timing.restart_seconds,
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None or not math.isfinite(value) else value


def heard(status: JobStatus, report: Report, now: datetime) -> JobStatus:
    """Fold a job's report into what is known of it.

    A checkpoint counts as new when its id changes, and when the job becomes ready: it saves before it says so.
    """
    fresh = report.checkpoint is not None and (
        status.checkpoint is None
        or report.checkpoint.id != status.checkpoint.id
        or (report.state == "ready" and status.state != "ready")
    )
    taken = report.checkpoint.seconds if report.checkpoint is not None else None
    working = [o.usage["memory_gib"] for o in report.observations if "memory_gib" in o.usage]
    return replace(
        status,
        heard_at=now,
        run=report.run,
        next_seq=report.next,
        state=report.state,
        checkpoint=report.checkpoint if fresh else status.checkpoint,
        checkpoint_at=now if fresh else status.checkpoint_at,
        checkpoint_seconds=taken if fresh and taken is not None else status.checkpoint_seconds,
        declared=report.declared or status.declared,
        memory_floor_gib=max([status.memory_floor_gib, *working]),
        error=None,
    )


def moved(status: JobStatus, action: Action, at: datetime) -> JobStatus:
    """Learn from a closed action what a move of this job takes, and whether it can be asked for a checkpoint.

    Only a move that ends with the job's return shows how long that takes: a replacement ends with the old machine's.
    """
    if action.note == act.CANNOT_BE_ASKED:
        return replace(status, answers_prepare=False)
    if action.stage != "done":
        return status
    taken = action.checkpoint.seconds if action.checkpoint else None
    returned = (at - action.stage_at).total_seconds() if action.route == "in_place" else None
    return replace(
        status, restore_seconds=status.restore_seconds if returned is None else returned,
        checkpoint_seconds=status.checkpoint_seconds if taken is None else taken,
    )  # fmt: skip


def case(
    job: Job, status: JobStatus, allocation: Allocation, history: History, forecast: Forecast, drift: Drift,
    settings: Settings, offers: Sequence[Offer], move: engine.MoveCost, spent_usd: float, now: datetime,
    speeds: speed.Speeds,
) -> engine.Case:  # fmt: skip
    """Gather the engine's case. Offers of groups are other sizes of the group; those of VMs are other machines."""
    group = allocation.target.kind == "group"
    candidates = [
        engine.Candidate(offer, _group_route(allocation.offer, offer) if group else vm_route(allocation.offer, offer))
        for offer in offers
        if offer.id != allocation.offer.id
    ]
    return engine.Case(
        forecast=forecast, current=allocation.offer, candidates=candidates, settings=settings, now=now,
        speeds=speeds, move=move, margin_factor=drift.margin,
        memory_floor_gib=status.memory_floor_gib, gpu_memory_floor_gib=status.gpu_memory_floor_gib,
        spent_usd=spent_usd, deadline=job.deadline, budget_usd=_least(job.budget_usd, settings.limits.usd_total),
    )  # fmt: skip


def vm_route(current: Offer, offer: Offer) -> engine.MoveRoute:
    """Guess the way from a VM to an offer, before its cloud is asked: no machine is modified into another place."""
    elsewhere = (current.provider, current.region) != (offer.provider, offer.region)
    zones = current.zone is not None and offer.zone is not None and current.zone != offer.zone
    return "replace" if elsewhere or zones else "in_place"


def _group_route(current: Offer, offer: Offer) -> engine.MoveRoute:
    return "grow" if offer.nodes > current.nodes else "shrink"


def _least(*limits: float | None) -> float | None:
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def situation(
    look: Look, settings: Settings, options: Sequence[Option], moves: Sequence[datetime],
    shortages: Mapping[str, datetime], unavailable: Mapping[str, str], spent_usd: float, now: datetime, stale: bool,
) -> Situation:  # fmt: skip
    """Gather what a policy may look at."""
    return Situation(
        job=look.job.name, now=now, settings=settings, options=tuple(options), moves=tuple(moves),
        shortages=dict(shortages), unavailable=dict(unavailable), memory_floor_gib=look.status.memory_floor_gib,
        gpu_memory_floor_gib=look.status.gpu_memory_floor_gib, spent_usd=spent_usd, stale=stale,
        can_checkpoint=look.status.answers_prepare,
        killed=look.allocation is not None and _outgrown(look.status, look.allocation.offer),
    )  # fmt: skip


def _outgrown(status: JobStatus, offer: Offer) -> bool:
    return status.kills > 0 and offer.resources.memory_gib < status.memory_floor_gib


def choose(policy: Policy, seen: Situation) -> Choice:
    """Ask the policy, inside the guards."""
    return guards.decide(policy, seen)


def is_stale(status: JobStatus, timing: Timing, now: datetime) -> bool:
    """Whether a job has been silent for too long to take anything away from it."""
    return status.heard_at is None or now - status.heard_at > timedelta(seconds=SILENT_POLLS * timing.poll_seconds)


def mode(job: Job, settings: Settings, option: Option, default: Mode | None) -> Mode:
    """Find how far to act: the job's own mode, else the policy's for this kind of action, else the daemon's."""
    if job.mode is not None:
        return job.mode
    if option.kind is None:
        return default or settings.trust.default
    return settings.trust.of(option.kind)


def status_for(choice: Choice, way: Mode) -> DecisionStatus:
    """Say what a fresh decision is."""
    if choice.option.stays:
        return "no_change"
    found: dict[Mode, DecisionStatus] = {
        "observe": "observed", "recommend": "recommended", "approve": "waiting", "auto": "acting",
    }  # fmt: skip
    return found[way]


def decide(identity: str, look: Look, settings: Settings, way: Mode, now: datetime) -> Decision:
    """Write a decision down with all that led to it. The look must hold a forecast, an allocation and a choice."""
    assert look.choice is not None
    assert look.allocation is not None
    assert look.forecast is not None
    shadow = "" if look.shadow is None else f"{look.shadow.option.offer.id}: {look.shadow.reason}"
    return Decision(
        id=identity, job=look.job.name, at=now, policy=settings.name, policy_version=settings.version, mode=way,
        status=status_for(look.choice, way), current=look.allocation.offer, choice=look.choice,
        options=look.options, inputs_hash=inputs_hash(look.forecast, look.options, settings),
        forecast=digest(look.forecast, look.drift), shadow=shadow,
    )  # fmt: skip


def brief(look: Look) -> Look:
    """Keep of a look what is asked for between turns: hundreds of options a job would fill the memory."""
    choice, shadow = (None if one is None else replace(one, rejected=()) for one in (look.choice, look.shadow))
    return replace(look, options=(), choice=choice, shadow=shadow)


def digest(forecast: Forecast, drift: Drift) -> dict[str, object]:
    """Put a forecast into a few figures that a person reads: quantiles at the near and the far end."""
    seen: dict[str, object] = {
        "method": forecast.method, "reason": forecast.reason, "at_step": forecast.at_step,
        "finish_step": forecast.finish_step, "declared": list(forecast.declared), "unknown": list(forecast.unknown),
        "margin": drift.margin, "gain": drift.gain,
    }  # fmt: skip
    for name in ("usage.memory_gib", "usage.gpu_memory_gib", "step_seconds"):
        if name in forecast.paths and len(forecast.steps):
            levels = quantiles(forecast, name, (0.1, 0.5, 0.9, 0.99))
            seen[name] = {
                f"p{label}": [round(float(levels[row, 0]), 4), round(float(levels[row].max()), 4)]
                for row, label in enumerate(("10", "50", "90", "99"))
            }
    return seen


def inputs_hash(forecast: Forecast, options: Sequence[Option], settings: Settings) -> str:
    """Hash everything a decision came from, so that a replay can be compared bit for bit."""
    found = hashlib.sha256()
    for name in sorted(forecast.paths):
        found.update(name.encode())
        found.update(np.ascontiguousarray(forecast.paths[name]).tobytes())
        if name in forecast.deviations:
            found.update(np.ascontiguousarray(forecast.deviations[name]).tobytes())
    found.update(np.ascontiguousarray(forecast.probability).tobytes())
    for option in options:
        found.update(option.offer.id.encode())
        found.update(np.array([option.objective.mean, option.misfit, option.usd_per_hour]).tobytes())
    found.update(json.dumps(asdict(settings), sort_keys=True, default=str).encode())
    return found.hexdigest()[:32]
