"""Edge: one Compute Engine instance: describe it, find the way to an offer, and make one mutation at a time.

Every mutation carries a request id made of the token. Compute Engine answers a repetition with the operation that the
first one began, so that it has no second effect.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from google.cloud import compute_v1

from providers.errors import Incompatible, Invalid, NotFound, NotPermitted, WrongState
from providers.gcp import rules
from providers.gcp.client import Client
from providers.gcp.errors import of_codes
from providers.gcp.facts import Facts
from providers.gcp.handle import Handle, read, request_id
from providers.gcp.rules import Answer
from providers.shelf import Shelf
from providers.types import (
    Allocation,
    Launch,
    MachineState,
    Modify,
    Node,
    Notice,
    Offer,
    Operation,
    Replace,
    Resources,
    Route,
    Same,
    Target,
)

_ENDS: Mapping[str, MachineState] = {"stop": "stopped", "start": "running", "launch": "running"}
"""For each call the state in which its effect is there; a deletion's is that nothing is found."""


_PREEMPTED = 'operationType="compute.instances.preempted"'


class Vms:
    """The instances of one project. The laws of the methods are those of ``providers.base.Provider``."""

    def __init__(self, name: str, client: Client, facts: Facts, shelf: Shelf) -> None:
        self._name = name
        self._client = client
        self._shelf = shelf
        self._facts = facts

    # Reads.

    def describe(self, target: Target) -> Allocation:
        """Say what an instance is now."""
        return self.allocation(self._found(target))

    def allocation(self, instance: Answer) -> Allocation:
        """Read an allocation from Google's answer."""
        place, here = rules.zone(instance), rules.state(instance)
        offer = self._shelf.offer(rules.kind(instance), place, rules.buying(instance))
        if not offer.resources.memory_gib:
            offer = replace(offer, resources=self._resources(instance), attached_gpus=rules.attached(instance)[0])
        since = _utc(instance.creation_timestamp) if instance.creation_timestamp else None
        nodes = (Node(instance.name, here, since),)
        labels, target = dict(instance.labels), Target(self._name, "vm", instance.name, place)
        return Allocation(target, here, offer, nodes, tuple(self._notices(instance)), labels)

    def offers(self, target: Target) -> list[Offer]:
        """List what an instance could become: every offer of the region for its architecture."""
        instance = self._found(target)
        arm = rules.family(rules.machine_type(instance)) in rules.ARM_FAMILIES
        return self._shelf.around(rules.zone(instance), "arm64" if arm else "x86_64")

    def route(self, target: Target, offer: Offer) -> Route:
        """Find the way to an offer, checking all that can be checked before anything is stopped."""
        instance = self._found(target)
        if offer.provider != "gcp" or offer.nodes != 1:
            raise Incompatible(f"a Compute Engine instance cannot become {offer.id}")
        why = rules.impossible(instance, offer)
        if why:
            raise Incompatible(f"instance {target.id} cannot become {offer.id}: {why}")
        way = rules.way(instance, offer)
        if isinstance(way, Same):
            return way
        where = offer.zone or rules.zone(instance)
        # One that is replaced runs on beside the new one; one that changes in place gives its own share back.
        running = rules.state(instance) in ("pending", "running")
        gone = None if isinstance(way, Replace) or not running else self.allocation(instance).offer
        self._facts.check(offer, where, 1, gone)
        return way

    def labelled(self, key: str, value: str | None) -> list[Allocation]:
        """List the instances that carry a label, members of groups left out."""
        wanted = f"labels.{key}:*" if value is None else f"labels.{key}={value}"
        pages = self._client.pages("instances", "aggregated_list", filter=wanted)
        found = [instance for _, scope in pages for instance in scope.instances]
        return [self.allocation(one) for one in found if not rules.manager(one)]

    def _found(self, target: Target) -> Answer:
        return self._client.read("instances", "get", zone=target.place, instance=target.id)

    def _notices(self, instance: Answer) -> Iterator[Notice]:
        """Read a coming maintenance off an instance, and a reclaim off the operation by which Google stopped it."""
        coming = instance.resource_status.upcoming_maintenance
        if coming.window_start_time:
            yield Notice("maintenance", _utc(coming.window_start_time), f"{coming.type_} {coming.maintenance_status}")
        if rules.buying(instance) != "spot" or rules.state(instance) not in ("stopping", "stopped"):
            return
        place, since = rules.zone(instance), instance.last_start_timestamp
        with suppress(NotPermitted):
            for one in self._client.pages("zone_operations", "list", zone=place, filter=_PREEMPTED):
                ours = rules.last(one.target_link) == instance.name
                if ours and (not since or _utc(one.insert_time) >= _utc(since)):
                    yield Notice("spot_reclaim", _utc(one.insert_time), str(one.status_message))

    def _resources(self, instance: Answer) -> Resources:
        kind = self._client.read(
            "machine_types", "get", zone=rules.zone(instance), machine_type=rules.machine_type(instance)
        )
        count, model = rules.attached(instance)
        fixed = next(iter(kind.accelerators), None)
        if fixed is not None:
            count, model = int(fixed.guest_accelerator_count), str(fixed.guest_accelerator_type)
        return Resources(int(kind.guest_cpus), int(kind.memory_mb) / 1024, count, model or None, 0.0)

    # Mutations.

    def stop(self, target: Target, token: str) -> Operation:
        """Stop an instance, keeping its disks."""
        here = rules.state(self._found(target))
        if here == "stopped":
            return self._done("stop", target)
        if here == "pending":
            raise WrongState(f"instance {target.id} is {here} - only a running one can be stopped")
        return self._ordered("stop", target, "stop", token)

    def start(self, target: Target, token: str) -> Operation:
        """Start a stopped instance."""
        here = rules.state(self._found(target))
        if here == "running":
            return self._done("start", target)
        if here == "stopping":
            raise WrongState(f"instance {target.id} is {here} - only a stopped one can be started")
        return self._ordered("start", target, "start", token)

    def modify(self, call: Modify, token: str) -> Operation:
        """Change one aspect of a stopped instance."""
        target, offer, aspect = call.target, call.offer, call.aspect
        if aspect not in ("machine_type", "scheduling", "accelerators"):
            raise Invalid(f"an instance has no aspect {aspect!r} - use machine_type, scheduling or accelerators")
        instance = self._found(target)
        why = rules.impossible(instance, offer) or rules.not_in_place(instance, offer)
        if why:
            raise Incompatible(f"instance {target.id} cannot become {offer.id}: {why}")
        if aspect not in rules.missing(instance, offer):
            return self._done("modify", target)
        if rules.state(instance) != "stopped":
            raise WrongState(f"instance {target.id} is {rules.state(instance)} - only a stopped one can be modified")
        place = f"zones/{target.place}"
        match aspect:
            case "machine_type":
                method, key = "set_machine_type", "instances_set_machine_type_request_resource"
                body: object = {"machine_type": f"{place}/machineTypes/{offer.machine_type}"}
            case "scheduling":
                method, key = "set_scheduling", "scheduling_resource"
                maintenance = rules.needed_maintenance(offer)
                # Sent whole: what is left out would fall back to a default.
                body = compute_v1.Scheduling(instance.scheduling)
                body.on_host_maintenance = maintenance
            case _:
                method, key = "set_machine_resources", "instances_set_machine_resources_request_resource"
                body = {"guest_accelerators": self._accelerators(offer, place)}
        return self._ordered("modify", target, method, token, **{key: body})

    def _accelerators(self, offer: Offer, place: str) -> list[dict[str, object]]:
        if not offer.attached_gpus:
            return []
        kind = rules.ACCELERATORS[offer.resources.gpu_model or ""]
        address = f"projects/{self._client.project}/{place}/acceleratorTypes/{kind}"
        return [{"accelerator_type": address, "accelerator_count": offer.attached_gpus}]

    def launch(self, call: Launch, token: str) -> Operation:
        """Launch an instance from a template. Its name is its own, so that it cannot come twice."""
        offer = call.offer
        if offer.zone is None:
            raise Invalid(f"{offer.id} names no zone - an instance is launched in one")
        why = "" if not offer.attached_gpus or rules.family(offer.machine_type) == "n1" else "GPUs attach to N1 only"
        if why:
            raise Incompatible(f"{offer.id} cannot be launched: {why}")
        self._facts.check(offer, offer.zone)
        place = f"zones/{offer.zone}"
        scheduling: dict[str, object] = {"on_host_maintenance": rules.needed_maintenance(offer)}
        if offer.buying == "spot":
            scheduling = {
                "provisioning_model": "SPOT", "instance_termination_action": "STOP", "automatic_restart": False,
                "on_host_maintenance": rules.TERMINATES,
            }  # fmt: skip
        resource = {
            "name": call.name, "machine_type": f"{place}/machineTypes/{offer.machine_type}",
            "labels": dict(call.recipe.labels), "scheduling": scheduling,
            "guest_accelerators": self._accelerators(offer, place),
        }  # fmt: skip
        made = Target(self._name, "vm", call.name, offer.zone)
        template = f"projects/{self._client.project}/global/instanceTemplates/{call.recipe.template}"
        operation = self._client.mutate(
            "instances", "insert", zone=offer.zone, instance_resource=resource, source_instance_template=template,
            request_id=request_id(token),
        )  # fmt: skip
        return replace(self._read_back(Handle("launch", offer.zone, call.name, operation.name), operation), made=made)

    def terminate(self, target: Target, token: str) -> Operation:
        """Delete an instance for good. One that is not there any more is done."""
        try:
            return self._ordered("terminate", target, "delete", token)
        except NotFound:
            return self._done("terminate", target)

    def _ordered(self, call: str, target: Target, method: str, token: str, **arguments: object) -> Operation:
        operation = self._client.mutate(
            "instances", method, zone=target.place, instance=target.id, request_id=request_id(token), **arguments
        )
        return self._read_back(Handle(call, target.place, target.id, operation.name), operation)

    def _done(self, call: str, target: Target) -> Operation:
        return Operation(Handle(call, target.place, target.id).name, self._name, "done")

    def poll(self, operation: Operation) -> Operation:
        """Say how a call stands: by Google's operation, and once that is done by the state it was to bring."""
        handle = read(operation)
        if not handle.operation:
            return operation
        found = self._client.read("zone_operations", "get", zone=handle.zone, operation=handle.operation)
        return replace(self._read_back(handle, found), made=operation.made)

    def _read_back(self, handle: Handle, operation: Answer) -> Operation:
        """Read Google's operation: done with an error inside is failed."""
        if operation.status != compute_v1.Operation.Status.DONE:
            return Operation(handle.name, self._name, "running")
        fault = of_codes(operation.error.errors)
        if fault:
            return Operation(handle.name, self._name, "failed", fault)
        wanted = _ENDS.get(handle.call)
        if wanted is None:
            return Operation(handle.name, self._name, "done")
        try:
            here = rules.state(self._found(Target(self._name, "vm", handle.id, handle.zone)))
        except NotFound:
            return Operation(handle.name, self._name, "failed", f"instance {handle.id} is gone")
        return Operation(handle.name, self._name, "done" if here == wanted else "running")


def _utc(told: str) -> datetime:
    return datetime.fromisoformat(told).astimezone(UTC)
