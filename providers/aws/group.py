"""Edge: one Auto Scaling group: its size, its members, and what it tells of launches that failed."""

from providers.aws import rules
from providers.aws.client import Client
from providers.aws.facts import Facts
from providers.aws.handle import Handle, read
from providers.aws.rules import Answer
from providers.aws.scaling import Scaling, alive
from providers.catalog import with_nodes
from providers.clock import Clock
from providers.errors import Incompatible, WrongState
from providers.types import Allocation, Grow, Node, Offer, Operation, Remove, Resize, Route, Same, Shrink, Target


class Groups:
    """The Auto Scaling groups of one account and region. The laws are those of ``providers.base.Provider``."""

    def __init__(self, name: str, client: Client, facts: Facts, scaling: Scaling, clock: Clock) -> None:
        self._name = name
        self._client = client
        self._facts = facts
        self._scaling = scaling
        self._clock = clock

    # Reads.

    def describe(self, target: Target) -> Allocation:
        """Say what a group is now: its wanted size and the nodes that exist."""
        return self.allocation(self._scaling.found(target.id))

    def allocation(self, group: Answer) -> Allocation:
        """Read an allocation from AWS's answer."""
        nodes = tuple(Node(str(one["InstanceId"]), rules.node_state(one)) for one in group["Instances"])
        wanted, running = int(group["DesiredCapacity"]), sum(node.state == "running" for node in nodes)
        settled = running == wanted == len(nodes)
        target = Target(self._name, "group", str(group["AutoScalingGroupName"]), self._client.region)
        offer = with_nodes(self._scaling.node(group), max(wanted, 1))
        return Allocation(target, "running" if settled else "pending", offer, nodes, (), rules.labels(group))

    def offers(self, target: Target) -> list[Offer]:
        """List the sizes that a group may have."""
        group = self._scaling.found(target.id)
        sizes = range(max(int(group["MinSize"]), 1), int(group["MaxSize"]) + 1)
        return [with_nodes(self._scaling.node(group), count) for count in sizes]

    def route(self, target: Target, offer: Offer) -> Route:
        """Find the way to another size. The type of a group's nodes does not change here."""
        group = self._scaling.found(target.id)
        pool = rules.pool_of(group)
        if pool:
            raise Incompatible(f"group {target.id} belongs to an EKS node group - name the pool {pool} as the target")
        least, most, wanted = (int(group[key]) for key in ("MinSize", "MaxSize", "DesiredCapacity"))
        if not least <= offer.nodes <= most:
            raise Incompatible(f"group {target.id} is bounded to {least}..{most} nodes - change its bounds in AWS")
        node = self._scaling.node(group)
        if with_nodes(node, offer.nodes).id != offer.id:
            raise Incompatible(f"the nodes of group {target.id} are {node.id} and stay so - take another count")
        if offer.nodes == wanted:
            return Same()
        if offer.nodes < wanted:
            return Shrink(wanted - offer.nodes)
        self._facts.check_quota(node.machine_type, node.buying, offer.nodes - wanted)
        return Grow(offer.nodes)

    def labelled(self, key: str, value: str | None) -> list[Allocation]:
        """List the groups that carry a tag."""
        found = (group for group in self._scaling.groups() if key in rules.tags(group) and not rules.pool_of(group))
        return [self.allocation(group) for group in found if value in (None, rules.tags(group)[key])]

    # Mutations.

    def resize(self, call: Resize, token: str) -> Operation:
        """Set a group's size, never below the nodes that exist: lowering it lets AWS end any of them.

        Taking back a growth that came to nothing lowers it to the nodes that there are, which ends none.
        """
        group = self._scaling.found(call.target.id)
        now = self._clock.now().isoformat()
        handle = Handle("resize", token, call.target.place, call.target.id, str(call.nodes), now)
        if int(group["DesiredCapacity"]) == call.nodes:
            return self._resized(group, handle)
        there = len(alive(group))
        if call.nodes < there:
            raise WrongState(f"group {call.target.id} has {there} nodes - name those to be removed instead")
        self._client.mutate(
            "autoscaling", "set_desired_capacity", AutoScalingGroupName=call.target.id, DesiredCapacity=call.nodes,
            HonorCooldown=False,
        )  # fmt: skip
        return Operation(handle.name, self._name, "running")

    def remove(self, call: Remove, token: str) -> Operation:
        """End named nodes, one call each, lowering the size with each. One that is no member is passed over."""
        handle = Handle("remove", token, call.target.place, call.target.id, ",".join(call.victims))
        there = alive(self._scaling.found(call.target.id))
        left = [victim for victim in call.victims if victim in there]
        self._scaling.end(left)
        return Operation(handle.name, self._name, "running" if left else "done")

    def poll(self, operation: Operation) -> Operation:
        """Say how a change of size stands."""
        handle = read(operation)
        group = self._scaling.found(handle.id)
        if handle.call == "remove":
            members = {one["InstanceId"] for one in group["Instances"]}
            gone = not members & set(handle.detail.split(","))
            return Operation(handle.name, self._name, "done" if gone else "running")
        return self._resized(group, handle)

    def _resized(self, group: Answer, handle: Handle) -> Operation:
        running = sum(rules.node_state(one) == "running" for one in group["Instances"])
        if running >= int(handle.detail):
            return Operation(handle.name, self._name, "done")
        fault = self._scaling.failed_since(handle.id, handle.begun())
        if fault:
            return Operation(handle.name, self._name, "failed", fault)
        return Operation(handle.name, self._name, "running")
