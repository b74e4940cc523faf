"""Edge: one GKE node pool: its size, its members, and what GKE and its managed groups, one a zone, tell of both.

It grows by ``setSize``, which counts nodes a zone and makes one operation a cluster at a time. GKE takes no request id
for it, but the size is absolute. It shrinks by named nodes: these are emptied first where a kubeconfig lets us, then
deleted from their managed group; a smaller size would let Google choose. The wanted size is that of the groups, which
is what makes nodes.
"""

from collections.abc import Sequence
from dataclasses import replace

from providers.catalog import with_nodes
from providers.errors import Busy, Incompatible, Invalid, NotFound, NotPermitted, Unavailable, WrongState
from providers.gcp import rules
from providers.gcp.client import Client
from providers.gcp.errors import disabled
from providers.gcp.facts import Facts
from providers.gcp.handle import Handle, read
from providers.gcp.issues import fault_of, hindrance
from providers.gcp.rules import Answer
from providers.gcp.scaling import Scaling, alive, chosen, last_fault, name, nodes
from providers.kubernetes import Clusters, seen
from providers.shelf import Shelf
from providers.types import (
    Allocation,
    Grow,
    Keep,
    Offer,
    Operation,
    Remove,
    Resize,
    Route,
    Same,
    Shrink,
    Target,
)

_SETTLED = ("RUNNING", "RUNNING_WITH_ERROR")
_PASSING = ("PROVISIONING", "RECONCILING")
Zones = Sequence[tuple[Answer, list[Answer]]]
"""The managed groups of a node pool, one a zone, each with its members."""


