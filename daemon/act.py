"""Pure decisions: advance an action by one step, from what the cloud and the job say now.

Level-triggered: nothing here remembers which calls were made. Every turn reads the state of the world and names the
one thing to do next, so that a daemon killed anywhere goes on from wherever the world has come to. Every stage has a
deadline and a way out of it; the only ends are ``done``, ``released``, ``rolled_back``, ``cancelled`` and
``needs_human``, and in each but ``released`` no machine that we stopped is left stopped while it can be started.

In place:  intended -> checkpointing -> stopping -> modifying -> starting -> verifying -> done
Replace:   intended -> launching -> checkpointing -> switching -> verifying -> retiring -> done
Group:     intended -> [checkpointing] -> resizing -> verifying -> done
Release:   intended -> checkpointing -> stopping -> released, and nothing starts it again
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from daemon.types import CLOSED, Action, Checkpoint, JobStatus, Stage
from providers.errors import Incompatible, NoCapacity, NotFound, ProviderError, QuotaExceeded, Transient
from providers.types import (
    Allocation,
    Call,
    Grow,
    InPlace,
    Keep,
    Launch,
    LaunchRecipe,
    Modify,
    Remove,
    Replace,
    Resize,
    Route,
    Same,
    Shrink,
    Start,
    Stop,
    Terminate,
)

FINISHED = "the job has finished"
WENT_ON = "the job went on before its machine could be taken - it is weighed again"
STILL_RUNS = "the machine was told to stop and runs: it did not stop in time, or somebody started it again"
CANNOT_BE_ASKED = "the job cannot be asked for a checkpoint: it serves no prepare route"

_NEED_IT = frozenset({"stopping", "modifying", "starting", "resizing", "verifying", "rolling_back"})
"""The stages that come to nothing once the target is gone. Where it is replaced, its end is one of the steps."""
_LIMITS = (
    "checkpointing", "stopping", "modifying", "starting", "launching", "resizing", "verifying", "rolling_back",
)  # fmt: skip


MISSED, MISSED_SECONDS = 3, 60.0
"""How often the cloud must say that there is no such thing before it is believed, and how long between two times."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each stage may last, in seconds, and how often to look."""

    checkpointing: float = 900.0
    stopping: float = 900.0
    modifying: float = 300.0
    starting: float = 900.0
    launching: float = 1200.0
    resizing: float = 1200.0
    verifying: float = 900.0
    rolling_back: float = 3600.0
    look: float = 5.0
    repeat: float = 30.0
    grace: float = 25.0
    """The longest that one call of an owner before this one can still be on its way: connecting and reading."""

    def stretched(self, factor: float) -> "Patience":
        """Give every stage ``factor`` times as long; how often to look stays."""
        return replace(self, **{name: factor * getattr(self, name) for name in _LIMITS})


@dataclass(frozen=True, slots=True)
class CloudView:
    """What the cloud says now. ``fault`` is the error of the last read or call, ``pending`` the call not yet settled.

    ``route`` is the way from the present to the offer of the stage: the new one, or the old one when rolling back.
    ``under_way`` is set while the cloud itself says that the pending call is being carried out, ``made_gone`` where it
    says that there is no machine of that name. ``inherited_at`` is when this owner first saw that an owner before it
    left a call without an answer. ``missed`` counts how often, ``MISSED_SECONDS`` apart, the cloud has said that there
    is no such target since it last showed it.
    """

    allocation: Allocation | None
    route: Route | None = None
    made: Allocation | None = None
    fault: ProviderError | None = None
    pending: Call | None = None
    pending_since: datetime | None = None
    under_way: bool = False
    made_gone: bool = False
    inherited_at: datetime | None = None
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do but look again."""

    why: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the job for a checkpoint."""


@dataclass(frozen=True, slots=True)
class Proceed:
    """Tell the job to go on, then close the action: cancelled, or for a person where the machine was to be let go."""

    why: str


@dataclass(frozen=True, slots=True)
class GoOn:
    """Tell the job to go on, and look again: what it stood still for has happened."""


@dataclass(frozen=True, slots=True)
class Perform:
    """Make one call to the cloud."""

    call: Call


@dataclass(frozen=True, slots=True)
class Enter:
    """Pass to another stage."""

    stage: Stage
    note: str = ""
    checkpoint: Checkpoint | None = None


