"""The laws of ``providers.base``, held over every implementation.

To add one, write a ``World`` for it and name it in ``WORLDS``: a running VM of its small offer, a group of two nodes,
and the few switches with which a test makes its cloud misbehave.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from providers.aws.client import Client
from providers.aws.provider import Aws
from providers.base import Inventory, Provider
from providers.budget import Budget
from providers.catalog import Catalog, with_nodes
from providers.clock import VirtualClock
from providers.errors import AnswerLost, Incompatible, NoCapacity, NotFound, QuotaExceeded, Throttled, WrongState
from providers.gcp.client import Client as GceClient
from providers.gcp.provider import Gcp
from providers.kubernetes import Clusters
from providers.simulated.cloud import Cloud
from providers.simulated.provider import Simulated
from providers.simulated.remote import Remote
from providers.simulated.server import Server
from providers.simulated.state import Barrier, Fault, Quota, Shortage
from providers.types import (
    Grow,
    InPlace,
    Launch,
    LaunchRecipe,
    Modify,
    Offer,
    Operation,
    Price,
    Remove,
    Replace,
    Resize,
    Resources,
    Same,
    Shrink,
    Start,
    Stop,
    Target,
    Terminate,
)
from tests.emulators.aws import Emulator
from tests.emulators.aws import Fault as AwsFault
from tests.emulators.gce import Emulator as Gce
from tests.emulators.gce import Fault as GceFault
from tests.emulators.kubernetes import Kubernetes
from tests.providers.simulated.offers import FAR, LARGE, NOW, OFFERS, SMALL, SPOT
from tests.providers.test_kubernetes import written


class Whole(Provider, Inventory, Protocol):
    """A provider that can list what carries our labels."""


class World(Protocol):
    """One implementation over a cloud that a test can steer."""

    provider: Whole
    vm: Target
    group: Target
    small: Offer
    large: Offer
    far: Offer
    spot: Offer
    quota: str

    def wait(self) -> None:
        """Let enough time pass for whatever is under way to end."""

    def fail(self, call: str, error: str, applied: bool) -> None:
        """Let the next call of a kind raise an error, with or without its effect."""

    def spoil(self, call: str) -> None:
        """Accept the next call of a kind, and let its operation fail."""

    def exhaust(self, offer: Offer) -> None:
        """Let there be no capacity for an offer."""

    def limit(self, cpu_cores: float) -> None:
        """Set the quota of CPU cores."""

    def machines(self) -> int:
        """Count the VMs that are not terminated, by the truth of the cloud."""


class SimulatedWorld:
    """The simulated cloud, in this process or over HTTP."""

    small, large, far, spot = SMALL, LARGE, FAR, SPOT
    quota = "on-demand cores"

    def __init__(self, cloud: Cloud, clock: VirtualClock, provider: Simulated) -> None:
        self.provider: Whole = provider
        self._cloud, self._clock = cloud, clock
        cloud.barrier(Barrier("m7i.*", "p4d.*", "a p4d needs another image"))
        self.vm = cloud.add_machine("vm-1", SMALL.id, {"scaleahead": "demo"})
        self.group = cloud.add_group("nodes-1", SMALL.id, 2, (1, 4), {"scaleahead": "demo"})

    def wait(self) -> None:
        self._clock.advance(300)

    def fail(self, call: str, error: str, applied: bool) -> None:
        self._cloud.fault(Fault(call, error, "after_applied" if applied else "before"))

    def spoil(self, call: str) -> None:
        self._cloud.fault(Fault(call, when="operation", message="the disk is in use"))

    def exhaust(self, offer: Offer) -> None:
        self._cloud.shortage(Shortage(offer.id))

    def limit(self, cpu_cores: float) -> None:
        self._cloud.quota(Quota(self.quota, "cpu_cores", cpu_cores))

    def machines(self) -> int:
        return sum(not m.group and m.state != "terminated" for m in self._cloud.state().machines)


@contextmanager
def in_process() -> Iterator[World]:
    clock = VirtualClock(NOW)
    cloud = Cloud(clock, OFFERS)
    yield SimulatedWorld(cloud, clock, Simulated(cloud))


@contextmanager
def over_http() -> Iterator[World]:
    clock = VirtualClock(NOW)
    cloud = Cloud(clock, OFFERS)
    server = Server(cloud)
    server.start()
    try:
        yield SimulatedWorld(cloud, clock, Simulated(Remote(server.url)))
    finally:
        server.close()


class AwsWorld:
    """The AWS provider, through the real SDK, over the strict emulator."""

    small, large, far, spot = SMALL, LARGE, FAR, SPOT
    quota = "Running On-Demand Standard"

    def __init__(self, emulator: Emulator, clock: VirtualClock, clusters: Clusters | None = None) -> None:
        self._emulator, self._clock = emulator, clock
        known = Catalog({offer.id: offer for offer in OFFERS})
        budget = Budget(clock)
        client = Client("us-east-1", budget, emulator.url, FAKE_KEYS)
        self.provider: Whole = Aws("aws", client, client, known, clock, clusters)
        emulator.forbid("m7i.*", "p4d.*")
        tags = [{"Key": "scaleahead", "Value": "demo"}]
        self._ec2 = emulator.client("ec2")
        template = {"ImageId": emulator.image(), "InstanceType": SMALL.machine_type}
        self._ec2.create_launch_template(LaunchTemplateName="trainer", LaunchTemplateData=template)
        launched = self._ec2.run_instances(
            LaunchTemplate={"LaunchTemplateName": "trainer"}, InstanceType=SMALL.machine_type, MinCount=1, MaxCount=1,
            Placement={"AvailabilityZone": "us-east-1a"},
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )  # fmt: skip
        self.vm = Target("aws", "vm", launched["Instances"][0]["InstanceId"], "us-east-1a")
        self.group = self._sized(emulator, tags)
        self.wait()

    def _sized(self, emulator: Emulator, tags: list[dict[str, str]]) -> Target:
        emulator.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName="nodes-1", MinSize=1, MaxSize=4, DesiredCapacity=2, AvailabilityZones=["us-east-1a"],
            LaunchTemplate={"LaunchTemplateName": "trainer", "Version": "$Default"},
            Tags=[{**tags[0], "PropagateAtLaunch": True}],
        )  # fmt: skip
        return Target("aws", "group", "nodes-1", "us-east-1")

    def wait(self) -> None:
        self._clock.advance(300)

    def fail(self, call: str, error: str, applied: bool) -> None:
        code = {"AnswerLost": "", "Throttled": "RequestLimitExceeded"}[error]
        self._emulator.fault(AwsFault(ACTIONS[call], code, 503, applied))

    def spoil(self, call: str) -> None:
        self._emulator.spoil(ACTIONS[call], "the disk is in use")

    def exhaust(self, offer: Offer) -> None:
        self._emulator.exhaust(offer.machine_type)

    def limit(self, cpu_cores: float) -> None:
        self._emulator.limit("L-1216C47A", cpu_cores)

    def machines(self) -> int:
        found = [one for r in self._ec2.describe_instances()["Reservations"] for one in r["Instances"]]
        alone = [one for one in found if all(tag["Key"] != "aws:autoscaling:groupName" for tag in one["Tags"])]
        return sum(one["State"]["Name"] != "terminated" for one in alone)


class EksWorld(AwsWorld):
    """The same, its group a node group of EKS, with or without a way to ask its cluster."""

    def _sized(self, emulator: Emulator, tags: list[dict[str, str]]) -> Target:
        emulator.pool("research", "nodes-1", "trainer", 2, (1, 4), tags={tags[0]["Key"]: tags[0]["Value"]})
        return Target("aws", "pool", "research/nodes-1", "us-east-1")


ACTIONS = {"launch": "RunInstances", "stop": "StopInstances"}
FAKE_KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


@contextmanager
def aws() -> Iterator[World]:
    clock = VirtualClock(NOW)
    emulator = Emulator(clock)
    emulator.start()
    try:
        yield AwsWorld(emulator, clock)
    finally:
        emulator.close()


@contextmanager
def eks() -> Iterator[World]:
    clock = VirtualClock(NOW)
    emulator = Emulator(clock, update_seconds=0)
    emulator.start()
    try:
        yield EksWorld(emulator, clock)
    finally:
        emulator.close()


@contextmanager
def eks_with_its_cluster(folder: Path) -> Iterator[World]:
    clock = VirtualClock(NOW)
    emulator = Emulator(clock, update_seconds=0)
    emulator.start()
    try:
        with cluster_of(emulator.machines, clock, folder) as clusters:
            yield EksWorld(emulator, clock, clusters)
    finally:
        emulator.close()


@contextmanager
def cluster_of(machines: Callable[[], list[str]], clock: VirtualClock, folder: Path) -> Iterator[Clusters]:
    """A cluster whose nodes are a cloud's machines, and the way to ask it."""
    cluster = Kubernetes(clock)
    cluster.machines = machines
    cluster.start()
    file = written(folder, cluster.url, {"token": "secret"})
    clusters = Clusters(str(file), {}, Budget(clock), clock)
    try:
        yield clusters
    finally:
        clusters.close()
        cluster.close()


