"""The loop while a cloud is short of machines, loses them, or is changed by people; and policies edited meanwhile."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.types import Action, Checkpoint
from providers.errors import NotFound
from providers.simulated.provider import Simulated
from providers.simulated.state import Shortage
from providers.types import Allocation, Modify, Start, Stop, Target, Terminate
from tests.daemon.test_loop import HUGE, LARGE, POLICY, SMALL, Scene


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path, "auto")
    yield made
    await made.loop.close()
    made.store.close()


async def moving(scene: Scene) -> Action:
    """A job that outgrows its machine, and its open action."""
    await scene.add("bert")
    for _ in range(2):
        await scene.say("bert", 15.9)
        await scene.loop.turn(["bert"])
    (action,) = scene.store.actions.unfinished()
    return action


async def ended(scene: Scene) -> None:
    """Take every open action to its end, step by step; the job saves when it is asked, and comes back."""
    for _ in range(200):
        scene.cloud.tick()
        for action in scene.store.actions.unfinished():
            status = scene.loop._status["bert"]
            if action.asked_at is not None and status.state == "training" and action.stage == "checkpointing":
                saved = Checkpoint("c", 20, 5.0)
                status = replace(status, state="ready", checkpoint=saved, checkpoint_at=scene.clock.now())
            if action.stage in ("verifying", "rolling_back"):
                status = replace(status, state="training", run=f"after {action.id}")
            scene.loop._status["bert"] = replace(status, heard_at=scene.clock.now())
            await scene.loop._advance(action)
        if not scene.store.actions.unfinished():
            return
        scene.clock.advance(15)
    raise AssertionError(f"still open: {scene.store.actions.unfinished()}")


@pytest.mark.fault("C7")
async def test_what_the_cloud_had_none_of_is_left_for_the_next_best_that_it_has(scene: Scene) -> None:
    scene.cloud.shortage(Shortage(LARGE.id))
    assert (await moving(scene)).new.id == LARGE.id
    await ended(scene)
    machine = scene.cloud.machine("vm-bert")
    assert (machine.state, machine.offer.id) == ("running", SMALL.id)
    for _ in range(4):
        scene.clock.advance(60)
        await scene.say("bert", 15.9, run="run-2")
        await scene.loop.turn(["bert"])
    (action,) = scene.store.actions.unfinished()
    assert action.new.id == HUGE.id
    await ended(scene)
    machine = scene.cloud.machine("vm-bert")
    assert (machine.state, machine.offer.id) == ("running", HUGE.id)


@pytest.mark.fault("A17")
@pytest.mark.parametrize("edit", ["observe", "no larger machine"])
async def test_a_policy_edited_in_the_middle_of_a_move_leaves_it_to_end_safely_and_begins_no_other(
    scene: Scene, edit: str
) -> None:
    await moving(scene)
    text = POLICY.replace("MODE", "observe" if edit == "observe" else "auto")
    if edit != "observe":
        text = text.replace("moves:", "limits: {gpus: {min: 1}}\n    moves:")
    scene.policies.write_text(text)
    assert scene.book.reload() == []
    await ended(scene)
    machine = scene.cloud.machine("vm-bert")
    assert (machine.state, machine.offer.id) == ("running", LARGE.id)
    done = scene.mutations()
    assert done == ["stop", "modify", "start"]
    for _ in range(4):
        scene.clock.advance(60)
        await scene.say("bert", 31.9, run="run-2")
        await scene.loop.turn(["bert"])
    assert scene.store.actions.unfinished() == []
    assert scene.mutations() == done


@pytest.mark.fault("A17")
async def test_a_job_paused_in_the_middle_of_a_move_ends_it_and_is_moved_no_more(scene: Scene) -> None:
    await moving(scene)
    await scene.loop.changed(replace(scene.store.jobs.get("bert")[0], mode="observe"))
    await ended(scene)
    assert scene.cloud.machine("vm-bert").state == "running"
    done = scene.mutations()
    for _ in range(4):
        scene.clock.advance(60)
        await scene.say("bert", 31.9, run="run-2")
        await scene.loop.turn(["bert"])
    assert scene.store.actions.unfinished() == []
    assert scene.mutations() == done


@pytest.mark.fault("C11")
async def test_a_machine_that_somebody_deleted_is_neither_made_anew_nor_acted_on(scene: Scene) -> None:
    job = await scene.add("bert")
    assert job.target is not None
    for _ in range(2):
        await scene.say("bert", 15.9)
    scene.cloud.meddle(Terminate(job.target))
    for _ in range(6):
        scene.cloud.tick()
        await scene.loop.turn(["bert"])
        await ended(scene)
        scene.clock.advance(60)
    assert scene.cloud.machine("vm-bert").state == "terminated"
    assert scene.mutations() == []


@pytest.mark.fault("C13")
async def test_a_machine_that_somebody_made_larger_is_what_the_job_has_from_then_on(scene: Scene) -> None:
    """It is worth less by the hour, and yet not undone at once: the cooldown runs anew."""
    job = await scene.add("bert")
    assert job.target is not None
    await scene.say("bert", 7.9)
    await scene.loop.turn(["bert"])
    for call in (Stop(job.target), Modify(job.target, HUGE, "machine_type"), Start(job.target)):
        scene.cloud.meddle(call)
        scene.clock.advance(300)
        scene.cloud.tick()
    await scene.say("bert", 15.9, run="run-2")
    (look,) = await scene.loop.turn(["bert"])
    assert look.allocation is not None
    assert look.allocation.offer.id == HUGE.id
    assert look.choice is not None
    assert look.choice.option.stays
    assert "cooldown" in {refused.limit for refused in look.choice.rejected}
    assert scene.mutations() == []
    assert [e[5] for e in scene.store.audit.since(0) if e[3] == "machine changed"] == [
        {"before": SMALL.id, "now": HUGE.id}
    ]


@pytest.mark.fault("C20")
async def test_a_region_that_shows_nothing_any_more_moves_no_job(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether one or all are missing: what is not seen is not decided for, and not made anew."""
    names = [f"job-{number}" for number in range(8)]
    for name in names:
        await scene.add(name)
        await scene.say(name, 15.9, rows=3)

    def nothing(self: Simulated, target: Target) -> Allocation:
        raise NotFound(f"there is no {target.id}")

    monkeypatch.setattr(Simulated, "describe", nothing)
    for _ in range(3):
        looks = await scene.loop.turn(names)
        assert all(look.choice is None for look in looks)
        scene.clock.advance(60)
    assert scene.store.actions.unfinished() == []
    assert scene.mutations() == []
