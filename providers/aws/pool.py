"""Edge: one EKS managed node group: its size, its members, and what EKS and its Auto Scaling group tell of both.

It grows by ``UpdateNodegroupConfig``, one update at a time, each followed by its id. It shrinks by named nodes: these
are emptied first where a kubeconfig lets us, then ended in the group's Auto Scaling group; a smaller size would let AWS
choose. The wanted size is the Auto Scaling group's own, which is what launches nodes.
"""

from providers.aws import rules
from providers.aws.client import Client
from providers.aws.facts import Facts
from providers.aws.handle import Handle, read
from providers.aws.issues import fresh_fault, hindrance, issues
from providers.aws.rules import Answer
from providers.aws.scaling import Scaling, alive
from providers.catalog import with_nodes
from providers.clock import Clock
from providers.errors import Busy, Incompatible, Invalid, NotFound, Unavailable, WrongState
from providers.kubernetes import Clusters, Joined, seen
from providers.types import (
    Allocation,
    Grow,
    Keep,
    Node,
    Offer,
    Operation,
    Remove,
    Resize,
    Route,
    Same,
    Shrink,
    Target,
)

_SETTLED = ("ACTIVE", "DEGRADED")
_PASSING = ("CREATING", "UPDATING")


class Pools:
    """The node groups of one account and region. The laws are those of ``providers.base.Provider``."""

    def __init__(
        self, name: str, client: Client, facts: Facts, scaling: Scaling, clusters: Clusters, clock: Clock
    ) -> None:
        self._name = name
        self._client = client
        self._facts = facts
        self._scaling = scaling
        self._clusters = clusters
        self._clock = clock

    # Reads.

    def describe(self, target: Target) -> Allocation:
        """Say what a node group is now: its wanted size, and its nodes, running once they are ready in the cluster."""
        pool = self._found(target.id)
        return self._allocation(pool, self._group(pool))

    def _allocation(self, pool: Answer, group: Answer) -> Allocation:
        joined = self._clusters.joined(str(pool["clusterName"]))
        nodes = tuple(_member(one, joined) for one in group["Instances"])
        wanted, running = int(group["DesiredCapacity"]), sum(node.state == "running" for node in nodes)
        settled = running == wanted == len(nodes) and pool["status"] in _SETTLED
        target = Target(self._name, "pool", f"{pool['clusterName']}/{pool['nodegroupName']}", self._client.region)
        offer = with_nodes(self._node(pool, group), max(wanted, 1))
        labels = {**rules.labels(group), **pool.get("tags", {})}
        return Allocation(target, "running" if settled else "pending", offer, nodes, (), labels)

    def offers(self, target: Target) -> list[Offer]:
        """List the sizes that a node group may have."""
        pool = self._found(target.id)
        least, most = _bounds(pool)
        node = self._node(pool, self._group(pool))
        return [with_nodes(node, count) for count in range(max(least, 1), most + 1)]

    def route(self, target: Target, offer: Offer) -> Route:
        """Find the way to another size. The type of a node group's nodes never changes."""
        pool = self._found(target.id)
        group = self._group(pool)
        least, most = _bounds(pool)
        if not least <= offer.nodes <= most:
            raise Incompatible(f"node group {target.id} is bounded to {least}..{most} nodes - change its bounds in EKS")
        node = self._node(pool, group)
        if with_nodes(node, offer.nodes).id != offer.id:
            raise Incompatible(f"the nodes of node group {target.id} are {node.id} and stay so - take another count")
        if pool["status"] not in (*_SETTLED, *_PASSING):
            raise Incompatible(f"node group {target.id} is {pool['status']}")
        wanted = int(group["DesiredCapacity"])
        if offer.nodes == wanted:
            return Same()
        if offer.nodes < wanted:
            return Shrink(wanted - offer.nodes)
        hindered = hindrance(pool)
        if hindered is not None:
            raise hindered
        self._facts.check_quota(node.machine_type, node.buying, offer.nodes - wanted)
        return Grow(offer.nodes)

    def labelled(self, key: str, value: str | None) -> list[Allocation]:
        """List the node groups whose Auto Scaling group carries a tag: EKS does not hand its own tags on to it."""
        groups = [one for one in self._scaling.groups() if rules.pool_of(one) and key in rules.tags(one)]
        mine = [one for one in groups if value in (None, rules.tags(one)[key])]
        return [self._allocation(self._found(rules.pool_of(one)), one) for one in mine]

    def _found(self, identity: str) -> Answer:
        cluster, _, name = identity.partition("/")
        if not cluster or not name:
            raise Invalid(f"the id of a node group is its cluster's name, a slash and its own, not {identity!r}")
        answer = self._client.read("eks", "describe_nodegroup", clusterName=cluster, nodegroupName=name)
        pool: Answer = answer["nodegroup"]
        return pool

    def _group(self, pool: Answer) -> Answer:
        names = [str(one["name"]) for one in pool.get("resources", {}).get("autoScalingGroups", ())]
        if len(names) != 1:
            raise Unavailable(
                f"node group {pool['nodegroupName']} is {pool['status']}, of {len(names)} groups - ask later"
            )
        return self._scaling.found(names[0])

    def _node(self, pool: Answer, group: Answer) -> Offer:
        return self._scaling.node(group, "spot" if pool.get("capacityType") == "SPOT" else "on_demand")

    # Mutations.

    def resize(self, call: Resize, token: str) -> Operation:
        """Set a node group's size, never below the nodes that exist: lowering it lets AWS end any of them.

        EKS remembers the token. Raises ``Busy`` while it makes another change of this node group.
        """
        pool = self._found(call.target.id)
        group = self._group(pool)
        if int(group["DesiredCapacity"]) == call.nodes:
            return self._resized(pool, group, self._handle("resize", call.target, token, _sizing(call.nodes, "", pool)))
        there = len(alive(group))
        if call.nodes < there:
            raise WrongState(f"node group {call.target.id} has {there} nodes - name those to be removed instead")
        answer = self._client.mutate(
            "eks", "update_nodegroup_config", clusterName=pool["clusterName"], nodegroupName=pool["nodegroupName"],
            scalingConfig={"desiredSize": call.nodes}, clientRequestToken=token,
        )  # fmt: skip
        detail = _sizing(call.nodes, str(answer["update"]["id"]), pool)
        return Operation(self._handle("resize", call.target, token, detail).name, self._name, "running")

    def remove(self, call: Remove, token: str) -> Operation:
        """Empty named nodes, then end them, lowering the size with each. One that is no member is passed over.

        Raises ``Busy``, to be repeated, while pods are leaving them or a disruption budget holds some back.
        """
        pool = self._found(call.target.id)
        if pool["status"] in _PASSING:
            raise Busy(f"node group {call.target.id} is {pool['status']} - nodes are removed once it is not")
        there = alive(self._group(pool))
        left = [victim for victim in call.victims if victim in there]
        self._clusters.empty(str(pool["clusterName"]), left, token)
        self._scaling.end(left)
        handle = self._handle("remove", call.target, token, ",".join(call.victims))
        return Operation(handle.name, self._name, "running" if left else "done")

    def keep(self, call: Keep, token: str) -> Operation:
        """Let work onto nodes again that were being emptied; one that a person cordoned is left as it is."""
        self._clusters.give_back(call.target.id.partition("/")[0], call.nodes)
        return Operation(self._handle("keep", call.target, token).name, self._name, "done")

    def poll(self, operation: Operation) -> Operation:
        """Say how a change of size stands."""
        handle = read(operation)
        if handle.call == "pool-keep":
            return Operation(handle.name, self._name, "done")
        pool = self._found(handle.id)
        group = self._group(pool)
        if handle.call == "pool-remove":
            members = {one["InstanceId"] for one in group["Instances"]}
            gone = not members & set(handle.detail.split(","))
            return Operation(handle.name, self._name, "done" if gone else "running")
        return self._updated(pool, handle) or self._resized(pool, group, handle)

    def _updated(self, pool: Answer, handle: Handle) -> Operation | None:
        """Say how EKS's own update stands; ``None`` once it is through, or is not known any more."""
        _, update, _ = handle.detail.split(",")
        if not update:
            return None
        try:
            answer = self._client.read(
                "eks", "describe_update", name=pool["clusterName"], updateId=update,
                nodegroupName=pool["nodegroupName"],
            )  # fmt: skip
        except NotFound:
            return None
        told = answer["update"]
        if told["status"] in ("Failed", "Cancelled"):
            why = "; ".join(f"{one.get('errorCode')}: {one.get('errorMessage')}" for one in told.get("errors", ()))
            text = f"update {update} {str(told['status']).lower()}: {why}".rstrip(": ")
            return Operation(handle.name, self._name, "failed", text)
        return Operation(handle.name, self._name, "running") if told["status"] == "InProgress" else None

    def _resized(self, pool: Answer, group: Answer, handle: Handle) -> Operation:
        nodes, _, known = handle.detail.split(",")
        joined = self._clusters.joined(str(pool["clusterName"]))
        running = sum(_member(one, joined).state == "running" for one in group["Instances"])
        if running >= int(nodes):
            return Operation(handle.name, self._name, "done")
        fault = self._scaling.failed_since(str(group["AutoScalingGroupName"]), handle.begun())
        fault = fault or fresh_fault(pool, frozenset(known.split("+")))
        if fault:
            return Operation(handle.name, self._name, "failed", fault)
        return Operation(handle.name, self._name, "running")

    def _handle(self, call: str, target: Target, token: str, detail: str = "") -> Handle:
        return Handle(f"pool-{call}", token, target.place, target.id, detail, self._clock.now().isoformat())


def _bounds(pool: Answer) -> tuple[int, int]:
    return int(pool["scalingConfig"]["minSize"]), int(pool["scalingConfig"]["maxSize"])


def _sizing(nodes: int, update: str, pool: Answer) -> str:
    """Write what a change of size is followed by: the size, EKS's id of it, and the issues that were there before."""
    return ",".join((str(nodes), update, "+".join(sorted(issues(pool)))))


def _member(one: Answer, joined: Joined) -> Node:
    """Read a member: it runs once Auto Scaling has it in service and, where that can be asked, its node is ready."""
    return seen(Node(str(one["InstanceId"]), rules.node_state(one)), joined)