Step = Wait | Ask | Proceed | GoOn | Perform | Enter


def advance(action: Action, cloud: CloudView, job: JobStatus, now: datetime, patience: Patience) -> Step:
    """Say the next step of an open action. Pure; the same views always give the same step."""
    if action.closed:
        return Wait("closed")
    if isinstance(cloud.fault, Transient) and cloud.allocation is None:
        return _overdue(action, now) or Wait(f"the cloud does not answer: {cloud.fault}")
    if cloud.missed >= MISSED and action.route != "replace" and action.stage in _NEED_IT:
        return Enter("needs_human", f"there is no {action.target.id} any more; {action.rollback_reason}".rstrip("; "))
    step = _STAGES[action.stage](action, cloud, job, now)
    if isinstance(step, Perform) and step.call == cloud.pending and cloud.pending_since is not None:
        # That call is out and its effect not visible yet. Later it is repeated, with the token it was made with; never
        # while the cloud says that it is carrying it out, however slow either side is, unless the stage is over.
        age = (now - cloud.pending_since).total_seconds()
        if age < patience.repeat or (cloud.under_way and now < action.deadline):
            return Wait("the last call's effect is not visible yet")
    if (
        isinstance(step, Perform)
        and not isinstance(step.call, Stop | Remove)
        and cloud.inherited_at is not None
        and now < cloud.inherited_at + timedelta(seconds=patience.grace)
    ):
        # Whatever is called now could meet that call on its way. What takes a machine away does so once, however often
        # it is called, and must not wait: the job would go on, and what it did since would be lost.
        return Wait("a call of the owner before may still be on its way")
    return step


def stage_seconds(stage: Stage, patience: Patience) -> float:
    """Give a stage's patience in seconds."""
    like = {"intended": "checkpointing", "switching": "stopping", "retiring": "stopping"}
    return float(getattr(patience, like.get(stage, stage), patience.checkpointing))


def _lasting(action: Action, stage: Stage, patience: Patience) -> float:
    if stage == "checkpointing" and action.grace_seconds is not None:
        return action.grace_seconds
    return stage_seconds(stage, patience)


def enter(action: Action, step: Enter, now: datetime, patience: Patience) -> Action:
    """Apply a change of stage to an action: a new deadline, the note, and what was learned on the way.

    An action that is cancelled after it launched a machine rolls back first: what nobody uses yet costs money already.
    """
    if step.stage == "cancelled" and action.made is not None:
        step = replace(step, stage="rolling_back")
    closed = step.stage in CLOSED
    return replace(
        action,
        stage=step.stage,
        # A closed action keeps when its last stage began: that stage's length is the time the job took to come back.
        stage_at=action.stage_at if closed else now,
        deadline=now + timedelta(seconds=_lasting(action, step.stage, patience)),
        next_at=now,
        note=step.note,
        rollback_reason=step.note if step.stage == "rolling_back" else action.rollback_reason,
        checkpoint=step.checkpoint or action.checkpoint,
        closed_at=now if closed else None,
    )


def _begin(action: Action, cloud: CloudView, job: JobStatus, now: datetime) -> Step:
    here = cloud.allocation
    if here is None or here.state in ("terminated", "unknown"):
        return Enter("cancelled", "the machine is gone or unknown")
    if here.state != "running" and action.route != "grow":
        # A machine that somebody else stopped is left as it is: that was a person's wish.
        return Enter("cancelled", f"the machine is {here.state}, not running; not ours to start")
    if here.offer.id != action.old.id:
        return Enter("cancelled", f"the machine became {here.offer.id} meanwhile; decided for {action.old.id}")
    if action.route != "release" and (isinstance(cloud.fault, ProviderError) or not _leads_there(action, cloud.route)):
        return Enter("cancelled", f"the pre-flight refuses it: {cloud.fault or cloud.route}")
    match action.route:
        case "replace":
            return Enter("launching")
        case "grow":
            return Enter("resizing")
        case "in_place" | "shrink" | "release":
            return Enter("checkpointing" if action.checkpoint_required else _after_checkpoint(action))
        case _:
            assert_never(action.route)


