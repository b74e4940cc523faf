"""Edge: one EC2 instance: describe it, find the way to an offer, and make one mutation at a time.

EC2 takes a token for a launch only. Stop, start and terminate are made safe by describing first; and because an old
call may be repeated after others have come between, each leaves its token on the instance, as a tag, once it is taken.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from providers.aws import rules
from providers.aws.client import Client
from providers.aws.facts import Facts
from providers.aws.handle import Handle, read
from providers.aws.rules import Answer
from providers.errors import Incompatible, Invalid, NotFound, ProviderError, WrongState
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
    Route,
    Same,
    Target,
)

_RECLAIM = ("marked-for-termination", "marked-for-stop", "marked-for-hibernation")
_ENDS: Mapping[str, tuple[MachineState, tuple[MachineState, ...]]] = {
    "stop": ("stopped", ("terminated",)),
    "start": ("running", ("stopped", "terminated")),
    "launch": ("running", ("stopping", "stopped", "terminated")),
    "terminate": ("terminated", ()),
}
"""For each call the state in which it is done, and those in which it has failed."""


class Vms:
    """The instances of one account and region. The laws of the methods are those of ``providers.base.Provider``."""

    def __init__(self, name: str, client: Client, facts: Facts, shelf: Shelf) -> None:
        self._name = name
        self._client = client
        self._facts = facts
        self._shelf = shelf

    # Reads.

    def describe(self, target: Target) -> Allocation:
        """Say what an instance is now."""
        return self.allocation(self._found(target.id))

    def allocation(self, instance: Answer) -> Allocation:
        """Read an allocation from AWS's answer."""
        place, here = rules.zone(instance), rules.state(instance)
        identity = str(instance["InstanceId"])
        offer = self._shelf.offer(str(instance["InstanceType"]), place, rules.buying(instance))
        if not offer.resources.memory_gib:
            offer = replace(offer, resources=rules.resources(self._facts.kind(offer.machine_type)))
        launched = instance.get("LaunchTime")
        return Allocation(
            Target(self._name, "vm", identity, place), here, offer, (Node(identity, here, launched),),
            self._notices(instance), rules.labels(instance),
        )  # fmt: skip

    def offers(self, target: Target) -> list[Offer]:
        """List what an instance could become: every offer of the region for its architecture, those here first."""
        instance = self._found(target.id)
        return self._shelf.around(rules.zone(instance), str(instance.get("Architecture", "x86_64")))

    def route(self, target: Target, offer: Offer) -> Route:
        """Find the way to an offer, checking all that can be checked before anything is stopped."""
        instance = self._found(target.id)
        if offer.provider != "aws" or offer.nodes != 1:
            raise Incompatible(f"an EC2 instance cannot become {offer.id}")
        if rules.state(instance) == "terminated":
            raise Incompatible(f"instance {target.id} is terminated")
        then = self._facts.kind(offer.machine_type)
        why = rules.impossible(instance, then)
        if why:
            raise Incompatible(f"instance {target.id} cannot become {offer.id}: {why}")
        way = rules.way(instance, self._facts.kind(str(instance["InstanceType"])), then, offer)
        if isinstance(way, Same):
            return way
        where = offer.zone or rules.zone(instance)
        if not self._facts.offered(offer.machine_type, where):
            raise Incompatible(f"{offer.machine_type} is not on sale in {where}")
        # One that is replaced runs on beside the new one; one that changes in place gives its own share back.
        but = "" if isinstance(way, Replace) else target.id
        self._facts.check_quota(offer.machine_type, offer.buying, 1, but)
        return way

    def labelled(self, key: str, value: str | None) -> list[Allocation]:
        """List the instances that carry a tag and are there, members of groups left out."""
        wanted = (
            [{"Name": "tag-key", "Values": [key]}] if value is None else [{"Name": f"tag:{key}", "Values": [value]}]
        )
        found = self._facts.instances(wanted)
        mine = [one for one in found if rules.GROUP_TAG not in rules.tags(one)]
        return [self.allocation(one) for one in mine if rules.state(one) != "terminated"]

    def _found(self, identity: str) -> Answer:
        answer = self._client.read("ec2", "describe_instances", InstanceIds=[identity])
        for reservation in answer["Reservations"]:
            for instance in reservation["Instances"]:
                found: Answer = instance
                return found
        raise NotFound(f"EC2 does not show instance {identity} in {self._client.region}")

    def _notices(self, instance: Answer) -> tuple[Notice, ...]:
        request = instance.get("SpotInstanceRequestId")
        if not request or rules.state(instance) not in ("pending", "running"):
            return ()
        with suppress(NotFound):
            answer = self._client.read("ec2", "describe_spot_instance_requests", SpotInstanceRequestIds=[request])
            found = [one["Status"] for one in answer["SpotInstanceRequests"] if one.get("Status")]
            return tuple(
                Notice("spot_reclaim", _utc(status["UpdateTime"]), str(status.get("Message", "")))
                for status in found
                if status.get("Code") in _RECLAIM
            )
        return ()

    # Mutations.

    def stop(self, target: Target, token: str) -> Operation:
        """Stop an instance, keeping its disks."""
        instance, handle = self._found(target.id), self._handle("stop", target, token)
        here = rules.state(instance)
        if here in ("stopping", "stopped") or self._taken(instance, handle):
            return self._judged(instance, handle)
        if here != "running":
            raise WrongState(f"instance {target.id} is {here} - only a running one can be stopped")
        self._client.mutate("ec2", "stop_instances", InstanceIds=[target.id])
        return self._begun(handle)

    def start(self, target: Target, token: str) -> Operation:
        """Start a stopped instance."""
        instance, handle = self._found(target.id), self._handle("start", target, token)
        here = rules.state(instance)
        if here in ("pending", "running") or self._taken(instance, handle):
            return self._judged(instance, handle)
        if here != "stopped":
            raise WrongState(f"instance {target.id} is {here} - only a stopped one can be started")
        self._client.mutate("ec2", "start_instances", InstanceIds=[target.id])
        return self._begun(handle)

    def modify(self, call: Modify, token: str) -> Operation:
        """Change the type of a stopped instance."""
        instance, handle = self._found(call.target.id), self._handle("modify", call.target, token)
        done = Operation(handle.name, self._name, "done")
        if call.aspect != "machine_type":
            raise Invalid(f"an EC2 instance has no aspect {call.aspect!r} - its only one is machine_type")
        if instance["InstanceType"] == call.offer.machine_type:
            return done
        if rules.state(instance) != "stopped":
            raise WrongState(
                f"instance {call.target.id} is {rules.state(instance)} - only a stopped one can be modified"
            )
        then = self._facts.kind(call.offer.machine_type)
        now = self._facts.kind(str(instance["InstanceType"]))
        why = rules.impossible(instance, then) or rules.not_in_place(instance, now, then, call.offer)
        if why:
            raise Incompatible(f"instance {call.target.id} cannot become {call.offer.id}: {why}")
        self._client.mutate(
            "ec2", "modify_instance_attribute", InstanceId=call.target.id,
            InstanceType={"Value": call.offer.machine_type},
        )  # fmt: skip
        return done

    def launch(self, call: Launch, token: str) -> Operation:
        """Launch an instance from a template. EC2 itself remembers the token, for as long as the instance is known."""
        offer = call.offer
        template = rules.template(call.recipe.template)
        kept = {rules.MANAGED_TAG: "managed", **call.recipe.labels, "Name": call.name}
        more: dict[str, object] = {}
        if offer.zone:
            more["Placement"] = {"AvailabilityZone": offer.zone}
        if offer.buying == "spot":
            # One-time: a request that lives on would start a second machine after a reclaim, behind our back.
            options = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
            more["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": options}
        specification = {
            "ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in kept.items()],
        }  # fmt: skip
        answer = self._client.mutate(
            "ec2", "run_instances", LaunchTemplate=template, InstanceType=offer.machine_type, MinCount=1, MaxCount=1,
            ClientToken=token, TagSpecifications=[specification], **more,
        )  # fmt: skip
        instance = answer["Instances"][0]
        made = Target(self._name, "vm", str(instance["InstanceId"]), rules.zone(instance))
        handle = self._handle("launch", made, token)
        return Operation(handle.name, self._name, "running", made=made)

    def terminate(self, target: Target, token: str) -> Operation:
        """Delete an instance for good. One that is not there any more is done."""
        handle = self._handle("terminate", target, token)
        try:
            instance = self._found(target.id)
        except NotFound:
            return Operation(handle.name, self._name, "done")
        if instance["State"]["Name"] in ("shutting-down", "terminated"):
            return self._judged(instance, handle)
        self._client.mutate("ec2", "terminate_instances", InstanceIds=[target.id])
        return Operation(handle.name, self._name, "running")

    def poll(self, operation: Operation) -> Operation:
        """Say how a call stands, from the state of its instance."""
        handle = read(operation)
        if handle.call == "modify":
            return replace(operation, state="done")
        try:
            instance = self._found(handle.id)
        except NotFound:
            # A fresh instance may not be shown yet; a deleted one is not shown any more.
            return replace(operation, state="done") if handle.call == "terminate" else operation
        judged = self._judged(instance, handle)
        return replace(judged, made=operation.made)

    def _judged(self, instance: Answer, handle: Handle) -> Operation:
        done, failed = _ENDS[handle.call]
        here, why = rules.state(instance), rules.reason(instance)
        if here == done:
            return Operation(handle.name, self._name, "done")
        own_fault = str(instance.get("StateReason", {}).get("Code", "")).startswith("Server.")
        if here in failed or (handle.call == "stop" and here == "running" and own_fault):
            return Operation(handle.name, self._name, "failed", f"instance {handle.id} is {here}: {why}".rstrip(": "))
        return Operation(handle.name, self._name, "running")

    def _handle(self, call: str, target: Target, token: str) -> Handle:
        return Handle(call, token, target.place, target.id)

    def _taken(self, instance: Answer, handle: Handle) -> bool:
        """Whether this very call was taken before, however the instance has changed since."""
        return rules.tags(instance).get(rules.TOKEN_TAG + handle.call) == handle.token

    def _begun(self, handle: Handle) -> Operation:
        """Leave the token on the instance. Without it a late repetition is caught by describing first, as ever."""
        mark = {"Key": rules.TOKEN_TAG + handle.call, "Value": handle.token}
        with suppress(ProviderError):
            self._client.mutate("ec2", "create_tags", Resources=[handle.id], Tags=[mark])
        return Operation(handle.name, self._name, "running")


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