class GcpWorld:
    """The Google Cloud provider, through the real client, over the strict emulator."""

    quota = "CPUS"
    zone = "us-central1-a"

    def __init__(self, emulator: Gce, clock: VirtualClock, clusters: Clusters | None = None) -> None:
        self._emulator, self._clock = emulator, clock
        self.small, self.large = self._offer("n1-standard-8", 8, 30), self._offer("n1-standard-16", 16, 60)
        self.far, self.spot = self._offer("a3-highgpu-8g", 208, 1873), replace(self.small, buying="spot")
        known = Catalog({offer.id: offer for offer in (self.small, self.large, self.far, self.spot)})
        client = GceClient(emulator.project, Budget(clock), emulator.url)
        self.provider: Whole = Gcp("gcp", client, known, 4, clusters)
        emulator.template("trainer", "n1-standard-8", {"scaleahead": "demo"})
        emulator.instance("vm-1", self.zone, "n1-standard-8", {"scaleahead": "demo"})
        self.vm, self.group = Target("gcp", "vm", "vm-1", self.zone), self._sized(emulator)

    def _sized(self, emulator: Gce) -> Target:
        emulator.group("nodes-1", self.zone, "trainer", 2)
        return Target("gcp", "group", "nodes-1", self.zone)

    def _offer(self, kind: str, cores: float, memory_gib: float) -> Offer:
        price = Price(0.05 * cores, "a test", NOW)
        return Offer("gcp", "us-central1", kind, Resources(cores, memory_gib), price, self.zone)

    def wait(self) -> None:
        self._clock.advance(300)

    def fail(self, call: str, error: str, applied: bool) -> None:
        reason = {"AnswerLost": "", "Throttled": "rateLimitExceeded"}[error]
        self._emulator.fault(GceFault(METHODS[call], reason, 403, applied))

    def spoil(self, call: str) -> None:
        self._emulator.spoil(METHODS[call], "the disk is in use")

    def exhaust(self, offer: Offer) -> None:
        self._emulator.exhaust(offer.machine_type)

    def limit(self, cpu_cores: float) -> None:
        self._emulator.limit(self.quota, cpu_cores)

    def machines(self) -> int:
        return sum(not one["metadata"]["items"] for one in self._emulator.instances.values())


