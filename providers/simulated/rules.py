"""Pure decisions: what a simulated machine does when it is told something, and when time passes over it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import assert_never

from providers.errors import Incompatible, Invalid, NoPrice, WrongState
from providers.simulated.state import (
    BILLED,
    Barrier,
    Change,
    Delays,
    Group,
    Line,
    Machine,
    Ordered,
    Quota,
    Scheduling,
    Span,
)
from providers.types import (
    Call,
    Keep,
    Launch,
    MachineState,
    Modify,
    Notice,
    Offer,
    Operation,
    Remove,
    Resize,
    Start,
    Stop,
    Terminate,
)

Lasting = Callable[[float], timedelta]
"""Turns a nominal delay in seconds into the one that is drawn."""

NOTICES_KEPT = 20


def shaped(kind: Offer, gpus: Offer) -> Offer:
    """Put the attached GPUs of one offer on the machine type of another. The mixture has no known price."""
    ours, theirs = kind.resources, gpus.resources
    if kind.attached_gpus == gpus.attached_gpus and (not kind.attached_gpus or ours.gpu_model == theirs.gpu_model):
        return kind
    if gpus.attached_gpus:
        resources = replace(ours, gpus=theirs.gpus, gpu_model=theirs.gpu_model, gpu_memory_gib=theirs.gpu_memory_gib)
    else:
        resources = replace(ours, gpus=0, gpu_model=None, gpu_memory_gib=0.0)
    return replace(kind, resources=resources, attached_gpus=gpus.attached_gpus, price=None)


def needed_scheduling(offer: Offer) -> Scheduling:
    """Say how the machine must be scheduled: one with attached GPUs cannot migrate."""
    return "terminate" if offer.attached_gpus else "migrate"


def missing(machine: Machine, offer: Offer) -> tuple[str, ...]:
    """Name the aspects that still differ from an offer, in the order in which they may be changed.

    GPUs come off before the machine type changes and go on after the scheduling is right.
    """
    now = machine.offer
    off = bool(now.attached_gpus) and not offer.attached_gpus
    aspects = {
        "machine_type": now.machine_type != offer.machine_type,
        "scheduling": machine.scheduling != needed_scheduling(offer),
        "accelerators": shaped(now, offer) is not now,
    }
    order = ("accelerators", "machine_type", "scheduling") if off else ("machine_type", "scheduling", "accelerators")
    return tuple(aspect for aspect in order if aspects[aspect])


def barrier(barriers: Iterable[Barrier], old: Offer, new: Offer) -> str:
    """Give the reason why one machine type cannot become another in place, "" if it can."""
    if old.machine_type == new.machine_type:
        return ""
    hits = (b for b in barriers if fnmatchcase(old.machine_type, b.old) and fnmatchcase(new.machine_type, b.new))
    return next((b.reason for b in hits), "")


def fixed(machine: Machine, offer: Offer, barriers: Iterable[Barrier]) -> str:
    """Give the reason why a machine cannot become an offer in place at all, "" if it can."""
    if machine.state == "terminated":
        return "the machine is terminated"
    if machine.offer.buying != offer.buying:
        return f"a machine bought {machine.offer.buying} cannot become {offer.buying} in place"
    if machine.offer.id != offer.id and machine.offer.buying == "spot":
        return "a spot machine cannot be modified in place"
    if machine.place != (offer.zone or offer.region):
        return f"a machine in {machine.place} cannot move to {offer.zone or offer.region} in place"
    return barrier(barriers, machine.offer, offer)


def over_quota(quotas: Iterable[Quota], machines: Iterable[Machine], offer: Offer, nodes: int = 1) -> str:
    """Say which quota has no room for more nodes of an offer, with its figures; "" if all have."""
    live = [machine for machine in machines if machine.state in BILLED]
    for quota in quotas:
        if not fnmatchcase(offer.id, quota.offers):
            continue
        used = sum(_counted(quota, m.offer) for m in live if fnmatchcase(m.offer.id, quota.offers))
        more = _counted(quota, offer) * nodes
        if used + more > quota.limit:
            return f"quota {quota.name} allows {quota.limit:g} {quota.unit}: {used:g} in use, {more:g} more asked for"
    return ""


def _counted(quota: Quota, offer: Offer) -> float:
    match quota.unit:
        case "cpu_cores":
            return offer.resources.cpu_cores
        case "gpus":
            return offer.resources.gpus
        case "machines":
            return 1
        case _:
            assert_never(quota.unit)


# What a machine does when it is told something. Each gives the very same value back when the effect is already there.


def stopped(machine: Machine, at: datetime, delays: Delays, lasting: Lasting) -> Machine:
    """Begin to stop. Raises ``WrongState`` while it boots or when it is gone."""
    if machine.state == "stopped" or (machine.state == "stopping" and machine.then == "stopped"):
        return machine
    if machine.state != "running":
        raise WrongState(f"machine {machine.id} is {machine.state} - only a running machine can be stopped")
    return replace(turned(machine, "stopping", at), then="stopped", due=at + lasting(delays.stop_seconds))


def started(machine: Machine, at: datetime, delays: Delays, lasting: Lasting, failing: str = "") -> Machine:
    """Begin to boot. Raises ``WrongState`` unless stopped and whole, ``NoPrice`` for an offer without a price.

    With ``failing`` the boot comes to nothing and the machine is stopped again.
    """
    if machine.state in ("running", "pending"):
        return machine
    if machine.state != "stopped":
        raise WrongState(f"machine {machine.id} is {machine.state} - only a stopped machine can be started")
    if machine.change:
        raise WrongState(f"machine {machine.id} is being modified - start it when that is done")
    if machine.scheduling != needed_scheduling(machine.offer):
        raise WrongState(f"machine {machine.id} cannot start with its scheduling as it is - modify it first")
    if machine.offer.price is None:
        raise NoPrice(f"no price is known for {machine.offer.id} - modify the machine to a priced offer")
    then: MachineState = "stopped" if failing else "running"
    booting = turned(machine, "pending", at)
    return replace(booting, then=then, due=at + lasting(delays.boot_seconds), failing=failing)


def modified(
    machine: Machine,
    call: Modify,
    at: datetime,
    delays: Delays,
    barriers: Sequence[Barrier],
    known: Callable[[Offer], Offer],
) -> Machine:
    """Begin to change one aspect. ``known`` finds the catalog's own value of a mixture of type and GPUs.

    Raises ``WrongState`` unless stopped and every earlier aspect is right, ``Incompatible`` for what cannot be.
    """
    if machine.state != "stopped":
        raise WrongState(f"machine {machine.id} is {machine.state} - only a stopped machine can be modified")
    reason = fixed(machine, call.offer, barriers)
    if reason:
        raise Incompatible(f"machine {machine.id} cannot become {call.offer.id}: {reason}")
    aim = machine if machine.change is None else replace(machine, offer=machine.change.offer)
    aim = aim if machine.change is None else replace(aim, scheduling=machine.change.scheduling)
    left = missing(aim, call.offer)
    if call.aspect not in left:
        if call.aspect not in ("machine_type", "scheduling", "accelerators"):
            raise Invalid(f"a machine has no aspect {call.aspect!r} - use machine_type, scheduling or accelerators")
        return machine
    if machine.change:
        raise WrongState(f"machine {machine.id} is being modified - wait until that is done")
    if left[0] != call.aspect:
        raise WrongState(f"{call.aspect} of machine {machine.id} cannot change before {left[0]} - modify that first")
    change = _change(machine, call, at + timedelta(seconds=delays.modify_seconds))
    return replace(machine, change=replace(change, offer=known(change.offer)))


def _change(machine: Machine, call: Modify, at: datetime) -> Change:
    match call.aspect:
        case "machine_type":
            return Change(shaped(call.offer, machine.offer), machine.scheduling, at)
        case "scheduling":
            return Change(machine.offer, needed_scheduling(call.offer), at)
        case _:
            return Change(shaped(machine.offer, call.offer), machine.scheduling, at)


def terminated(machine: Machine, at: datetime, seconds: timedelta) -> Machine:
    """Begin to delete, from any state; a stopped machine is gone at once."""
    if machine.state == "terminated" or (machine.then == "terminated" and machine.state == "stopping"):
        return machine
    if machine.state == "stopped":
        return turned(machine, "terminated", at)
    return replace(turned(machine, "stopping", at), then="terminated", due=at + seconds)


def turned(machine: Machine, state: MachineState, at: datetime) -> Machine:
    """Put a machine into a state, opening or closing its paid span; whatever else was under way is dropped."""
    spans = machine.spans
    lasting = bool(spans) and spans[-1].end is None
    if state in BILLED and not lasting:
        usd_per_hour = machine.offer.price.usd_per_hour if machine.offer.price else 0.0
        spans = (*spans, Span(machine.offer.id, usd_per_hour, at))
    elif state not in BILLED and lasting:
        spans = (*spans[:-1], replace(spans[-1], end=at))
    off = state not in BILLED
    return replace(
        machine,
        state=state,
        since=at,
        then=None,
        due=None,
        change=None,
        spans=spans,
        notice_at=None if off else machine.notice_at,
        reclaim_at=None if off else machine.reclaim_at,
    )


def noticed(machine: Machine, notice: Notice) -> Machine:
    """Add a notice; the newest 20 are kept."""
    return replace(machine, notices=(*machine.notices, notice)[-NOTICES_KEPT:])


# What time does.


def next_due(machine: Machine) -> datetime | None:
    """Give when something next happens to a machine by itself."""
    times = (machine.due, machine.change and machine.change.at, machine.notice_at, machine.reclaim_at)
    return min((time for time in times if time), default=None)


def advanced(machine: Machine, at: datetime, delays: Delays, life: Callable[[], timedelta | None]) -> Machine:
    """Let the one thing happen that is due at this time. ``life`` draws how long a spot machine will last."""
    if machine.reclaim_at == at:
        return replace(turned(machine, "terminated", at), failing="reclaimed by the cloud")
    if machine.due == at and machine.then:
        failing = machine.failing
        after = turned(machine, machine.then, at)
        if after.state != "running":
            return replace(after, failing=failing)
        span = life() if after.offer.buying == "spot" and after.notice_at is None else None
        return replace(after, failing="", notice_at=at + span if span else after.notice_at)
    if machine.change and machine.change.at == at:
        return replace(machine, offer=machine.change.offer, scheduling=machine.change.scheduling, change=None)
    if machine.notice_at == at:
        end = at + timedelta(seconds=delays.notice_seconds)
        notice = Notice("spot_reclaim", at, f"machine {machine.id} will be taken back at {end.isoformat()}")
        return replace(noticed(machine, notice), notice_at=None, reclaim_at=end)
    raise AssertionError(f"nothing of machine {machine.id} is due at {at}")


def judged(order: Ordered, at: datetime, machines: Sequence[Machine], group: Group | None) -> Operation:
    """Say how an accepted call stands, from the state of what it was about (a machine, or the nodes of a group)."""
    operation = order.operation
    if operation.state != "running":
        return operation
    if order.fails_at is not None:
        return replace(operation, state="failed", error=order.doom) if at >= order.fails_at else operation
    error = ""
    match order.call:
        case Stop():
            done, error = machines[0].state == "stopped", _lost(machines[0], ("terminated",))
        case Start() | Launch():
            done, error = machines[0].state == "running", _lost(machines[0], ("stopped", "terminated"))
        case Modify():
            done, error = machines[0].change is None, _lost(machines[0], ("terminated",))
        case Terminate():
            done = machines[0].state == "terminated"
        case Keep():
            done = True  # nothing is emptied before it ends here, so nothing is ever to be kept
        case Remove(_, victims):
            done = all(m.state == "terminated" for m in machines if m.id in victims)
        case Resize(_, nodes):
            done = sum(m.state == "running" for m in machines) >= nodes
            tries = group.activities if group else ()
            error = next((t.message for t in reversed(tries) if t.failed and t.at >= order.at), "")
        case _:
            assert_never(order.call)
    if done:
        return replace(operation, state="done")
    return replace(operation, state="failed", error=error) if error else operation


def _lost(machine: Machine, ends: tuple[MachineState, ...]) -> str:
    if machine.state not in ends:
        return ""
    return f"machine {machine.id} is {machine.state}" + (f": {machine.failing}" if machine.failing else "")


def bill(machines: Iterable[Machine], now: datetime) -> list[Line]:
    """List what machines have cost up to now: one line a paid span, oldest first."""
    lines = []
    for span in (span for machine in machines for span in machine.spans):
        seconds = ((span.end or now) - span.start).total_seconds()
        lines.append(Line(span.offer, span.start, seconds, seconds * span.usd_per_hour / 3600))
    return sorted(lines, key=lambda line: line.start)


def subject(call: Call) -> str:
    """Name what a call is about: the target's id, or the name of the machine to be launched."""
    return call.name if isinstance(call, Launch) else call.target.id


def digest(call: Call) -> str:
    """Write a call as a line that two equal requests share; prices are left out, they change meanwhile."""
    match call:
        case Stop() | Start() | Terminate():
            rest = ""
        case Modify(_, offer, aspect):
            rest = f"{offer.id} {aspect}"
        case Launch(recipe, offer, _):
            rest = f"{offer.id} {recipe.template} {sorted(recipe.labels.items())}"
        case Resize(_, nodes):
            rest = str(nodes)
        case Keep(_, nodes):
            rest = " ".join(sorted(nodes))
        case Remove(_, victims):
            rest = " ".join(sorted(victims))
        case _:
            assert_never(call)
    return f"{type(call).__name__} {subject(call)} {rest}"
