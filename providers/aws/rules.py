"""Pure decisions: what an EC2 instance is and what it may become, from what AWS says of it and of the types.

Instances, types and groups are the SDK's own answers (``Mapping[str, Any]``), read here and nowhere else.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from providers.catalog import region_of
from providers.types import Buying, InPlace, MachineState, Offer, Replace, Resources, Route, Same

Answer = Mapping[str, Any]

STATES: Mapping[str, MachineState] = {
    "pending": "pending", "running": "running", "shutting-down": "stopping", "terminated": "terminated",
    "stopping": "stopping", "stopped": "stopped",
}  # fmt: skip

LIFECYCLES: Mapping[str, MachineState] = {"InService": "running", "Standby": "running", "Detached": "terminated"}

TOKEN_TAG = "scaleahead:token:"  # a tag's name, no secret
MANAGED_TAG = "scaleahead"
"""The shipped IAM policies allow changes only of what carries it with the value "managed"."""
SCRATCH_TAG = "scaleahead:scratch"
"""With the value "true" it says that an instance's own disks hold nothing that a stop may not lose."""
GROUP_TAG = "aws:autoscaling:groupName"
CLUSTER_TAG, POOL_TAG = "eks:cluster-name", "eks:nodegroup-name"

# EC2 refuses to change these families in place ("Modifying the instance type from ... is not allowed"): they need
# placement, images or network cards that another instance was not launched with. A launch always works.
FIXED_FAMILIES = ("p4d", "p4de", "p5", "p5e", "p5en", "p6", "p6e", "trn1", "trn1n", "trn2", "dl1", "mac1", "mac2")

# The quotas are in vCPUs, one for a class of families and a way of buying (Service Quotas, service "ec2").
QUOTAS: Mapping[tuple[str, str], str] = {
    ("standard", "on_demand"): "L-1216C47A", ("gvt", "on_demand"): "L-DB2E81BA", ("p", "on_demand"): "L-417A185B",
    ("standard", "spot"): "L-34B43A08", ("gvt", "spot"): "L-3819A6DF", ("p", "spot"): "L-7212CCBC",
}  # fmt: skip


def tags(thing: Answer) -> dict[str, str]:
    """Read the tags of an instance or group."""
    return {tag["Key"]: tag.get("Value", "") for tag in thing.get("Tags", ())}


def template(told: str) -> dict[str, str]:
    """Read which launch template a recipe names: its id or name, and after a colon its version."""
    name, _, version = told.partition(":")
    found = {"LaunchTemplateId" if name.startswith("lt-") else "LaunchTemplateName": name}
    return {**found, "Version": version} if version else found


def labels(thing: Answer) -> dict[str, str]:
    """Read the tags that are not AWS's own."""
    return {key: value for key, value in tags(thing).items() if not key.startswith("aws:")}


def pool_of(group: Answer) -> str:
    """Name the EKS node group that an Auto Scaling group belongs to, as cluster/name; "" if to none."""
    told = tags(group)
    return f"{told[CLUSTER_TAG]}/{told[POOL_TAG]}" if CLUSTER_TAG in told and POOL_TAG in told else ""


def state(instance: Answer) -> MachineState:
    """Read an instance's state; one that this code does not know is unknown, never guessed."""
    return STATES.get(instance["State"]["Name"], "unknown")


def node_state(member: Answer) -> MachineState:
    """Read the state of a group's member from its lifecycle."""
    lifecycle = str(member["LifecycleState"])
    if lifecycle.startswith("Terminating") or lifecycle == "Terminated":
        return "stopping"
    return LIFECYCLES.get(lifecycle, "pending")


def is_spot(instance: Answer) -> bool:
    """Say whether an instance is bought on the spot market."""
    return instance.get("InstanceLifecycle") == "spot"


def buying(instance: Answer) -> Buying:
    """Say how an instance is bought."""
    return "spot" if is_spot(instance) else "on_demand"


def resources(kind: Answer) -> Resources:
    """Read what a type has, for one that the catalog does not know. GPU memory is that of one GPU."""
    gpus = kind.get("GpuInfo", {}).get("Gpus", ())
    count = sum(int(gpu["Count"]) for gpu in gpus)
    first = gpus[0] if gpus else {}
    return Resources(
        vcpus(kind), int(kind["MemoryInfo"]["SizeInMiB"]) / 1024, count, first.get("Name") if count else None,
        int(first.get("MemoryInfo", {}).get("SizeInMiB", 0)) / 1024,
    )  # fmt: skip


def zone(instance: Answer) -> str:
    """Name the availability zone of an instance."""
    return str(instance["Placement"]["AvailabilityZone"])


