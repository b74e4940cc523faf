"""Acting on AWS, through the real SDK and the strict emulator: crashes at every committed step, and what EC2 does."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.types import Action
from providers.aws.client import Client
from providers.aws.provider import Aws
from providers.budget import Budget
from providers.catalog import Catalog, with_nodes
from providers.types import LaunchRecipe, Target
from tests.daemon.test_operate import Killed, World, begun
from tests.emulators.aws import Emulator, Fault
from tests.providers.aws.conftest import LARGE, SMALL

CALLS = {
    "StopInstances": "Stop", "StartInstances": "Start", "ModifyInstanceAttribute": "Modify", "RunInstances": "Launch",
    "TerminateInstances": "Terminate", "SetDesiredCapacity": "Resize",
    "TerminateInstanceInAutoScalingGroup": "Remove",
}  # fmt: skip
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


class OnAws(World):
    """The same daemon and job, on an EC2 instance."""

    offers = (replace(SMALL, zone="us-east-1a"), replace(LARGE, zone="us-east-1a"))

    def __init__(self, path: Path, account: "OnAws | None" = None, recipe: LaunchRecipe | None = None) -> None:
        """Take another world's account, clock included, where one is given: making the SDK's clients takes longest."""
        self.account = account
        super().__init__(path, recipe=recipe)
        self.emulator.calls.clear()

    def _enter_cloud(self) -> None:
        if self.account is None:
            self._open_account()
        else:
            for name in ("clock", "emulator", "ec2", "provider"):
                setattr(self, name, getattr(self.account, name))
        self.emulator.ask = None
        answer = self.ec2.run_instances(
            LaunchTemplate={"LaunchTemplateName": "train"}, InstanceType=SMALL.machine_type, MinCount=1, MaxCount=1,
            Placement={"AvailabilityZone": "us-east-1a"},
        )  # fmt: skip
        self.emulator.ask = self._intended
        self.clock.advance(60)
        self.runs_on = answer["Instances"][0]["InstanceId"]
        self.target = Target("aws", "vm", self.runs_on, "us-east-1a")

    def _open_account(self) -> None:
        self.emulator = Emulator(self.clock, stop_seconds=6, boot_seconds=6)
        self.emulator.start()
        self.ec2 = self.emulator.client("ec2")
        template = {"ImageId": self.emulator.image(), "InstanceType": SMALL.machine_type}
        self.ec2.create_launch_template(LaunchTemplateName="train", LaunchTemplateData=template)
        client = Client("us-east-1", Budget(self.clock), self.emulator.url, KEYS)
        known = Catalog({offer.id: offer for offer in (SMALL, LARGE)})
        self.provider = Aws("aws", client, client, known, self.clock)

    def _intended(self, action: str, parameters: Mapping[str, str]) -> str | None:
        """Ask the store, as the simulated cloud does: EC2 takes no token, so the kind of call must do."""
        if action == "CreateTags":
            return None
        for one in self.store.actions.unfinished():
            if any(type(record.call).__name__ == CALLS[action] for record in self.store.actions.calls(one.id)):
                return None
        return f"no committed intent for {action}"

    def _running(self) -> list[str]:
        running = [name.rpartition("/")[2] for name in self.emulator.machines()]
        return [one for one in running if one == self.target.id or self.account is None]

    async def turn(self, seconds: float = 10.0) -> Action | None:
        """Look once while a machine stops or boots, and again when it has."""
        return await super().turn(seconds)

    def instance(self, identity: str) -> tuple[str, str]:
        """Give type and state by the truth of the cloud."""
        found = self.ec2.describe_instances(InstanceIds=[identity])["Reservations"][0]["Instances"][0]
        return found["InstanceType"], found["State"]["Name"]

    def effects(self) -> Counter[str]:
        return Counter(
            call.action
            for call in self.emulator.calls
            if call.action in CALLS
            and call.outcome in ("ok", "broken")
            and "LaunchTemplate.Version" not in call.parameters
        )

    def close(self) -> None:
        self.store.close()
        self.emulator.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OnAws]:
    made = OnAws(tmp_path / "s.sqlite", recipe=LaunchRecipe("train"))
    try:
        yield made
    finally:
        made.close()


async def test_in_place_ends_on_the_new_type_with_every_call_made_once(world: OnAws) -> None:
    await begun(world)
    await world.settle()
    assert world.stage() == "done"
    assert world.effects() == {"StopInstances": 1, "ModifyInstanceAttribute": 1, "StartInstances": 1}
    assert world.instance(world.target.id) == ("m7i.4xlarge", "running")
    assert world.emulator.complaints == []


async def test_a_crash_at_every_committed_step_ends_well_with_every_call_made_once(
    world: OnAws, tmp_path: Path
) -> None:
    await begun(world)
    await world.settle()
    names = world.reached
    assert len(names) >= 15
    for site, name in enumerate(names):
        other = OnAws(tmp_path / f"{site}.sqlite", world)
        other.kill_at = site
        try:
            await begun(other)
            await other.settle()
        except Killed:
            other.die()
            other.start()
        await other.settle()
        assert other.stage() == "done", name
        assert other.effects() == {"StopInstances": 1, "ModifyInstanceAttribute": 1, "StartInstances": 1}, name
        assert other.instance(other.target.id) == ("m7i.4xlarge", "running"), name
        assert other.emulator.complaints == [], name
        other.emulator.ask = None
        other.ec2.terminate_instances(InstanceIds=[other.target.id])
        other.store.close()


@pytest.mark.parametrize("action", ["StopInstances", "ModifyInstanceAttribute", "StartInstances"])
@pytest.mark.parametrize(("code", "after"), [("", True), ("InternalError", False)])
@pytest.mark.fault("C4")
async def test_a_lost_or_failed_answer_of_any_call_has_one_effect(world: OnAws, action: str, code: str, after: bool):
    world.emulator.fault(Fault(action, code, 500, after))
    await begun(world)
    await world.settle()
    assert world.stage() == "done"
    assert world.instance(world.target.id) == ("m7i.4xlarge", "running")


@pytest.mark.fault("C7")
async def test_no_capacity_for_the_new_type_runs_again_on_the_old(world: OnAws) -> None:
    world.emulator.exhaust("m7i.4xlarge")
    await begun(world)
    await world.settle()
    assert world.stage() == "rolled_back"
    assert world.instance(world.target.id) == ("m7i.2xlarge", "running")


async def test_a_boot_that_comes_to_nothing_runs_again_on_the_old(world: OnAws) -> None:
    world.emulator.exhaust("m7i.4xlarge", late=True)
    await begun(world)
    await world.settle()
    assert world.stage() == "rolled_back"
    assert world.instance(world.target.id) == ("m7i.2xlarge", "running")


async def test_a_change_that_ec2_refuses_runs_again_on_the_old(world: OnAws) -> None:
    world.emulator.forbid("m7i.*", "m7i.4xlarge")
    await begun(world)
    await world.settle()
    assert world.stage() == "rolled_back"
    assert world.instance(world.target.id) == ("m7i.2xlarge", "running")


@pytest.mark.fault("C8")
async def test_a_quota_is_found_before_anything_stops(world: OnAws) -> None:
    world.emulator.limit("L-1216C47A", 8)
    await begun(world)
    await world.settle()
    assert world.stage() == "cancelled"
    assert world.effects() == {}
    assert world.instance(world.target.id) == ("m7i.2xlarge", "running")


async def test_a_replacement_is_launched_under_its_token_before_the_old_one_goes(world: OnAws) -> None:
    decision = world.decide(replace(LARGE, zone="us-east-1b"), route="replace")
    world.store.decisions.add(decision)
    world.intend(decision)
    world.emulator.fault(Fault("RunInstances", "", after=True))
    await world.settle()
    assert world.stage() == "done"
    assert world.instance(world.target.id)[1] == "terminated"
    running = world._running()
    assert len(running) == 1
    assert world.instance(running[0]) == ("m7i.4xlarge", "running")


class OnGroup(OnAws):
    """The same daemon and job, on an Auto Scaling group of two nodes."""

    offers = (with_nodes(OnAws.offers[0], 2), with_nodes(OnAws.offers[0], 3))

    def _enter_cloud(self) -> None:
        super()._enter_cloud()
        self.scaling = self.emulator.client("autoscaling")
        self.emulator.ask = None
        self.scaling.create_auto_scaling_group(
            AutoScalingGroupName="nodes-1", MinSize=1, MaxSize=4, DesiredCapacity=2, AvailabilityZones=["us-east-1a"],
            LaunchTemplate={"LaunchTemplateName": "train"},
        )  # fmt: skip
        self.emulator.ask = self._intended
        self.clock.advance(60)
        self.target = Target("aws", "group", "nodes-1", "us-east-1")


async def test_a_group_that_finds_no_capacity_gets_its_old_size_back(tmp_path: Path) -> None:
    """Setting its size never fails: the cloud goes on trying, and bills when it comes to something."""
    world = OnGroup(tmp_path / "s.sqlite")
    try:
        world.emulator.exhaust("m7i.*")
        await begun(world, route="grow")
        await world.settle()
        assert world.stage() == "rolled_back"
        (group,) = world.scaling.describe_auto_scaling_groups()["AutoScalingGroups"]
        assert (group["DesiredCapacity"], len(group["Instances"])) == (2, 2)
        assert world.effects() == {"SetDesiredCapacity": 2}
    finally:
        world.close()
