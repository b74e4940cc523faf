"""The loop with a job under a deadline, spot beside on-demand."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.types import Decision, Job
from policies.availability import Availability
from providers.types import LaunchRecipe, Notice
from tests.daemon.test_loop import NOW, SMALL, Scene, offer

SPOT = replace(offer("m5.xlarge", 0.04, 16), buying="spot")


class SpotScene(Scene):
    """Jobs of 28 hours that may run on spot."""

    offers = (SMALL, SPOT)
    policy = """\
scaleahead: 1
policies:
  default:
    kind: spot_deadline
    capacity: {spot: allowed}
    checkpoint: not_needed
    mode: {default: MODE}
"""

    async def decided(self, offer_id: str, hours: float, reclaimed: bool = False) -> Decision:
        """Register a job on an offer, with a deadline, and take a turn."""
        target = self.cloud.add_machine("vm-bert", offer_id)
        job = Job(
            "bert", NOW, "default", target=target, total_steps=10_000, deadline=NOW + timedelta(hours=hours),
            recipe=LaunchRecipe("training"),
        )  # fmt: skip
        self.store.jobs.add(job)
        await self.loop.registered(job)
        if reclaimed:
            self.cloud.notice("vm-bert", Notice("spot_reclaim", self.clock.now()))
        await self.say("bert", 6.0)
        await self.loop.turn(["bert"])
        (decision,) = self.store.decisions.of("bert")
        return decision


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[SpotScene]:
    made = SpotScene(tmp_path, "recommend")
    yield made
    await made.loop.close()
    made.store.close()


async def test_spot_is_taken_with_time_to_lose_it(scene: SpotScene) -> None:
    decision = await scene.decided(SMALL.id, 60.0)
    assert decision.choice.option.offer.id == SPOT.id
    assert "worth the risk" in decision.choice.reason


async def test_on_demand_is_kept_without_that_time(scene: SpotScene) -> None:
    decision = await scene.decided(SMALL.id, 29.0)
    assert decision.choice.option.stays


async def test_spot_that_is_taken_back_is_left_for_on_demand(scene: SpotScene) -> None:
    decision = await scene.decided(SPOT.id, 60.0, reclaimed=True)
    assert decision.choice.option.offer.id == SMALL.id


async def test_what_runs_on_spot_is_remembered_as_up(scene: SpotScene) -> None:
    await scene.decided(SPOT.id, 60.0)
    for _ in range(10):
        await scene.say("bert", 6.0)
        await scene.loop.turn(["bert"])
    seen = scene.loop.watch.sighted()[SPOT.id]
    assert (seen.up, seen.age) == (True, 2)
    scene.loop.watch.short_of("simulated", SPOT.id, 30.0)
    assert scene.loop.watch.sighted()[SPOT.id] == Availability(True).look(False)