class GkeWorld(GcpWorld):
    """The same, its group a node pool of GKE in one zone, with or without a way to ask its cluster."""

    def _sized(self, emulator: Gce) -> Target:
        emulator.pool("research", "nodes-1", [self.zone], "n1-standard-8", 2, labels={"scaleahead": "demo"})
        return Target("gcp", "pool", "research/nodes-1", self.zone)


METHODS = {"launch": "insert", "stop": "stop"}


@contextmanager
def gcp(kind: type[GcpWorld] = GcpWorld) -> Iterator[World]:
    clock = VirtualClock(NOW)
    emulator = Gce(clock)
    emulator.start()
    try:
        yield kind(emulator, clock)
    finally:
        emulator.close()


@contextmanager
def gke_with_its_cluster(folder: Path) -> Iterator[World]:
    clock = VirtualClock(NOW)
    emulator = Gce(clock)
    emulator.start()
    try:
        with cluster_of(emulator.machines, clock, folder) as clusters:
            yield GkeWorld(emulator, clock, clusters)
    finally:
        emulator.close()


WORLDS = {"simulated": in_process, "simulated over http": over_http, "aws": aws, "gcp": gcp}
SIZED = {**WORLDS, "eks": eks, "gke": lambda: gcp(GkeWorld)}
CLUSTERED = {"eks with its cluster": eks_with_its_cluster, "gke with its cluster": gke_with_its_cluster}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with WORLDS[request.param]() as world:
        yield world