def _leads_there(action: Action, route: Route | None) -> bool:
    match route:
        case InPlace():
            return action.route == "in_place"
        case Replace():
            return action.route == "replace"
        case Grow():
            return action.route == "grow"
        case Shrink():
            return action.route == "shrink"
        case Same() | None:
            return False
        case _:
            assert_never(route)


def _after_checkpoint(action: Action) -> Stage:
    match action.route:
        case "in_place" | "release":
            return "stopping"
        case "replace":
            return "switching"
        case "grow" | "shrink":
            return "resizing"
        case _:
            assert_never(action.route)


def _checkpoint(action: Action, cloud: CloudView, job: JobStatus, now: datetime) -> Step:
    if action.asked_at is None:
        return Ask()
    fresh = job.checkpoint is not None and job.checkpoint_at is not None and job.checkpoint_at >= action.asked_at
    if job.state == "done":
        return Proceed(FINISHED)
    if job.state == "ready" and fresh and job.run == action.old_run:
        return Enter(_after_checkpoint(action), checkpoint=job.checkpoint)
    killed = cloud.allocation and any(
        notice.kind == "out_of_memory" and notice.at >= action.asked_at for notice in cloud.allocation.notices
    )
    if killed:
        # Nobody is left to save anything: the newest checkpoint is what there is.
        return Enter(_after_checkpoint(action), "the job was killed while it was asked for a checkpoint")
    if now >= action.deadline:
        return Proceed("the job gave no checkpoint in time")
    if job.state == "training":
        # The request may have been lost with a daemon that was killed; asking again for the same decision is harmless.
        return Ask()
    return Wait("waiting for the job's checkpoint")


def _stop(action: Action, cloud: CloudView, job: JobStatus, now: datetime) -> Step:
    here = cloud.allocation
    if here is None:
        return _overdue(action, now) or Wait("the cloud does not show the machine")
    if action.route == "release":
        again = here.state == "running" and (_went_on(action, cloud, job) or _came_back(action, job))
        return Enter("cancelled", WENT_ON) if again else _let_go(action, here, now)
    match here.state:
        case "running" if here.offer.id == action.new.id:
            return Enter("verifying")
        case "running":
            if isinstance(cloud.fault, QuotaExceeded | Incompatible | NoCapacity) and not action.stopped_by_us:
                return Proceed(f"the pre-flight refuses it now: {cloud.fault}")
            if _went_on(action, cloud, job) or _came_back(action, job):
                return Enter("cancelled", WENT_ON)
            late = _overdue(action, now)
            if late is not None and isinstance(cloud.pending, Stop):
                return replace(late, note=STILL_RUNS)
            return late or Perform(Stop(action.target))
        case "pending" | "stopping" | "unknown":
            return _overdue(action, now) or Wait(f"the machine is {here.state}")
        case "stopped" if action.stopped_by_us:
            return Enter("modifying")
        case "stopped":
            return Enter("cancelled", "somebody else stopped the machine; not ours to start")
        case "terminated":
            return Enter("needs_human", "the machine was terminated from outside while it was stopping")
        case _:
            assert_never(here.state)


def _went_on(action: Action, cloud: CloudView, job: JobStatus) -> bool:
    """Whether the job trains again after its checkpoint, and no call is out that takes its machine away.

    It goes on by itself when its own deadline has passed; stopping it then would lose what it did since.
    """
    again = action.checkpoint is not None and job.state == "training" and job.run == action.old_run
    return again and not isinstance(cloud.pending, Stop | Remove)


def _came_back(action: Action, job: JobStatus) -> bool:
    """Whether the job runs anew on the machine that was to be stopped: somebody started it again by hand."""
    return action.checkpoint is not None and job.state == "training" and job.run != action.old_run


def _let_go(action: Action, here: Allocation, now: datetime) -> Step:
    """Stop a machine for good. Nothing is started again, whoever stopped it; what does not stop is for a person."""
    match here.state:
        case "stopped":
            return Enter("released", "" if action.stopped_by_us else "somebody else stopped the machine")
        case "terminated":
            return Enter("needs_human", "the machine was terminated from outside while it was stopping")
        case "running":
            return _overdue(action, now) or Perform(Stop(action.target))
        case "pending" | "stopping" | "unknown":
            return _overdue(action, now) or Wait(f"the machine is {here.state}")
        case _:
            assert_never(here.state)


