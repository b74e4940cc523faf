"""What the loop keeps of its decisions, replayed from the store; fleets, budgets and the money of moves."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from daemon import again
from daemon.bill import Bill
from daemon.schedule import chores
from daemon.types import CallRecord, Claim
from policies.config import policy_of
from policies.kinds import installed
from providers.simulated.state import Barrier
from providers.types import Launch, LaunchRecipe, Operation, Stop
from tests.daemon.test_loop import HUGE, LARGE, NOW, SMALL, Scene


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path, "auto")
    yield made
    await made.loop.close()
    made.store.close()


def write(scene: Scene, body: str) -> None:
    scene.policies.write_text(f"scaleahead: 1\npolicies:\n  default:\n    {body}\n    mode: {{default: auto}}\n")
    assert scene.book.reload() == []


async def test_every_decision_is_made_again_bit_for_bit_from_the_store(scene: Scene) -> None:
    await scene.add("bert")
    await scene.say("bert", 6.0)
    await scene.loop.turn(["bert"])
    await scene.say("bert", 15.9)
    await scene.loop.turn(["bert"])
    kept = scene.store.decisions.of("bert")
    assert [one.status for one in kept] == ["acting", "no_change"]
    for one in kept:
        assert one.situation is not None
        assert one.options == one.situation.options
        assert one.situation.observed["usage.memory_gib"] in (6.0, 15.9)
        assert again.same(one, policy_of(one.situation.settings.kind, installed()))
    assert kept[0].inputs_hash != kept[1].inputs_hash


async def test_what_the_pre_flight_said_is_part_of_the_record(scene: Scene) -> None:
    scene.cloud.barrier(Barrier("m5.*", "r5.*", "families differ"))
    scene.cloud.barrier(Barrier("m5.*", "x1.*", "families differ"))
    await scene.add("bert")
    await scene.add("gpt", recipe=LaunchRecipe("train"))
    for name in ("bert", "gpt"):
        await scene.say(name, 15.9)
        await scene.loop.turn([name])
        (one,) = scene.store.decisions.of(name)
        assert again.same(one, policy_of("cost_per_progress", installed()))
        assert one.choice.option.route == ("stay" if name == "bert" else "replace")
    (refused,) = scene.store.decisions.of("bert")
    assert refused.situation is not None
    assert set(refused.situation.unavailable) == {LARGE.id, HUGE.id}
    assert "no launch recipe" in refused.situation.unavailable[LARGE.id]


async def test_moves_and_shortages_change_the_hash(scene: Scene) -> None:
    await scene.add("bert")
    await scene.say("bert", 6.0)
    await scene.loop.turn(["bert"])
    scene.loop.watch.short_of("simulated", HUGE.id, 30.0)
    await scene.say("bert", 15.9)
    await scene.loop.turn(["bert"])
    newest = scene.store.decisions.of("bert")[0]
    assert newest.situation is not None
    assert HUGE.id in newest.situation.shortages


async def test_records_go_after_a_while_and_decisions_stay(scene: Scene) -> None:
    await scene.add("bert")
    await scene.say("bert", 6.0)
    await scene.loop.turn(["bert"])
    store, decisions = scene.store, scene.store.decisions
    (one,) = decisions.of("bert")
    assert decisions.since(NOW) == [one.id]
    assert decisions.since(scene.clock.now() + timedelta(hours=1)) == []
    assert decisions.forget(NOW) == 0
    scene.clock.advance(91 * 86400)
    retention = chores(store, {}, scene.clock, lambda: None).get_job("retention")
    assert retention is not None
    await retention.func()
    (bare,) = decisions.of("bert")
    assert (bare.situation, bare.options) == (None, ())
    assert (bare.id, bare.choice) == (one.id, one.choice)
    assert decisions.since(NOW) == []


async def test_a_spent_budget_lets_the_machine_go(scene: Scene) -> None:
    write(scene, "kind: budget")
    await scene.add("bert", budget_usd=0.05)
    for _ in range(60):
        await scene.say("bert", 6.0, rows=3)
        await scene.loop.turn(["bert"])
        if scene.store.actions.unfinished():
            break
    (action,) = scene.store.actions.unfinished()
    assert action.route == "release"
    assert action.new.id == SMALL.id
    newest = scene.store.decisions.of("bert")[0]
    assert "letting the machine go after a checkpoint" in newest.choice.reason
    assert scene.store.ledger.spent("bert") <= 0.05
    assert again.same(newest, policy_of("budget", installed()))


async def test_a_fleet_keeps_its_hourly_budget(scene: Scene) -> None:
    """Three jobs at $0.20 an hour outgrow their machines; the budget has room for one to move to $0.25."""
    write(scene, "kind: fleet_budget\n    fleet_usd_per_hour: 0.66")
    for name in ("a", "b", "c"):
        await scene.add(name)
        await scene.say(name, 15.9, rows=2)
    await scene.loop.turn(["a", "b", "c"])
    moving = scene.store.actions.unfinished()
    assert len(moving) == 1
    assert moving[0].new.id == LARGE.id
    assert moving[0].claim == Claim("default", 0.66, pytest.approx(0.2), pytest.approx(0.25))
    (stayed, *_) = [d for n in ("a", "b", "c") for d in scene.store.decisions.of(n) if d.status == "no_change"]
    assert {one.limit for one in stayed.rejected} >= {"share"}
    assert stayed.situation is not None
    assert stayed.situation.share_usd_per_hour == pytest.approx(0.2)
    for name in {"a", "b", "c"} - {moving[0].job}:
        await scene.say(name, 15.9)
        await scene.loop.turn([name])  # alone, the others counted
    assert len(scene.store.actions.unfinished()) == 1


async def test_what_this_process_does_not_know_of_still_counts_in_a_fleet(scene: Scene) -> None:
    """Another replica has claimed for a job of the same fleet between this one's decision and its intent."""
    write(scene, "kind: fleet_budget\n    fleet_usd_per_hour: 0.66")
    await scene.add("a")
    scene.store.jobs.add(replace(scene.store.jobs.get("a")[0], name="theirs"))
    scene.store.actions.costs("default", {"theirs": 0.42})
    await scene.say("a", 15.9, rows=2)
    await scene.loop.turn(["a"])
    assert not scene.store.actions.unfinished()
    assert [one.status for one in scene.store.decisions.of("a")] == ["cancelled"]
    scene.store.actions.costs("default", {"theirs": 0.40})
    await scene.say("a", 15.9)
    await scene.loop.turn(["a"])
    assert len(scene.store.actions.unfinished()) == 1