@pytest.fixture(params=[*SIZED, *CLUSTERED])
def sized(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world for the laws of groups: these also hold for groups of a cluster's nodes."""
    opened = SIZED[request.param]() if request.param in SIZED else CLUSTERED[request.param](tmp_path)
    with opened as world:
        yield world


def done(world: World, operation: Operation) -> Operation:
    """Let time pass and take the operation's last word, which must be that it is done."""
    world.wait()
    operation = world.provider.poll(operation)
    assert (operation.state, operation.error) == ("done", None)
    return operation


def lacks(world: World, call: Start | Launch, token: str) -> None:
    """See a call find no capacity: at once, or as what its operation comes to, by the error's name."""
    try:
        operation = world.provider.perform(call, token)
    except NoCapacity:
        return
    world.wait()
    operation = world.provider.poll(operation)
    assert operation.state == "failed"
    assert (operation.error or "").startswith("NoCapacity: ")


def gone(world: World, target: Target) -> bool:
    """Whether a VM is shown as terminated, or not at all any more."""
    try:
        return world.provider.describe(target).state == "terminated"
    except NotFound:
        return True


def stopped(world: World) -> None:
    done(world, world.provider.perform(Stop(world.vm), "stop"))


def launch(world: World, name: str = "next-1") -> Launch:
    return Launch(LaunchRecipe("trainer", {"scaleahead": "demo", "action": name}), world.large, name)


# VMs: describe, stop, modify, start.


def test_describe_says_what_runs_at_which_price(world: World):
    found = world.provider.describe(world.vm)
    assert (found.target, found.state, found.offer) == (world.vm, "running", world.small)
    assert found.offer.price is not None
    assert found.labels["scaleahead"] == "demo"
    assert [(node.id, node.state) for node in found.nodes] == [(world.vm.id, "running")]


def test_a_vm_changes_in_place_step_by_step(world: World):
    provider = world.provider
    route = provider.route(provider.describe(world.vm), world.large)
    assert route == InPlace(("machine_type",))
    operation = provider.perform(Stop(world.vm), "s")
    assert operation.state == "running"
    assert provider.poll(operation).state == "running"
    assert provider.describe(world.vm).state == "stopping"
    done(world, operation)
    assert provider.describe(world.vm).state == "stopped"
    done(world, provider.perform(Modify(world.vm, world.large, "machine_type"), "m"))
    assert provider.describe(world.vm).offer == world.large
    assert provider.route(provider.describe(world.vm), world.large) == Same()
    operation = provider.perform(Start(world.vm), "t")
    assert provider.describe(world.vm).state == "pending"
    done(world, operation)
    assert provider.describe(world.vm).state == "running"
    assert provider.describe(world.vm).offer == world.large


def test_a_running_vm_cannot_be_modified_nor_one_stopping_started(world: World):
    with pytest.raises(WrongState):
        world.provider.perform(Modify(world.vm, world.large, "machine_type"), "m")
    world.provider.perform(Stop(world.vm), "s")
    for number, call in enumerate((Modify(world.vm, world.large, "machine_type"), Start(world.vm))):
        with pytest.raises(WrongState):
            world.provider.perform(call, f"w{number}")
    world.wait()
    assert world.provider.describe(world.vm).offer == world.small


@pytest.mark.fault("C5")
def test_the_same_token_has_one_effect(world: World):
    first = world.provider.perform(Stop(world.vm), "s")
    assert world.provider.perform(Stop(world.vm), "s").id == first.id
    done(world, first)
    done(world, world.provider.perform(Start(world.vm), "t"))
    again = world.provider.perform(Stop(world.vm), "s")
    assert again.id == first.id
    world.wait()
    assert world.provider.describe(world.vm).state == "running"


def test_a_call_whose_effect_is_there_is_done(world: World):
    stopped(world)
    assert world.provider.perform(Stop(world.vm), "another").state == "done"
    assert world.provider.perform(Modify(world.vm, world.small, "machine_type"), "m").state == "done"
    done(world, world.provider.perform(Start(world.vm), "t"))
    assert world.provider.perform(Start(world.vm), "u").state == "done"
    done(world, world.provider.perform(Terminate(world.vm), "x"))
    assert world.provider.perform(Terminate(world.vm), "y").state == "done"
    assert gone(world, world.vm)


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.fault("C3")
def test_a_lost_answer_repeated_with_its_token_has_one_effect(world: World, applied: bool):
    world.fail("launch", "AnswerLost", applied)
    before = world.machines()
    with pytest.raises(AnswerLost):
        world.provider.perform(launch(world), "l")
    assert world.machines() == before + applied
    operation = done(world, world.provider.perform(launch(world), "l"))
    assert world.machines() == before + 1
    assert operation.made is not None
    assert world.provider.describe(operation.made).offer == world.large


def test_a_throttled_call_did_nothing(world: World):
    world.fail("stop", "Throttled", applied=False)
    with pytest.raises(Throttled):
        world.provider.perform(Stop(world.vm), "s")
    world.wait()
    assert world.provider.describe(world.vm).state == "running"
    done(world, world.provider.perform(Stop(world.vm), "s"))


def test_a_start_without_capacity_leaves_the_vm_stopped_and_the_old_offer_open(world: World):
    stopped(world)
    done(world, world.provider.perform(Modify(world.vm, world.large, "machine_type"), "m"))
    world.exhaust(world.large)
    lacks(world, Start(world.vm), "t")
    assert world.provider.describe(world.vm).state == "stopped"
    done(world, world.provider.perform(Modify(world.vm, world.small, "machine_type"), "back"))
    done(world, world.provider.perform(Start(world.vm), "u"))


def test_a_failed_operation_says_so_in_its_value(world: World):
    world.spoil("stop")
    operation = world.provider.perform(Stop(world.vm), "s")
    world.wait()
    operation = world.provider.poll(operation)
    assert operation.state == "failed"
    assert "the disk is in use" in (operation.error or "")
    assert world.provider.describe(world.vm).state == "running"


def test_what_is_not_there_is_not_found(sized: World):
    for target in (replace(sized.vm, id="vm-none"), replace(sized.group, id=f"{sized.group.id}-none")):
        with pytest.raises(NotFound):
            sized.provider.describe(target)
    with pytest.raises(NotFound):
        sized.provider.perform(Stop(replace(sized.vm, id="vm-none")), "s")


# Routes and offers.


def test_offers_are_priced_and_hold_the_present_one(sized: World):
    offers = {offer.id: offer for offer in sized.provider.offers(sized.vm)}
    assert {sized.small.id, sized.large.id, sized.spot.id} <= set(offers)
    price = offers[sized.large.id].price
    assert price is not None
    assert price.usd_per_hour > 0
    assert price.source
    sizes = {offer.id for offer in sized.provider.offers(sized.group)}
    assert with_nodes(sized.small, 3).id in sizes


def test_routes_name_the_way(sized: World):
    now = sized.provider.describe(sized.vm)
    assert sized.provider.route(now, sized.small) == Same()
    for offer in (sized.far, sized.spot):
        route = sized.provider.route(now, offer)
        assert isinstance(route, Replace)
        assert route.reason
    nodes = sized.provider.describe(sized.group)
    assert sized.provider.route(nodes, with_nodes(sized.small, 2)) == Same()
    assert sized.provider.route(nodes, with_nodes(sized.small, 4)) == Grow(4)
    assert sized.provider.route(nodes, sized.small) == Shrink(1)
    with pytest.raises(Incompatible):
        sized.provider.route(nodes, with_nodes(sized.large, 2))
    with pytest.raises(Incompatible):
        sized.provider.route(nodes, with_nodes(sized.small, 9))


def test_a_route_refuses_what_a_quota_forbids_before_anything_stops(world: World):
    cores = world.small.resources.cpu_cores
    world.limit(3 * cores)
    with pytest.raises(QuotaExceeded, match=world.quota):
        world.provider.route(world.provider.describe(world.vm), world.large)
    assert world.provider.describe(world.vm).state == "running"
    with pytest.raises(QuotaExceeded):
        world.provider.perform(launch(world), "l")
    assert world.machines() == 1


def test_an_incompatible_modification_is_refused_and_changes_nothing(world: World):
    stopped(world)
    with pytest.raises(Incompatible):
        world.provider.perform(Modify(world.vm, world.far, "machine_type"), "m")
    assert world.provider.describe(world.vm).offer == world.small


# Launching and labels.


def test_a_launch_happens_once_and_is_found_by_its_labels(sized: World):
    before = sized.machines()
    first = sized.provider.perform(launch(sized), "l")
    assert first.made is not None
    assert sized.provider.perform(launch(sized), "l").made == first.made
    done(sized, first)
    assert sized.machines() == before + 1
    (found,) = sized.provider.labelled("action", "next-1")
    assert (found.target, found.state) == (first.made, "running")
    assert {a.target for a in sized.provider.labelled("scaleahead")} == {sized.vm, sized.group, first.made}
    done(sized, sized.provider.perform(Terminate(first.made), "x"))
    assert sized.provider.labelled("action") == []


def test_a_launch_without_capacity_makes_nothing(world: World):
    world.exhaust(world.large)
    before = world.machines()
    lacks(world, launch(world), "l")
    assert world.machines() == before


# Groups.


def test_a_group_grows_to_an_absolute_size(sized: World):
    operation = sized.provider.perform(Resize(sized.group, 4), "r")
    assert sized.provider.describe(sized.group).state == "pending"
    done(sized, operation)
    found = sized.provider.describe(sized.group)
    assert (found.state, found.offer.id) == ("running", with_nodes(sized.small, 4).id)
    assert found.offer.price.usd_per_hour == pytest.approx(4 * sized.small.price.usd_per_hour)
    assert len({node.id for node in found.nodes}) == 4
    assert sized.provider.perform(Resize(sized.group, 4), "again").state == "done"
    assert len(sized.provider.describe(sized.group).nodes) == 4


def test_a_group_is_not_made_smaller_by_a_size_while_its_new_node_boots(sized: World):
    """The cloud would choose which node to end, perhaps one at work."""
    sized.provider.perform(Resize(sized.group, 3), "r")
    assert [node.state for node in sized.provider.describe(sized.group).nodes].count("pending") == 1
    with pytest.raises(WrongState):
        sized.provider.perform(Resize(sized.group, 2), "back")
    sized.wait()
    assert len(sized.provider.describe(sized.group).nodes) == 3


@pytest.mark.fault("C19")
def test_a_group_shrinks_by_the_named_nodes_and_only_those(sized: World):
    keep, victim = (node.id for node in sized.provider.describe(sized.group).nodes)
    call = Remove(sized.group, (victim,))
    done(sized, sized.provider.perform(call, "r"))
    assert [node.id for node in sized.provider.describe(sized.group).nodes] == [keep]
    assert sized.provider.describe(sized.group).offer.nodes == 1
    assert sized.provider.perform(call, "again").state == "done"
    sized.wait()
    assert [node.id for node in sized.provider.describe(sized.group).nodes] == [keep]


def test_a_group_that_finds_no_capacity_says_so_and_can_be_taken_back(sized: World):
    sized.exhaust(sized.small)
    operation = sized.provider.perform(Resize(sized.group, 3), "r")
    sized.wait()
    operation = sized.provider.poll(operation)
    assert operation.state == "failed"
    assert "capacity" in (operation.error or "")
    assert len(sized.provider.describe(sized.group).nodes) == 2
    done(sized, sized.provider.perform(Resize(sized.group, 2), "back"))
    assert sized.provider.describe(sized.group).state == "running"