def _modify(action: Action, cloud: CloudView, job: JobStatus, now: datetime) -> Step:
    here = cloud.allocation
    if here is not None and here.state == "terminated":
        return Enter("needs_human", "the machine was terminated from outside while it was stopped")
    if here is not None and here.state in ("running", "pending"):
        return Enter("starting")
    if here is None and isinstance(cloud.fault, NotFound):
        return _overdue(action, now) or Wait("the cloud does not show the machine")
    if isinstance(cloud.fault, ProviderError) and not isinstance(cloud.fault, Transient):
        return Enter("rolling_back", f"the change was refused: {cloud.fault}")
    if now >= action.deadline:
        # Only a change that was asked for can be late. After an absence of our own, going on is the shortest way up.
        late = here is None or isinstance(cloud.pending, Modify)
        return Enter("rolling_back", "the change took too long") if late else Enter("modifying", "going on")
    match cloud.route:
        case InPlace(aspects) if aspects:
            return Perform(Modify(action.target, action.new, aspects[0]))
        case InPlace() | Same():
            return Enter("starting")
        case Replace(reason):
            return Enter("rolling_back", f"not possible in place after all: {reason}")
        case Grow() | Shrink() | None:
            return Wait("no way to the offer is known yet")
        case _:
            assert_never(cloud.route)


def _start(action: Action, cloud: CloudView, job: JobStatus, now: datetime) -> Step:
    here = cloud.allocation
    if here is None:
        return Enter("rolling_back", "the machine is not shown") if now >= action.deadline else Wait("not shown")
    if here.state == "terminated":
        return Enter("needs_human", "the machine was terminated from outside before it started")
    if here.state == "running":
        if here.offer.id == action.new.id or cloud.route == Same():
            return Enter("verifying")
        # Somebody started it halfway through: it is not what was decided for.
        return Enter("rolling_back", f"it was started as {here.offer.id}, not as {action.new.id}")
    if isinstance(cloud.fault, NoCapacity):
        return Enter("rolling_back", f"there is no capacity for {action.new.id}: {cloud.fault}")
    if isinstance(cloud.fault, ProviderError) and not isinstance(cloud.fault, Transient):
        return Enter("rolling_back", f"it does not start: {cloud.fault}")
    if now >= action.deadline:
        late = here.state != "stopped" or isinstance(cloud.pending, Start)
        return Enter("rolling_back", "it did not start in time") if late else Enter("starting", "going on")
    return Perform(Start(action.target)) if here.state == "stopped" else Wait(f"the machine is {here.state}")


def _launch(action: Action, cloud: CloudView, job: JobStatus, now: datetime) -> Step:
    if action.recipe is None:
        return Enter("cancelled", "a replacement needs a launch recipe - register the job with one")
    unknown = action.made is None and isinstance(cloud.pending, Launch)
    if isinstance(cloud.fault, ProviderError) and not isinstance(cloud.fault, Transient) and not unknown:
        return Enter("cancelled", f"the new machine could not be launched: {cloud.fault}")
    if action.made is None:
        if now >= action.deadline and isinstance(cloud.pending, Launch):
            name = cloud.pending.name
            return Enter("needs_human", f"it is not known whether {name} was launched - look for it, it costs money")
        return _overdue(action, now) or Perform(Launch(_labelled(action), action.new, f"scaleahead-{action.id}"))
    if cloud.made is not None and cloud.made.state == "running":
        return Enter("checkpointing" if action.checkpoint_required else "switching")
    if cloud.made is not None and cloud.made.state == "terminated":
        return Enter("cancelled", "the new machine was taken away before it was used")
    return _overdue(action, now) or Wait("the new machine is booting")


def _labelled(action: Action) -> LaunchRecipe:
    assert action.recipe is not None
    labels = {**action.recipe.labels, "scaleahead-action": action.id, "scaleahead-job": action.job}
    return replace(action.recipe, labels=labels)


def _switch(action: Action, cloud: CloudView, job: JobStatus, now: datetime) -> Step:
    here = cloud.allocation
    if _gone(cloud) or (here is not None and here.state == "stopped"):
        return Enter("verifying")
    if here is not None and here.state == "running":
        if _went_on(action, cloud, job):
            return Enter("cancelled", WENT_ON)
        return Perform(Stop(action.target))
    return Enter("needs_human", "the old machine does not stop") if now >= action.deadline else Wait("stopping the old")


