"""Edge: what Google says of one managed instance group, zonal or regional: shared by groups and GKE's node pools.

Growing is ``resize``; it never fails as an operation when there is no stock, so the members' last attempts are read.
Shrinking is ``deleteInstances`` of named ones: a smaller size would let Google choose.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from providers.catalog import region_of
from providers.gcp import rules
from providers.gcp.client import Client
from providers.gcp.errors import of_codes
from providers.gcp.handle import request_id
from providers.gcp.rules import Answer
from providers.shelf import Shelf
from providers.types import MachineState, Node, Offer


class Scaling:
    """The managed instance groups of one project, as Google answers for them. Their place is a zone or a region."""

    def __init__(self, client: Client, shelf: Shelf) -> None:
        self._client = client
        self._shelf = shelf

    def groups(self) -> Iterator[Answer]:
        """Go through all groups."""
        for _, scope in self._client.pages("groups", "aggregated_list"):
            yield from scope.instance_group_managers

    def found(self, place: str, name: str) -> Answer:
        """Describe a group. Raises ``NotFound``."""
        return self._client.read("groups", "get", instance_group_manager=name, **_at(place))

    def members(self, group: Answer) -> list[Answer]:
        """List the machines that a group has or tries to have."""
        where = _at(rules.place(group))
        pages = self._client.pages("groups", "list_managed_instances", instance_group_manager=group.name, **where)
        return list(pages)

    def template(self, group: Answer, members: Sequence[Answer] = ()) -> Answer:
        """Give the properties of the template that a group's machines were made from, or are made from while none is.

        A group may have a newer template than its members.
        """
        address = next((made for one in members if (made := one.version.instance_template)), group.instance_template)
        where = {"region": address.split("/")[-3]} if "/regions/" in address else {}
        return self._client.read("templates", "get", instance_template=rules.last(address), **where).properties

    def node(self, group: Answer, properties: Answer) -> Offer:
        """Find the offer of one node from its template, which names a machine type without its address.

        That of a regional group names no zone.
        """
        kind = rules.last(properties.machine_type)
        for one in properties.guest_accelerators:
            if rules.family(kind) == "n1":
                kind += f"+{one.accelerator_count}x{rules.model(one.accelerator_type)}"
        spot = properties.scheduling.provisioning_model == "SPOT" or properties.scheduling.preemptible
        offer = self._shelf.offer(kind, zones(group)[0], "spot" if spot else "on_demand")
        return offer if group.zone else replace(offer, zone=None)

    def operation(self, place: str, name: str) -> Answer:
        """Ask for one of Google's operations on a group. Raises ``NotFound``."""
        if _regional(place):
            return self._client.read("region_operations", "get", region=place, operation=name)
        return self._client.read("zone_operations", "get", zone=place, operation=name)

    def resize(self, group: Answer, nodes: int, token: str) -> str:
        """Set a group's size; give the name of Google's operation."""
        operation = self._client.mutate(
            "groups", "resize", instance_group_manager=group.name, size=nodes, request_id=request_id(token),
            **_at(rules.place(group)),
        )  # fmt: skip
        return str(operation.name)

    def end(self, group: Answer, victims: Sequence[Answer], token: str) -> str:
        """Delete members, lowering the size by as many; give the name of Google's operation."""
        body = {"instances": [f"projects/{one.instance.partition('projects/')[2]}" for one in victims]}
        key = "instance_group_managers_delete_instances_request_resource"
        operation = self._client.mutate(
            "groups", "delete_instances", instance_group_manager=group.name, request_id=request_id(token),
            **_at(rules.place(group)), **{key if group.zone else f"region_{key}": body},
        )  # fmt: skip
        return str(operation.name)


def zones(group: Answer) -> list[str]:
    """Name the zones in which a group makes its machines. Of a regional one that does not tell, its region stands."""
    if group.zone:
        return [rules.zone(group)]
    return [rules.last(one.zone) for one in group.distribution_policy.zones] or [rules.place(group)]


def _regional(place: str) -> bool:
    return region_of(place) == place


def _at(place: str) -> dict[str, str]:
    return {"region" if _regional(place) else "zone": place}


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


def chosen(members: Sequence[Answer], victims: Sequence[str]) -> list[Answer]:
    """Find those of the victims that are not on their way out, also one that is being made, or made again."""
    return [one for one in members if name(one) in victims and state(one) != "stopping"]


def last_fault(members: Sequence[Answer]) -> str:
    """Say why a member's last attempt failed, its class of error first; "" if none did. It shows nowhere else."""
    return next((fault for one in members if (fault := of_codes(one.last_attempt.errors.errors))), "")
