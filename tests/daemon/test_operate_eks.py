"""Acting on a node group of EKS and in its cluster: crashes at every committed step, shortage, and held-back pods."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from daemon.types import Action
from providers.aws.client import Client
from providers.aws.provider import Aws
from providers.budget import Budget
from providers.catalog import Catalog, with_nodes
from providers.kubernetes import Clusters
from providers.types import Target
from tests.daemon.test_operate import Killed, World, begun
from tests.daemon.test_operate_aws import KEYS, OnAws
from tests.emulators.aws import MUTATIONS, Emulator, Fault
from tests.emulators.kubernetes import Kubernetes
from tests.providers.aws.conftest import LARGE, SMALL
from tests.providers.test_kubernetes import written

CALLS = {
    "UpdateNodegroupConfig": ("Resize",), "TerminateInstanceInAutoScalingGroup": ("Remove",),
    "PATCH": ("Remove", "Keep"), "POST": ("Remove",),
}  # fmt: skip
GROWN, TERMINATED = "UpdateNodegroupConfig", "TerminateInstanceInAutoScalingGroup"


_World = TypeVar("_World", bound=World)


class OnPool(OnAws):
    """The same daemon, and a job on the last of the two nodes of a node group, in a Job's pod."""

    offers = (with_nodes(OnAws.offers[0], 2), with_nodes(OnAws.offers[0], 3))
    account: "OnPool | None"

    def _enter_cloud(self) -> None:
        if self.account is None:
            self._open_account()
        else:
            for name in ("clock", "emulator", "ec2", "scaling", "provider", "cluster", "clusters"):
                setattr(self, name, getattr(self.account, name))
        self.emulator.ask = self.cluster.ask = None
        self.number = len(self.emulator.eks.nodegroups)
        self.pool = self.emulator.pool("research", f"gpus-{self.number}", "train", 2, (1, 4))
        self.clock.advance(60)
        self.target = Target("aws", "pool", f"research/{self.pool.name}", "us-east-1")
        self.kept, self.runs_on = self._running()
        self.cluster.pods.clear()
        self.cluster.pass_time()
        self.cluster.run("train", self.runs_on, owner="Job", app="train", grace_seconds=20)
        self.cluster.calls.clear()
        self.emulator.ask = self._intended
        self.cluster.ask = lambda method, path: self._intended(method, {})

    def _open_account(self) -> None:
        self.emulator = Emulator(self.clock, stop_seconds=6, boot_seconds=6, update_seconds=4)
        self.emulator.start()
        self.cluster = Kubernetes(self.clock, page=100)
        self.cluster.machines = self.emulator.machines
        self.cluster.returns = False
        self.cluster.start()
        self.ec2, self.scaling = self.emulator.client("ec2"), self.emulator.client("autoscaling")
        template = {"ImageId": self.emulator.image(), "InstanceType": SMALL.machine_type}
        self.ec2.create_launch_template(LaunchTemplateName="train", LaunchTemplateData=template)
        budget = Budget(self.clock)
        file = written(self.folder, self.cluster.url, {"token": "secret"})
        self.clusters = Clusters(str(file), {}, budget, self.clock)
        client = Client("us-east-1", budget, self.emulator.url, KEYS)
        known = Catalog({offer.id: offer for offer in (SMALL, LARGE)})
        self.provider = Aws("aws", client, client, known, self.clock, self.clusters)

    def __init__(self, path: Path, account: "OnPool | None" = None) -> None:
        self.folder = path.parent
        super().__init__(path, account)

    def _intended(self, action: str, parameters: Mapping[str, str]) -> str | None:
        """Ask the store; where EKS is given a token, it must be that of the committed call."""
        token = parameters.get("clientRequestToken")
        for one in self.store.actions.unfinished():
            for record in self.store.actions.calls(one.id):
                if type(record.call).__name__ in CALLS[action] and token in (None, record.token):
                    return None
        return f"no committed intent for {action}"

    def group(self) -> dict[str, object]:
        """Describe the group by the truth of the cloud."""
        (found,) = self.scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[self.pool.group])[
            "AutoScalingGroups"
        ]
        return found

    def _running(self) -> list[str]:
        return self.emulator.in_service(self.pool.group)

    def effects(self) -> Counter[str]:
        calls = (call for call in self.emulator.calls if call.action in MUTATIONS and call.outcome in ("ok", "broken"))
        return Counter(call.action for call in calls)

    def evicted(self) -> int:
        return sum(call.method == "POST" and call.status == 201 for call in self.cluster.calls)

    def cordoned(self) -> list[str]:
        return [name for name, node in self.cluster.nodes.items() if node.unschedulable]

    async def turn(self, seconds: float = 15.0) -> Action | None:
        """Look less often than at a machine: a drain has nothing to show for half a minute."""
        return await super().turn(seconds)

    def closed_with(self) -> str:
        """Give the note of the action that has closed."""
        (action,) = self.store.actions.unsettled()
        return action.note

    def complaints(self) -> list[str]:
        return [*self.emulator.complaints, *self.cluster.complaints]

    def close(self) -> None:
        self.clusters.close()
        self.cluster.close()
        super().close()


class OnShrinkingPool(OnPool):
    """The same, to lose the node that the job runs on."""

    offers = (with_nodes(OnAws.offers[0], 2), OnAws.offers[0])


@contextmanager
def opened(kind: type[_World], folder: Path) -> Iterator[_World]:
    world = kind(folder / "s.sqlite")
    try:
        yield world
    finally:
        world.close()


