"""Edge: which permissions the credentials lack, asked beforehand. Changes nothing.

EC2 answers a call with ``DryRun`` by whether it would be allowed, tags and conditions of the policies included. Auto
Scaling and EKS know no such thing: their changes stay unknown until needed. Reads are made, see ``check``.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from providers.aws import check, rules
from providers.aws.client import Client
from providers.base import Subject
from providers.errors import NotFound, NotPermitted, Refused
from providers.types import LaunchRecipe


class Permissions:
    """Asks for the calls that this provider makes; ``prices`` is the client of where prices are served."""

    def __init__(self, client: Client, prices: Client) -> None:
        self._client = client
        self._prices = prices

    def lacking(self, subjects: Sequence[Subject]) -> list[str]:
        """Name the actions that are not allowed, by IAM's names, each with what it is needed on."""
        self._allowed("describe_instances")  # raises where the credentials themselves are no good
        general = [read for read in check.READS if read[1] != "eks"]  # who has no node group needs none of its reads
        refused = check.asked(self._client, self._prices, general)
        found = dict.fromkeys(permission for permission, text in refused.items() if text is not None)
        for one in subjects:
            if one.target.kind == "pool":
                found.update(dict.fromkeys(self._pool_reads(one.target.id)))
            elif one.target.kind == "vm" and one.changed:
                found.update(dict.fromkeys(self._changes(one.target.id, one.recipe)))
        return list(found)

    def _pool_reads(self, identity: str) -> Iterator[str]:
        """Ask about a node group itself: a policy may name those it allows."""
        cluster, _, name = identity.partition("/")
        try:
            self._client.read("eks", "describe_nodegroup", clusterName=cluster, nodegroupName=name)
        except NotPermitted:
            yield f"eks:DescribeNodegroup on {identity}"
        except (NotFound, Refused):
            return  # not there: that is told elsewhere

    def _changes(self, identity: str, recipe: LaunchRecipe | None) -> Iterator[str]:
        here = {"InstanceIds": [identity]}
        kind = self._kind(identity)
        if kind is None:
            return  # not there: that is told elsewhere
        mark = [{"Key": rules.TOKEN_TAG + "stop", "Value": "-"}]
        wanted: list[tuple[str, Mapping[str, object]]] = [
            ("stop_instances", here), ("start_instances", here),
            ("modify_instance_attribute", {"InstanceId": identity, "InstanceType": {"Value": kind}}),
            ("create_tags", {"Resources": [identity], "Tags": mark}),
        ]  # fmt: skip
        if recipe is not None:
            wanted += [("run_instances", _launch(recipe)), ("terminate_instances", here)]
        for method, arguments in wanted:
            if not self._allowed(method, **arguments):
                about = f"template {recipe.template}" if recipe and method == "run_instances" else identity
                yield f"{_named(method)} on {about}"

    def _kind(self, identity: str) -> str | None:
        with suppress(NotFound, Refused):
            answer = self._client.read("ec2", "describe_instances", InstanceIds=[identity])
            for reservation in answer["Reservations"]:
                for instance in reservation["Instances"]:
                    return str(instance["InstanceType"])
        return None

    def _allowed(self, method: str, **arguments: object) -> bool:
        """Whether EC2 would allow a call. One that it refuses for another reason has passed, or says nothing."""
        try:
            return self._client.would_be_allowed(method, **arguments)
        except NotPermitted:
            raise  # no permission is missing, the credentials themselves are no good
        except (NotFound, Refused):
            return True


def _launch(recipe: LaunchRecipe) -> dict[str, object]:
    tags = [{"Key": key, "Value": value} for key, value in {rules.MANAGED_TAG: "managed", **recipe.labels}.items()]
    return {
        "LaunchTemplate": rules.template(recipe.template), "MinCount": 1, "MaxCount": 1,
        "TagSpecifications": [{"ResourceType": "instance", "Tags": tags}],
    }  # fmt: skip


def _named(method: str) -> str:
    return f"ec2:{''.join(part.title() for part in method.split('_'))}"
