"""Edge: one zonal managed instance group: its size, its members, and what its last attempts say.

Growing is ``resize``; it never fails as an operation when there is no stock, so the members' last attempts are read.
Shrinking is ``deleteInstances`` of named ones: a smaller size would let Google choose.
"""

from dataclasses import replace

from providers.catalog import with_nodes
from providers.errors import Incompatible, NotFound, WrongState
from providers.gcp import rules
from providers.gcp.client import Client
from providers.gcp.errors import of_codes
from providers.gcp.handle import Handle, read, request_id
from providers.gcp.quota import Quotas
from providers.gcp.rules import Answer
from providers.shelf import Shelf
from providers.types import (
    Allocation,
    Grow,
    MachineState,
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


class Groups:
    """The managed groups of one project. A group has no bounds of its own, so ``most_nodes`` bounds all of them."""

    def __init__(self, name: str, client: Client, shelf: Shelf, most_nodes: int) -> None:
        self._name = name
        self._client = client
        self._shelf = shelf
        self._most_nodes = most_nodes
        self._quotas = Quotas(client)

    # Reads.

    def describe(self, target: Target) -> Allocation:
        """Say what a group is now: its wanted size and the nodes that exist."""
        return self._allocation(target, self._found(target))

    def _allocation(self, target: Target, group: Answer) -> Allocation:
        properties = self._template(group)
        nodes = tuple(
            Node(rules.last(str(one.instance)), _node_state(one))
            for one in self._members(target)
            if one.instance_status
        )
        wanted, running = int(group.target_size), sum(node.state == "running" for node in nodes)
        offer = with_nodes(self._node(properties, target.place), max(wanted, 1))
        settled = running == wanted == len(nodes)
        return Allocation(target, "running" if settled else "pending", offer, nodes, (), dict(properties.labels))

    def offers(self, target: Target) -> list[Offer]:
        """List the sizes that a group may have."""
        node = self._node(self._template(self._found(target)), target.place)
        return [with_nodes(node, count) for count in range(1, self._most_nodes + 1)]

    def route(self, target: Target, offer: Offer) -> Route:
        """Find the way to another size. The type of a group's nodes does not change here."""
        group = self._found(target)
        if group.status.autoscaler:
            raise Incompatible(f"group {target.id} has an autoscaler - detach it, two cannot steer one group")
        if not 1 <= offer.nodes <= self._most_nodes:
            raise Incompatible(f"groups are bounded to 1..{self._most_nodes} nodes - raise most_nodes of the provider")
        node = self._node(self._template(group), target.place)
        if with_nodes(node, offer.nodes).id != offer.id:
            raise Incompatible(f"the nodes of group {target.id} are {node.id} and stay so - take another count")
        wanted = int(group.target_size)
        if offer.nodes == wanted:
            return Same()
        if offer.nodes < wanted:
            return Shrink(wanted - offer.nodes)
        self._quotas.check(node, target.place, offer.nodes - wanted)
        return Grow(offer.nodes)

    def labelled(self, key: str, value: str | None) -> list[Allocation]:
        """List the groups whose template carries a label: a group has none of its own."""
        found = []
        for _, scope in self._client.pages("groups", "aggregated_list"):
            for group in scope.instance_group_managers:
                labels = dict(self._template(group).labels)
                if key in labels and value in (None, labels[key]):
                    target = Target(self._name, "group", group.name, rules.last(group.zone))
                    found.append(self._allocation(target, group))
        return found

    def _found(self, target: Target) -> Answer:
        return self._client.read("groups", "get", zone=target.place, instance_group_manager=target.id)

    def _members(self, target: Target) -> list[Answer]:
        where = {"zone": target.place, "instance_group_manager": target.id}
        return list(self._client.pages("groups", "list_managed_instances", **where))

    def _template(self, group: Answer) -> Answer:
        name = rules.last(group.instance_template)
        return self._client.read("templates", "get", instance_template=name).properties

    def _node(self, properties: Answer, zone: str) -> Offer:
        """Find the offer of one node from the template; a template names a machine type without its address."""
        kind = rules.last(properties.machine_type)
        for one in properties.guest_accelerators:
            if rules.family(kind) == "n1":
                accelerator = rules.last(one.accelerator_type)
                models = {name: model for model, name in rules.ACCELERATORS.items()}
                kind += f"+{one.accelerator_count}x{models.get(accelerator, accelerator)}"
        spot = properties.scheduling.provisioning_model == "SPOT"
        return self._shelf.offer(kind, zone, "spot" if spot else "on_demand")

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
        alive = sum(bool(m.instance_status) and _node_state(m) != "stopping" for m in self._members(call.target))
        if call.nodes < alive:
            raise WrongState(f"group {call.target.id} has {alive} nodes - name those to be removed instead")
        operation = self._client.mutate(
            "groups", "resize", zone=call.target.place, instance_group_manager=call.target.id, size=call.nodes,
            request_id=request_id(token),
        )  # fmt: skip
        return Operation(replace(handle, operation=operation.name).name, self._name, "running")

    def remove(self, call: Remove, token: str) -> Operation:
        """Delete named nodes, lowering the size by as many. One that is no member is passed over."""
        place = call.target.place
        handle = Handle("remove", place, call.target.id, "", ",".join(call.victims))
        alive = {rules.last(str(one.instance)) for one in self._members(call.target) if _node_state(one) != "stopping"}
        left = [victim for victim in call.victims if victim in alive]
        if not left:
            return Operation(handle.name, self._name, "done")
        addresses = [f"projects/{self._client.project}/zones/{place}/instances/{victim}" for victim in left]
        operation = self._client.mutate(
            "groups", "delete_instances", zone=place, instance_group_manager=call.target.id,
            instance_group_managers_delete_instances_request_resource={"instances": addresses},
            request_id=request_id(token),
        )  # fmt: skip
        return Operation(replace(handle, operation=operation.name).name, self._name, "running")

    def poll(self, operation: Operation) -> Operation:
        """Say how a change of size stands."""
        handle = read(operation)
        if handle.operation:
            try:
                found = self._client.read("zone_operations", "get", zone=handle.zone, operation=handle.operation)
            except NotFound:
                found = None  # operations are forgotten after some weeks; the group itself is not
            fault = of_codes(found.error.errors) if found is not None else ""
            if fault:
                return Operation(handle.name, self._name, "failed", fault)
        return self._stands(handle)

    def _stands(self, handle: Handle) -> Operation:
        members = self._members(Target(self._name, "group", handle.id, handle.zone))
        if handle.call == "remove":
            present = {rules.last(str(one.instance)) for one in members}
            gone = not present & set(handle.detail.split(","))
            return Operation(handle.name, self._name, "done" if gone else "running")
        if sum(_node_state(one) == "running" for one in members) >= int(handle.detail):
            return Operation(handle.name, self._name, "done")
        for one in members:
            fault = of_codes(one.last_attempt.errors.errors)
            if fault:
                return Operation(handle.name, self._name, "failed", fault)
        return Operation(handle.name, self._name, "running")


def _node_state(member: Answer) -> MachineState:
    if str(member.current_action) in ("DELETING", "ABANDONING"):
        return "stopping"
    return rules.STATES.get(str(member.instance_status), "pending")
