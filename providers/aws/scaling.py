"""Edge: what Auto Scaling says of a group, and the end of named members: shared by groups and by EKS's node groups."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from providers.aws import rules
from providers.aws.client import Client
from providers.aws.errors import kind_of
from providers.aws.rules import Answer
from providers.errors import Incompatible, NoCapacity, NotFound, QuotaExceeded
from providers.shelf import Shelf
from providers.types import Buying, Offer

_WORD = re.compile(r"\b[A-Z]\w+")
# Some messages name no code: "We currently do not have sufficient g5.xlarge capacity in the Availability Zone ..."
_PHRASES = (("do not have sufficient", NoCapacity), ("current vCPU limit", QuotaExceeded))


class Scaling:
    """The Auto Scaling groups of one account and region, as AWS answers for them."""

    def __init__(self, client: Client, shelf: Shelf) -> None:
        self._client = client
        self._shelf = shelf

    def groups(self) -> Iterator[Answer]:
        """Go through all groups."""
        return self._client.pages("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups")

    def found(self, name: str) -> Answer:
        """Describe a group. Raises ``NotFound``."""
        answer = self._client.read("autoscaling", "describe_auto_scaling_groups", AutoScalingGroupNames=[name])
        for group in answer["AutoScalingGroups"]:
            found: Answer = group
            return found
        raise NotFound(f"Auto Scaling does not show group {name} in {self._client.region}")

    def node(self, group: Answer, buying: Buying = "on_demand") -> Offer:
        """Find the offer of one node: of its members' type, or of its template's while it has none."""
        zones = list(group["AvailabilityZones"])
        kinds = [str(one["InstanceType"]) for one in group["Instances"] if one.get("InstanceType")]
        kind = kinds[0] if kinds else self._template_type(group)
        offer = self._shelf.offer(kind, zones[0], buying)
        return offer if len(zones) == 1 else replace(offer, zone=None)

    def _template_type(self, group: Answer) -> str:
        mixed = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
        for override in mixed.get("Overrides", ()):
            if override.get("InstanceType"):
                return str(override["InstanceType"])
        template = group.get("LaunchTemplate") or mixed.get("LaunchTemplateSpecification")
        if not template:
            raise Incompatible(f"group {group['AutoScalingGroupName']} has no launch template - give it one")
        answer = self._client.read(
            "ec2", "describe_launch_template_versions", LaunchTemplateId=template["LaunchTemplateId"],
            Versions=[template.get("Version", "$Default")],
        )  # fmt: skip
        return str(answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]["InstanceType"])

    def end(self, victims: Sequence[str]) -> None:
        """End members, one call each, lowering the group's size with each. Only for those that are members now."""
        for victim in victims:
            self._client.mutate(
                "autoscaling", "terminate_instance_in_auto_scaling_group", InstanceId=victim,
                ShouldDecrementDesiredCapacity=True,
            )  # fmt: skip

    def failed_since(self, name: str, since: datetime) -> str:
        """Say why a launch failed after a time, its class of error first where known; "" if none did.

        It shows nowhere else: the group goes on trying for ever.
        """
        pages = self._client.pages(
            "autoscaling", "describe_scaling_activities", "Activities", AutoScalingGroupName=name
        )  # fmt: skip
        for activity in pages:
            if activity["StartTime"] < since:
                break  # the newest come first
            if activity["StatusCode"] == "Failed":
                return classed(str(activity.get("StatusMessage") or "a launch failed without a reason"))
        return ""


def classed(message: str) -> str:
    """Set before a failed launch's message the class of error that its code belongs to, where it has one of ours."""
    kinds = [kind_of(word) for word in _WORD.findall(message)]
    kinds += [kind for phrase, kind in _PHRASES if phrase in message]
    for kind in kinds:
        if kind in (NoCapacity, QuotaExceeded):
            return f"{kind.__name__}: {message}"
    return message


def alive(group: Answer) -> list[str]:
    """Name the members that are not on their way out."""
    return [str(one["InstanceId"]) for one in group["Instances"] if rules.node_state(one) != "stopping"]