def _resize(action: Action, cloud: CloudView, job: JobStatus, now: datetime) -> Step:
    here = cloud.allocation
    if here is None:
        return _overdue(action, now) or Wait("the cloud does not show the group")
    running = [node.id for node in here.nodes if node.state == "running"]
    if cloud.route == Same() and len(running) >= action.new.nodes:
        return Enter("verifying")
    if isinstance(cloud.fault, ProviderError) and not isinstance(cloud.fault, Transient):
        return Enter("rolling_back", f"the group does not reach its size: {cloud.fault}")
    match cloud.route:
        case Grow(nodes):
            return _overdue(action, now) or Perform(Resize(action.target, nodes))
        case Shrink():
            present = {node.id for node in here.nodes if node.state != "terminated"}
            victims = tuple(victim for victim in action.victims if victim in present)
            if not victims:
                return Enter("needs_human", "the nodes named for removal are gone, and the group is still too large")
            if _went_on(action, cloud, job):
                return Enter("cancelled", WENT_ON)
            return _overdue(action, now) or Perform(Remove(action.target, victims))
        case Same() | InPlace() | Replace() | None:
            return _overdue(action, now) or Wait("the group is changing size")
        case _:
            assert_never(cloud.route)


def _gone(cloud: CloudView) -> bool:
    """Whether the machine is known to be no more. One that may not be looked at is not gone."""
    if cloud.allocation is None:
        return isinstance(cloud.fault, NotFound)
    return cloud.allocation.state == "terminated"


def _retire(action: Action, cloud: CloudView, job: JobStatus, now: datetime) -> Step:
    here = cloud.allocation
    if _gone(cloud):
        return Enter("done")
    if here is None:
        return _overdue(action, now) or Wait("the cloud does not show the old machine")
    if now >= action.deadline:
        return Enter("needs_human", f"the old machine {action.target.id} is still there and still costs money")
    return Perform(Terminate(action.target))


def _verify(action: Action, cloud: CloudView, job: JobStatus, now: datetime) -> Step:
    back = job.heard_at is not None and job.heard_at >= action.stage_at and job.run != action.old_run
    if action.route == "grow" or (action.route == "shrink" and not action.checkpoint_required):
        # Nobody was asked to stop, so nobody comes back: that the nodes run is all there is to see.
        back = True
    if back:
        return Enter("retiring" if action.route == "replace" else "done", "the job is back")
    if now >= action.deadline:
        # The machine runs and the job does not report: moving it once more would not help, a person must look.
        return Enter("needs_human", "the machine runs but the job has not come back")
    if action.route == "shrink" and job.state == "ready" and not _leaving(action, cloud):
        # It stands still on the nodes that stay, and nothing on them ended that would start it anew.
        return GoOn()
    return Wait("waiting for the job to come back")


def _leaving(action: Action, cloud: CloudView) -> bool:
    """Whether a node that is to leave may still do work."""
    here = cloud.allocation
    return here is None or any(node.id in action.victims and node.state != "terminated" for node in here.nodes)


def _roll_back(action: Action, cloud: CloudView, job: JobStatus, now: datetime) -> Step:
    here = cloud.allocation
    if action.route in ("grow", "shrink"):
        return _take_size_back(action, cloud, now)
    if action.route == "replace":
        return _discard(action, cloud, job, now)
    if here is None:
        return _overdue(action, now) or Wait("the cloud does not show the machine")
    match here.state:
        case "running" if here.offer.id in (action.old.id, action.new.id):
            return Enter("rolled_back", action.rollback_reason)
        case "running":
            # Neither of the two that were weighed, and the job may be at work on it already: it is not stopped again.
            return Enter("needs_human", f"{action.rollback_reason}; the machine runs as {here.offer.id}")
        case "terminated":
            return Enter("needs_human", "the machine was terminated from outside")
        case "pending" | "stopping" | "unknown":
            return _overdue(action, now) or Wait(f"the machine is {here.state}")
        case "stopped":
            # Between looks it may be hours of shortage; then a person must know, whatever is tried.
            if (late := _overdue(action, now)) is not None:
                return late
            match cloud.route:
                case InPlace(aspects) if aspects and not isinstance(cloud.fault, Incompatible):
                    return Perform(Modify(action.target, action.old, aspects[0]))
                case _:
                    return Perform(Start(action.target))
        case _:
            assert_never(here.state)


