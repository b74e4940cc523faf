"""The laws of acting, asked at every call, after every turn and at the end of every schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.types import Action
from providers.types import Call, Launch, Remove, Start, Stop, Terminate
from tests.daemon.proof.scenarios import LONGEST_STOP, Broken

if TYPE_CHECKING:
    from tests.daemon.proof.world import World


def of_a_call(world: World, call: Call, token: str) -> None:
    """Ask what must hold of a call when it is made."""
    action, record = world.action, world.records.get(token)
    if world.owner < world.epoch:
        # It stood still between its check and its call: what it sends must be what it wrote down, and no more.
        if record is None or record.call != call:
            raise Broken(f"{call} was made by an old owner without a record")
        return
    if action is None or action.closed:
        raise Broken(f"{call} was made for no open action")
    if record is None or record.call != call or record.state != "sent" or record.epoch != world.epoch:
        raise Broken(f"{call} was made without a committed record of its own")
    if token in world.refused:
        raise Broken(f"{type(call).__name__} was refused and made again in the same turn: it must wait")
    _of_its_kind(world, action, call, token)


def _of_its_kind(world: World, action: Action, call: Call, token: str) -> None:
    match call:
        case Stop(target):
            if target != action.target or not action.stopped_by_us:
                raise Broken("a stop that was not written down as ours")
        case Start() if not action.stopped_by_us:
            raise Broken("a machine was started that we did not stop")
        case Start() if action.route == "release":
            raise Broken("a machine that was let go was started")
        case Launch() if token not in world.launched and world.launched:
            raise Broken("a second machine was launched for one action")
        case Terminate(target) if target == action.target and action.stage != "retiring":
            raise Broken("the job's machine was deleted before its work had moved")
        case Remove(_, victims):
            named = set(action.victims) if action.route == "shrink" else set(victims) - set(action.nodes)
            if not set(victims) <= named:
                raise Broken(f"nodes that were not named were removed: {sorted(set(victims) - named)}")
        case _:
            pass


def between_turns(world: World) -> None:
    """Ask what must hold between any two turns."""
    if len(world.launched) > 1:
        raise Broken("more than one machine was launched")
    still = world.ours_since is not None and world.now_at - world.ours_since > LONGEST_STOP
    if still and world.scenario.route == "in_place":
        raise Broken("a machine that we stopped stands still for longer than its deadlines allow")
    if world.action is not None and world.action.attempts > 40:
        raise Broken("calls are repeated without end")


def at_the_end(world: World, disturbed: bool) -> None:
    action, scenario = world.action, world.scenario
    if action is None or world.settled is None or world.settled.stage != action.stage:
        raise Broken("the outcome is not the action's end")
    if not disturbed and action.stage != scenario.end:
        raise Broken(f"it ended {action.stage} and not {scenario.end} although nothing failed: {action.note}")
    allowed = {scenario.end, "cancelled", "rolled_back", "needs_human"} - (
        {"rolled_back"} if scenario.route == "release" else set()
    )
    if action.stage not in allowed:
        raise Broken(f"it ended {action.stage}, which is no end of this move")
    living = {name for name, machine in world.machines.items() if machine.state not in ("terminated", "stopped")}
    if action.stage == "released":
        if living:
            raise Broken(f"let go, and yet {living} run")
        return
    if not world.job.on:
        raise Broken(f"the job runs nowhere at the end ({action.stage}: {action.note})")
    if action.stage == "needs_human":
        _check_told(world, living, action.note)
        return
    _check_machines(world, action, living, disturbed)


def _check_machines(world: World, action: Action, living: set[str], disturbed: bool) -> None:
    """What runs at the end is what the end says, and nothing beside it."""
    scenario = world.scenario
    wanted = scenario.new if action.stage == "done" else scenario.old
    if scenario.target.kind == "group":
        if len(living) != wanted.nodes or world.desired != wanted.nodes:
            raise Broken(f"{action.stage} with {len(living)} nodes of {world.desired}, not {wanted.nodes}")
        if scenario.route == "grow" and not set(action.nodes) <= living:
            raise Broken("a node that did the work is gone")
        return
    if len(living) != 1:
        raise Broken(f"{action.stage}, and {sorted(living)} run: one of them belongs to nobody")
    if scenario.route == "replace" and action.stage == "done" and world.state_of("vm-1") != "terminated":
        raise Broken("the old machine was not deleted, and its disk costs money")
    at = world.machines[world.job.on].offer
    if at.id != wanted.id and not (action.stage == "rolled_back" and scenario.route == "in_place" and disturbed):
        raise Broken(f"{action.stage} on {at.id}, not on {wanted.id}")


def _check_told(world: World, living: set[str], note: str) -> None:
    """What is left for a person must be told to that person."""
    if not note:
        raise Broken("a person is called and not told why")
    spare = living - {world.job.on}
    if world.scenario.target.kind == "vm" and spare and not any(name in note for name in (*spare, "scaleahead-")):
        raise Broken(f"{sorted(spare)} cost money, and nobody is told: {note}")
