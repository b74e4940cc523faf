"""What Google Cloud and people do in the middle of an action: each ends in a safe state, and is explained.

Lost answers, stock-outs of a start and of a zonal group, and crashes at every step of an instance's change stand in
``test_operate_gcp``; those of node pools in ``test_operate_gke``.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from providers.catalog import with_nodes
from providers.types import LaunchRecipe, Target
from tests.daemon.test_operate import Killed, begun
from tests.daemon.test_operate_eks import crashed_everywhere, opened
from tests.daemon.test_operate_gcp import OnGcp, OnGroup
from tests.emulators.gce import Fault
from tests.providers.gcp.conftest import N1, N1_BIG, ZONE

SMALL_RUNS, LARGE_RUNS = ("n1-standard-8", 0, "RUNNING"), ("n1-standard-16", 1, "RUNNING")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OnGcp]:
    made = OnGcp(tmp_path / "s.sqlite", recipe=LaunchRecipe("train"))
    try:
        yield made
    finally:
        made.close()


async def until(world: OnGcp, there: Callable[[], bool]) -> None:
    """Take turns until something is so."""
    for _ in range(200):
        if there():
            return
        await world.turn()
    raise AssertionError("it never came to that")


def machine(world: OnGcp) -> dict[str, object]:
    found: dict[str, object] = world.emulator.instances[ZONE, "vm-1"]
    return found


@pytest.mark.parametrize("metric", ["NVIDIA_T4_GPUS", "GPUS_ALL_REGIONS", "CPUS"])
async def test_a_quota_that_is_used_up_meanwhile_gives_the_old_machine_back(world: OnGcp, metric: str) -> None:
    """It had room when the way was looked for; at the start it has none any more."""
    await world.begin()
    await until(world, lambda: world.effects()["setMachineResources"] == 1)
    world.emulator.limit(metric, 8 if metric == "CPUS" else 0)
    await world.settle()
    assert world.stage() == "rolled_back"
    assert world.truth() == SMALL_RUNS
    assert f"Quota '{metric}' exceeded" in world.closed_with()


async def test_a_quota_that_is_used_up_beforehand_stops_nothing(world: OnGcp) -> None:
    world.emulator.limit("GPUS_ALL_REGIONS", 0)
    await world.begin()
    await world.settle()
    assert world.stage() == "cancelled"
    assert (world.effects(), world.truth()) == ({}, SMALL_RUNS)
    assert "quota GPUS_ALL_REGIONS of the project allows 0" in world.closed_with()


@pytest.mark.parametrize("method", ["stop", "setMachineType", "setScheduling", "setMachineResources", "start"])
async def test_an_operation_that_is_done_with_an_error_inside_never_leaves_the_machine_stopped(
    world: OnGcp, method: str
) -> None:
    world.emulator.spoil(method, "an error inside")
    await world.begin()
    await world.settle()
    assert world.stage() in ("done", "rolled_back", "cancelled")
    assert world.truth() == (LARGE_RUNS if world.stage() == "done" else SMALL_RUNS)
    assert world.emulator.complaints == []


@pytest.mark.parametrize("method", ["setMachineType", "setScheduling", "setMachineResources"])
async def test_a_fingerprint_that_does_not_match_is_looked_at_again(world: OnGcp, method: str) -> None:
    """Google answers 412 where somebody changed the machine between our look and our call."""
    world.emulator.fault(Fault(method, "conditionNotMet", 412))
    await world.begin()
    await world.settle()
    assert world.stage() == "done"
    assert world.truth() == LARGE_RUNS


@pytest.mark.parametrize(("method", "after"), [("stop", True), ("start", False), ("setMachineType", True)])
async def test_a_lost_answer_is_never_sent_again_under_another_request_id(
    world: OnGcp, method: str, after: bool
) -> None:
    world.emulator.fault(Fault(method, "", after=after))
    await world.begin()
    await world.settle()
    sent = [call.query["requestId"] for call in world.emulator.calls if call.method == method]
    assert len(set(sent)) == 1
    assert world.stage() == "done"


@pytest.mark.parametrize("method", ["stop", "setMachineType", "start"])
async def test_a_machine_deleted_by_hand_is_looked_for_some_minutes_and_nothing_is_made(
    world: OnGcp, method: str
) -> None:
    await world.begin()
    await until(world, lambda: world.effects()[method] == 1)
    before, at = world.effects(), world.clock.now()
    world.emulator.vanish(ZONE, "vm-1")
    await world.settle()
    assert world.stage() == "needs_human"
    assert world.effects() == before
    assert "there is no vm-1 any more" in world.closed_with()
    assert 120 <= (world.clock.now() - at).total_seconds() <= 180


async def test_a_machine_that_is_not_shown_for_two_minutes_is_not_given_up(world: OnGcp) -> None:
    await world.begin()
    await until(world, lambda: world.effects()["stop"] == 1)
    world.emulator.fault(Fault("instances/get", "notFound", 404, times=11))
    await world.settle()
    assert world.stage() == "done"
    assert world.truth() == LARGE_RUNS


@pytest.mark.parametrize(
    ("changed", "end", "told"),
    [
        ("stop", "rolled_back", "told to stop and runs: it did not stop in time, or somebody started it again"),
        ("setMachineType", "needs_human", "the machine runs as gcp/us-central1-a/n1-standard-16"),
        ("setMachineResources", "done", "the job is back"),
    ],
)
async def test_a_machine_started_by_hand_halfway_is_never_taken_for_the_one_wanted(
    world: OnGcp, changed: str, end: str, told: str
) -> None:
    await world.begin()
    await until(world, lambda: world.effects()[changed] == 1)
    world.clock.advance(10)
    world.emulator.tick()
    machine(world)["status"] = "RUNNING"
    await world.settle()
    assert world.stage() == end
    assert told in world.closed_with()
    assert world.truth()[2] == "RUNNING"
    assert world.emulator.complaints == []


async def test_a_machine_given_another_type_by_hand_ends_on_one_that_was_chosen(world: OnGcp) -> None:
    await world.begin()
    await until(world, lambda: world.effects()["setMachineType"] == 1)
    world.clock.advance(10)
    world.emulator.tick()
    machine(world)["machineType"] = f"zones/{ZONE}/machineTypes/n1-standard-4"
    await world.settle()
    assert world.stage() in ("done", "rolled_back")
    assert world.truth() == (LARGE_RUNS if world.stage() == "done" else SMALL_RUNS)


async def test_a_crash_at_every_call_of_a_replacement_launches_and_deletes_once(tmp_path: Path) -> None:
    """The steps between the calls are those of every replacement, which ``tests/daemon/proof`` enumerates."""
    site, names, killed = 0, ["?"], 0
    while site < len(names):
        if names != ["?"] and not names[site].startswith("call."):
            site += 1
            continue
        world = OnGcp(tmp_path / f"{site}.sqlite", recipe=LaunchRecipe("train"))
        world.kill_at = site
        try:
            try:
                await world.begin(replace(N1_BIG, zone="us-central1-b"), route="replace")
                await world.settle()
            except Killed:
                world.die()
                world.start()
            await world.settle()
            names = world.reached
            assert world.stage() == "done", names[site]
            for method in ("insert", "delete"):
                sent = [call.query["requestId"] for call in world.emulator.calls if call.method == method]
                assert len(set(sent)) == 1, names[site]
            (found,) = world.emulator.instances.values()
            assert found["status"] == "RUNNING", names[site]
            assert world.emulator.complaints == [], names[site]
        finally:
            world.close()
        site, killed = site + 1, killed + 1
    assert killed >= 6


class OnWideGroup(OnGroup):
    """The same, on a regional group of two nodes over two zones, to lose the node that the job runs on."""

    offers = (replace(with_nodes(N1, 2), zone=None), replace(N1, zone=None))

    def __init__(self, path: Path, account: "OnWideGroup | None" = None) -> None:
        super().__init__(path)

    def _enter_cloud(self) -> None:
        super()._enter_cloud()
        self.emulator.group("wide", "us-central1", "train", 2, (ZONE, "us-central1-b"))
        self.target = Target("gcp", "group", "wide", "us-central1")
        self.runs_on = self._running()[-1]

    def _running(self) -> list[str]:
        return [name for name in super()._running() if name.startswith("wide")]

    def evicted(self) -> int:
        return 0

    def cordoned(self) -> list[str]:
        return []

    def complaints(self) -> list[str]:
        return self.emulator.complaints


async def test_a_group_shrinks_by_its_named_node_wherever_it_is_cut_off(tmp_path: Path) -> None:
    with opened(OnWideGroup, tmp_path) as world:
        keep = world._running()[0]
        await crashed_everywhere(world, "shrink", tmp_path)
        assert world.effects() == {"deleteInstances": 1}
        assert world._running() == [keep]


async def test_a_regional_group_that_finds_no_stock_gets_its_old_size_back(tmp_path: Path) -> None:
    with opened(OnWideGroup, tmp_path) as world:
        world.emulator.exhaust("n1-*")
        world.offers = (world.offers[0], with_nodes(world.offers[0], 3))
        await begun(world, "grow")
        await world.settle()
        assert world.stage() == "rolled_back"
        assert world.emulator.groups["us-central1", "wide"]["targetSize"] == 2
        assert "ZONE_RESOURCE_POOL_EXHAUSTED" in world.closed_with()