def _discard(action: Action, cloud: CloudView, job: JobStatus, now: datetime) -> Step:
    """Delete the machine that was launched and is not used. One just launched may not be shown yet: tell it first."""
    told = isinstance(cloud.pending, Terminate)
    if action.made is None or (cloud.made is not None and cloud.made.state == "terminated"):
        return Enter("rolled_back", action.rollback_reason)
    if told and cloud.made_gone:
        return Enter("rolled_back", action.rollback_reason)
    if now >= action.deadline:
        return Enter("needs_human", f"the machine {action.made.id} was launched in vain and still costs money")
    if told and cloud.under_way:
        return Wait("the machine that is not used is being deleted")
    here = cloud.allocation
    if here is None and not isinstance(cloud.fault, NotFound):
        return Wait("the cloud does not show the old machine")
    if here is None or here.state not in ("pending", "running"):
        # Somebody stopped or deleted the old machine meanwhile: the job may have come up on the new one.
        return Enter("needs_human", f"the old machine does not run; {action.made.id} is kept, and costs money")
    if job.run != action.old_run:
        return Enter("needs_human", f"the job began anew, perhaps on {action.made.id}: it is kept, and costs money")
    return Perform(Terminate(action.made))


def _take_size_back(action: Action, cloud: CloudView, now: datetime) -> Step:
    kept = _still_here(action, cloud.allocation)
    if kept:
        return _overdue(action, now) or Perform(Keep(action.target, kept))
    match cloud.route:
        case Grow(nodes):
            return _overdue(action, now) or Perform(Resize(action.target, nodes))
        case Shrink():
            return _overdue(action, now) or _give_back(action, cloud.allocation)
        case Same():
            return Enter("rolled_back", action.rollback_reason)
        case _:
            # Not known is not taken back: the cloud may go on launching, and bill for it.
            return _overdue(action, now) or Wait(f"the group's size is not known: {cloud.fault}")


def _still_here(action: Action, here: Allocation | None) -> tuple[str, ...]:
    """Name the nodes that were to be removed, are still there, and take no work any more."""
    if here is None or action.route != "shrink":
        return ()
    alive = (node for node in here.nodes if node.leaving and node.state not in ("stopping", "terminated"))
    return tuple(node.id for node in alive if node.id in action.victims)


def _give_back(action: Action, here: Allocation | None) -> Step:
    """Remove only the nodes that this action added, by name: the others do the job's work.

    Where none came, the cloud still tries to launch them and would bill for them later: the size itself is lowered,
    to no fewer nodes than there are, which ends none.
    """
    if here is None:
        return Wait("the cloud does not show the group")
    known = {node.id for node in here.nodes if node.state not in ("stopping", "terminated")}
    fresh = tuple(sorted(known - set(action.nodes))) if action.nodes else ()
    if fresh:
        return Perform(Remove(action.target, fresh))
    if len(known) <= action.old.nodes:
        return Perform(Resize(action.target, action.old.nodes))
    return Wait("the group is too large, and none of its nodes is new")


def _overdue(action: Action, now: datetime) -> Enter | None:
    if now < action.deadline:
        return None
    if action.route == "release" and action.stage != "intended":
        return Enter("needs_human", f"{action.stage} took too long, and the machine may still cost money")
    match action.stage:
        case "rolling_back" | "verifying" | "retiring" | "switching":
            return Enter("needs_human", f"{action.stage} took too long; {action.rollback_reason}".rstrip("; "))
        case "stopping" | "modifying" | "starting" | "resizing":
            return Enter("rolling_back", f"{action.stage} took too long")
        case _:
            return Enter("cancelled", f"{action.stage} took too long")


_STAGES: Mapping[Stage, Callable[[Action, CloudView, JobStatus, datetime], Step]] = {
    "intended": _begin,
    "checkpointing": _checkpoint,
    "stopping": _stop,
    "modifying": _modify,
    "starting": _start,
    "launching": _launch,
    "switching": _switch,
    "resizing": _resize,
    "retiring": _retire,
    "verifying": _verify,
    "rolling_back": _roll_back,
}