async def test_a_fleet_policy_that_raises_changes_nothing_for_its_jobs(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(scene, "kind: fleet_budget\n    fleet_usd_per_hour: 1.0")
    await scene.add("a")
    await scene.say("a", 15.9)

    def broken(*_: object) -> dict[str, float]:
        raise ArithmeticError("a defect")

    monkeypatch.setattr("policies.fleet_budget.allocate", broken)
    (look,) = await scene.loop.turn(["a"])
    assert look.choice is None
    assert "weighing it failed (ArithmeticError)" in look.reason
    assert scene.store.actions.unfinished() == []


async def test_a_fleet_is_one_batch_however_large(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.loop.JOBS_AT_ONCE", 2)
    scene.policies.write_text(
        "scaleahead: 1\npolicies:\n  default: {kind: reactive}\n  fleet: {kind: fleet_budget, fleet_usd_per_hour: 9}\n"
    )
    scene.book.reload()
    for number in range(6):
        await scene.add(f"j{number}", policy="fleet" if number % 2 else "default")
    assert scene.loop._batches([f"j{n}" for n in range(6)]) == [["j0", "j2"], ["j4"], ["j1", "j3", "j5"]]


async def test_disks_are_charged_also_while_the_machine_stands(scene: Scene) -> None:
    write(scene, "kind: reactive\n    prices: {disk_usd_per_hour: 0.36}")
    job = await scene.add("bert")
    await scene.say("bert", 6.0)
    await scene.loop.turn(["bert"])
    assert job.target is not None
    scene.cloud.meddle(Stop(job.target))
    for _ in range(3):
        scene.clock.advance(100)
        scene.cloud.tick()
        await scene.loop.turn(["bert"])
    disk = [charge for charge in scene.store.ledger.charges("bert") if charge.reason == "disk"]
    assert sum(charge.usd for charge in disk) == pytest.approx(400 * 0.0001)


async def test_the_new_machine_of_a_replacement_is_paid_for_from_its_launch(scene: Scene) -> None:
    scene.cloud.barrier(Barrier("m5.*", "r5.*", "families differ"))
    job = await scene.add("bert", recipe=LaunchRecipe("train"))
    await scene.say("bert", 15.9)
    await scene.loop.turn(["bert"])
    (action,) = scene.store.actions.unfinished()
    assert action.route == "replace"
    assert job.target is not None
    began = scene.clock.now()
    launched = Operation("op-1", "simulated", "done")
    for number, (call, after) in enumerate(
        [(Launch(LaunchRecipe("train"), LARGE, "x"), 0), (Stop(job.target), 360)], start=1
    ):
        at = began + timedelta(seconds=after)
        scene.store.actions.record(CallRecord(f"c{number}", action.id, number, call, "t", 1, at, "accepted", launched))
    bill = Bill(scene.store, scene.clock)
    bill.overlap(action)
    bill.overlap(action)
    (overlap,) = [charge for charge in scene.store.ledger.charges("bert") if charge.reason == "overlap"]
    assert (overlap.offer, overlap.seconds) == (LARGE.id, 360.0)
    assert overlap.usd == pytest.approx(0.25 / 10)
