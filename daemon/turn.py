"""Pure decisions: from what is known of a job to a case for the engine, a situation for the policy and a decision."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np

from daemon import act, engine, speed
from daemon.config import Timing
from daemon.forecast.base import quantiles
from daemon.look import Look
from daemon.store.codec import dumps
from daemon.types import Action, Decision, DecisionStatus, Drift, Forecast, History, Job, JobStatus, Report
from policies import guards
from policies.availability import PRIOR, Availability
from policies.base import Policy
from policies.types import Choice, Mode, Option, Settings, Situation, Spread
from providers.types import Allocation, Offer

SILENT_POLLS = 3
"""After so many polls without an answer a job counts as stale: nothing is taken away from it then."""
RECLAIM_HOLDS = timedelta(minutes=15)
"""A machine that still runs so long after the notice was not taken back."""


def move_cost(status: JobStatus, timing: Timing) -> engine.MoveCost:
    """Take what a move costs from the job's own figures, and from the configuration while it has shown none."""
    return engine.MoveCost(
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
    strides = [b.seq - a.seq for a, b in pairwise(report.observations)]
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
        stride=min([*strides, *([status.stride] if status.stride else [])], default=None),
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
    speeds: speed.Speeds, availability: Mapping[str, Availability] | None = None,
) -> engine.Case:  # fmt: skip
    """Gather the engine's case. Offers of groups are other sizes of the group; those of VMs are other machines."""
    group = allocation.target.kind != "vm"
    never_seen = Availability(True)
    spot = {offer.id for offer in (allocation.offer, *offers) if offer.buying == "spot"}
    seen = availability or {}
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
        interrupted={one: PRIOR.interruptions_per_hour(seen.get(one, never_seen)) for one in spot},
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
    move: engine.MoveCost | None = None, share_usd_per_hour: float | None = None,
) -> Situation:  # fmt: skip
    """Gather what a policy may look at. Without ``move`` there is no option of letting the machine go."""
    return Situation(
        job=look.job.name, now=now, settings=settings, options=tuple(options), moves=tuple(moves),
        shortages=dict(shortages), unavailable=dict(unavailable), memory_floor_gib=look.status.memory_floor_gib,
        gpu_memory_floor_gib=look.status.gpu_memory_floor_gib, spent_usd=spent_usd, stale=stale,
        can_checkpoint=look.status.answers_prepare,
        killed=look.allocation is not None and _outgrown(look.status, look.allocation.offer),
        observed={} if stale else observed(look.history), deadline=look.job.deadline,
        budget_usd=_least(look.job.budget_usd, settings.limits.usd_total),
        release=None if move is None or look.allocation is None else release(look.allocation, options[0], move),
        share_usd_per_hour=share_usd_per_hour, missing=look.history.missing,
        began=look.job.registered_at, done=_done(look.forecast),
        reclaimed=look.allocation is not None and reclaimed(look.allocation, now),
    )  # fmt: skip


def release(allocation: Allocation, stay: Option, move: engine.MoveCost) -> Option | None:
    """Make the option of stopping a machine for good after a checkpoint; ``None`` where there is none to stop.

    Its dollars are what the stop takes; its hours are infinite: the work is not finished.
    """
    if allocation.target.kind != "vm" or allocation.state != "running":
        return None
    # What was spent is known as of the last turn, and the next one comes only after another.
    seconds = move.checkpoint_seconds + move.stop_seconds + 2 * move.poll_seconds
    cost = stay.usd_per_hour * seconds / 3600
    never = Spread.exactly(math.inf)
    return replace(
        stay, route="release", kind="release", usd=Spread.exactly(cost), hours=never, objective=never,
        saving=Spread.exactly(0.0), usd_per_progress=None, misfit=0.0, misfit_resource=None, over_budget=0.0,
        move_usd=cost, lead_seconds=seconds,
    )  # fmt: skip