class Pools:
    """The node pools of one project. A pool has no bounds of its own, so ``most_nodes`` bounds all of them."""

    def __init__(
        self,
        name: str,
        client: Client,
        shelf: Shelf,
        facts: Facts,
        scaling: Scaling,
        clusters: Clusters,
        most_nodes: int,
    ) -> None:
        self._name = name
        self._client = client
        self._shelf = shelf
        self._facts = facts
        self._scaling = scaling
        self._clusters = clusters
        self._most_nodes = most_nodes

    # Reads.

    def describe(self, target: Target) -> Allocation:
        """Say what a node pool is now: its wanted size, and its nodes, running once they are ready in the cluster."""
        return self._allocation(target, self._found(target))

    def _allocation(self, target: Target, pool: Answer) -> Allocation:
        zones = self._zones(pool)
        joined = self._clusters.joined(_cluster(target.id))
        there = tuple(seen(node, joined) for _, members in zones for node in nodes(members))
        wanted, running = _wanted(zones), sum(node.state == "running" for node in there)
        settled = running == wanted == len(there) and pool.status.name in _SETTLED
        offer = with_nodes(self._node(pool), max(wanted, 1))
        labels = dict(pool.config.resource_labels)
        return Allocation(target, "running" if settled else "pending", offer, there, (), labels)

    def offers(self, target: Target) -> list[Offer]:
        """List the sizes that a node pool may have: all smaller ones, and larger ones that are as many in each zone."""
        pool = self._found(target)
        zones, node = self._zones(pool), self._node(pool)
        return [with_nodes(node, count) for count in range(1, self._most_nodes + 1) if not _uneven(zones, count)]

    def route(self, target: Target, offer: Offer) -> Route:
        """Find the way to another size. The type of a node pool's nodes does not change here."""
        pool = self._found(target)
        if pool.autoscaling.enabled:
            raise Incompatible(f"node pool {target.id} has autoscaling - turn it off, two cannot steer one pool")
        if not 1 <= offer.nodes <= self._most_nodes:
            raise Incompatible(f"pools are bounded to 1..{self._most_nodes} nodes - raise most_nodes of the provider")
        node = self._node(pool)
        if with_nodes(node, offer.nodes).id != offer.id:
            raise Incompatible(f"the nodes of node pool {target.id} are {node.id} and stay so - take another count")
        if pool.status.name not in (*_SETTLED, *_PASSING):
            raise Incompatible(f"node pool {target.id} is {pool.status.name}: {pool.status_message}".rstrip(": "))
        zones = self._zones(pool)
        wanted = _wanted(zones)
        if offer.nodes == wanted:
            return Same()
        if offer.nodes < wanted:
            return Shrink(wanted - offer.nodes)
        uneven, hindered = _uneven(zones, offer.nodes), hindrance(pool)
        if uneven:
            raise Incompatible(f"node pool {target.id} cannot have {offer.nodes} nodes: {uneven}")
        if hindered is not None:
            raise hindered
        self._facts.check(node, rules.zone(zones[0][0]), offer.nodes - wanted)
        return Grow(offer.nodes)

    def labelled(self, key: str, value: str | None) -> list[Allocation]:
        """List the node pools whose machines get a label. Raises ``Unavailable`` where Google leaves a zone out."""
        try:
            answer = self._client.read("clusters", "list_clusters", parent="locations/-")
        except NotPermitted as error:
            if disabled(error):
                return []  # the project has no cluster
            raise
        if answer.missing_zones:
            raise Unavailable(f"GKE does not tell of the clusters in {', '.join(answer.missing_zones)} - ask later")
        found = []
        for cluster in answer.clusters:
            for pool in cluster.node_pools:
                labels = dict(pool.config.resource_labels)
                if key in labels and value in (None, labels[key]):
                    target = Target(self._name, "pool", f"{cluster.name}/{pool.name}", cluster.location)
                    found.append(self._allocation(target, pool))
        return found

    def _found(self, target: Target) -> Answer:
        return self._client.read("clusters", "get_node_pool", name=self._address(target))

    def _address(self, target: Target) -> str:
        cluster, _, pool = target.id.partition("/")
        if not cluster or not pool:
            raise Invalid(f"the id of a node pool is its cluster's name, a slash and its own, not {target.id!r}")
        return f"locations/{target.place}/clusters/{cluster}/nodePools/{pool}"

    def _zones(self, pool: Answer) -> Zones:
        """Read the managed groups of a pool from their addresses: .../zones/ZONE/instanceGroupManagers/NAME."""
        addresses = [str(url).split("/") for url in pool.instance_group_urls]
        if not addresses:
            raise Unavailable(f"node pool {pool.name} is {pool.status.name}, without a managed group - ask later")
        groups = [self._scaling.found(parts[-3], parts[-1]) for parts in addresses]
        return [(group, self._scaling.members(group)) for group in groups]

    def _node(self, pool: Answer) -> Offer:
        """Find the offer of one node: in the pool's zone, or of the region where it has several."""
        kind = str(pool.config.machine_type)
        for one in pool.config.accelerators:
            if rules.family(kind) == "n1":
                kind += f"+{one.accelerator_count}x{rules.model(one.accelerator_type)}"
        spot = pool.config.spot or pool.config.preemptible
        offer = self._shelf.offer(kind, str(pool.locations[0]), "spot" if spot else "on_demand")
        return offer if len(pool.locations) == 1 else replace(offer, zone=None)

    # Mutations.

    def resize(self, call: Resize, token: str) -> Operation:
        """Set a node pool's size, never below the nodes that exist: lowering it lets Google end any of them.

        Raises ``Busy`` while the cluster is in another operation. A repetition finds the size as it was asked for.
        """
        pool = self._found(call.target)
        zones = self._zones(pool)
        handle = self._handle("resize", call.target, str(call.nodes))
        if _wanted(zones) == call.nodes:
            return self._resized(handle, zones)
        there = [len(alive(members)) for _, members in zones]
        if call.nodes < sum(there):
            raise WrongState(f"node pool {call.target.id} has {sum(there)} nodes - name those to be removed instead")
        if pool.status.name in _PASSING:
            raise Busy(f"node pool {call.target.id} is {pool.status.name} - its size is set once it is not")
        if call.nodes == sum(there):
            # A growth is taken back zone by zone: after named removals the zones may be uneven, as no one size is.
            for (group, _), count in zip(zones, there, strict=True):
                if int(group.target_size) != count:
                    self._scaling.resize(group, count, f"{token} {rules.zone(group)}")
            return Operation(handle.name, self._name, "running")
        uneven = _uneven(zones, call.nodes)
        if uneven:
            raise Incompatible(f"node pool {call.target.id} cannot have {call.nodes} nodes: {uneven}")
        address, each = self._address(call.target), call.nodes // len(zones)
        operation = self._client.mutate("clusters", "set_node_pool_size", name=address, node_count=each)
        handle = self._handle("resize", call.target, str(call.nodes), operation.name)
        return Operation(handle.name, self._name, "running")

    def remove(self, call: Remove, token: str) -> Operation:
        """Empty named nodes, then delete them, lowering the size with each. One that is no member is passed over.

        Raises ``Busy``, to be repeated, while pods are leaving them or a disruption budget holds some back.
        """
        pool = self._found(call.target)
        if pool.status.name in _PASSING:
            raise Busy(f"node pool {call.target.id} is {pool.status.name} - nodes are removed once it is not")
        zones = self._zones(pool)
        left = [(group, chosen(members, call.victims)) for group, members in zones]
        self._clusters.empty(_cluster(call.target.id), [name(one) for _, victims in left for one in victims], token)
        for group, victims in left:
            if victims:
                self._scaling.end(group, victims, f"{token} {rules.zone(group)}")
        handle = self._handle("remove", call.target, ",".join(call.victims))
        return Operation(handle.name, self._name, "running" if any(victims for _, victims in left) else "done")

    def keep(self, call: Keep, token: str) -> Operation:
        """Let work onto nodes again that were being emptied; one that a person cordoned is left as it is."""
        self._clusters.give_back(_cluster(call.target.id), call.nodes)
        return Operation(self._handle("keep", call.target).name, self._name, "done")

    def poll(self, operation: Operation) -> Operation:
        """Say how a change of size stands."""
        handle = read(operation)
        if handle.call == "pool-keep":
            return Operation(handle.name, self._name, "done")
        target = Target(self._name, "pool", handle.id, handle.zone)
        zones = self._zones(self._found(target))
        if handle.call == "pool-remove":
            members = {name(one) for _, each in zones for one in each}
            gone = not members & set(handle.detail.split(","))
            return Operation(handle.name, self._name, "done" if gone else "running")
        return self._ordered(handle) or self._resized(handle, zones)

    def _ordered(self, handle: Handle) -> Operation | None:
        """Say how GKE's own operation stands; ``None`` once it is through, or is not known any more."""
        if not handle.operation:
            return None
        address = f"locations/{handle.zone}/operations/{handle.operation}"
        try:
            found = self._client.read("clusters", "get_operation", name=address)
        except NotFound:
            return None
        if found.status.name != "DONE":
            return Operation(handle.name, self._name, "running")
        fault = fault_of(found)
        return Operation(handle.name, self._name, "failed", fault) if fault else None

    def _resized(self, handle: Handle, zones: Zones) -> Operation:
        joined = self._clusters.joined(_cluster(handle.id))
        there = [seen(node, joined) for _, members in zones for node in nodes(members)]
        if sum(node.state == "running" for node in there) >= int(handle.detail):
            return Operation(handle.name, self._name, "done")
        fault = next((told for _, members in zones if (told := last_fault(members))), "")
        return Operation(handle.name, self._name, "failed" if fault else "running", fault or None)

    def _handle(self, call: str, target: Target, detail: str = "", operation: str = "") -> Handle:
        return Handle(f"pool-{call}", target.place, target.id, operation, detail)


def _cluster(identity: str) -> str:
    return identity.partition("/")[0]


def _wanted(zones: Zones) -> int:
    return sum(int(group.target_size) for group, _ in zones)


def _uneven(zones: Zones, count: int) -> str:
    """Say why a count of nodes cannot be grown to, "" if it can, or is not a growth."""
    if count <= _wanted(zones):
        return ""
    each, over = divmod(count, len(zones))
    if over:
        return f"its {len(zones)} zones have as many each"
    full = [rules.zone(group) for group, _ in zones if int(group.target_size) > each]
    return f"{each} a zone would take nodes from {', '.join(full)}" if full else ""
