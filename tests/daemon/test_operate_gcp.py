"""Acting on Google Cloud, through the real client and the strict emulator: crashes at every committed step, GPUs."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.types import Action
from providers.budget import Budget
from providers.catalog import Catalog, with_nodes
from providers.gcp.client import Client
from providers.gcp.provider import Gcp
from providers.types import LaunchRecipe, Offer, Target
from tests.daemon.test_operate import Killed, World
from tests.emulators.gce import MUTATIONS, Emulator, Fault
from tests.providers.gcp.conftest import KNOWN, N1, N1_BIG, N1_BIG_T4, ZONE

CALLS = {
    "stop": ("Stop",), "start": ("Start",), "setMachineType": ("Modify",), "setScheduling": ("Modify",),
    "setMachineResources": ("Modify",), "insert": ("Launch",), "delete": ("Terminate",), "resize": ("Resize",),
    "deleteInstances": ("Remove",),
}  # fmt: skip


class OnGcp(World):
    """The same daemon and job, on a Compute Engine instance."""

    offers = (N1, N1_BIG_T4)

    def _enter_cloud(self) -> None:
        self.emulator = Emulator(self.clock, self._intended, stop_seconds=6, boot_seconds=6)
        self.emulator.start()
        self.emulator.template("train", "n1-standard-8")
        self.emulator.instance("vm-1", ZONE, "n1-standard-8")
        self.runs_on = "vm-1"
        self.target = Target("gcp", "vm", "vm-1", ZONE)
        client = Client(self.emulator.project, Budget(self.clock), self.emulator.url)
        self.provider = Gcp("gcp", client, Catalog({one.id: one for one in KNOWN}))

    def _intended(self, method: str, name: str) -> str | None:
        for one in self.store.actions.unfinished():
            if any(type(record.call).__name__ in CALLS[method] for record in self.store.actions.calls(one.id)):
                return None
        return f"no committed intent for {method} of {name}"

    def _running(self) -> list[str]:
        self.emulator.tick()
        return [name for (_, name), one in self.emulator.instances.items() if one["status"] == "RUNNING"]

    async def turn(self, seconds: float = 10.0) -> Action | None:
        """Look once while a machine stops or boots, and again when it has."""
        return await super().turn(seconds)

    def truth(self) -> tuple[str, int, str]:
        """Give type, attached GPUs and state of the first machine."""
        one = self.emulator.instances[ZONE, "vm-1"]
        return one["machineType"].rpartition("/")[2], len(one["guestAccelerators"]), one["status"]

    def effects(self) -> Counter[str]:
        return Counter(c.method for c in self.emulator.calls if c.method in MUTATIONS and c.outcome in ("ok", "broken"))

    def closed_with(self) -> str:
        """Give the note of the action that has closed."""
        (action,) = self.store.actions.unsettled()
        return action.note

    def close(self) -> None:
        self.store.close()
        self.emulator.close()

    async def begin(self, offer: Offer | None = None, route: str = "in_place") -> None:
        decision = self.decide(offer, route)
        self.store.decisions.add(decision)
        self.intend(decision)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OnGcp]:
    made = OnGcp(tmp_path / "s.sqlite", recipe=LaunchRecipe("train"))
    try:
        yield made
    finally:
        made.close()


ONCE = {"stop": 1, "setMachineType": 1, "setScheduling": 1, "setMachineResources": 1, "start": 1}


async def test_a_gpu_is_attached_with_every_call_made_once(world: OnGcp) -> None:
    await world.begin()
    await world.settle()
    assert world.stage() == "done"
    assert world.effects() == ONCE
    assert world.truth() == ("n1-standard-16", 1, "RUNNING")
    assert world.emulator.complaints == []


async def test_a_crash_at_every_committed_step_ends_well_with_every_call_made_once(tmp_path: Path) -> None:
    site, names = 0, ["?"]
    while site < len(names):
        world = OnGcp(tmp_path / f"{site}.sqlite")
        world.kill_at = site
        try:
            try:
                await world.begin()
                await world.settle()
            except Killed:
                world.die()
                world.start()
            await world.settle()
            names = world.reached
            assert world.stage() == "done", names[site]
            assert world.effects() == ONCE, names[site]
            assert world.truth() == ("n1-standard-16", 1, "RUNNING"), names[site]
            assert world.emulator.complaints == [], names[site]
        finally:
            world.close()
        site += 1
    assert site >= 20


@pytest.mark.parametrize("method", ["stop", "setMachineType", "setScheduling", "setMachineResources", "start"])
@pytest.mark.parametrize(("reason", "after"), [("", True), ("", False), ("backendError", False)])
async def test_a_lost_or_failed_answer_of_any_call_has_one_effect(world: OnGcp, method: str, reason: str, after: bool):
    world.emulator.fault(Fault(method, reason, 503, after))
    await world.begin()
    await world.settle()
    assert world.stage() == "done"
    assert world.truth() == ("n1-standard-16", 1, "RUNNING")


async def test_no_stock_for_the_new_machine_runs_again_on_the_old_one_without_its_gpu(world: OnGcp) -> None:
    world.emulator.exhaust("n1-standard-16")
    await world.begin()
    await world.settle()
    assert world.stage() == "rolled_back"
    assert world.truth() == ("n1-standard-8", 0, "RUNNING")


async def test_a_replacement_is_launched_once_before_the_old_one_goes(world: OnGcp) -> None:
    world.emulator.fault(Fault("insert", "", after=True))
    await world.begin(replace(N1_BIG, zone="us-central1-b"), route="replace")
    await world.settle()
    assert world.stage() == "done"
    assert (ZONE, "vm-1") not in world.emulator.instances
    (found,) = world.emulator.instances.values()
    assert found["machineType"].endswith("n1-standard-16")
    assert found["status"] == "RUNNING"


class OnGroup(OnGcp):
    """The same daemon and job, on a managed group of two nodes."""

    offers = (with_nodes(N1, 2), with_nodes(N1, 3))

    def _enter_cloud(self) -> None:
        super()._enter_cloud()
        self.emulator.group("nodes-1", ZONE, "train", 2)
        self.target = Target("gcp", "group", "nodes-1", ZONE)


async def test_a_group_that_finds_no_stock_gets_its_old_size_back(tmp_path: Path) -> None:
    """Its resize never fails: the cloud goes on trying, and bills when it comes to something."""
    world = OnGroup(tmp_path / "s.sqlite")
    try:
        world.emulator.exhaust("n1-*")
        await world.begin(route="grow")
        await world.settle()
        assert world.stage() == "rolled_back"
        assert world.emulator.groups[ZONE, "nodes-1"]["targetSize"] == 2
        assert len(world.provider.describe(world.target).nodes) == 2
        assert world.effects() == {"resize": 2}
        assert world.emulator.complaints == []
    finally:
        world.close()
