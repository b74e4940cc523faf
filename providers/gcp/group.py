"""Edge: one managed instance group, of a zone or a region: its size, its members, and what its last attempts say."""

from dataclasses import replace

from providers.catalog import with_nodes
from providers.errors import Incompatible, NotFound, WrongState
from providers.gcp import rules
from providers.gcp.errors import of_codes
from providers.gcp.facts import Facts
from providers.gcp.handle import Handle, read
from providers.gcp.rules import Answer
from providers.gcp.scaling import Scaling, alive, chosen, last_fault, name, nodes, state, zones
from providers.types import Allocation, Grow, Offer, Operation, Remove, Resize, Route, Same, Shrink, Target


class Groups:
    """The managed groups of one project. A group has no bounds of its own, so ``most_nodes`` bounds all of them."""

    def __init__(self, name: str, facts: Facts, scaling: Scaling, most_nodes: int) -> None:
        self._name = name
        self._facts = facts
        self._scaling = scaling
        self._most_nodes = most_nodes

    # Reads.

    def describe(self, target: Target) -> Allocation:
        """Say what a group is now: its wanted size and the nodes that exist."""
        return self._allocation(target, self._found(target))

    def _allocation(self, target: Target, group: Answer) -> Allocation:
        members = self._scaling.members(group)
        properties, there = self._scaling.template(group, members), nodes(members)
        wanted, running = int(group.target_size), sum(node.state == "running" for node in there)
        offer = with_nodes(self._scaling.node(group, properties), max(wanted, 1))
        settled = running == wanted == len(there)
        return Allocation(target, "running" if settled else "pending", offer, there, (), dict(properties.labels))

    def offers(self, target: Target) -> list[Offer]:
        """List the sizes that a group may have."""
        group = self._found(target)
        node = self._scaling.node(group, self._scaling.template(group))
        return [with_nodes(node, count) for count in range(1, self._most_nodes + 1)]

    def route(self, target: Target, offer: Offer) -> Route:
        """Find the way to another size. The type of a group's nodes does not change here."""
        group = self._found(target)
        properties = self._scaling.template(group)
        pool = rules.pool_of(properties.labels)
        if pool:
            raise Incompatible(f"group {target.id} belongs to a GKE node pool - name the pool {pool} as the target")
        if group.status.autoscaler:
            raise Incompatible(f"group {target.id} has an autoscaler - detach it, two cannot steer one group")
        if not 1 <= offer.nodes <= self._most_nodes:
            raise Incompatible(f"groups are bounded to 1..{self._most_nodes} nodes - raise most_nodes of the provider")
        node = self._scaling.node(group, properties)
        if with_nodes(node, offer.nodes).id != offer.id:
            raise Incompatible(f"the nodes of group {target.id} are {node.id} and stay so - take another count")
        wanted = int(group.target_size)
        if offer.nodes == wanted:
            return Same()
        if offer.nodes < wanted:
            return Shrink(wanted - offer.nodes)
        templates = {made for one in self._scaling.members(group) if (made := one.version.instance_template)}
        if templates - {group.instance_template}:
            raise Incompatible(
                f"group {target.id} has nodes of another template than its own - finish its update first"
            )
        self._facts.check(node, zones(group)[0], offer.nodes - wanted)
        return Grow(offer.nodes)

    def labelled(self, key: str, value: str | None) -> list[Allocation]:
        """List the groups whose template carries a label: a group has none of its own."""
        found = []
        for group in self._scaling.groups():
            labels = dict(self._scaling.template(group).labels)
            if key in labels and value in (None, labels[key]) and not rules.pool_of(labels):
                target = Target(self._name, "group", group.name, rules.place(group))
                found.append(self._allocation(target, group))
        return found

    def _found(self, target: Target) -> Answer:
        return self._scaling.found(target.place, target.id)

    # Mutations.

    def resize(self, call: Resize, token: str) -> Operation:
        """Set a group's size, never below the nodes that exist.

        Taking back a growth that came to nothing lowers it to the nodes that there are, which ends none.
        """
        group = self._found(call.target)
        handle = Handle("resize", call.target.place, call.target.id, "", str(call.nodes))
        if int(group.target_size) == call.nodes:
            return self._stands(handle)
        # A node that still boots is one too: a lower size lets the cloud end any of them.
        there = len(alive(self._scaling.members(group)))
        if call.nodes < there:
            raise WrongState(f"group {call.target.id} has {there} nodes - name those to be removed instead")
        operation = self._scaling.resize(group, call.nodes, token)
        return Operation(replace(handle, operation=operation).name, self._name, "running")

    def remove(self, call: Remove, token: str) -> Operation:
        """Delete named nodes, lowering the size by as many. One that is no member is passed over."""
        group = self._found(call.target)
        handle = Handle("remove", call.target.place, call.target.id, "", ",".join(call.victims))
        left = chosen(self._scaling.members(group), call.victims)
        if not left:
            return Operation(handle.name, self._name, "done")
        operation = self._scaling.end(group, left, token)
        return Operation(replace(handle, operation=operation).name, self._name, "running")

    def poll(self, operation: Operation) -> Operation:
        """Say how a change of size stands."""
        handle = read(operation)
        if handle.operation:
            try:
                found = self._scaling.operation(handle.zone, handle.operation)
            except NotFound:
                found = None  # operations are forgotten after some weeks; the group itself is not
            fault = of_codes(found.error.errors) if found is not None else ""
            if fault:
                return Operation(handle.name, self._name, "failed", fault)
        return self._stands(handle)

    def _stands(self, handle: Handle) -> Operation:
        members = self._scaling.members(self._scaling.found(handle.zone, handle.id))
        if handle.call == "remove":
            gone = not {name(one) for one in members} & set(handle.detail.split(","))
            return Operation(handle.name, self._name, "done" if gone else "running")
        if sum(state(one) == "running" for one in members) >= int(handle.detail):
            return Operation(handle.name, self._name, "done")
        fault = last_fault(members)
        return Operation(handle.name, self._name, "failed" if fault else "running", fault or None)