async def crashed_everywhere(world: Any, route: str, folder: Path) -> None:
    """Run an action once for each of its committed steps, killed there and started anew: it ends as if never killed."""
    await begun(world, route)
    await world.settle()
    assert world.stage() == "done"
    wanted = world.effects(), len(world._running()), world.evicted()
    assert len(world.reached) >= 6
    for site, name in enumerate(world.reached):
        other = type(world)(folder / f"{site}.sqlite", world)
        other.kill_at = site
        try:
            await begun(other, route)
            await other.settle()
        except Killed:
            other.die()
            other.start()
        await other.settle()
        assert other.stage() == "done", name
        assert (other.effects(), len(other._running()), other.evicted()) == wanted, name
        assert other.complaints() == [], name
        assert other.cordoned() == [], name
        other.store.close()


async def test_a_growth_ends_well_wherever_it_is_cut_off_with_one_update(tmp_path: Path) -> None:
    with opened(OnPool, tmp_path) as world:
        await crashed_everywhere(world, "grow", tmp_path)
        assert world.effects() == {GROWN: 1}


async def test_a_shrink_ends_well_wherever_it_is_cut_off_with_one_eviction_and_one_end(tmp_path: Path) -> None:
    with opened(OnShrinkingPool, tmp_path) as world:
        await crashed_everywhere(world, "shrink", tmp_path)
        assert world.effects() == {TERMINATED: 1}
        assert world.evicted() == 1


async def test_the_named_node_goes_once_it_is_empty_and_no_other(tmp_path: Path) -> None:
    with opened(OnShrinkingPool, tmp_path) as world:
        await begun(world, "shrink")
        await world.settle()
        order = [call.method for call in world.cluster.calls if call.method != "GET"]
        assert order == ["PATCH", "POST"]
        assert world._running() == [world.kept]
        (end,) = (call for call in world.emulator.calls if call.action == TERMINATED)
        assert end.at >= world.asked[0]
        assert world.status.run == "run-1"


@pytest.mark.parametrize(
    ("route", "action", "code", "after"),
    [
        ("grow", GROWN, "", True), ("grow", GROWN, "ServerException", False), ("grow", GROWN, "ServerException", True),
        ("grow", GROWN, "ThrottlingException", False), ("grow", GROWN, "ResourceInUseException", False),
        ("shrink", TERMINATED, "", True), ("shrink", TERMINATED, "InternalFailure", False),
        ("shrink", "DescribeNodegroup", "ServiceUnavailableException", False),
    ],
)  # fmt: skip
async def test_a_lost_or_failed_answer_of_any_call_has_one_effect(
    tmp_path: Path, route: str, action: str, code: str, after: bool
) -> None:
    with opened(OnPool if route == "grow" else OnShrinkingPool, tmp_path) as world:
        world.emulator.fault(Fault(action, code, 500, after))
        await begun(world, route)
        await world.settle()
        assert world.stage() == "done"
        assert len(world._running()) == world.offers[1].nodes
        assert world.group()["DesiredCapacity"] == world.offers[1].nodes


@pytest.mark.parametrize(("method", "status"), [("PATCH", 0), ("PATCH", 500), ("POST", 0), ("POST", 429), ("GET", 503)])
async def test_a_fault_of_the_cluster_has_one_effect(tmp_path: Path, method: str, status: int) -> None:
    with opened(OnShrinkingPool, tmp_path) as world:
        await begun(world, "shrink")
        world.cluster.fail(method, status)
        await world.settle()
        assert world.stage() == "done"
        assert (world.effects(), world.evicted()) == ({TERMINATED: 1}, 1)


async def test_a_growth_that_finds_no_capacity_gets_its_old_size_back_at_once(tmp_path: Path) -> None:
    with opened(OnPool, tmp_path) as world:
        world.emulator.exhaust("m7i.*")
        begun_at = world.clock.now()
        await begun(world, "grow")
        await world.settle()
        assert world.stage() == "rolled_back"
        assert (world.group()["DesiredCapacity"], len(world._running())) == (2, 2)
        assert world.effects() == {GROWN: 2}
        assert (world.clock.now() - begun_at).total_seconds() < 300


async def test_an_update_that_fails_leaves_the_old_size(tmp_path: Path) -> None:
    with opened(OnPool, tmp_path) as world:
        world.emulator.eks.spoil("NodeCreationFailure", "Instances failed to join the kubernetes cluster")
        await begun(world, "grow")
        await world.settle()
        assert world.stage() == "rolled_back"
        assert (world.group()["DesiredCapacity"], len(world._running())) == (2, 2)
        assert world.effects() == {GROWN: 1}


async def test_a_budget_that_never_gives_way_leaves_the_node_at_work(tmp_path: Path) -> None:
    with opened(OnShrinkingPool, tmp_path) as world:
        world.cluster.run("web-1", world.runs_on, app="web")
        world.cluster.budgets["web"] = 1
        await begun(world, "shrink")
        await world.settle(600)
        assert world.stage() == "rolled_back"
        assert world.effects() == {}
        assert len(world._running()) == 2
        assert world.cordoned() == []
        assert "web-1" in world.cluster.on(world.runs_on)
        assert world.complaints() == []


async def test_a_pod_that_would_be_lost_stops_the_removal_at_once(tmp_path: Path) -> None:
    with opened(OnShrinkingPool, tmp_path) as world:
        world.cluster.run("by-hand", world.runs_on, owner="")
        await begun(world, "shrink")
        await world.settle()
        assert world.stage() == "rolled_back"
        assert (world.effects(), world.evicted(), world.cordoned()) == ({}, 0, [])
        assert "by-hand, which nothing would start again" in world.closed_with()
