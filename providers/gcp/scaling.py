"""Edge: what Google says of one zonal managed instance group: shared by groups and by GKE's node pools.

Growing is ``resize``; it never fails as an operation when there is no stock, so the members' last attempts are read.
Shrinking is ``deleteInstances`` of named ones: a smaller size would let Google choose.
"""

from collections.abc import Iterator, Sequence

from providers.gcp import rules
from providers.gcp.client import Client
from providers.gcp.errors import of_codes
from providers.gcp.handle import request_id
from providers.gcp.rules import Answer
from providers.shelf import Shelf
from providers.types import MachineState, Node, Offer


class Scaling:
    """The managed instance groups of one project, as Google answers for them."""

    def __init__(self, client: Client, shelf: Shelf) -> None:
        self._client = client
        self._shelf = shelf

    def groups(self) -> Iterator[Answer]:
        """Go through all groups."""
        for _, scope in self._client.pages("groups", "aggregated_list"):
            yield from scope.instance_group_managers

    def found(self, zone: str, name: str) -> Answer:
        """Describe a group. Raises ``NotFound``."""
        return self._client.read("groups", "get", zone=zone, instance_group_manager=name)

    def members(self, group: Answer) -> list[Answer]:
        """List the machines that a group has or tries to have."""
        where = {"zone": rules.zone(group), "instance_group_manager": group.name}
        return list(self._client.pages("groups", "list_managed_instances", **where))

    def template(self, group: Answer) -> Answer:
        """Give the properties of the template that a group makes its machines from."""
        name = rules.last(group.instance_template)
        return self._client.read("templates", "get", instance_template=name).properties

    def node(self, properties: Answer, zone: str) -> Offer:
        """Find the offer of one node from the template; a template names a machine type without its address."""
        kind = rules.last(properties.machine_type)
        for one in properties.guest_accelerators:
            if rules.family(kind) == "n1":
                kind += f"+{one.accelerator_count}x{rules.model(one.accelerator_type)}"
        spot = properties.scheduling.provisioning_model == "SPOT" or properties.scheduling.preemptible
        return self._shelf.offer(kind, zone, "spot" if spot else "on_demand")

    def resize(self, group: Answer, nodes: int, token: str) -> str:
        """Set a group's size; give the name of Google's operation."""
        operation = self._client.mutate(
            "groups", "resize", zone=rules.zone(group), instance_group_manager=group.name, size=nodes,
            request_id=request_id(token),
        )  # fmt: skip
        return str(operation.name)

    def end(self, group: Answer, victims: Sequence[str], token: str) -> str:
        """Delete members, lowering the size by as many; give the name of Google's operation."""
        zone = rules.zone(group)
        addresses = [f"projects/{self._client.project}/zones/{zone}/instances/{victim}" for victim in victims]
        operation = self._client.mutate(
            "groups", "delete_instances", zone=zone, instance_group_manager=group.name,
            instance_group_managers_delete_instances_request_resource={"instances": addresses},
            request_id=request_id(token),
        )  # fmt: skip
        return str(operation.name)


def name(member: Answer) -> str:
    """Name the machine of a member."""
    return rules.last(str(member.instance))


def state(member: Answer) -> MachineState:
    """Read a member's state: one that is being deleted is on its way out, whatever its machine still does."""
    if str(member.current_action) in ("DELETING", "ABANDONING"):
        return "stopping"
    return rules.STATES.get(str(member.instance_status), "pending")


def nodes(members: Sequence[Answer]) -> tuple[Node, ...]:
    """Read the nodes that exist: a member without a machine is only tried for."""
    return tuple(Node(name(one), state(one)) for one in members if one.instance_status)


def alive(members: Sequence[Answer]) -> list[str]:
    """Name the machines that exist and are not on their way out. One that still boots is there too."""
    return [name(one) for one in members if one.instance_status and state(one) != "stopping"]


def staying(members: Sequence[Answer]) -> list[str]:
    """Name the members that are not on their way out, also one that is being made, or made again after it was lost."""
    return [name(one) for one in members if state(one) != "stopping"]


def last_fault(members: Sequence[Answer]) -> str:
    """Say why a member's last attempt failed, its class of error first; "" if none did. It shows nowhere else."""
    return next((fault for one in members if (fault := of_codes(one.last_attempt.errors.errors))), "")