def reason(instance: Answer) -> str:
    """Say why AWS brought an instance into its state, "" where it gives no reason."""
    return str(instance.get("StateReason", {}).get("Message") or instance.get("StateTransitionReason") or "")


def family(machine_type: str) -> str:
    """Give the family of a type: what stands before the dot."""
    return machine_type.partition(".")[0]


def quota_class(machine_type: str) -> str | None:
    """Name the class of families whose vCPUs are counted together; ``None`` for one without a quota known here."""
    name = family(machine_type)
    if name.startswith(("g", "vt")):
        return "gvt"
    if name[0] == "p" and name[1:2].isdigit():
        return "p"
    if name.startswith(("inf", "trn", "dl", "mac", "f1", "f2", "hpc", "u-", "x")):
        return None
    return "standard" if name[0] in "acdhimrtz" else None


def impossible(instance: Answer, kind: Answer) -> str:
    """Say why an instance's image cannot run on a type at all, "" if it can. Another launch would not help."""
    there = str(kind["InstanceType"])
    architectures = kind.get("ProcessorInfo", {}).get("SupportedArchitectures", ())
    ours = str(instance.get("Architecture", ""))
    if architectures and ours not in architectures:
        return f"the image is {ours} and {there} runs {', '.join(architectures)}"
    virtualisations = kind.get("SupportedVirtualizationTypes", ())
    ours = str(instance.get("VirtualizationType", ""))
    if virtualisations and ours and ours not in virtualisations:
        return f"the image is {ours} and {there} takes {', '.join(virtualisations)}"
    return ""


def not_in_place(instance: Answer, now: Answer, then: Answer, offer: Offer) -> str:
    """Say why an instance cannot become an offer by stop, modify, start; "" if it can."""
    here = str(instance["InstanceType"])
    if not _same_place(instance, offer):
        return f"an instance in {zone(instance)} cannot move to {offer.zone or offer.region} in place"
    if is_spot(instance) or offer.buying == "spot":
        return "a spot instance is bought anew, never changed"
    if GROUP_TAG in tags(instance):
        return f"it belongs to the group {tags(instance)[GROUP_TAG]}, which replaces what is stopped"
    if instance.get("RootDeviceType") != "ebs":
        return "its root device is not EBS, so it cannot be stopped"
    if now.get("InstanceStorageSupported") and tags(instance).get(SCRATCH_TAG) != "true":
        return f"{here} has disks of its own, whose content a stop loses - tag it {SCRATCH_TAG}=true if it may"
    if family(here) != family(offer.machine_type):
        for name in (family(here), family(offer.machine_type)):
            if name in FIXED_FAMILIES:
                return f"EC2 does not change {name} instances to or from another family in place"
    return _hardware(instance, then)


def _same_place(instance: Answer, offer: Offer) -> bool:
    here = zone(instance)
    return offer.zone in (None, here) and offer.region == region_of(here)


def _hardware(instance: Answer, then: Answer) -> str:
    there = str(then["InstanceType"])
    network = then.get("NetworkInfo", {})
    if network.get("EnaSupport") == "required" and not instance.get("EnaSupport", True):
        return f"{there} needs ENA, which is not enabled on the instance"
    cards = len(instance.get("NetworkInterfaces", ()))
    if cards > int(network.get("MaximumNetworkInterfaces", cards)):
        return f"it has {cards} network interfaces and {there} takes {network['MaximumNetworkInterfaces']}"
    modes = then.get("SupportedBootModes", ())
    mode = instance.get("CurrentInstanceBootMode")
    if mode and modes and mode not in modes:
        return f"it boots by {mode} and {there} by {', '.join(modes)}"
    return ""


def way(instance: Answer, now: Answer, then: Answer, offer: Offer) -> Route:
    """Name the way from an instance to an offer, its image being able to run there."""
    same = instance["InstanceType"] == offer.machine_type and offer.buying == buying(instance)
    if same and _same_place(instance, offer):
        return Same()
    why = not_in_place(instance, now, then, offer)
    return Replace(why) if why else InPlace(("machine_type",))


def vcpus(kind: Answer) -> int:
    """Count the vCPUs of a type."""
    return int(kind["VCpuInfo"]["DefaultVCpus"])


def used_vcpus(instances: Sequence[Answer], kinds: Mapping[str, Answer], group: str, way: str, but: str) -> int:
    """Sum the vCPUs that count against a quota, without one instance."""
    return sum(
        vcpus(kinds[one["InstanceType"]])
        for one in instances
        if one["InstanceId"] != but
        and one["InstanceType"] in kinds
        and quota_class(one["InstanceType"]) == group
        and buying(one) == way
    )
