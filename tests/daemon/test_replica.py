"""Two loops on one PostgreSQL: each job is worked for by one, and told about through either."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from daemon.store.base import Missing
from daemon.types import Job
from tests.daemon.test_loop import Scene

pytestmark = pytest.mark.postgres
Two = tuple[Scene, Scene]


async def beat(*scenes: Scene) -> None:
    for scene in scenes:
        await scene.loop.replica._beat()
        await scene.loop.replica._hear(scene.loop._hear)
        await scene.loop._divide()


@pytest.fixture
async def two(request: pytest.FixtureRequest, tmp_path: Path, postgres: Any) -> AsyncIterator[Two]:
    """The first two loops, by their parts: the jobs bert and tiny are the second's."""
    url = postgres.create()
    first = Scene(tmp_path, "approve", url)
    second = Scene(tmp_path, "approve", url, beside=first)
    await beat(first, first, second)
    yield first, second
    for scene in (first, second):
        await scene.loop.close()
        scene.store.close()


async def registered(scene: Scene, name: str = "bert") -> Job:
    job = await scene.add(name)
    scene.store.audit.note("ann", "job registered", name, {})
    return job


async def test_a_job_registered_through_one_is_worked_for_by_the_other_alone(two: Two) -> None:
    first, second = two
    await registered(first)
    await first.say("bert", 6.0)
    assert await first.loop.turn(["bert"]) == []
    assert await second.loop.turn(["bert"]) == []  # it has not heard yet
    await beat(second, first)
    (look,) = await second.loop.turn(["bert"])
    assert len(look.history) == 10
    assert (first.loop.health()["working_for"], second.loop.health()["working_for"]) == (0, 1)
    assert (await first.loop.look("bert")).allocation == look.allocation


async def test_what_is_told_to_either_counts_once(two: Two) -> None:
    first, second = two
    await registered(first)
    await beat(second)
    for scene in (first, second, first):
        scene.seq = max(first.seq, second.seq)
        await scene.say("bert", 6.0)
    await second.loop.turn(["bert"])
    assert second.store.jobs.get("bert")[1].next_seq == 31
    assert len((await second.loop.look("bert")).history) == 30


async def test_an_approval_through_the_other_is_acted_on_once(two: Two) -> None:
    first, second = two
    await registered(first)
    await beat(second)
    await second.say("bert", 15.9)
    await second.loop.turn(["bert"])
    (decision,) = second.store.decisions.of("bert")
    assert decision.status == "waiting"
    assert (await first.loop.approve(decision.id, "ann")).status == "approved"
    assert second.store.actions.unfinished() == []
    await beat(first, second, second)
    (action,) = second.store.actions.unfinished()
    assert action.epoch == second.loop.replica._lease.epoch_of("bert") == 2
    await first.loop._advance(action)  # not its own: refused by the fence
    assert second.store.actions.unfinished() == [action]


async def test_a_job_removed_through_one_is_forgotten_by_the_other(two: Two) -> None:
    first, second = two
    await registered(first)
    await beat(second)
    first.store.jobs.remove("bert")
    first.store.audit.note("ann", "job removed", "bert", {})
    await first.loop.removed("bert")
    await beat(second)
    assert second.loop.health()["jobs"] == 0
    with pytest.raises(Missing):
        await first.say("bert", 6.0)


async def test_a_shard_is_kept_until_the_work_on_it_has_ended(two: Two) -> None:
    first, second = two
    await second.loop.close()
    await registered(first)
    await beat(first)
    assert len(first.loop.replica.shards) == 16
    second.loop.replica = type(second.loop.replica)(second.store.lease("test:3", 1e6), second.store)
    await second.loop.replica.join(second.loop._key)
    with first.loop.replica.at_work(["bert"]):
        await beat(first)
        assert not first.loop.replica.ours("bert")  # no more work begins
        await beat(first)
        assert len(first.loop.replica.shards) == 9
        await first.loop.replica._beat()
        assert "jobs-14" in first.loop.replica.shards
    await beat(first)
    assert "jobs-14" not in first.loop.replica.shards


async def test_the_jobs_of_one_fleet_stay_together(two: Two) -> None:
    first, _ = two
    first.policies.write_text(
        "scaleahead: 1\npolicies:\n  night: {kind: fleet_budget, fleet_usd_per_hour: 3, mode: {default: approve}}\n"
    )
    first.book.reload()
    for number in range(8):
        await first.add(f"job-{number}", policy="night")
    assert len({first.loop._key(f"job-{number}") for number in range(8)}) == 1