def observed(history: History) -> dict[str, float]:
    """Give the newest known value of each column; of usage, which jumps, the middle of its newest five."""
    found: dict[str, float] = {}
    for name, values in history.columns.items():
        known = values[np.isfinite(values)]
        if len(known):
            newest = sorted(known[-5:].tolist()) if name.startswith("usage.") else known[-1:].tolist()
            found[name] = newest[len(newest) // 2]
    return found | _pace(history)


def _pace(history: History) -> dict[str, float]:
    """Fit a step's seconds to the batch sizes shown on the present machine: a fixed part and one for each sample."""
    batch, seconds = history.columns.get("hp.batch_size"), history.columns.get("step_seconds")
    if batch is None or seconds is None or not history.offers:
        return {}
    here = np.array([offer == history.offers[-1] for offer in history.offers])
    rows = here & np.isfinite(batch) & np.isfinite(seconds)
    sizes = np.unique(batch[rows])
    if len(sizes) < 2:
        return {}
    middle = [float(np.median(seconds[rows & (batch == size)])) for size in sizes]
    slope, fixed = np.polyfit(sizes, middle, 1)
    return {"pace.fixed_s": max(0.0, float(fixed)), "pace.per_sample_s": float(slope)} if slope > 0 else {}


def _done(forecast: Forecast | None) -> float | None:
    """Give the share of all steps that is behind the job."""
    if forecast is None or not forecast.finish_step:
        return None
    return min(max(forecast.at_step / forecast.finish_step, 0.0), 1.0)


def reclaimed(allocation: Allocation, now: datetime) -> bool:
    """Whether the cloud has just said that it takes the spot capacity under a job back."""
    fresh = (n for n in allocation.notices if n.kind == "spot_reclaim" and now - n.at < RECLAIM_HOLDS)
    return allocation.offer.buying == "spot" and any(fresh)


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
    """Write a decision down with all that led to it. The look must hold an allocation and a choice.

    Its ``inputs_hash`` and the forecast's figures are left to ``sealed``: most turns come to what the last one came to,
    and are only counted.
    """
    assert look.choice is not None
    assert look.allocation is not None
    shadow = "" if look.shadow is None else f"{look.shadow.option.offer.id}: {look.shadow.reason}"
    return Decision(
        id=identity, job=look.job.name, at=now, policy=settings.name, policy_version=settings.version, mode=way,
        status=status_for(look.choice, way), current=look.allocation.offer, choice=look.choice,
        options=look.options, inputs_hash="",
        forecast={}, shadow=shadow, situation=look.situation,
    )  # fmt: skip


def sealed(decision: Decision, look: Look) -> Decision:
    """Put the forecast's figures and the hash of everything it came from on a decision that is going to be kept."""
    if look.forecast is None:
        return decision
    figures, hashed = digest(look.forecast, look.drift), inputs_hash(look.forecast, decision.situation)
    return replace(decision, forecast=figures, inputs_hash=hashed)


def replay(decision: Decision, policy: Policy) -> Choice:
    """Make a decision's choice again from its record. ``policy`` is the one of the record's kind.

    Raises ``ValueError`` when the record is gone.
    """
    if decision.situation is None:
        raise ValueError(
            f"the record of decision {decision.id} has been removed - it was older than the retention keeps"
        )
    return choose(policy, decision.situation)


def brief(look: Look) -> Look:
    """Keep of a look what is asked for between turns: hundreds of options a job would fill the memory."""
    choice, shadow = (None if one is None else replace(one, rejected=()) for one in (look.choice, look.shadow))
    return replace(look, options=(), choice=choice, shadow=shadow, situation=None)


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


def inputs_hash(forecast: Forecast, seen: Situation | None) -> str:
    """Hash everything a decision came from: what the policy was shown, and the forecast behind it."""
    found = hashlib.sha256()
    for name in sorted(forecast.paths):
        found.update(name.encode())
        found.update(np.ascontiguousarray(forecast.paths[name]).tobytes())
        if name in forecast.deviations:
            found.update(np.ascontiguousarray(forecast.deviations[name]).tobytes())
    found.update(np.ascontiguousarray(forecast.probability).tobytes())
    if seen is not None:
        found.update(dumps(Situation, seen).encode())
    return found.hexdigest()[:32]
